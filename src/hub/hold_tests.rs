//! How many steps the lock is held for, however much there is and whatever is asked.

use std::num::NonZeroU32;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::*;
use crate::base::id::{ClientId, NodeId};
use crate::base::id::{EpochTag, Sequence};
use crate::base::name::Selector;
use crate::hub::budget::Budget;
use crate::hub::counts::ChannelPage;
use crate::hub::reading::TakeLimits;
use crate::hub::reading::{Cursor, SLICE_FRAMES_MAX, Slice, SliceLimits};
use crate::record::Events;
use crate::sse::event::Event;

/// The number of events, and of the channels over which they are spread.
const EVENTS: usize = 120_000;
const CHANNELS: usize = 20_000;

/// The most steps of work that cannot stop halfway, by which a hold may be longer: the compaction of a
/// page. Adding an event to all its channels takes less.
const PAGE_STEPS: u32 = 8192 / 4 + 256 * 1024 / 256 + 16;
const STEPS_MAX: u32 = HOLD_STEPS + PAGE_STEPS;

const CLIENT: ClientId = ClientId { secret: 7, node: NodeId::ALONE, shard: 0, slot: 3 };

fn name(number: usize) -> String {
    format!("room:{:05}", number % CHANNELS)
}

fn hub(retention: Retention) -> Hub {
    let hub = Hub::new(HubOptions {
        retention,
        channels_max: 100_000,
        backlog: Backlog::default(),
        shards: 1,
        hold_steps: HOLD_STEPS,
    });
    hub.begin_epoch(EpochTag::from_bits(1), Sequence(1));
    hub
}

fn unbounded() -> Retention {
    Retention { events_max: usize::MAX, bytes_max: usize::MAX, age_max: None }
}

/// A hub with very many events. The first event of each channel has a publisher's id: `own` and the
/// channel's number.
fn filled(retention: Retention) -> Hub {
    let hub = hub(retention);
    for from in (0..EVENTS).step_by(1000) {
        let mut batch = Events::new();
        for number in from..from + 1000 {
            let event = Event::new("0123456789");
            let own = format!("own{number}");
            let event = if number < CHANNELS { event.with_id(&own).unwrap() } else { event };
            batch.push(&[&name(number)], &event);
        }
        hub.apply(hub.head().next(), &batch, None);
        take_all(&hub);
    }
    hub
}

fn take_all(hub: &Hub) {
    let limits = TakeLimits { frames_max: u32::MAX, large_frames_max: u32::MAX, bytes_max: usize::MAX };
    while hub.take(0, limits, &mut Vec::new()) != hub.head() {}
}

/// Does `work` and checks its longest hold against the bound. Returns the number of holds.
fn measured<T>(hub: &Hub, what: &str, work: impl FnOnce() -> T) -> (T, u64) {
    hub.lock().budget = Budget::new(HOLD_STEPS);
    let before = hub.locks();
    let done = work();
    tests::finish(hub);
    let holds = hub.locks() - before;
    let longest = hub.lock().budget.longest();
    assert!(longest <= STEPS_MAX, "{what}: {longest} steps under one hold of the lock");
    (done, holds)
}

fn subscribe(hub: &Hub, names: &[&str], begin: Begin) -> Subscribed {
    let names: Vec<_> = names.iter().map(|text| Selector::parse(text).unwrap()).collect();
    hub.subscribe(0, &names, None, begin).unwrap()
}

/// Reads until the stream is live or has `frames_max` frames. Returns the number of frames, the first
/// place after which it reads, and the id that is unknown.
fn read(hub: &Hub, subscribed: Subscribed, frames_max: u32) -> (u32, Sequence, Option<Box<str>>) {
    let (Begun::After(mut cursor) | Begun::AtHead(mut cursor) | Begun::Unknown(mut cursor)) =
        subscribed.begun;
    let limits = SliceLimits { frames_max: SLICE_FRAMES_MAX, bytes_max: usize::MAX };
    let (mut slice, mut frames, mut unknown, mut place) = (Slice::default(), 0, None, None);
    while !slice.is_live && frames < frames_max {
        let before = cursor.place;
        hub.read(0, &subscribed.channels, &mut cursor, limits, &mut slice);
        assert!(!slice.is_ahead && slice.gap.is_none());
        unknown = unknown.or(slice.unknown.take());
        if cursor.place < before {
            place = Some(cursor.place); // Its place was found, and it has read from there.
        }
        frames += slice.frames;
    }
    hub.unsubscribe(0, subscribed.channels, |_, _| true);
    (frames, place.unwrap_or(cursor.place), unknown)
}

