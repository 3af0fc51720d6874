//! A worker from its own side: reads its share of the streams by its orders, and reports its numbers.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, Receiver, TryRecvError};
use std::thread;
use std::time::Duration;

use mio::{Events, Poll, Waker};

use super::super::BenchError;
use super::super::board::{Board, Clock, Phase};
use super::super::connect::Connector;
use super::super::plan::Plan;
use super::super::process::ThreadTime;
use super::super::publisher::WAKER;
use super::super::readers::Readers;
use super::lines::{self, Answer, Counts, Job, Line, Orders};
use crate::driver::descriptors::raise_open_files_limit;

/// Works until the run is over, or until `input` ends because the first process is gone.
///
/// # Errors
/// If the job is invalid or cannot be done.
pub(in super::super) fn work(
    input: impl Read + Send + 'static,
    out: &mut impl Write,
) -> Result<(), BenchError> {
    let mut input = BufReader::new(input);
    let Some(Job { plan, process, address, clock_origin_ns }) =
        lines::read(&mut input).map_err(BenchError::Orders)?
    else {
        return Err(BenchError::Orders(io::ErrorKind::UnexpectedEof.into()));
    };
    raise_open_files_limit().map_err(BenchError::Setup)?;
    let connector = Connector::new(&plan, process, address).map_err(BenchError::Usage)?;
    let poll = Poll::new().map_err(BenchError::Setup)?;
    let waker = Waker::new(poll.registry(), WAKER).map_err(BenchError::Setup)?;
    let board = Arc::new(Board::new(Clock::of_origin(clock_origin_ns), plan.threads, waker));
    let mut worker = Worker {
        orders: listen(input, Arc::clone(&board)).map_err(BenchError::Setup)?,
        turns: Turns::new(&plan, process),
        plan: Arc::new(plan),
        board,
        process,
        connector,
        readers: None,
        sent: Counts::default(),
        out,
    };
    worker.answer(0)?;
    worker.run(poll)
}

/// Passes the orders on as they come. Disconnects the receiver at the end of the input.
fn listen(
    mut input: impl BufRead + Send + 'static,
    board: Arc<Board>,
) -> io::Result<Receiver<io::Result<Orders>>> {
    let (sender, receiver) = mpsc::channel();
    thread::Builder::new().name("orders".to_owned()).spawn(move || {
        while let Some(orders) = lines::read(&mut input).transpose() {
            let is_last = orders.is_err();
            // The worker has ended: there is no receiver, or it cannot be woken.
            if sender.send(orders).is_err() || board.wake().is_err() || is_last {
                break;
            }
        }
        drop(sender);
        drop(board.wake());
    })?;
    Ok(receiver)
}

struct Worker<'a, W> {
    plan: Arc<Plan>,
    board: Arc<Board>,
    process: usize,
    connector: Connector,
    orders: Receiver<io::Result<Orders>>,
    /// `None` before the first orders.
    readers: Option<Readers>,
    turns: Turns,
    /// The counts sent last.
    sent: Counts,
    out: &'a mut W,
}

impl<W: Write> Worker<'_, W> {
    fn run(mut self, mut poll: Poll) -> Result<(), BenchError> {
        let mut events = Events::with_capacity(1);
        loop {
            let wants_places = self.board.wants_places.load(Ordering::Acquire);
            match poll.poll(&mut events, Some(if wants_places { TICK } else { IDLE })) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                    return Err(BenchError::Setup(error));
                }
                _ => {}
            }
            loop {
                match self.orders.try_recv() {
                    Ok(orders) => {
                        let orders = orders.map_err(BenchError::Orders)?;
                        self.carry_out(&orders)?;
                        if orders.phase == Phase::Over {
                            return self.finish(orders.number);
                        }
                    }
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => return Ok(()),
                }
            }
            if self.readers.as_ref().is_some_and(Readers::has_ended) {
                return self.give_up();
            }
            self.turns.follow(&self.board);
            let counts = Counts::of(&self.board);
            if counts != self.sent {
                self.sent = counts;
                self.write(&Line::Counts(counts))?;
            }
        }
    }

    fn carry_out(&mut self, orders: &Orders) -> Result<(), BenchError> {
        orders.post(&self.board);
        if orders.phase == Phase::Over {
            return Ok(());
        }
        if self.readers.is_none() {
            let readers = Readers::start(&self.plan, &self.board, self.process, &self.connector);
            self.readers = Some(readers.map_err(BenchError::Setup)?);
        }
        self.turns.begin(orders.unbatched_from, &self.board);
        self.answer(orders.number)
    }

    fn answer(&mut self, number: u64) -> Result<(), BenchError> {
        let readers = self.board.readers.iter().map(|reader| reader.thread_id.load(Ordering::Acquire));
        let readers = readers.map(ThreadTime::of).collect();
        self.sent = Counts::of(&self.board);
        let clock_ns = self.board.clock.ns();
        self.write(&Line::Answer(Answer { number, clock_ns, readers, counts: self.sent }))
    }

    /// Ends the readers, and sends their findings.
    fn finish(mut self, number: u64) -> Result<(), BenchError> {
        let (found, troubles) = self.readers.take().unwrap_or_default().join();
        if !troubles.is_empty() {
            return Err(BenchError::Found(troubles.join("; ")));
        }
        self.answer(number)?;
        self.write(&Line::Found(Box::new(found)))
    }

    /// A reader has ended before its time. Ends the others, which have to be joined.
    fn give_up(mut self) -> Result<(), BenchError> {
        self.board.set_phase(Phase::Over);
        let (_, troubles) = self.readers.take().unwrap_or_default().join();
        Err(BenchError::Found(troubles.join("; ")))
    }

    fn write(&mut self, line: &Line) -> Result<(), BenchError> {
        lines::write(self.out, line).map_err(BenchError::Output)
    }
}

