//! The hub agrees with [`World`], whatever is published, read, taken and given up, and in whatever order.

use std::num::NonZeroU32;

use downpour::base::id::{EpochTag, EventId, Sequence};
use downpour::hub::reading::SliceLimits;
use downpour::hub::reading::TakeLimits;
use downpour::hub::{Backlog, Begin, HOLD_STEPS, HOLD_STEPS_MIN, HubOptions, TICK};
use downpour::hub::{RETENTION_BYTES_MIN, Retention, SEGMENT_BYTES_MOST};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select, subsequence};

use crate::records::{CLIENTS, Draft, EVERYBODY, FIRST_CLIENT, NAMES, OWN_IDS, SELECTORS, USERS, named};
use crate::retained::PAGE_BYTES_MAX;
use crate::world::World;

/// Where a stream is to begin, before it is known which ids there are.
#[derive(Clone, Debug)]
enum Place {
    AtHead,
    /// At a number, under the tag of any epoch, whether that vouches for it or not.
    Number {
        epoch: Index,
        number: Index,
    },
    /// At a number that its epoch vouches for.
    Known(Index),
    OtherServer,
    /// After an id that publishers give.
    Own(Index),
    Unknown,
    /// With the last events that are retained, or with all.
    Last(usize),
    AllRetained,
}

#[derive(Clone, Debug)]
enum Op {
    Publish(Vec<Draft>),
    Subscribe {
        shard: Index,
        selectors: Vec<usize>,
        user: Option<usize>,
        place: Place,
    },
    /// Give a stream one more channel or pattern, and one less.
    Add {
        stream: Index,
        selector: usize,
    },
    Part {
        stream: Index,
        nth: usize,
    },
    /// Make a stream the target of a single client.
    Attach {
        stream: Index,
        place: usize,
    },
    Unsubscribe(Index),
    Take {
        shard: Index,
        frames_max: u32,
        bytes_max: usize,
        behind: u8,
    },
    Read {
        stream: Index,
        limits: SliceLimits,
    },
    ReadAll(Index),
    DropHistory(usize),
    Advance(u32),
    BeginEpoch(u64),
}

fn channels(count_max: usize) -> impl Strategy<Value = Vec<usize>> {
    subsequence((0..NAMES.len()).collect::<Vec<_>>(), 1..=count_max).prop_shuffle()
}

/// Channels and patterns to subscribe to.
fn selectors(count_max: usize) -> impl Strategy<Value = Vec<usize>> {
    let any = subsequence(named(), 1..=count_max).prop_shuffle();
    prop_oneof![channels(count_max), any]
}

/// What the events of a life are like.
#[derive(Clone, Copy)]
struct Shape {
    /// The least and the most bytes of their data.
    filler: (usize, usize),
    /// How many events the busiest target gets for each of another's, and which it is.
    busy: u32,
    busiest: usize,
}

fn drafts(Shape { filler: (from, to), busy, busiest }: Shape) -> impl Strategy<Value = Vec<Draft>> {
    let others = prop_oneof![NAMES.len()..FIRST_CLIENT, FIRST_CLIENT..EVERYBODY, Just(EVERYBODY)];
    let others = others.prop_map(|target| vec![target]);
    let targets = prop_oneof![8 * busy => Just(vec![busiest]), 6 => channels(1), 2 => channels(NAMES.len()), 2 => others];
    let filler = prop_oneof![2 => from..to.min(from + 200), 1 => from..to];
    let own_id = proptest::option::weighted(0.2, 0..OWN_IDS.len());
    let ttl = proptest::option::weighted(0.25, 1..4_u32).prop_map(|ttl| ttl.and_then(NonZeroU32::new));
    let draft = (targets, filler, own_id, ttl);
    vec(draft.prop_map(|(targets, filler, own_id, ttl)| Draft { targets, filler, own_id, ttl }), 1..=20)
}

fn place() -> impl Strategy<Value = Place> {
    prop_oneof![
        3 => Just(Place::AtHead),
        4 => any::<Index>().prop_map(Place::Known),
        2 => any::<(Index, Index)>().prop_map(|(epoch, number)| Place::Number { epoch, number }),
        1 => Just(Place::OtherServer),
        3 => any::<Index>().prop_map(Place::Own),
        1 => Just(Place::Unknown),
        2 => (0..30_usize).prop_map(Place::Last),
        1 => Just(Place::AllRetained),
    ]
}