#[test]
fn a_shard_takes_a_thousand_small_events_under_one_hold() {
    let hub = hub(unbounded());
    let _stream = subscribe(&hub, &["a"], Begin::AtHead);
    tests::publish(&hub, (0..1000).map(|_| ("a".to_owned(), "x".to_owned())));
    let limits = TakeLimits { frames_max: 1000, large_frames_max: 1000, bytes_max: usize::MAX };
    let taken = hub.take(0, limits, &mut Vec::new());
    assert_eq!(taken, hub.head(), "half as many frames in a send cost a third more at saturation");
}

#[test]
fn the_begin_of_a_stream_with_patterns_is_found_in_several_holds() {
    let hub = filled(unbounded());
    let (subscribed, holds) =
        measured(&hub, "the first pattern", || subscribe(&hub, &["room:*"], Begin::AtHead));
    assert!(holds > 10, "{holds} holds");
    hub.unsubscribe(0, subscribed.channels, |_, _| true);

    let patterns: Vec<String> = (0..128).map(|number| format!("room:{number:03}*")).collect();
    let patterns: Vec<&str> = patterns.iter().map(String::as_str).collect();
    let (subscribed, _) = measured(&hub, "128 patterns", || subscribe(&hub, &patterns, Begin::AtHead));
    hub.unsubscribe(0, subscribed.channels, |_, _| true);

    let count = EVENTS - 5000;
    let ((frames, ..), holds) = measured(&hub, "a long replay", || {
        read(&hub, subscribe(&hub, &["*"], Begin::LastRetained(count)), u32::MAX)
    });
    assert!(frames as usize == count && holds > 50, "{frames} frames in {holds} holds");

    // Few channels with many events, and many channels of which few match.
    let many = (0..40_000).map(|number| (format!("few:{}", number % 3), "x".to_owned()));
    tests::publish(&hub, many);
    take_all(&hub);
    for (names, count) in
        [(&["few:0", "few:1", "few:2"][..], 30_000), (&["few:*"], 30_000), (&["room:*"], 20_000)]
    {
        let ((frames, ..), _) = measured(&hub, "a replay of some channels", || {
            read(&hub, subscribe(&hub, names, Begin::LastRetained(count)), u32::MAX)
        });
        assert_eq!(frames as usize, count, "of {names:?}");
    }

    for (id, place) in [("own0", Some(1)), ("own19999", Some(20_000)), ("never", None)] {
        let ((_, _, unknown), holds) = measured(&hub, "an own id over a pattern", || {
            let subscribed = subscribe(&hub, &["few:0", "*", "room:0*"], Begin::AfterOwn(id.into()));
            assert!(matches!(subscribed.begun, Begun::After(_)), "it is not found in one hold");
            read(&hub, subscribed, 1)
        });
        assert!(holds > 10, "{holds} holds");
        assert_eq!(unknown.as_deref(), place.is_none().then_some(id));
    }
}

#[test]
fn the_place_that_is_found_is_exact_whatever_is_published_meanwhile() {
    let hub = filled(unbounded());
    // Events published after it subscribed are not found by their id, and do not add to what it gets.
    let begin = |begin| subscribe(&hub, &["*"], begin);
    let last = begin(Begin::LastRetained(50_000));
    let own = begin(Begin::AfterOwn("own15000".into()));
    let late = begin(Begin::AfterOwn("late".into()));
    let mut batch = Events::new();
    (0..1000).for_each(|at| batch.push(&[&name(at)], &Event::new("x").with_id("late").unwrap()));
    hub.apply(hub.head().next(), &batch, None);
    take_all(&hub);
    let (frames, ..) = read(&hub, last, u32::MAX);
    assert_eq!(frames, 50_000 + 1000);
    let (frames, _, unknown) = read(&hub, own, u32::MAX);
    assert_eq!((frames as usize, unknown), (EVENTS - 15_001 + 1000, None));
    let (frames, _, unknown) = read(&hub, late, u32::MAX);
    assert_eq!((frames, unknown.as_deref()), (1000, Some("late")));
}

