//! The cost of a stream that resumes to the hub, and how long the hub's lock is held meanwhile.
//!
//! With `--bench` it measures two things. The CPU time of resuming after 1000 events with a million
//! retained, against a thousand retained, round by round in turns. And how long the lock is held while
//! very many streams resume. It prints a Markdown table, and exits with an error if a budget is missed.
//! `resume CASE RETAINED RESUMES` makes this many and nothing else, for `scripts/instructions` to count.
//! See `docs/benchmarks/benches.md`.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use downpour::Event;
use downpour::base::id::{EpochTag, EventId, Sequence};
use downpour::base::name::Selector;
use downpour::hub::Retention;
use downpour::hub::reading::TakeLimits;
use downpour::hub::reading::{Cursor, SLICE_FRAMES_MAX, Slice, SliceLimits};
use downpour::hub::{Backlog, Begin, Begun, ChannelId, HOLD_STEPS, Hub, HubOptions};
use downpour::record::Events;

use downpour_load::measuring::is_asked_to_measure;
use downpour_load::statistics::Quartiles;
use downpour_load::stopwatch::thread_cpu_time;
use downpour_load::verdicts::Verdicts;

/// Events that a stream has missed.
const MISSED: usize = 1000;

/// Events that are retained, few and many.
const FEW: usize = 1000;
const MANY: usize = 1_000_000;

/// Most that a resume may take with many events, as a multiple of its time with few.
const RATIO_MAX: f64 = 1.2;

/// Longest hold of the lock at the 99th percentile.
const HOLD_MAX: Duration = Duration::from_micros(20);

/// Pairs of windows, and resumes in each.
const ROUNDS: usize = 31;
const RESUMES: usize = 200;

/// Streams that resume at the same time.
const STREAMS: usize = 15_000;

/// Events of one publish meanwhile.
const PUBLISHED_TOGETHER: usize = 64;

/// Slices between two publishes.
const SLICES_BETWEEN: usize = 128;

const TAG: u64 = 1;

/// A kind of resume: the number of channels with events, and the names in the request.
#[derive(Clone, Copy, Debug)]
struct Case {
    name: &'static str,
    channels: usize,
    names: fn() -> Vec<String>,
}

const CASES: [Case; 4] = [
    Case { name: "one channel", channels: 1, names: || vec![room(0)] },
    Case { name: "100 channels", channels: 100, names: || (0..100).map(room).collect() },
    Case { name: "a prefix over 1000 channels", channels: 1000, names: || vec!["room:*".to_owned()] },
    Case { name: "`*` over 1000 channels", channels: 1000, names: || vec!["*".to_owned()] },
];

fn room(number: usize) -> String {
    format!("room:{number}")
}

/// A hub with this many retained events.
struct Filled {
    hub: Hub,
    selectors: Vec<Selector>,
    channels: usize,
    limits: SliceLimits,
}

impl Filled {
    fn new(case: Case, retained: usize) -> Filled {
        let retention = Retention { events_max: usize::MAX, bytes_max: usize::MAX, age_max: None };
        let hub = Hub::new(HubOptions {
            retention,
            channels_max: 100_000,
            backlog: Backlog::default(),
            shards: 1,
            hold_steps: HOLD_STEPS,
        });
        hub.begin_epoch(EpochTag::from_bits(TAG), Sequence::START.next());
        let selectors: Vec<Selector> =
            (case.names)().iter().map(|name| Selector::parse(name).expect("it is a valid name")).collect();
        let limits = SliceLimits { frames_max: SLICE_FRAMES_MAX, bytes_max: 256 * 1024 };
        let filled = Filled { hub, selectors, channels: case.channels, limits };
        filled.subscribe(Begin::AtHead);
        for from in (0..retained).step_by(MISSED) {
            filled.publish(from, MISSED);
        }
        while filled.hub.is_unfinished() {
            filled.hub.tidy();
        }
        filled
    }

    /// Publishes `count` events of 64 bytes, to the channels in turn, and lets the shard take them.
    fn publish(&self, from: usize, count: usize) {
        let batch = self.batch(from, count);
        self.hub.apply(self.hub.head().next(), &batch, None);
        self.take();
    }

    fn batch(&self, from: usize, count: usize) -> Events {
        let data = "x".repeat(64);
        let mut batch = Events::new();
        (from..from + count).for_each(|at| batch.push(&[&room(at % self.channels)], &Event::new(&data)));
        batch
    }

    fn take(&self) {
        let limits = TakeLimits { frames_max: u32::MAX, large_frames_max: u32::MAX, bytes_max: usize::MAX };
        while self.hub.take(0, limits, &mut Vec::new()) != self.hub.head() {}
    }

    fn subscribe(&self, begin: Begin) -> (Vec<ChannelId>, Cursor) {
        let subscribed =
            self.hub.subscribe(0, &self.selectors, None, begin).expect("there is room for these channels");
        let (Begun::After(cursor) | Begun::AtHead(cursor)) = subscribed.begun else {
            panic!("its place is known")
        };
        (subscribed.channels.to_vec(), cursor)
    }

    /// A stream that has missed the last 1000 events.
    fn resuming(&self) -> (Vec<ChannelId>, Cursor) {
        let sequence = Sequence(self.hub.head().0 - MISSED as u64);
        self.subscribe(Begin::After(EventId { tag: EpochTag::from_bits(TAG), sequence }))
    }