fn op(shape: Shape) -> impl Strategy<Value = Op> {
    let frames_max = prop_oneof![Just(u32::MAX), 1..40_u32];
    let bytes_max = prop_oneof![Just(usize::MAX), 0..20_000_usize, 0..300_usize];
    let slice = (1..100_u32, bytes_max.clone())
        .prop_map(|(frames_max, bytes_max)| SliceLimits { frames_max, bytes_max });
    let behind = prop_oneof![2 => Just(0), 1 => any::<u8>()];
    prop_oneof![
        10 => drafts(shape).prop_map(Op::Publish),
        5 => (any::<Index>(), selectors(4), proptest::option::of(0..USERS.len()), place()).prop_map(
            |(shard, selectors, user, place)| Op::Subscribe { shard, selectors, user, place }
        ),
        3 => (any::<Index>(), select(named()))
            .prop_map(|(stream, selector)| Op::Add { stream, selector }),
        2 => (any::<Index>(), 0..4_usize).prop_map(|(stream, nth)| Op::Part { stream, nth }),
        4 => (any::<Index>(), 0..CLIENTS).prop_map(|(stream, place)| Op::Attach { stream, place }),
        3 => any::<Index>().prop_map(Op::Unsubscribe),
        12 => (any::<Index>(), frames_max, bytes_max, behind).prop_map(
            |(shard, frames_max, bytes_max, behind)| Op::Take { shard, frames_max, bytes_max, behind }
        ),
        8 => (any::<Index>(), slice).prop_map(|(stream, limits)| Op::Read { stream, limits }),
        4 => any::<Index>().prop_map(Op::ReadAll),
        1 => (0..NAMES.len()).prop_map(Op::DropHistory),
        3 => (0..20_u32).prop_map(Op::Advance),
        1 => (0..4_u64).prop_map(Op::BeginEpoch),
    ]
}

fn options() -> impl Strategy<Value = HubOptions> {
    let events_max = prop_oneof![4 => 0..50_usize, 1 => 50..2000_usize];
    let bytes_max = prop_oneof![RETENTION_BYTES_MIN..RETENTION_BYTES_MIN * 5 / 4, Just(usize::MAX / 2)];
    let age_max = proptest::option::of((0..60_u32).prop_map(|ticks| TICK * ticks));
    let channels_max = prop_oneof![4 => Just(SELECTORS), 1 => 3..NAMES.len()];
    let hold_steps = prop_oneof![HOLD_STEPS_MIN..HOLD_STEPS, Just(HOLD_STEPS)];
    (events_max, bytes_max, age_max, channels_max, select(vec![1, 2, 8]), hold_steps).prop_map(
        |(events_max, bytes_max, age_max, channels_max, shards, hold_steps)| HubOptions {
            retention: Retention { events_max, bytes_max, age_max },
            channels_max,
            backlog: Backlog::default(),
            shards,
            hold_steps,
        },
    )
}

/// A step of a life in which channels come, lose what they had, and go, again and again.
fn op_of_few_channels() -> impl Strategy<Value = Op> {
    let targets = prop_oneof![5 => 0..4_usize, 2 => 0..EVERYBODY].prop_map(|target| vec![target]);
    let draft = targets.prop_map(|targets| Draft { targets, filler: 0, own_id: None, ttl: None });
    let selectors = prop_oneof![3 => 0..4_usize, 1 => select(named())].prop_map(|selector| vec![selector]);
    prop_oneof![
        6 => vec(draft, 1..=2).prop_map(Op::Publish),
        4 => (any::<Index>(), selectors, proptest::option::weighted(0.2, 0..USERS.len()), any::<Index>())
            .prop_map(|(shard, selectors, user, place)| Op::Subscribe {
                shard,
                selectors,
                user,
                place: Place::Known(place)
            }),
        4 => any::<Index>().prop_map(Op::Unsubscribe),
        1 => (any::<Index>(), select(named())).prop_map(|(stream, selector)| Op::Add { stream, selector }),
        3 => any::<Index>().prop_map(|shard| Op::Take {
            shard,
            frames_max: u32::MAX,
            bytes_max: usize::MAX,
            behind: 0
        }),
        3 => any::<Index>().prop_map(Op::ReadAll),
        1 => (0..NAMES.len()).prop_map(Op::DropHistory),
    ]
}

