//! Lines of the log on their way to standard error. No thread that logs ever waits for the reader of the
//! log, and a broken reader affects nothing else. `logging` makes the lines.
//!
//! Lines wait in memory, bounded in bytes, for a thread that only writes them. A line without room, or
//! that cannot be written, is lost and counted. Once lines can be written again the log reports how many
//! were lost.
//!
//! `tracing-appender` has such a writer, but it bounds lines and not bytes, does not count the loss of a
//! failed write, and has no place in its order for lines that are not the subscriber's, such as
//! `listening on`.

use std::io::{self, ErrorKind, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tracing_subscriber::fmt::MakeWriter;

/// Takes lines from any thread, and never waits for them to be written.
#[derive(Clone, Debug)]
pub struct LogLines {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    waiting: Mutex<Waiting>,
    /// Lines have come, or all have been written.
    changed: Condvar,
    dropped: Arc<AtomicU64>,
}

#[derive(Debug, Default)]
struct Waiting {
    text: Vec<u8>,
    /// The thread has taken text that it has not written yet.
    is_writing: bool,
}

impl LogLines {
    /// Starts a thread that writes lines to `out`. Once lines are written again after a loss, it calls
    /// `report_dropped` with the number of lines lost.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub fn start(
        out: impl Write + Send + 'static,
        report_dropped: impl Fn(u64) + Send + 'static,
    ) -> io::Result<LogLines> {
        let shared =
            Arc::new(Shared { waiting: Mutex::default(), changed: Condvar::new(), dropped: Arc::default() });
        let lines = LogLines { shared: Arc::clone(&shared) };
        let work = move || shared.write_on(LineWriter { out, is_torn: false }, report_dropped);
        thread::Builder::new().name("log".to_owned()).spawn(work)?;
        Ok(lines)
    }

    /// Takes whole lines, all or none of them.
    pub fn push(&self, lines: &[u8]) {
        let mut waiting = self.shared.lock();
        if waiting.text.len() + lines.len() > WAITING_BYTES_MAX {
            drop(waiting);
            self.shared.drop_lines(lines);
            return;
        }
        waiting.text.extend_from_slice(lines);
        drop(waiting);
        self.shared.changed.notify_all();
    }

    /// Waits up to `wait` until all lines are written or lost. Returns whether they are.
    pub fn flush(&self, wait: Duration) -> bool {
        let deadline = Instant::now() + wait;
        let mut waiting = self.shared.lock();
        while waiting.is_writing || !waiting.text.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let waited = self.shared.changed.wait_timeout(waiting, left);
            waiting = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// The number of lines lost so far.
    #[must_use]
    pub fn dropped(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.shared.dropped)
    }
}

/// The writer for one event of the log.
impl Write for &LogLines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.push(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LogLines {
    type Writer = &'a LogLines;

    fn make_writer(&'a self) -> &'a LogLines {
        self
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner) // The state has only whole lines.
    }

    fn drop_lines(&self, lines: &[u8]) {
        self.dropped.fetch_add(lines_in(lines), Ordering::Relaxed);
    }

    fn write_on(&self, mut out: LineWriter<impl Write>, report_dropped: impl Fn(u64)) {
        let mut reported = 0;
        loop {
            let text = self.take();
            match out.write(&text) {
                Ok(()) => {
                    let dropped = self.dropped.load(Ordering::Relaxed);
                    if dropped > reported {
                        report_dropped(dropped - reported);
                        reported = dropped;
                    }
                }
                Err(rest) => self.drop_lines(rest),
            }
            self.lock().is_writing = false;
            self.changed.notify_all();
        }
    }

    /// Waits for lines, and takes all of them.
    fn take(&self) -> Vec<u8> {
        let mut waiting = self.lock();
        while waiting.text.is_empty() {
            waiting = self.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        waiting.is_writing = true;
        std::mem::take(&mut waiting.text)
    }
}

/// Writes whole lines to a writer that may fail within one.
struct LineWriter<W> {
    out: W,
    /// The last line was written in part. It is ended before the next one begins.
    is_torn: bool,
}

impl<W: Write> LineWriter<W> {
    /// Writes lines. Returns the lost lines on failure; the first of them may be written in part.
    fn write<'t>(&mut self, lines: &'t [u8]) -> Result<(), &'t [u8]> {
        if self.is_torn {
            self.write_some(b"\n").map_err(|_| lines)?;
            self.is_torn = false;
        }
        self.write_some(lines).map_err(|written| {
            let begin = memchr::memrchr(b'\n', &lines[..written]).map_or(0, |end| end + 1);
            self.is_torn = begin < written;
            &lines[begin..]
        })
    }

    /// Writes all bytes, or returns how many were written.
    fn write_some(&mut self, bytes: &[u8]) -> Result<(), usize> {
        let mut written = 0;
        while written < bytes.len() {
            match self.out.write(&bytes[written..]) {
                Ok(0) => return Err(written),
                Ok(count) => written += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Another process sharing standard error has made it non-blocking. This thread has
                // nothing else to do.
                Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(FULL_PAUSE),
                Err(_) => return Err(written),
            }
        }
        Ok(())
    }
}