    /// Reads a slice. Returns true if the stream is live.
    fn read(&self, channels: &[ChannelId], cursor: &mut Cursor, slice: &mut Slice) -> bool {
        self.hub.read(0, channels, cursor, self.limits, slice);
        slice.is_live
    }

    /// One stream subscribes, reads all that it has missed, and leaves.
    fn resume(&self, slice: &mut Slice) {
        let (channels, mut cursor) = self.resuming();
        let mut frames = 0;
        loop {
            let is_live = self.read(&channels, &mut cursor, slice);
            frames += slice.frames as usize;
            if is_live {
                break;
            }
        }
        assert_eq!(frames, MISSED, "it reads what it has missed");
        self.hub.unsubscribe(0, channels, |_, _| true);
    }

    fn resume_often(&self, count: usize) -> Duration {
        let (mut slice, began) = (Slice::default(), thread_cpu_time());
        (0..count).for_each(|_| self.resume(&mut slice));
        thread_cpu_time() - began
    }
}

/// The ratio of CPU times with many events to those with few, in turns.
fn ratio(case: Case) -> Quartiles {
    let (few, many) = (Filled::new(case, FEW), Filled::new(case, MANY));
    let round = |number: usize| {
        // The first one changes.
        let (of_few, of_many) = if number.is_multiple_of(2) {
            let of_few = few.resume_often(RESUMES);
            (of_few, many.resume_often(RESUMES))
        } else {
            let of_many = many.resume_often(RESUMES);
            (few.resume_often(RESUMES), of_many)
        };
        of_many.as_secs_f64() / of_few.as_secs_f64()
    };
    round(0); // A warm-up.
    Quartiles::of((0..ROUNDS).map(round).collect::<Vec<_>>())
}

/// How long the lock is held while very many streams resume and events are published. Each call is timed
/// from outside, which is a little more than the hold, in a thread that has the lock to itself.
fn holds(case: Case) -> [(&'static str, Vec<Duration>); 3] {
    let filled = Filled::new(case, MANY);
    let (mut subscribes, mut reads, mut publishes) = (Vec::new(), Vec::new(), Vec::new());
    let timed = |holds: &mut Vec<Duration>, began: Instant| holds.push(began.elapsed());
    let mut streams: Vec<_> = (0..STREAMS)
        .map(|_| {
            let began = Instant::now();
            let stream = filled.resuming();
            timed(&mut subscribes, began);
            stream
        })
        .collect();
    let mut slice = Slice::default();
    let mut published = 0;
    while !streams.is_empty() {
        streams.retain_mut(|(channels, cursor)| {
            let began = Instant::now();
            let is_live = filled.read(channels, cursor, &mut slice);
            timed(&mut reads, began);
            if reads.len().is_multiple_of(SLICES_BETWEEN) && published < STREAMS {
                let batch = filled.batch(published, PUBLISHED_TOGETHER);
                let began = Instant::now();
                filled.hub.apply(filled.hub.head().next(), &batch, None);
                timed(&mut publishes, began);
                let began = Instant::now();
                filled.take();
                timed(&mut publishes, began);
                published += PUBLISHED_TOGETHER;
            }
            !is_live
        });
    }
    [
        ("a stream subscribes", subscribes),
        ("a slice is read", reads),
        ("64 events are applied, or taken", publishes),
    ]
}

/// The value that `hundredths` of a hundred do not exceed.
fn percentile(sorted: &[Duration], hundredths: usize) -> Duration {
    sorted[(sorted.len() * hundredths / 100).min(sorted.len() - 1)]
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

fn measure() -> Verdicts {
    let mut verdicts = Verdicts::begin(&["what", "budget", "measured"]);
    for case in CASES {
        let ratio = ratio(case);
        let what = format!("CPU of resuming {MISSED} events of {}, {MANY} retained to {FEW}", case.name);
        verdicts.push(&[&what, &format!("≤ {RATIO_MAX}"), &ratio], ratio.median <= RATIO_MAX);
    }
    for case in CASES {
        let kinds = holds(case);
        let mut all: Vec<Duration> = kinds.iter().flat_map(|(_, holds)| holds).copied().collect();
        all.sort_unstable();
        let p99 = percentile(&all, 99);
        let parts = kinds.map(|(what, mut holds)| {
            holds.sort_unstable();
            let at = |hundredths| micros(percentile(&holds, hundredths));
            format!("{what}: {:.1}, {:.1}, {:.1}", at(50), at(99), at(100))
        });
        let what =
            format!("the lock held while {STREAMS} streams of {} resume, p99 (p50, p99, max)", case.name);
        let budget = format!("≤ {:.0} µs", micros(HOLD_MAX));
        let measured = format!("{:.1} µs ({})", micros(p99), parts.join("; "));
        verdicts.push(&[&what, &budget, &measured], p99 <= HOLD_MAX);
    }
    verdicts
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let numbers: Vec<usize> = arguments.iter().filter_map(|argument| argument.parse().ok()).collect();
    if let [case, retained, resumes] = numbers[..] {
        let filled = Filled::new(CASES[case], retained);
        let mut slice = Slice::default();
        (0..resumes).for_each(|_| filled.resume(&mut slice));
        return ExitCode::SUCCESS;
    }
    if is_asked_to_measure("resume") { measure().finish() } else { ExitCode::SUCCESS }
}
