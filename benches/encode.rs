//! The cost of encoding an event, once for all its receivers.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

use downpour::Event;
use downpour::record::Events;

fn encode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("encode");
    let line = |bytes: usize| "x".repeat(bytes);
    let lines = |bytes: usize| format!("{}\n", "x".repeat(63)).repeat(bytes / 64);
    let cases = [
        ("one_line", 64, line(64)),
        ("one_line", 1024, line(1024)),
        ("one_line", 16 * 1024, line(16 * 1024)),
        ("lines_of_64", 1024, lines(1024)),
        ("lines_of_64", 16 * 1024, lines(16 * 1024)),
    ];
    for (name, bytes, data) in &cases {
        let event = Event::new(data);
        group.throughput(Throughput::Bytes(data.len() as u64));
        group.bench_with_input(BenchmarkId::new(*name, bytes), &event, |bencher, event| {
            bencher.iter(|| {
                let mut events = Events::new();
                events.push(&["a"], black_box(event));
                events
            });
        });
    }
    group.finish();
}

criterion_group!(benches, encode);
criterion_main!(benches);