#[test]
fn events_given_up_during_the_search_for_a_place_are_a_gap() {
    let hub = filled(Retention { events_max: 6, ..unbounded() });
    let subscribed = subscribe(&hub, &["*"], Begin::LastRetained(EVENTS - 10));
    let Begun::After(mut cursor) = subscribed.begun else { panic!("it begins with what is retained") };
    // Half of the channels give up their three oldest events. Most of these come after the oldest event
    // that is left.
    for from in (0..CHANNELS / 2 * 3).step_by(1000) {
        let mut batch = Events::new();
        (from..from + 1000).for_each(|at| batch.push(&[&name(at % (CHANNELS / 2))], &Event::new("new")));
        hub.apply(hub.head().next(), &batch, None);
        take_all(&hub);
    }
    let limits = SliceLimits { frames_max: SLICE_FRAMES_MAX, bytes_max: usize::MAX };
    let (mut slice, mut frames, mut gaps) = (Slice::default(), 0, 0);
    while !slice.is_live {
        hub.read(0, &subscribed.channels, &mut cursor, limits, &mut slice);
        (frames, gaps) = (frames + slice.frames as usize, gaps + usize::from(slice.gap.is_some()));
    }
    assert_eq!((frames, gaps), (EVENTS, 1), "all that is left comes, and one gap reports the rest");
}

#[test]
fn a_gap_is_sent_if_all_events_are_given_up_during_the_search_for_a_place() {
    let hub = hub(unbounded());
    let wanted: Vec<String> = (0..100).map(|number| format!("a{number}")).collect();
    let others = (0..5000).map(|number| format!("z{number}"));
    tests::publish(&hub, wanted.iter().cloned().chain(others).map(|name| (name, "x".to_owned())));
    take_all(&hub);
    let subscribed = subscribe(&hub, &["a*"], Begin::LastRetained(1));
    let Begun::After(mut cursor) = subscribed.begun else { panic!("it begins with what is retained") };
    assert!(!cursor.has_place(), "what it asks for lies behind more than one hold looks at");
    wanted.iter().for_each(|name| assert_eq!(hub.drop_history(name), Some(1)));
    tests::finish(&hub);
    let limits = SliceLimits { frames_max: SLICE_FRAMES_MAX, bytes_max: usize::MAX };
    let (mut slice, mut gaps) = (Slice::default(), 0);
    while !slice.is_live {
        hub.read(0, &subscribed.channels, &mut cursor, limits, &mut slice);
        assert_eq!(slice.frames, 0);
        gaps += usize::from(slice.gap.is_some());
    }
    assert_eq!(gaps, 1, "the event that it asked for was there when it did");
}

#[test]
fn a_new_pattern_knows_the_earlier_losses_of_its_channels() {
    let hub = filled(Retention { events_max: 1, ..unbounded() });
    let head = hub.head();
    let subscribed = subscribe(&hub, &["room:19*"], Begin::After(tests::id(1)));
    let Begun::After(mut cursor) = subscribed.begun else { panic!("the id is known") };
    let limits = SliceLimits { frames_max: SLICE_FRAMES_MAX, bytes_max: usize::MAX };
    let (mut slice, mut seen) = (Slice::default(), Vec::new());
    while !slice.is_live {
        hub.read(0, &subscribed.channels, &mut cursor, limits, &mut slice);
        if slice.gap.is_some() || slice.frames > 0 {
            seen.push((slice.gap.is_some(), slice.frames));
        }
    }
    assert_eq!((seen[0].0, seen.iter().filter(|(is_gap, _)| *is_gap).count()), (true, 1), "first of all");
    assert_eq!(seen.iter().map(|(_, frames)| frames).sum::<u32>(), 1000);
    // A live stream of the pattern has lost nothing.
    let mut cursor = Cursor::behind(head, None);
    hub.read(0, &subscribed.channels, &mut cursor, limits, &mut slice);
    assert!(slice.gap.is_none() && slice.is_live);
}

