//! An outbox agrees with a queue of single bytes, each of which knows the frame that it is of.

use std::collections::VecDeque;
use std::rc::Rc;

use downpour::base::limits::SEND_SLICES_MAX;
use downpour::frame::outbox::{Outbox, OutboxLimits, Pushed};
use downpour::frame::run::{Run, Source};
use downpour::frame::segment::Segment;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

const SOURCE_BYTES: u32 = 64;

#[derive(Clone, Debug)]
enum Op {
    /// A run of a shared source: right behind the last one of that source, or anywhere.
    Shared {
        source: usize,
        adjacent: bool,
        from: u32,
        len: u32,
        frames: u32,
    },
    Own {
        len: usize,
    },
    Unbounded {
        len: usize,
    },
    /// The socket takes some of what is offered.
    Send(Index),
    SendAll,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (0..3_usize, prop::bool::weighted(0.7), 0..SOURCE_BYTES - 12, 1..12_u32, 1..4_u32)
            .prop_map(|(source, adjacent, from, len, frames)| Op::Shared { source, adjacent, from, len, frames }),
        2 => (1..40_usize).prop_map(|len| Op::Own { len }),
        1 => (1..10_usize).prop_map(|len| Op::Unbounded { len }),
        4 => any::<Index>().prop_map(Op::Send),
        1 => Just(Op::SendAll),
    ]
}

/// What waits: every byte, with the number of the run that it came in.
#[derive(Default)]
struct Model {
    bytes: VecDeque<(u8, usize)>,
    /// Runs of which a byte waits: number, frames, and whether it continues the one before it.
    runs: VecDeque<(usize, u32, bool)>,
    pushed: usize,
    /// The run of each byte that was written.
    written: Vec<usize>,
    /// Source and end of the last run.
    last: Option<(usize, u32)>,
}

impl Model {
    fn frames(&self) -> u32 {
        self.front_group_frames()
            + self.runs.iter().skip(self.front_group_len()).map(|run| run.1).sum::<u32>()
    }

    /// The runs that stand adjacent at the front are written as one, and their frames count until all of it is.
    fn front_group_len(&self) -> usize {
        1 + self.runs.iter().skip(1).take_while(|run| run.2).count()
    }

    fn front_group_frames(&self) -> u32 {
        self.runs.iter().take(self.front_group_len()).map(|run| run.1).sum()
    }

    fn groups(&self) -> usize {
        self.runs.iter().skip(1).filter(|run| !run.2).count() + usize::from(!self.runs.is_empty())
    }

    fn push(&mut self, run: &Run, place: Option<(usize, u32)>) {
        let adjacent = place.is_some() && !self.runs.is_empty() && self.last == place;
        self.bytes.extend(run.bytes().iter().map(|&byte| (byte, self.pushed)));
        self.runs.push_back((self.pushed, run.frames(), adjacent));
        self.pushed += 1;
        let len = u32::try_from(run.len()).expect("runs are short here");
        self.last = place.map(|(source, from)| (source, from + len));
    }

    fn fits(&self, run: &Run, limits: OutboxLimits) -> bool {
        let fits = self.bytes.len() + run.len() <= limits.bytes_max
            && self.frames() - self.frames_begun() + run.frames() <= limits.frames_max;
        fits || (self.bytes.is_empty() && run.frames() <= 1)
    }

    /// As many of the front group's frames as the written part of its bytes would have if all were of one length.
    fn frames_begun(&self) -> u32 {
        let group: Vec<usize> = self.runs.iter().take(self.front_group_len()).map(|run| run.0).collect();
        let waiting = self.bytes.iter().filter(|(_, run)| group.contains(run)).count();
        let written = self.written.iter().filter(|run| group.contains(run)).count();
        let share = self.front_group_frames() as usize * written / (waiting + written).max(1);
        u32::try_from(share).expect("few frames")
    }

