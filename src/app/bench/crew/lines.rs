//! The lines between the first process of a run and its workers: JSON, over the worker's standard input
//! and output.
//!
//! A worker gets its [`Job`], then [`Orders`], each of which it carries out and answers. In between it
//! sends its [`Counts`] when they have changed. Its findings follow its last answer. Both ends are of
//! one binary, so the lines need no version.

use std::io::{self, BufRead, Write};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::super::board::{Board, Phase, ReaderBoard};
use super::super::found::Found;
use super::super::plan::Plan;
use super::super::process::ThreadTime;

/// The part of a worker in the run.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Job {
    pub(super) plan: Plan,
    /// The number of its process in the run. The first process, 0, is no worker.
    pub(super) process: usize,
    /// The address of the server for streams.
    pub(super) address: SocketAddr,
    /// When the run's clock was started, in ns since 1970.
    pub(super) clock_origin_ns: u64,
}

/// The new state of a worker's board.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Orders {
    /// Counted from 1. The first orders start the readers.
    pub(super) number: u64,
    pub(super) phase: Phase,
    wants_places: bool,
    is_drain_cut: bool,
    measured_from_ns: u64,
    published: u64,
    /// With `--unbatched`: the place in the run of the next event, while none is under way.
    pub(super) unbatched_from: Option<u64>,
}

impl Orders {
    /// The state of the first process's board.
    pub(super) fn of(board: &Board, number: u64, unbatched_from: Option<u64>) -> Orders {
        Orders {
            number,
            phase: board.phase(),
            wants_places: board.wants_places.load(Ordering::Acquire),
            is_drain_cut: board.is_drain_cut.load(Ordering::Acquire),
            measured_from_ns: board.measured_from_ns.load(Ordering::Acquire),
            published: board.published.load(Ordering::Acquire),
            unbatched_from,
        }
    }

    /// Posts the state on a board. The phase comes last: a reader that sees the end of the run relies on
    /// the rest.
    pub(super) fn post(&self, board: &Board) {
        board.wants_places.store(self.wants_places, Ordering::Release);
        board.is_drain_cut.store(self.is_drain_cut, Ordering::Release);
        board.measured_from_ns.store(self.measured_from_ns, Ordering::Release);
        board.published.store(self.published, Ordering::Release);
        board.set_phase(self.phase);
    }
}

/// A line of a worker.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Line {
    Counts(Counts),
    Answer(Answer),
    Found(Box<Found>),
}

/// The answer of a worker that has carried out orders.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Answer {
    /// The number of the orders; 0 for the job.
    pub(super) number: u64,
    /// The worker's clock of the run.
    pub(super) clock_ns: u64,
    pub(super) readers: Vec<ThreadTime>,
    pub(super) counts: Counts,
}

/// The numbers of a worker's readers, as one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Counts {
    fast_place: u64,
    slow_place: u64,
    advanced: u64,
    tried: u64,
    begun: u64,
    failed: u64,
    settled: u64,
    ended: u64,
    deliveries: u64,
    last_delivery_ns: u64,
    received_bytes: u64,
}

impl Counts {
    /// The numbers on a worker's board. Places are read first, as readers post them last: the other
    /// numbers then include the events up to these places.
    pub(super) fn of(board: &Board) -> Counts {
        let (fast_place, slow_place) = (board.fast_place(), board.slow_place());
        Counts {
            fast_place,
            slow_place,
            advanced: board.advanced(),
            tried: board.sum(|reader| &reader.tried),
            begun: board.sum(|reader| &reader.begun),
            failed: board.sum(|reader| &reader.failed),
            settled: board.sum(|reader| &reader.settled),
            ended: board.sum(|reader| &reader.ended),
            deliveries: board.sum(|reader| &reader.deliveries),
            last_delivery_ns: board.last_delivery_ns(),
            received_bytes: board.sum(|reader| &reader.received_bytes),
        }
    }

    /// Posts the numbers on the board of the first process, as those of one more reader and in a
    /// reader's order. `before` is what was posted last.
    pub(super) fn post(&self, at: &ReaderBoard, board: &Board, before: &Counts) -> io::Result<()> {
        let put = |number: &AtomicU64, value| number.store(value, Ordering::Release);
        put(&at.tried, self.tried);
        put(&at.begun, self.begun);
        put(&at.failed, self.failed);
        put(&at.settled, self.settled);
        put(&at.ended, self.ended);
        put(&at.received_bytes, self.received_bytes);
        put(&at.last_delivery_ns, self.last_delivery_ns);
        put(&at.deliveries, self.deliveries);
        board.advance(self.advanced.saturating_sub(before.advanced))?;
        put(&at.fast_place, self.fast_place);
        put(&at.slow_place, self.slow_place);
        Ok(())
    }
}

