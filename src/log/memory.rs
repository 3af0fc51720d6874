//! The log of a server whose history ends with the process. It commits at once and has one epoch per
//! start.

use std::sync::{Arc, Mutex, PoisonError};

use crate::base::id::{EpochTag, Sequence};
use crate::log::{Append, Committed, Log, Origin, Refusal, Sink};

/// Commits and acknowledges a group before `append` returns.
pub struct MemoryLog {
    sink: Arc<dyn Sink>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    next: Sequence,
    is_closed: bool,
}

impl MemoryLog {
    /// An open log whose only epoch is `tag`. The epoch begins now.
    #[must_use]
    pub fn new(tag: EpochTag, sink: Arc<dyn Sink>) -> MemoryLog {
        let first = Sequence::START.next();
        sink.epoch_began(tag, first);
        MemoryLog { sink, state: Mutex::new(State { next: first, is_closed: false }) }
    }

    fn refuse(&self, group: &mut Vec<Append>, refusal: &Refusal) {
        for (ticket, record) in group.drain(..) {
            self.sink.refused(ticket, record, refusal.clone());
        }
    }
}

impl Log for MemoryLog {
    fn append(&self, group: &mut Vec<Append>) {
        // The sink runs under the lock, so that records are applied in the order of their numbers. The
        // numbers are taken before the call: if the sink applies the group and then panics, the next
        // group must not get the same numbers.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.is_closed {
            return self.refuse(group, &Refusal::not_open());
        }
        let numbers: u64 = group.iter().map(|(_, record)| record.numbers()).sum();
        if state.next.0 + numbers > Sequence::MAX.0 {
            return self.refuse(group, &Refusal::Refused { reason: "event numbers are used up".to_owned() });
        }
        let next = &mut state.next;
        match group.as_slice() {
            [one] => self.sink.committed(&[place(next, one)]),
            several => {
                let committed: Vec<Committed<'_>> = several.iter().map(|one| place(next, one)).collect();
                self.sink.committed(&committed);
            }
        }
        group.clear();
    }

    fn is_ready(&self) -> bool {
        true
    }

    fn is_behind(&self) -> bool {
        false
    }

    fn flush(&self) {}

    fn close(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).is_closed = true;
    }
}

/// Gives a record its place in the order.
fn place<'a>(next: &mut Sequence, (ticket, record): &'a Append) -> Committed<'a> {
    let first = *next;
    *next = first.plus(record.numbers());
    Committed { first, record, origin: Origin::Here { ticket: *ticket, is_acknowledged: true } }
}

impl std::fmt::Debug for MemoryLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryLog").field("state", &self.state).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;
    use crate::base::name::ChannelName;
    use crate::log::{Acknowledgement, Ticket};
    use crate::record::{Events, Record};
    use crate::sse::event::Event;

    /// The sink panics over the record with this ticket, after it has taken it.
    const PANICS: Ticket = Ticket(99);

    #[derive(Default)]
    struct Reports(Mutex<Vec<String>>);

    impl Sink for Reports {
        fn epoch_began(&self, tag: EpochTag, first: Sequence) {
            self.0.lock().unwrap().push(format!("{tag} from {first}"));
        }
        fn committed(&self, group: &[Committed<'_>]) {
            let mut panics = false;
            let mut line = Vec::new();
            for Committed { first, record, origin } in group {
                let Origin::Here { ticket, is_acknowledged: true } = origin else { panic!("{origin:?}") };
                panics |= *ticket == PANICS;
                line.push(format!("{} from {first} for {}", record.numbers(), ticket.0));
            }
            self.0.lock().unwrap().push(line.join(", "));
            assert!(!panics, "the sink was to panic");
        }
        fn acknowledged(&self, tickets: &[Ticket], outcome: Acknowledgement) {
            panic!("{tickets:?} are acknowledged twice: {outcome:?}");
        }
        fn refused(&self, ticket: Ticket, record: Record, refusal: Refusal) {
            self.0.lock().unwrap().push(format!("{} with {}: {refusal}", ticket.0, record.numbers()));
        }
    }

    fn log() -> (MemoryLog, Arc<Reports>) {
        let reports = Arc::new(Reports::default());
        (MemoryLog::new(EpochTag::from_bits(1), Arc::clone(&reports) as Arc<dyn Sink>), reports)
    }

    fn events(ticket: u64, count: usize) -> Append {
        let mut events = Events::new();
        (0..count).for_each(|_| events.push(&["a"], &Event::new("x")));
        (Ticket(ticket), Record::from(events))
    }

    #[test]
    fn what_comes_after_a_panic_in_the_sink_continues_the_order() {
        let (log, reports) = log();
        let append = |ticket| log.append(&mut vec![events(ticket, 1)]);
        assert!(catch_unwind(AssertUnwindSafe(|| append(PANICS.0))).is_err());
        append(8);
        assert_eq!(reports.0.lock().unwrap()[2..], ["1 from 2 for 8"]);
    }

    #[test]
    fn groups_are_committed_as_a_whole_in_order_and_without_holes() {
        let (log, reports) = log();
        let dropped = (Ticket(8), Record::HistoryDrop(ChannelName::parse("a").unwrap()));
        let mut group = vec![events(7, 2), dropped, events(9, 1)];
        log.append(&mut group);
        assert!(group.is_empty());
        log.append(&mut vec![events(10, 1)]);
        let expected =
            ["2 from 1 for 7, 0 from 3 for 8, 1 from 3 for 9".to_owned(), "1 from 4 for 10".to_owned()];
        assert_eq!(reports.0.lock().unwrap()[1..], expected);
    }

    #[test]
    fn a_closed_log_refuses_and_returns_the_records() {
        let (log, reports) = log();
        log.close();
        log.close();
        log.append(&mut vec![events(7, 2), events(8, 1)]);
        let refused = ["7 with 2", "8 with 1"].map(|what| format!("{what}: {}", Refusal::not_open()));
        assert_eq!(reports.0.lock().unwrap()[1..], refused);
    }
}
