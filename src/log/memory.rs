//! The log of a server whose history ends with the process. It commits at once and has one epoch per
//! start.

use std::sync::{Arc, Mutex, PoisonError};

use crate::base::id::{EpochTag, Sequence};
use crate::frame::batch::Batch;
use crate::log::{Log, Refusal, Sink, Ticket};

/// Commits a batch before `append` returns.
pub struct MemoryLog {
    sink: Arc<dyn Sink>,
    next: Mutex<Sequence>,
}

impl MemoryLog {
    /// A log whose only epoch is `tag`. The epoch begins now.
    #[must_use]
    pub fn new(tag: EpochTag, sink: Arc<dyn Sink>) -> MemoryLog {
        let first = Sequence::START.next();
        sink.epoch_began(tag, first);
        MemoryLog { sink, next: Mutex::new(first) }
    }
}

impl Log for MemoryLog {
    fn append(&self, batch: Batch, ticket: Ticket) {
        // The sink runs under the lock, so that events are applied in the order of their numbers. The
        // numbers are taken before the call: if the sink applies the batch and then panics, the next
        // batch must not get the same numbers.
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let first = *next;
        let count = batch.len() as u64;
        if first.0 + count > Sequence::MAX.0 {
            let refusal = Refusal::Refused { reason: "event numbers are used up".to_owned() };
            self.sink.refused(ticket, batch, refusal);
            return;
        }
        *next = first.plus(count);
        self.sink.committed(first, &batch, Some(ticket));
    }
}

impl std::fmt::Debug for MemoryLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryLog").field("next", &self.next).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;
    use crate::sse::event::Event;

    /// The sink panics over the batch with this ticket, after it has taken it.
    const PANICS: Ticket = Ticket(99);

    #[derive(Default)]
    struct Heard(Mutex<Vec<String>>);

    impl Sink for Heard {
        fn epoch_began(&self, tag: EpochTag, first: Sequence) {
            self.0.lock().unwrap().push(format!("{tag} from {first}"));
        }
        fn committed(&self, first: Sequence, batch: &Batch, ticket: Option<Ticket>) {
            self.0.lock().unwrap().push(format!("{} from {first} for {ticket:?}", batch.len()));
            assert_ne!(ticket, Some(PANICS), "the sink was to panic");
        }
        fn refused(&self, ticket: Ticket, _: Batch, refusal: Refusal) {
            self.0.lock().unwrap().push(format!("{ticket:?} {refusal}"));
        }
    }

    #[test]
    fn what_comes_after_a_panic_in_the_sink_continues_the_order() {
        let heard = Arc::new(Heard::default());
        let log = MemoryLog::new(EpochTag::from_bits(1), Arc::clone(&heard) as Arc<dyn Sink>);
        let append = |ticket| {
            let mut batch = Batch::new();
            batch.push(&["a"], &Event::new("x"));
            log.append(batch, ticket);
        };
        assert!(catch_unwind(AssertUnwindSafe(|| append(PANICS))).is_err());
        append(Ticket(8));
        assert_eq!(heard.0.lock().unwrap()[2..], ["1 from 2 for Some(Ticket(8))"]);
    }

    #[test]
    fn batches_are_committed_in_order_without_holes() {
        let heard = Arc::new(Heard::default());
        let tag = EpochTag::from_bits(1);
        let log = MemoryLog::new(tag, Arc::clone(&heard) as Arc<dyn Sink>);
        for (ticket, events) in [(7, 2), (8, 1)] {
            let mut batch = Batch::new();
            (0..events).for_each(|_| batch.push(&["a"], &Event::new("x")));
            log.append(batch, Ticket(ticket));
        }
        let expected = [
            format!("{tag} from 1"),
            "2 from 1 for Some(Ticket(7))".into(),
            "1 from 3 for Some(Ticket(8))".into(),
        ];
        assert_eq!(*heard.0.lock().unwrap(), expected);
    }
}