/// With `--unbatched`: how far the worker's streams have advanced when they have the next event. So they
/// are checked once for each event, and no order is needed for it.
#[derive(Debug)]
struct Turns {
    spread: super::super::spread::Spread,
    /// The worker's streams that are not slow, by channel.
    fast: Vec<u64>,
    /// The place of the next event, and how far the streams have advanced when they have the one before;
    /// `None` if events do not wait for them.
    next: Option<(u64, u64)>,
}

impl Turns {
    fn new(plan: &Plan, process: usize) -> Turns {
        let mut fast = vec![0; plan.channels.len()];
        let subscribers = (process..plan.subscribers).step_by(plan.processes);
        for subscriber in subscribers.filter(|&subscriber| !plan.is_slow(subscriber)) {
            fast[plan.channel_of(subscriber) as usize] += 1;
        }
        Turns { spread: plan.spread, fast, next: None }
    }

    /// Begins with the event at `place`, which is published only after these orders are answered.
    fn begin(&mut self, place: Option<u64>, board: &Board) {
        self.next = place.map(|place| (place, board.advanced()));
        self.follow(board);
    }

    /// Sets the goal to the first event that the streams do not have.
    fn follow(&mut self, board: &Board) {
        let Some((place, goal)) = &mut self.next else { return };
        if self.fast.iter().all(|&count| count == 0) {
            return;
        }
        while board.advanced() >= *goal {
            *goal += self.fast[self.spread.event(*place).0 as usize];
            *place += 1;
            board.set_goal(*goal);
        }
    }
}

/// How often counts are sent while they are waited for: the shortest timeout of epoll.
const TICK: Duration = Duration::from_millis(1);

/// The same while they are only shown.
const IDLE: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::super::super::plan::tests::plan;
    use super::*;

    fn board() -> (Poll, Board) {
        let poll = Poll::new().unwrap();
        let waker = Waker::new(poll.registry(), WAKER).unwrap();
        (poll, Board::new(Clock::start(), 1, waker))
    }

    #[test]
    fn each_event_is_a_goal_of_the_streams_that_the_worker_has_of_its_channel() {
        // Subscribers 1, 3, 5 and 7 are the worker's: of the channels 1, 0, 2 and 1.
        let plan =
            plan(&["--processes", "2", "--subscribers", "9", "--channels", "3", "--unbatched"]).unwrap();
        let (mut turns, (_poll, board)) = (Turns::new(&plan, 1), board());
        assert_eq!(turns.fast, [1, 2, 1]);
        board.advance(10).unwrap();
        turns.begin(Some(4), &board);
        assert_eq!(turns.next, Some((5, 12)), "the event at place 4 is of channel 1");
        board.advance(1).unwrap();
        turns.follow(&board);
        assert_eq!(turns.next, Some((5, 12)), "one of its streams does not have it");
        board.advance(1).unwrap();
        turns.follow(&board);
        assert_eq!(turns.next, Some((6, 13)));
    }

    #[test]
    fn events_of_channels_that_the_worker_has_no_streams_of_are_no_goals() {
        let plan =
            plan(&["--processes", "2", "--subscribers", "4", "--channels", "2", "--unbatched"]).unwrap();
        let (mut turns, (_poll, board)) = (Turns::new(&plan, 1), board());
        assert_eq!(turns.fast, [0, 2]);
        turns.begin(Some(0), &board);
        assert_eq!(turns.next, Some((2, 2)));
    }

    #[test]
    fn a_worker_without_orders_ends_and_one_without_a_job_says_so() {
        let mut out = Vec::new();
        assert!(matches!(work(&b""[..], &mut out), Err(BenchError::Orders(_))));
        assert!(matches!(work(&b"{}\n"[..], &mut out), Err(BenchError::Orders(_))));
        let job = Job {
            plan: plan(&["--processes", "2"]).unwrap(),
            process: 1,
            address: "127.0.0.1:1".parse().unwrap(),
            clock_origin_ns: Clock::start().origin_ns(),
        };
        let mut wire = Vec::new();
        lines::write(&mut wire, &job).unwrap();
        work(io::Cursor::new(wire.clone()), &mut out).unwrap();
        let mut sent = &out[..];
        assert!(matches!(lines::read(&mut sent).unwrap(), Some(Line::Answer(Answer { number: 0, .. }))));
        wire.extend_from_slice(b"nonsense\n");
        assert!(matches!(work(io::Cursor::new(wire), &mut out), Err(BenchError::Orders(_))));
    }
}