#[test]
fn applying_and_making_room_is_done_in_parts() {
    let bytes_max = 16 * 1024 * 1024;
    let hub = filled(Retention { bytes_max, ..unbounded() });
    let large = "x".repeat(1024 * 1024);
    let (_, holds) = measured(&hub, "a large event", || tests::publish_to(&hub, "large", &large));
    assert!(holds > 2, "{holds} holds");
    assert!(hub.held_bytes() <= bytes_max, "what is published has its room at once");
    let events = |count: usize| (0..count).map(|number| (name(number), "x".to_owned()));
    let (_, holds) = measured(&hub, "a batch", || tests::publish(&hub, events(10_000)));
    assert!(holds > 10, "{holds} holds");
    let (_, _) = measured(&hub, "what a shard takes", || take_all(&hub));
    let channels: Vec<String> = (0..128).map(name).collect();
    let channels: Vec<&str> = channels.iter().map(String::as_str).collect();
    let mut batch = Events::new();
    (0..100).for_each(|_| batch.push(&channels, &Event::new("to many")));
    measured(&hub, "events to many channels", || hub.apply(hub.head().next(), &batch, None));
    measured(&hub, "a check of a batch", || hub.exceeds_channels_max(&batch));
}

#[test]
fn a_history_is_dropped_without_a_look_at_each_of_its_events() {
    for is_lapsing in [false, true] {
        let hub = hub(unbounded());
        let _ = subscribe(&hub, &["a"], Begin::AtHead);
        for _ in 0..20 {
            let mut batch = Events::new();
            for _ in 0..1000 {
                batch.push(&["a"], &Event::new("x"));
                batch.set_ttl(NonZeroU32::new(u32::from(is_lapsing)));
            }
            hub.apply(hub.head().next(), &batch, None);
            take_all(&hub);
        }
        tests::publish_to(&hub, "a", "stays");
        take_all(&hub);
        // A tick passes, and no shard has set the hub's clock by the time of the drop.
        hub.now.fetch_add(100, Ordering::Relaxed);
        let (dropped, holds) = measured(&hub, "a drop", || hub.drop_history("a"));
        assert_eq!(dropped, Some(if is_lapsing { 1 } else { 20_001 }), "what has lapsed is none of it");
        assert!(holds > 100, "{holds} holds");
    }
}

#[test]
fn a_stream_that_leaves_is_counted_for_many_events_in_parts() {
    let hub = hub(unbounded());
    let subscribed = subscribe(&hub, &["a", "b"], Begin::AtHead);
    let mut tallies = Vec::new();
    for _ in 0..2000 {
        let mut batch = Events::new();
        batch.push(&["a", "b"], &Event::new("x"));
        match hub.apply(hub.head().next(), &batch, Some(0)).receivers {
            Receivers::Counting(tally) => tallies.push(tally),
            Receivers::Exactly(count) => panic!("{count} of two channels"),
        }
    }
    let others = subscribe(&hub, &["b"], Begin::AtHead);
    let (_, holds) = measured(&hub, "one leaves", || {
        hub.remove(0, subscribed.channels[0], &subscribed.channels[1..], |_, _| true)
    });
    assert!(holds > 10, "{holds} holds");
    let (_, holds) =
        measured(&hub, "all leave", || hub.unsubscribe(0, subscribed.channels[1..].to_vec(), |_, _| true));
    assert!(holds > 10, "{holds} holds");
    hub.unsubscribe(0, others.channels, |_, _| false);
    assert!(tallies.iter().all(|tally| tally.add(0, 0) && tally.total() == Some(1)), "each counts it once");
}

#[test]
fn a_shard_that_lost_its_streams_counts_none_in_parts() {
    let hub = hub(unbounded());
    let _ = subscribe(&hub, &["a", "b"], Begin::AtHead);
    for _ in 0..4000 {
        let mut batch = Events::new();
        batch.push(&["a", "b"], &Event::new("x"));
        hub.apply(hub.head().next(), &batch, Some(0));
    }
    let (waiting, holds) = measured(&hub, "a shard begins anew", || hub.forget_shard(0));
    assert!(waiting.len() == 4000 && holds > 10, "{} counts in {holds} holds", waiting.len());
}

