//! The cost of a stream's queue: for each run pushed, for a send's slices, and for written bytes.

use std::hint::black_box;
use std::rc::Rc;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

use downpour::base::limits::SEND_SLICES_MAX;
use downpour::frame::outbox::{Outbox, OutboxLimits, Pushed};
use downpour::frame::run::{Run, Source};

const LIMITS: OutboxLimits = OutboxLimits { bytes_max: 256 * 1024, frames_max: 1024 };

const FRAME_BYTES: u32 = 112;

/// Runs of one frame each, adjacent, or with a frame for others in between.
fn runs(count: u32, are_adjacent: bool) -> Vec<Run> {
    let step = if are_adjacent { FRAME_BYTES } else { 2 * FRAME_BYTES };
    let source = Rc::new(Source::Own(vec![b'x'; (count * step) as usize]));
    (0..count).map(|at| Run::new(Rc::clone(&source), at * step, at * step + FRAME_BYTES, 1)).collect()
}

fn filled(runs: &[Run]) -> Outbox {
    let mut outbox = Outbox::default();
    push_all(&mut outbox, runs);
    outbox
}

fn push_all(outbox: &mut Outbox, runs: &[Run]) {
    for run in runs {
        let pushed = outbox.push(run.clone(), &LIMITS);
        assert_eq!(pushed, Pushed::Queued, "all of them fit");
    }
}

fn outbox(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("outbox");
    for count in [1, 4, SEND_SLICES_MAX as u64] {
        group.throughput(Throughput::Elements(count));
        let count = u32::try_from(count).expect("a few");
        for (name, runs) in [("adjacent", runs(count, true)), ("scattered", runs(count, false))] {
            group.bench_function(BenchmarkId::new(format!("push_{name}"), count), |bencher| {
                bencher.iter_batched_ref(
                    Outbox::default,
                    |outbox| push_all(outbox, black_box(&runs)),
                    BatchSize::SmallInput,
                );
            });
            let outbox = filled(&runs);
            group.bench_function(BenchmarkId::new(format!("offer_{name}"), count), |bencher| {
                bencher.iter(|| black_box(&outbox).offer(|offer| black_box(offer).bytes()));
            });
            group.bench_function(BenchmarkId::new(format!("sent_{name}"), count), |bencher| {
                bencher.iter_batched_ref(
                    || filled(&runs),
                    |outbox| outbox.sent(outbox.bytes()),
                    BatchSize::SmallInput,
                );
            });
        }
    }
    group.finish();
}

criterion_group!(benches, outbox);
criterion_main!(benches);