    /// Runs that are written count until the whole group of adjacent ones is.
    fn sent(&mut self, bytes: usize) {
        self.written.extend(self.bytes.drain(..bytes).map(|(_, run)| run));
        let first = self.bytes.front().map_or(self.pushed, |&(_, run)| run);
        while !self.runs.is_empty() && self.runs.iter().take(self.front_group_len()).all(|run| run.0 < first)
        {
            self.runs.drain(..self.front_group_len());
        }
    }
}

fn check(outbox: &Outbox, model: &Model) -> Result<(), TestCaseError> {
    prop_assert_eq!(outbox.is_empty(), model.bytes.is_empty());
    prop_assert_eq!(outbox.bytes(), model.bytes.len());
    prop_assert_eq!(outbox.frames(), model.frames());
    let (slices, offered) = offered(outbox);
    prop_assert_eq!(slices, model.groups().clamp(1, SEND_SLICES_MAX) * usize::from(!outbox.is_empty()));
    prop_assert!(model.bytes.iter().map(|&(byte, _)| byte).take(offered.len()).eq(offered.iter().copied()));
    prop_assert!(offered.len() == model.bytes.len() || slices == SEND_SLICES_MAX);
    Ok(())
}

fn offered(outbox: &Outbox) -> (usize, Vec<u8>) {
    outbox.offer(|slices| {
        assert!(slices.iter().all(|slice| !slice.is_empty()), "an empty slice is offered");
        (slices.len(), slices.iter().flat_map(|slice| slice.iter().copied()).collect())
    })
}

fn run(ops: &[Op], limits: OutboxLimits) -> Result<(), TestCaseError> {
    let sources: Vec<Rc<Source>> = (0..3_u8)
        .map(|n| {
            let bytes: Vec<u8> = (0..64).map(|at| n * 64 + at).collect();
            Rc::new(if n == 2 { Source::Own(bytes.into()) } else { Source::Shared(Segment::of(&bytes)) })
        })
        .collect();
    let mut ends = [0; 3];
    let (mut outbox, mut model) = (Outbox::default(), Model::default());
    for op in ops {
        match *op {
            Op::Shared { source, adjacent, from, len, frames } => {
                let from = if adjacent && ends[source] + len <= SOURCE_BYTES { ends[source] } else { from };
                let run = Run::new(Rc::clone(&sources[source]), from, from + len, frames);
                let expected = if model.fits(&run, limits) { Pushed::Queued } else { Pushed::Full };
                if expected == Pushed::Queued {
                    model.push(&run, Some((source, from)));
                    ends[source] = from + len;
                }
                prop_assert_eq!(outbox.push(run, &limits), expected);
            }
            Op::Own { len } => {
                let run = Run::own(vec![b'o'; len]);
                let expected = if model.fits(&run, limits) { Pushed::Queued } else { Pushed::Full };
                if expected == Pushed::Queued {
                    model.push(&run, None);
                }
                prop_assert_eq!(outbox.push(run, &limits), expected);
            }
            Op::Unbounded { len } => {
                let run = Run::own(vec![b'u'; len]);
                model.push(&run, None);
                outbox.push_unbounded(run);
            }
            Op::Send(index) => {
                let bytes = index.index(offered(&outbox).1.len() + 1);
                let frames = model.frames();
                model.sent(bytes);
                prop_assert_eq!(outbox.sent(bytes), frames - model.frames());
            }
            Op::SendAll => {
                let bytes = offered(&outbox).1.len();
                outbox.sent(bytes);
                model.sent(bytes);
            }
        }
        check(&outbox, &model)?;
    }
    while !outbox.is_empty() {
        let bytes = offered(&outbox).1.len();
        outbox.sent(bytes);
        model.sent(bytes);
        check(&outbox, &model)?;
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_outbox_agrees_with_a_queue_of_bytes(
        ops in vec(op(), 1..80), bytes_max in 1..200_usize, frames_max in 1..40_u32
    ) {
        run(&ops, OutboxLimits { bytes_max, frames_max })?;
    }

    #[test]
    fn an_outbox_of_many_runs_offers_them_in_bounded_sends(ops in vec(op(), 100..300)) {
        run(&ops, OutboxLimits { bytes_max: usize::MAX, frames_max: u32::MAX })?;
    }
}
