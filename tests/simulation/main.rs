//! Whole shards in a simulated world. It has publishers and subscribers over a hostile network, and a
//! clock that only the test moves. Its log delays, refuses, and loses its tail in crashes. The test
//! checks every event on every stream against the sequence that the log committed.
//!
//! A seed determines everything in a world. A failure prints the seed. To replay it:
//!
//! ```text
//! DOWNPOUR_SIM_SEED=17 DOWNPOUR_SIM_STEPS=1500 cargo test --test simulation -- --nocapture
//! ```
//!
//! `DOWNPOUR_SIM_SEEDS=5000` plays 5000 seeds, from `DOWNPOUR_SIM_SEED` (or 0) on.

mod allocated;
mod answer;
mod changes;
mod control;
mod draft;
mod leaving;
mod memory;
mod model;
mod publisher;
mod request;
mod rules;
mod scene;
mod server;
mod stats;
mod stream;
mod subscriber;
mod view;
mod wire;
mod world;

use std::cell::Cell;
use std::panic;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use stats::Stats;

/// Seeds that are played by default, and the steps of each.
const SEEDS: u64 = 300;
const STEPS: u64 = 1500;

/// Worlds in which everyone leaves again and again, and how often.
const ROUND_SEEDS: u64 = 20;
const ROUNDS: usize = 40;

/// Lists keep the room for the most that they ever held. In the later half of the rounds those of each
/// shard may grow by this, and all others by as much.
const GROWTH_BYTES_MAX: i64 = 8 * 1024;

/// A quarter of the worlds grow by no more than this.
const TYPICAL_GROWTH_BYTES_MAX: i64 = 4 * 1024;

/// Bytes that a world may leave allocated.
const LEFT_BYTES_MAX: i64 = 16 * 1024;

thread_local! {
    /// The seed and steps of the world that this thread plays.
    static PLAYED: Cell<Option<(u64, u64)>> = const { Cell::new(None) };
}

#[test]
fn every_stream_shows_the_committed_sequence_and_every_gap_in_it() {
    let (seed, steps) = (number("DOWNPOUR_SIM_SEED"), number("DOWNPOUR_SIM_STEPS").unwrap_or(STEPS));
    let seeds = number("DOWNPOUR_SIM_SEEDS").unwrap_or(if seed.is_some() { 1 } else { SEEDS });
    say_which_seed_panics();
    let next = AtomicU64::new(0);
    let total = Mutex::new(Stats::default());
    let play_some = || {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= seeds {
                return;
            }
            let stats = play(seed.unwrap_or(0) + index, steps);
            total.lock().unwrap().add(&stats);
        }
    };
    thread::scope(|scope| {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        (0..threads).for_each(|_| drop(scope.spawn(play_some)));
    });
    let total = total.into_inner().unwrap();
    println!("{total:#?}");
    if seeds >= SEEDS {
        total.check_all_happened();
    }
}

#[test]
fn a_seed_determines_a_world() {
    let seed = number("DOWNPOUR_SIM_SEED").unwrap_or(3);
    say_which_seed_panics();
    assert_eq!(play(seed, 500), play(seed, 500));
}

#[test]
fn a_server_holds_no_more_for_the_many_who_have_left_than_for_the_first() {
    say_which_seed_panics();
    let seed = number("DOWNPOUR_SIM_SEED");
    let share = |seeds: u64| (seeds * ROUND_SEEDS / SEEDS).clamp(1, ROUND_SEEDS);
    let seeds = 0..number("DOWNPOUR_SIM_SEEDS").map_or(ROUND_SEEDS, share);
    let mut growths = Vec::new();
    for seed in seed.map_or(seeds, |seed| seed..seed + 1) {
        PLAYED.set(Some((seed, STEPS)));
        let (left, shards) = leaving::play_rounds(seed, ROUNDS);
        let (first, last) = left.split_at(ROUNDS / 2);
        let growth = last.iter().max().unwrap() - first.iter().max().unwrap();
        let most = GROWTH_BYTES_MAX * (1 + i64::try_from(shards).unwrap());
        assert!(growth <= most, "{growth} bytes more in the later half, of {most}: {left:?}");
        growths.push(growth);
        PLAYED.set(None);
    }
    // Lists grow in some worlds, and what is left of every request or stream grows in all of them.
    growths.sort_unstable();
    let typical = growths[growths.len() / 4];
    let is_typical = growths.len() as u64 == ROUND_SEEDS;
    assert!(!is_typical || typical <= TYPICAL_GROWTH_BYTES_MAX, "most worlds grow: by {growths:?} bytes");
}

fn play(seed: u64, steps: u64) -> Stats {
    PLAYED.set(Some((seed, steps)));
    let before = allocated::bytes();
    let stats = world::play(seed, steps);
    // One thread plays a world. Memory allocated once per thread or process is small.
    let left = allocated::bytes() - before;
    assert!(left < LEFT_BYTES_MAX, "{left} bytes are left of a world that is over");
    PLAYED.set(None);
    stats
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}

/// Makes a panic print how to replay its world, even a panic that aborts the process.
fn say_which_seed_panics() {
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        before(info);
        if let Some((seed, steps)) = PLAYED.get() {
            eprintln!(
                "play it again: DOWNPOUR_SIM_SEED={seed} DOWNPOUR_SIM_STEPS={steps} cargo test --test simulation"
            );
        }
    }));
}
