//! The signals that end a server. The first begins a drain, the second ends the process at once.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::{self, JoinHandle};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};
use signal_hook::low_level;

/// Watches for SIGTERM and SIGINT on a thread of its own, until it is dropped.
#[derive(Debug)]
pub struct SignalWatch {
    handle: Handle,
    thread: Option<JoinHandle<()>>,
}

impl SignalWatch {
    /// Calls `on_first` with the signal's name on the first signal. If that returns false, or on a
    /// second signal, the process ends at once, as if signals were not watched. Process 1 cannot die of
    /// its own signals: it exits with 128 plus the signal's number.
    ///
    /// # Errors
    /// If the watch or its thread cannot be set up.
    pub fn start(on_first: impl FnOnce(&'static str) -> bool + Send + 'static) -> io::Result<SignalWatch> {
        let mut signals = Signals::new([SIGTERM, SIGINT])?;
        let handle = signals.handle();
        let thread = thread::Builder::new().name("signals".to_owned()).spawn(move || {
            let mut on_first = Some(on_first);
            for signal in signals.forever() {
                match on_first.take() {
                    Some(on_first) => {
                        let name = low_level::signal_name(signal).unwrap_or("a signal");
                        // The panic hook reports a panic. The second signal must still work then.
                        let outcome = catch_unwind(AssertUnwindSafe(|| on_first(name)));
                        if matches!(outcome, Ok(false)) {
                            end_at_once(signal);
                        }
                    }
                    None => end_at_once(signal),
                }
            }
        })?;
        Ok(SignalWatch { handle, thread: Some(thread) })
    }
}

impl Drop for SignalWatch {
    fn drop(&mut self) {
        self.handle.close();
        if let Some(thread) = self.thread.take() {
            // The panic hook has reported a panic.
            drop(thread.join());
        }
    }
}

/// Dies of `signal`, so that the parent of this process sees which signal it was.
///
/// The first process of a container cannot die of its own signals (`pid_namespaces(7)`). It exits with
/// the code that a shell would report.
fn end_at_once(signal: i32) {
    if std::process::id() != 1 {
        // It returns only if the signal does not end a process, and aborts if the default handler cannot
        // be restored.
        drop(low_level::emulate_default_handler(signal));
    }
    low_level::exit(128 + signal);
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    /// Set in the child of a test that has to die.
    const IS_CHILD: &str = "SIGNALS_TEST_IS_CHILD";

    const PATIENCE: Duration = Duration::from_secs(10);

    #[test]
    fn the_first_signal_is_reported_by_name_and_a_second_ends_the_process() {
        if std::env::var_os(IS_CHILD).is_some() {
            return die_of_a_second_signal();
        }
        let this_test =
            "app::signals::tests::the_first_signal_is_reported_by_name_and_a_second_ends_the_process";
        let mut child = Command::new(std::env::current_exe().unwrap());
        let status = child.args(["--exact", this_test]).env(IS_CHILD, "1").status().unwrap();
        assert_eq!(status.signal(), Some(SIGINT), "{status}");
    }

    fn die_of_a_second_signal() {
        let (sender, receiver) = mpsc::channel();
        let _watch = SignalWatch::start(move |name| sender.send(name).is_ok()).unwrap();
        low_level::raise(SIGTERM).unwrap();
        assert_eq!(receiver.recv_timeout(PATIENCE), Ok("SIGTERM"));
        low_level::raise(SIGINT).unwrap();
        thread::sleep(PATIENCE);
    }

    #[test]
    fn a_dropped_watch_has_ended_its_thread() {
        let (sender, receiver) = mpsc::channel::<()>();
        let watch = SignalWatch::start(move |_| {
            drop(sender);
            true
        })
        .unwrap();
        drop(watch);
        assert_eq!(receiver.try_recv(), Err(mpsc::TryRecvError::Disconnected));
    }
}