#[test]
fn waiting_threads_have_the_lock_between_two_holds() {
    let hub = hub(unbounded());
    let yields = |work: &dyn Fn()| {
        let before = hub.yields.load(Ordering::Relaxed);
        let locks = hub.locks();
        work();
        (hub.yields.load(Ordering::Relaxed) - before, hub.locks() - locks)
    };
    let publish = || tests::publish(&hub, (0..1000).map(|at| (name(at), "x".to_owned())));
    assert_eq!(yields(&publish).0, 0, "nobody waits");
    hub.waiting.store(1, Ordering::Relaxed);
    let (count, holds) = yields(&publish);
    assert!(holds > 10, "{holds} holds");
    assert_eq!(count, (holds - 1) * crate::hub::lock::YIELDS_MAX as u64, "between any two of them");
    take_all(&hub);
    let (count, holds) = yields(&|| assert_eq!(hub.drop_history(&name(7)), Some(2)));
    assert_eq!(count, (holds - 1) * crate::hub::lock::YIELDS_MAX as u64);
}

#[test]
fn the_least_number_of_steps_suffices_for_all_work() {
    let retention =
        Retention { events_max: 3, bytes_max: 1024 * 1024, age_max: Some(Duration::from_secs(60)) };
    let hub = Hub::new(HubOptions {
        retention,
        channels_max: 100_000,
        backlog: Backlog::default(),
        shards: 1,
        hold_steps: 0,
    });
    hub.begin_epoch(EpochTag::from_bits(1), Sequence(1));
    let subscribed = subscribe(&hub, &["room:1*"], Begin::AtHead);
    for round in 0..20 {
        let mut batch = Events::new();
        for at in 0..200 {
            let own = format!("own{round}/{at}");
            batch.push(&[&name(at), &name(at + 1)], &Event::new(&"x".repeat(500)).with_id(&own).unwrap());
            batch.set_ttl(NonZeroU32::new(round % 3));
        }
        hub.apply(hub.head().next(), &batch, None);
        take_all(&hub);
        hub.set_now(Duration::from_secs(u64::from(round)));
    }
    tests::finish(&hub);
    assert!(hub.held_bytes() <= retention.bytes_max, "{} bytes are held", hub.held_bytes());
    read(&hub, subscribe(&hub, &["room:0*"], Begin::AfterOwn("own19/7".into())), u32::MAX);
    hub.unsubscribe(0, subscribed.channels, |_, _| true);
    hub.set_now(Duration::from_secs(600));
    tests::finish(&hub);
    assert_eq!(hub.channels_len(), 0, "all of it went");
}

#[test]
fn a_reader_passes_over_lapsed_events_in_parts() {
    // Few channels are merged for a pattern; for many, the order is walked.
    for channels in [1, 100] {
        let hub = hub(unbounded());
        for _ in 0..20 {
            let mut batch = Events::new();
            for number in 0..1000 {
                batch.push(&[&name(number % channels)], &Event::new("x"));
                batch.set_ttl(NonZeroU32::new(1));
            }
            hub.apply(hub.head().next(), &batch, None);
            take_all(&hub);
        }
        tests::publish_to(&hub, &name(0), "stays");
        take_all(&hub);
        // A tick passes, and no shard has set the hub's clock by the time of the subscription.
        hub.now.fetch_add(100, Ordering::Relaxed);
        let ((frames, ..), holds) = measured(&hub, "lapsed events", || {
            read(&hub, subscribe(&hub, &["room:*"], Begin::After(tests::id(1))), u32::MAX)
        });
        assert!(frames == 1 && holds > 10, "{frames} frames in {holds} holds");
    }
}

#[test]
fn lapsed_events_that_are_not_taken_yet_do_not_hide_others() {
    let retention = Retention { events_max: 2, ..unbounded() };
    let hub = hub(retention);
    let _ = subscribe(&hub, &["a"], Begin::AtHead);
    let publish = |name: &str, ttl: u32| {
        let mut batch = Events::new();
        batch.push(&[name], &Event::new("x"));
        batch.set_ttl(NonZeroU32::new(ttl));
        hub.apply(hub.head().next(), &batch, None);
    };
    publish("b", 0);
    publish("b", 2);
    take_all(&hub);
    (0..200).for_each(|_| publish("a", 1)); // They lapse earlier, and no shard takes them.
    hub.now.fetch_add(100, Ordering::Relaxed);
    publish("b", 0);
    tests::finish(&hub);
    take_all(&hub);
    tests::finish(&hub);
    assert_eq!(hub.drop_history("b"), Some(2), "the second one went for the third, and not the first");
}