fn lines_in(text: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', text).count() as u64
}

/// Most bytes of waiting lines: some thousands of lines.
const WAITING_BYTES_MAX: usize = 256 * 1024;

/// The pause after a write to a full, non-blocking standard error.
const FULL_PAUSE: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Limits each write to a number of bytes or fails it, in turn, and passes on what it took.
    struct Scripted {
        script: mpsc::Receiver<io::Result<usize>>,
        taken: mpsc::Sender<Vec<u8>>,
    }

    impl Write for Scripted {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let most = self.script.recv().unwrap_or(Ok(usize::MAX))?;
            let count = bytes.len().min(most);
            self.taken.send(bytes[..count].to_vec()).unwrap();
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Bench {
        lines: LogLines,
        /// `None` once every write may be taken whole.
        script: Option<mpsc::Sender<io::Result<usize>>>,
        taken: mpsc::Receiver<Vec<u8>>,
        reported: mpsc::Receiver<u64>,
    }

    const PATIENCE: Duration = Duration::from_secs(60);

    fn bench() -> Bench {
        let ((script, scripted), (took, taken), (report, reported)) =
            (mpsc::channel(), mpsc::channel(), mpsc::channel());
        let out = Scripted { script: scripted, taken: took };
        let lines = LogLines::start(out, move |count| report.send(count).unwrap()).unwrap();
        Bench { lines, script: Some(script), taken, reported }
    }

    impl Bench {
        /// Sets the outcome of the next write.
        fn script(&self, outcome: io::Result<usize>) {
            self.script.as_ref().unwrap().send(outcome).unwrap();
        }

        fn dropped(&self) -> u64 {
            self.lines.dropped().load(Ordering::Relaxed)
        }

        fn next(&self) -> String {
            String::from_utf8(self.taken.recv_timeout(PATIENCE).unwrap()).unwrap()
        }
    }

    #[test]
    fn lines_are_written_whole_and_in_order() {
        let bench = bench();
        bench.lines.push(b"one\n");
        bench.script(Ok(2));
        bench.script(Err(ErrorKind::Interrupted.into()));
        bench.script(Err(ErrorKind::WouldBlock.into()));
        bench.script(Ok(9));
        assert_eq!([bench.next(), bench.next()], ["on", "e\n"]);
        bench.lines.push(b"two\n");
        bench.script(Ok(9));
        assert_eq!(bench.next(), "two\n");
        assert!(bench.lines.flush(PATIENCE));
        assert_eq!(bench.dropped(), 0);
    }

    #[test]
    fn nobody_waits_for_a_reader_that_does_not_read_and_what_is_lost_is_reported_when_it_does() {
        let mut bench = bench();
        let line = [b"x".repeat(1023).as_slice(), b"\n"].concat();
        let most = WAITING_BYTES_MAX / line.len();
        // The queue is full, and the thread may have taken as much before: no write has been released
        // yet.
        (0..2 * most + 10).for_each(|_| bench.lines.push(&line));
        let dropped = bench.dropped();
        assert!((10..=10 + most as u64).contains(&dropped), "{dropped}");
        assert!(!bench.lines.flush(Duration::from_millis(1)), "it gives up");
        bench.script = None;
        assert_eq!(bench.reported.recv_timeout(PATIENCE), Ok(dropped));
        assert!(bench.lines.flush(PATIENCE));
        let written: usize = bench.taken.try_iter().map(|text| text.len() / line.len()).sum();
        assert_eq!(written as u64 + dropped, 2 * most as u64 + 10);
    }

    #[test]
    fn what_cannot_be_written_is_lost_and_counted_and_a_torn_line_ends_before_the_next() {
        let mut bench = bench();
        bench.script(Ok(6));
        bench.script(Err(ErrorKind::StorageFull.into()));
        bench.lines.push(b"one\ntwo\nthree\n");
        assert_eq!(bench.next(), "one\ntw");
        assert!(bench.lines.flush(PATIENCE));
        assert_eq!(bench.dropped(), 2);
        bench.script(Err(ErrorKind::StorageFull.into()));
        bench.lines.push(b"four\n");
        assert!(bench.lines.flush(PATIENCE));
        assert_eq!(bench.dropped(), 3);
        bench.script = None;
        bench.lines.push(b"five\n");
        assert_eq!([bench.next(), bench.next()], ["\n", "five\n"]);
        assert_eq!(bench.reported.recv_timeout(PATIENCE), Ok(3));
    }

    #[test]
    fn a_reader_that_is_gone_costs_lines_alone() {
        let bench = bench();
        for count in 1..=3 {
            bench.script(Err(ErrorKind::BrokenPipe.into()));
            bench.lines.push(b"for nobody\n");
            assert!(bench.lines.flush(PATIENCE));
            assert_eq!(bench.dropped(), count);
        }
        assert!(bench.reported.try_recv().is_err(), "no loss is reported");
    }
}
