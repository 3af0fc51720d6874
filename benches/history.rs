//! The cost of the hub: for each event that it takes in, and for each that a stream reads again.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

use downpour::Event;
use downpour::base::id::{EpochTag, Sequence};
use downpour::base::name::Selector;
use downpour::hub::Retention;
use downpour::hub::reading::{Cursor, SLICE_FRAMES_MAX, Slice, SliceLimits};
use downpour::hub::{Backlog, Begin, Begun, ChannelId, HOLD_STEPS, Hub, HubOptions};
use downpour::record::Events;

/// Events retained while reading.
const RETAINED: usize = 8192;

fn hub() -> Hub {
    let retention = Retention { events_max: 10_000, bytes_max: 64 * 1024 * 1024, age_max: None };
    let hub = Hub::new(HubOptions {
        retention,
        channels_max: 100_000,
        backlog: Backlog::default(),
        shards: 1,
        hold_steps: HOLD_STEPS,
    });
    hub.begin_epoch(EpochTag::from_bits(1), Sequence::START.next());
    hub
}

/// Events of 64 bytes, over the channels in turn.
fn batch(events: usize, channels: usize) -> Events {
    let data = "x".repeat(64);
    let mut batch = Events::new();
    for at in 0..events {
        batch.push(&[&format!("room:{}", at % channels)], &Event::new(&data));
    }
    batch
}

fn apply(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("history");
    for (events, channels) in [(1, 1), (64, 1), (64, 32), (1024, 1024)] {
        let (hub, batch) = (hub(), batch(events, channels));
        group.throughput(Throughput::Elements(events as u64));
        let case = format!("{events}_events_to_{channels}_channels");
        group.bench_function(BenchmarkId::new("apply", case), |bencher| {
            bencher.iter(|| hub.apply(hub.head().next(), black_box(&batch), None));
        });
    }
    group.finish();
}

/// Subscribes to these channels. Returns them with a cursor at the oldest retained event.
fn subscribed(hub: &Hub, names: &[String]) -> (Vec<ChannelId>, Cursor) {
    let names: Vec<Selector> =
        names.iter().map(|name| Selector::parse(name).expect("it is a valid name")).collect();
    let subscribed =
        hub.subscribe(0, &names, None, Begin::AllRetained).expect("there is room for these channels");
    while hub.is_unfinished() {
        hub.tidy();
    }
    let Begun::After(cursor) = subscribed.begun else { panic!("a replay begins after a place") };
    (subscribed.channels.to_vec(), cursor)
}

/// Reads everything after a cursor, as a stream that catches up does.
fn read_all(hub: &Hub, channels: &[ChannelId], mut cursor: Cursor, slice: &mut Slice) -> u32 {
    let limits = SliceLimits { frames_max: SLICE_FRAMES_MAX, bytes_max: 256 * 1024 };
    let mut frames = 0;
    loop {
        hub.read(0, channels, &mut cursor, limits, slice);
        frames += slice.frames;
        assert!(slice.frames > 0 || slice.is_live, "a slice has something, or nothing is left");
        if slice.is_live {
            return frames;
        }
    }
}

fn read(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("history");
    group.throughput(Throughput::Elements(RETAINED as u64));
    let rooms = |count: usize| (0..count).map(|at| format!("room:{at}")).collect::<Vec<_>>();
    let cases = [
        ("one_channel", 1, rooms(1)),
        ("32_channels", 32, rooms(32)),
        ("pattern_of_32_channels", 32, vec!["room:*".to_owned()]),
        ("pattern_of_4096_channels", 4096, vec!["room:*".to_owned()]),
    ];
    for (case, channels, names) in cases {
        let hub = hub();
        hub.apply(hub.head().next(), &batch(RETAINED, channels), None);
        let (channels, cursor) = subscribed(&hub, &names);
        let mut slice = Slice::default();
        assert_eq!(read_all(&hub, &channels, cursor.clone(), &mut slice) as usize, RETAINED);
        group.bench_function(BenchmarkId::new("read", case), |bencher| {
            bencher.iter(|| read_all(&hub, &channels, black_box(cursor.clone()), &mut slice));
        });
    }
    group.finish();
}

criterion_group!(benches, apply, read);
criterion_main!(benches);