/// Writes and flushes a line.
pub(super) fn write(out: &mut impl Write, line: &impl Serialize) -> io::Result<()> {
    let mut text = serde_json::to_vec(line)?;
    text.push(b'\n');
    out.write_all(&text)?;
    out.flush()
}

/// Reads a line; `None` at the end.
///
/// # Errors
/// Also for a line that is not of this type.
pub(super) fn read<T: DeserializeOwned>(input: &mut impl BufRead) -> io::Result<Option<T>> {
    let mut text = Vec::new();
    if input.read_until(b'\n', &mut text)? == 0 {
        return Ok(None);
    }
    Ok(Some(serde_json::from_slice(&text)?))
}

#[cfg(test)]
mod tests {
    use mio::{Poll, Waker};

    use super::super::super::board::Clock;
    use super::super::super::plan::tests::plan;
    use super::super::super::publisher::WAKER;
    use super::*;

    fn board(readers: usize) -> Board {
        let poll = Poll::new().unwrap();
        Board::new(Clock::start(), readers, Waker::new(poll.registry(), WAKER).unwrap())
    }

    fn through_json<T: Serialize + DeserializeOwned>(line: &T) -> T {
        let mut wire = Vec::new();
        write(&mut wire, line).unwrap();
        assert_eq!(wire.iter().filter(|&&byte| byte == b'\n').count(), 1, "it is one line");
        read(&mut &wire[..]).unwrap().unwrap()
    }

    #[test]
    fn a_plan_comes_through_as_it_is() {
        for arguments in [
            &[
                "--channels",
                "3",
                "--slow",
                "10%",
                "--batch",
                "4",
                "--header",
                "A: {client}",
                "--processes",
                "2",
            ][..],
            &["--rate", "0", "--window", "8", "--events", "5", "--source", "127.0.0.9", "--ramp", "0"],
            &["--unbatched", "--cpus-readers", "0,1", "--pid", "7", "--drain", "250ms", "--ramp", "0.3"],
        ] {
            let plan = plan(arguments).unwrap();
            let address = "127.0.0.1:80".parse().unwrap();
            let job = Job { plan, process: 1, address, clock_origin_ns: u64::MAX };
            assert_eq!(format!("{:?}", through_json(&job)), format!("{job:?}"));
        }
    }

    #[test]
    fn orders_make_a_workers_board_say_what_the_first_ones_does() {
        let (first, worker) = (board(2), board(1));
        first.set_phase(Phase::SlowRead);
        first.wants_places.store(false, Ordering::Release);
        first.is_drain_cut.store(true, Ordering::Release);
        first.measured_from_ns.store(7, Ordering::Release);
        first.published.store(8, Ordering::Release);
        let orders = Orders::of(&first, 3, Some(5));
        through_json(&orders).post(&worker);
        assert_eq!(Orders::of(&worker, 3, Some(5)), orders);
    }

    #[test]
    fn a_worker_stands_on_the_board_as_one_reader() {
        let (first, worker) = (board(2), board(2));
        worker.advance(5).unwrap();
        for (at, reader) in worker.readers.iter().enumerate() {
            reader.begun.store(10 + at as u64, Ordering::Release);
            reader.last_delivery_ns.store(20 + at as u64, Ordering::Release);
            reader.fast_place.store(30 + at as u64, Ordering::Release);
            reader.slow_place.store(u64::MAX, Ordering::Release);
        }
        first.readers[0].fast_place.store(u64::MAX, Ordering::Release);
        let (before, counts) = (Counts::default(), Counts::of(&worker));
        through_json(&counts).post(&first.readers[1], &first, &before).unwrap();
        assert_eq!((first.advanced(), first.sum(|reader| &reader.begun)), (5, 21));
        assert_eq!((first.last_delivery_ns(), first.fast_place()), (21, 30));
        worker.advance(2).unwrap();
        Counts::of(&worker).post(&first.readers[1], &first, &counts).unwrap();
        assert_eq!(first.advanced(), 7, "what was put up before counts once");
    }

    #[test]
    fn what_is_no_line_is_an_error_and_the_end_is_none() {
        assert!(read::<Orders>(&mut &b"{}\n"[..]).is_err());
        assert!(read::<Orders>(&mut &b"nonsense"[..]).is_err());
        assert!(read::<Orders>(&mut &b""[..]).unwrap().is_none());
    }
}