/// A step of a life in which events lapse and histories are dropped before shards have taken them.
fn op_of_lapsing_events() -> impl Strategy<Value = Op> {
    let ttl = select(vec![None, NonZeroU32::new(1), NonZeroU32::new(2)]);
    let draft = (0..2_usize, ttl).prop_map(|(target, ttl)| Draft {
        targets: vec![target],
        filler: 0,
        own_id: None,
        ttl,
    });
    let behind = prop_oneof![Just(0), any::<u8>()];
    prop_oneof![
        6 => vec(draft, 1..=3).prop_map(Op::Publish),
        2 => (any::<Index>(), 0..2_usize).prop_map(|(shard, selector)| Op::Subscribe {
            shard,
            selectors: vec![selector],
            user: None,
            place: Place::AtHead
        }),
        1 => any::<Index>().prop_map(Op::Unsubscribe),
        3 => (any::<Index>(), behind).prop_map(|(shard, behind)| Op::Take {
            shard,
            frames_max: u32::MAX,
            bytes_max: usize::MAX,
            behind
        }),
        3 => any::<Index>().prop_map(Op::ReadAll),
        2 => (0..2_usize).prop_map(Op::DropHistory),
        3 => (1..12_u32).prop_map(Op::Advance),
    ]
}

/// Options, and steps whose events are of a size: small ones; any; so many bytes that they do not fit; and many bytes
/// of which little is retained, also since most go to single clients that leave. In the last two kinds of
/// life the hub forgets channels that were there, and events lapse as their channels are dropped.
fn life() -> impl Strategy<Value = (HubOptions, Vec<Op>)> {
    let full =
        (options(), RETENTION_BYTES_MIN..RETENTION_BYTES_MIN * 5 / 4).prop_map(|(options, bytes_max)| {
            let retention = Retention { events_max: 400, bytes_max, ..options.retention };
            HubOptions { retention, ..options }
        });
    let sparse = (options(), 1..10_usize).prop_map(|(options, events_max)| {
        let retention = Retention { events_max, age_max: None, ..options.retention };
        HubOptions { retention, ..options }
    });
    let forgetful = (options(), 0..2_usize, 2..5_usize, 1..3_usize).prop_map(
        |(options, events_max, channels_max, shards)| {
            let retention = Retention { events_max, age_max: None, ..options.retention };
            HubOptions { retention, channels_max, shards, ..options }
        },
    );
    let roomy = (options(), 1..50_usize).prop_map(|(options, events_max)| {
        let retention = Retention { events_max, bytes_max: usize::MAX / 2, age_max: None };
        HubOptions { retention, ..options }
    });
    let lapsing = (options(), 5..50_usize, 1..3_usize).prop_map(|(options, events_max, shards)| {
        let retention = Retention { events_max, bytes_max: usize::MAX / 2, age_max: None };
        HubOptions { retention, channels_max: SELECTORS, shards, ..options }
    });
    let any = |filler_max| op(Shape { filler: (0, filler_max), busy: 1, busiest: 0 });
    let busy = |busiest| op(Shape { filler: (3000, 4000), busy: 15, busiest });
    prop_oneof![
        2 => (options(), vec(any(300), 1..150)),
        2 => (options(), vec(any(10_000), 1..150)),
        1 => (full, vec(any(10_000), 200..400)),
        1 => (sparse, vec(busy(0), 200..400)),
        1 => (roomy, vec(busy(FIRST_CLIENT), 200..400)),
        2 => (forgetful, vec(op_of_few_channels(), 100..400)),
        2 => (lapsing, vec(op_of_lapsing_events(), 100..300)),
    ]
}

fn begin(world: &World, place: &Place) -> Begin {
    match place {
        Place::AtHead => Begin::AtHead,
        Place::Unknown => Begin::AfterOwn("who-knows".into()),
        Place::Last(count) => Begin::LastRetained(*count),
        Place::AllRetained => Begin::AllRetained,
        Place::Own(index) => {
            let id = *index.get(&OWN_IDS);
            EventId::parse(id.as_bytes()).map_or_else(|| Begin::AfterOwn(id.into()), Begin::After)
        }
        Place::OtherServer => {
            Begin::After(EventId { tag: EpochTag::from_bits(u64::MAX), sequence: Sequence(1) })
        }
        Place::Known(index) => {
            let numbers: Vec<u64> = world.epochs.iter().flat_map(|e| e.first - 1..=e.last).collect();
            Begin::After(world.id_of(*index.get(&numbers)))
        }
        Place::Number { epoch, number } => {
            let tag = epoch.get(&world.epochs).tag;
            let number = number.index(usize::try_from(world.head()).expect("it is short") + 3);
            Begin::After(EventId { tag, sequence: Sequence(number as u64) })
        }
    }
}