#[test]
fn events_that_must_go_go_before_events_that_could_stay() {
    let hub = Hub::new(HubOptions {
        retention: Retention { events_max: 2, bytes_max: 1024 * 1024, age_max: None },
        channels_max: 10,
        backlog: Backlog::default(),
        shards: 1,
        hold_steps: HOLD_STEPS_MIN,
    });
    hub.begin_epoch(EpochTag::from_bits(1), Sequence(1));
    let _ = subscribe(&hub, &["a"], Begin::AtHead);
    tests::publish_to(&hub, "b", "stays");
    take_all(&hub);
    let large = "x".repeat(10_000);
    tests::publish(&hub, (0..200).map(|_| ("a".to_owned(), large.clone())));
    assert!(hub.held_bytes() > 2_000_000, "nothing goes before it is taken");
    take_all(&hub);
    tests::finish(&hub);
    assert!(hub.held_bytes() < 500_000, "{} bytes are held", hub.held_bytes());
    assert_eq!(["a", "b"].map(|name| hub.drop_history(name)), [Some(2), Some(1)]);
}

#[test]
fn events_that_are_too_old_go_in_parts() {
    let hub = filled(Retention { age_max: Some(Duration::from_secs(60)), ..unbounded() });
    let (_, holds) = measured(&hub, "a pause", || hub.set_now(Duration::from_secs(600)));
    assert!(holds > 100, "{holds} holds");
    assert_eq!(hub.channels_len(), 0, "all of it went");
}

#[test]
fn clients_and_shards_leave_in_parts() {
    let hub = filled(unbounded());
    let subscribed = subscribe(&hub, &["a"], Begin::AtHead);
    let client = hub.add_client(0, CLIENT).channel;
    for _ in 0..20 {
        let mut batch = Events::new();
        (0..1000).for_each(|part| batch.push_to_client(CLIENT, part, &Event::new("x")));
        hub.apply(hub.head().next(), &batch, None);
        take_all(&hub);
    }
    let leaving = subscribed.channels.into_iter().chain([client]);
    let (_, holds) = measured(&hub, "a client", || hub.unsubscribe(0, leaving, |_, _| true));
    assert!(holds > 20, "{holds} holds");
    assert_eq!(hub.lock().channels.find("a"), None);

    (0..1000).for_each(|at| drop(subscribe(&hub, &[&name(at), "*"], Begin::AtHead)));
    let (_, holds) = measured(&hub, "a shard", || hub.forget_shard(0));
    assert!(holds > 50 && hub.subscribers(&name(7)) == 0, "{holds} holds");
    let mut page = ChannelPage::new("room", None, 1000);
    let (_, holds) = measured(&hub, "a page of channels", || while !hub.look_for_page(&mut page) {});
    assert!(holds > 50 && page.into_channels().0.len() == 1000, "{holds} holds");
    measured(&hub, "who subscribes to what", || hub.subscribed());
}

#[test]
fn a_lapsed_event_goes_before_one_beyond_the_bound_wherever_the_budget_ends() {
    for others in 0..80 {
        let hub = Hub::new(HubOptions {
            retention: Retention { events_max: 21, ..unbounded() },
            hold_steps: HOLD_STEPS_MIN,
            ..HubOptions::default()
        });
        hub.begin_epoch(EpochTag::from_bits(1), Sequence(1));
        let names = ["a", "b*"].map(|name| Selector::parse(name).unwrap());
        hub.subscribe(0, &names, None, Begin::AtHead).unwrap();
        let mut events = Events::new();
        for number in 1..=22 {
            events.push(&["a"], &Event::new("x"));
            events.set_ttl(NonZeroU32::new(u32::from(number == 12)));
        }
        (0..others).for_each(|other| events.push(&[&format!("b{other}")], &Event::new("x")));
        hub.apply(hub.head().next(), &events, None);
        hub.set_now(Duration::from_secs(1)); // The shard has taken none of them.
        take_all(&hub);
        while hub.is_unfinished() {
            hub.tidy();
        }
        let state = hub.lock();
        let kept = state.channels.get(state.channels.find("a").unwrap()).readable().len();
        assert_eq!(kept, 21, "beside {others} events");
    }
}
