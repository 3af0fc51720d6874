//! One worker, as the first process sees it: a child process, and the thread that reads its output.

use std::io::{self, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde::Serialize;

use super::super::board::{Alarm, Board};
use super::super::found::Found;
use super::super::plan::Plan;
use super::lines::{self, Answer, Counts, Line};

/// A worker that was started. Dropping it ends the worker.
#[derive(Debug)]
pub(super) struct Hand {
    /// `process 2 of 3`.
    name: String,
    child: Child,
    input: ChildStdin,
    answers: Receiver<Answer>,
    /// `None` once it was joined.
    listener: Option<JoinHandle<Ended>>,
}

/// The end of a worker.
#[derive(Debug)]
struct Ended {
    found: Option<Found>,
    /// Its standard error.
    said: String,
}

impl Hand {
    /// Starts process `process` of the run. On the board it comes after the readers of the first
    /// process.
    pub(super) fn start(process: usize, plan: &Plan, board: &Arc<Board>) -> io::Result<Hand> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(COMMAND);
        Hand::spawn(command, process, plan, board)
    }

    fn spawn(mut command: Command, process: usize, plan: &Plan, board: &Arc<Board>) -> io::Result<Hand> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // Ctrl-C in a terminal is for the first process. It ends the others once they have sent their
        // findings.
        command.process_group(0);
        let mut child = command.spawn()?;
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(input), Some(out), Some(errors)) = pipes else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        let (sender, answers) = mpsc::channel();
        let (board, at) = (Arc::clone(board), plan.threads + process - 1);
        let alarm = Alarm::new(Arc::clone(&board), at);
        let listener = thread::Builder::new()
            .name(format!("worker-{process}"))
            .spawn(move || listen(out, errors, &board, at, &sender, alarm));
        let mut hand = Hand {
            name: format!("process {} of {}", process + 1, plan.processes),
            child,
            input,
            answers,
            listener: None,
        };
        hand.listener = Some(listener?);
        Ok(hand)
    }

    /// Sends a line. A worker that does not read it has ended, which the missing answer will show.
    pub(super) fn send(&mut self, line: &impl Serialize) {
        drop(lines::write(&mut self.input, line));
    }

    /// Waits for its answer to the orders with this number.
    ///
    /// # Errors
    /// Why it ended, for people, if there is no such answer. It has ended then.
    pub(super) fn answer(&mut self, number: u64) -> Result<Answer, String> {
        loop {
            match self.answers.recv_timeout(PATIENCE) {
                Ok(answer) if answer.number == number => return Ok(answer),
                Ok(_) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(self.end().1),
                Err(RecvTimeoutError::Timeout) => return Err(self.end_mute()),
            }
        }
    }

    /// Returns true if and only if the worker's output has ended.
    pub(super) fn has_ended(&self) -> bool {
        self.listener.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Waits for its end, and returns its findings.
    ///
    /// # Errors
    /// Why it ended, for people, if it sent no findings.
    pub(super) fn finish(mut self) -> Result<Found, String> {
        loop {
            match self.answers.recv_timeout(PATIENCE) {
                Ok(_) => {}
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => return Err(self.end_mute()),
            }
        }
        let (found, trouble) = self.end();
        found.ok_or(trouble)
    }

    fn end_mute(&mut self) -> String {
        drop(self.child.kill());
        let (_, trouble) = self.end();
        format!("{} did not answer for {PATIENCE:?} and was ended; {trouble}", self.name)
    }

    /// Joins the listener, which has ended or will as the child is killed. Returns the findings, and why
    /// the child ended, for people.
    fn end(&mut self) -> (Option<Found>, String) {
        let ended = self.listener.take().and_then(|listener| listener.join().ok());
        let Ended { found, said } = ended.unwrap_or(Ended { found: None, said: String::new() });
        if found.is_none() {
            // Its further output is not read.
            drop(self.child.kill());
        }
        let status = match self.child.wait() {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        };
        let said = if said.is_empty() { said } else { format!(": {said}") };
        (found, format!("{} ended before its time ({status}){said}", self.name))
    }
}

