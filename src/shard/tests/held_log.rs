//! A log for tests that decide when it commits, and what it refuses.

use std::sync::{Arc, Mutex};

use crate::base::id::{EpochTag, Sequence};
use crate::log::{Append, Committed, Log, Origin, Refusal, Sink};
use crate::shard::tests::Servers;

/// A log that decides on command.
pub(super) struct HeldLog {
    pub(super) sink: Arc<dyn Sink>,
    pub(super) waiting: Mutex<Vec<Append>>,
    next: Mutex<Sequence>,
}

impl HeldLog {
    /// Commits and acknowledges all records that wait. Returns how many.
    pub(super) fn commit(&self) -> usize {
        let waiting = std::mem::take(&mut *self.waiting.lock().unwrap());
        for (ticket, record) in &waiting {
            let mut next = self.next.lock().unwrap();
            let origin = Origin::Here { ticket: *ticket, is_acknowledged: true };
            self.sink.committed(&[Committed { first: *next, record, origin }]);
            *next = next.plus(record.numbers());
        }
        waiting.len()
    }

    /// Refuses all records that wait. Returns how many.
    pub(super) fn refuse(&self, refusal: &Refusal) -> usize {
        let waiting = std::mem::take(&mut *self.waiting.lock().unwrap());
        let batches = waiting.len();
        waiting.into_iter().for_each(|(ticket, record)| self.sink.refused(ticket, record, refusal.clone()));
        batches
    }
}

impl Log for HeldLog {
    fn append(&self, group: &mut Vec<Append>) {
        self.waiting.lock().unwrap().append(group);
    }

    fn is_ready(&self) -> bool {
        true
    }

    fn is_behind(&self) -> bool {
        false
    }

    fn flush(&self) {
        self.commit();
    }

    fn close(&self) {}
}

impl std::fmt::Debug for HeldLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HeldLog").finish_non_exhaustive()
    }
}

/// Shards over such a log.
pub(super) fn servers() -> (Servers, Arc<HeldLog>) {
    let mut held = None;
    let servers = Servers::with_log(None, |sink| {
        let next = Mutex::new(Sequence::START.next());
        sink.epoch_began(EpochTag::from_bits(7), Sequence::START.next());
        let log = Arc::new(HeldLog { sink, waiting: Mutex::default(), next });
        held = Some(Arc::clone(&log));
        log
    });
    (servers, held.unwrap())
}