const ALL: TakeLimits =
    TakeLimits { frames_max: u32::MAX, large_frames_max: u32::MAX, bytes_max: usize::MAX };
const SLICE: SliceLimits = SliceLimits { frames_max: 64, bytes_max: usize::MAX };

fn read_to_the_end(world: &mut World, index: usize) {
    loop {
        let stream = &world.streams[index];
        let cursor = world.cursors[stream.shard];
        if stream.is_live || stream.place() > cursor || world.is_waiting(stream) {
            return;
        }
        let waits_for_its_shard = stream.place() == cursor;
        world.read(index, SLICE);
        if waits_for_its_shard {
            return;
        }
    }
}

fn step(world: &mut World, op: &Op) {
    let shards = world.options.shards;
    let streams = world.streams.len();
    match op {
        Op::Publish(drafts) => world.publish(drafts),
        Op::Subscribe { shard, selectors, user, place } => {
            let begin = begin(world, place);
            world.subscribe(shard.index(shards), selectors, *user, begin);
        }
        Op::Take { shard, frames_max, bytes_max, behind } => {
            let limits =
                TakeLimits { frames_max: *frames_max, large_frames_max: *frames_max, bytes_max: *bytes_max };
            world.take(shard.index(shards), limits, |stream| behind >> (stream % 8) & 1 == 1);
        }
        Op::DropHistory(channel) => world.drop_history(*channel),
        Op::Advance(ticks) => world.advance(*ticks),
        Op::BeginEpoch(skipped) => world.begin_epoch(*skipped),
        Op::Unsubscribe(_)
        | Op::Add { .. }
        | Op::Part { .. }
        | Op::Attach { .. }
        | Op::Read { .. }
        | Op::ReadAll(_)
            if streams == 0 => {}
        Op::Add { stream, selector } => world.add(stream.index(streams), *selector),
        Op::Part { stream, nth } => world.part(stream.index(streams), *nth),
        Op::Attach { stream, place } => world.attach(stream.index(streams), *place),
        Op::Unsubscribe(stream) => world.unsubscribe(stream.index(streams)),
        Op::Read { stream, limits } => world.read(stream.index(streams), *limits),
        Op::ReadAll(stream) => read_to_the_end(world, stream.index(streams)),
    }
}

/// Every stream reads to the head; then all leave, the hub tidies up, and what is too old goes.
fn end(world: &mut World) {
    for shard in 0..world.options.shards {
        while world.cursors[shard] < world.head() {
            world.take(shard, ALL, |_| false); // As much at a time as one hold of the lock allows.
        }
    }
    for index in 0..world.streams.len() {
        read_to_the_end(world, index);
        assert!(world.streams[index].is_live, "it reaches the head");
    }
    while !world.streams.is_empty() {
        world.unsubscribe(0);
    }
    for _ in 0..50 {
        world.advance(1); // Each step tidies up a little.
    }
    let (held, most) = (world.hub.held_bytes(), world.tidied_bytes_max());
    assert!(held <= most, "{held} bytes are held without streams, of {most} at the most");
    if let Some(age_max) = world.options.retention.age_max {
        let ticks = u32::try_from(age_max.as_millis() / TICK.as_millis()).expect("it is short") + 1;
        world.advance(ticks);
        for _ in 0..1000 {
            world.advance(1);
        }
        assert_eq!(world.hub.channels_len(), 0);
        // The page that is written, and the segment that is kept for the next one.
        let most = PAGE_BYTES_MAX + SEGMENT_BYTES_MOST + world.own_ids() * 500;
        assert!(world.hub.held_bytes() <= most, "{} bytes are held", world.hub.held_bytes());
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 100, max_shrink_time: 60_000, failure_persistence: None, ..ProptestConfig::default()
    })]

    #[test]
    fn a_hub_agrees_with_a_naive_model((options, ops) in life()) {
        let mut world = World::new(options);
        ops.iter().for_each(|op| step(&mut world, op));
        end(&mut world);
    }
}
