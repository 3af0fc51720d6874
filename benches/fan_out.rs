//! The server's own cost of a delivery: whole shards over a driver that takes everything at once and
//! does nothing.

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

use downpour_load::still::{Frames, Layout, StillServer};

/// Numbers of shards, and whether each has a thread.
const SHARDS: [(usize, bool); 5] = [(1, false), (2, false), (8, false), (2, true), (8, true)];

fn fan_out(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("fan_out");
    group.sample_size(20);
    let data = "x".repeat(64);
    for streams in [1000, 10_000] {
        for (shards, has_threads) in SHARDS {
            let layout = Layout { streams, shards, has_threads };
            let mut server = StillServer::start(layout);
            for events in [1, 64] {
                let frames = Frames::of(&vec![data.as_str(); events]);
                group.throughput(Throughput::Elements((streams * events) as u64));
                group.bench_function(BenchmarkId::new(format!("{events}_at_once"), layout), |bencher| {
                    bencher.iter_batched(
                        || frames.clone(),
                        |frames| server.deliver(frames),
                        BatchSize::SmallInput,
                    );
                });
            }
        }
    }
    group.finish();
}

criterion_group!(benches, fan_out);
criterion_main!(benches);
