//! The reading threads of one process: started together, and joined at the end.

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use super::board::{Alarm, Board};
use super::connect::Connector;
use super::found::Found;
use super::plan::Plan;
use super::reader::Reader;

/// The readers of a process; none before they are started.
#[derive(Debug, Default)]
pub(super) struct Readers {
    threads: Vec<JoinHandle<io::Result<Found>>>,
}

impl Readers {
    /// Starts the readers of process `process` of the run. They begin to open their streams.
    ///
    /// # Errors
    /// If the kernel has no more threads or descriptors.
    pub(super) fn start(
        plan: &Arc<Plan>,
        board: &Arc<Board>,
        process: usize,
        connector: &Connector,
    ) -> io::Result<Readers> {
        let mut readers = Readers::default();
        for index in 0..plan.threads {
            let reader =
                Reader::new(Arc::clone(plan), Arc::clone(board), (process, index), connector.clone())?;
            let alarm = Alarm::new(Arc::clone(board), index);
            let thread = thread::Builder::new().name(format!("reader-{index}")).spawn(move || {
                let found = reader.run();
                if found.is_ok() {
                    alarm.disarm();
                }
                found
            })?;
            readers.threads.push(thread);
        }
        Ok(readers)
    }

    /// Returns true if and only if a reader has ended. It ends by itself only if it cannot go on.
    pub(super) fn has_ended(&self) -> bool {
        self.threads.iter().any(JoinHandle::is_finished)
    }

    /// Returns their findings, and a sentence for each reader that failed. Must be called when the run
    /// is over or a reader has ended.
    pub(super) fn join(self) -> (Found, Vec<String>) {
        let (mut found, mut troubles) = (Found::default(), Vec::new());
        for thread in self.threads {
            match thread.join() {
                Ok(Ok(of_reader)) => found += of_reader,
                Ok(Err(error)) => troubles.push(format!("a reader cannot go on: {error}")),
                Err(_) => troubles.push("a reader panicked".to_owned()),
            }
        }
        (found, troubles)
    }
}