impl Drop for Hand {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Posts the worker's counts on the board, passes its answers on, and returns the rest at the end.
fn listen(
    out: ChildStdout,
    errors: ChildStderr,
    board: &Board,
    at: usize,
    answers: &Sender<Answer>,
    alarm: Alarm,
) -> Ended {
    let (mut out, mut before, mut found) = (BufReader::new(out), Counts::default(), None);
    let mut problem = None;
    loop {
        let line = match lines::read(&mut out) {
            Ok(Some(line)) => line,
            Ok(None) => break,
            Err(error) => {
                problem = Some(format!("it told what nobody understands: {error}"));
                break;
            }
        };
        let (counts, answer) = match line {
            Line::Counts(counts) => (counts, None),
            Line::Answer(answer) => (answer.counts, Some(answer)),
            Line::Found(of_worker) => {
                found = Some(*of_worker);
                continue;
            }
        };
        if let Err(error) = counts.post(&board.readers[at], board, &before) {
            problem = Some(format!("the publisher cannot be woken: {error}"));
            break;
        }
        before = counts;
        if let Some(answer) = answer {
            // Without a receiver the end is near.
            drop(answers.send(answer));
        }
    }
    if found.is_some() {
        alarm.disarm();
    } else {
        drop(alarm);
    }
    if let Some(said) = problem {
        return Ended { found: None, said };
    }
    Ended { found, said: said(errors) }
}

/// The standard error of a child, on one line.
fn said(errors: impl Read) -> String {
    let mut text = Vec::new();
    drop(errors.take(SAID_BYTES_MAX).read_to_end(&mut text));
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines.join("; ")
}

/// The hidden command that starts a worker.
const COMMAND: &str = "bench-worker";

/// Longest time for an answer. The thread that answers does nothing else.
const PATIENCE: Duration = Duration::from_secs(10);

const SAID_BYTES_MAX: u64 = 4096;

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use mio::{Poll, Waker};

    use super::super::super::board::Clock;
    use super::super::super::plan::tests::plan;
    use super::super::super::publisher::WAKER;
    use super::*;

    /// The failure of a worker that is this shell script.
    fn failure_of(script: &str) -> (String, Arc<Board>) {
        let plan = plan(&["--processes", "2"]).unwrap();
        let poll = Poll::new().unwrap();
        let waker = Waker::new(poll.registry(), WAKER).unwrap();
        let board = Arc::new(Board::new(Clock::start(), 2, waker));
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        let mut hand = Hand::spawn(command, 1, &plan, &board).unwrap();
        (hand.answer(0).unwrap_err(), board)
    }

    #[test]
    fn a_worker_that_fails_is_reported_with_its_exit_code_and_what_it_said() {
        let (failure, board) = failure_of("echo 'error: no such thing' >&2; exit 3");
        assert_eq!(failure, "process 2 of 2 ended before its time (exit status: 3): error: no such thing");
        assert!(board.has_failed() && board.readers[1].fast_place.load(Ordering::Acquire) == u64::MAX);
    }

    #[test]
    fn a_worker_that_speaks_another_language_is_ended() {
        let (failure, board) = failure_of("echo nonsense; exec sleep 1000");
        let expected =
            "process 2 of 2 ended before its time (signal: 9 (SIGKILL)): it told what nobody understands";
        assert!(failure.starts_with(expected) && board.has_failed(), "{failure}");
    }

    #[test]
    fn what_a_child_says_is_reported_on_one_line() {
        assert_eq!(said(&b"error: no\n  because: of that\n\n"[..]), "error: no; because: of that");
        assert_eq!(said(&b""[..]), "");
        assert_eq!(said(&[b'x'; 10_000][..]).len(), 4096);
    }
}
