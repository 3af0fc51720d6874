//! Where shards post snapshots of their counters, on request.
//!
//! A survey raises a number that every shard compares with its own once a turn. Between two surveys that
//! comparison is all that counting costs other threads.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::counters::Counters;
use crate::base::mailbox::Sender;
use crate::hub::ShardSet;
use crate::shard::Message;

/// The snapshots of all shards.
#[derive(Debug)]
pub struct Board {
    /// The number of surveys so far.
    asked: AtomicU64,
    /// The shards that wait for snapshots, as bits.
    waiting: AtomicU64,
    places: Vec<Place>,
    /// The shards' mailboxes, by their numbers.
    shards: Vec<Sender<Message>>,
    /// Lines that the process's log has lost, if its owner counts them.
    log_lines_dropped: OnceLock<Arc<AtomicU64>>,
}

/// A shard's place on the board.
#[derive(Debug, Default)]
struct Place {
    /// The last survey that the snapshot answers.
    answered: AtomicU64,
    snapshot: Mutex<Counters>,
}

/// A request for the counters of every shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Survey(u64);

impl Board {
    /// A board for the shards with these mailboxes, in the order of their numbers.
    #[must_use]
    pub fn new(shards: Vec<Sender<Message>>) -> Board {
        let places = shards.iter().map(|_| Place::default()).collect();
        let (asked, waiting) = (AtomicU64::new(0), AtomicU64::new(0));
        Board { asked, waiting, places, shards, log_lines_dropped: OnceLock::new() }
    }

    /// Sets the counter of lines that the log of the process has lost.
    #[cfg(feature = "cli")]
    pub(crate) fn report_log_lines_dropped(&self, lines: Arc<AtomicU64>) {
        drop(self.log_lines_dropped.set(lines)); // The first one is kept.
    }

    /// The number of lines that the process's log has lost, if they are counted.
    #[must_use]
    pub fn log_lines_dropped(&self) -> Option<u64> {
        self.log_lines_dropped.get().map(|lines| lines.load(Ordering::Relaxed))
    }

    /// Asks every shard for a snapshot. The shard `asking`, if any, is woken by each answer.
    pub fn begin_survey(&self, asking: Option<usize>) -> Survey {
        if let Some(shard) = asking {
            self.waiting.fetch_or(1 << shard, Ordering::Relaxed);
        }
        let survey = Survey(self.asked.fetch_add(1, Ordering::AcqRel) + 1);
        self.shards.iter().for_each(Sender::notify);
        survey
    }

    /// The number of shards that have not answered yet.
    #[must_use]
    pub fn unanswered(&self, survey: Survey) -> usize {
        let late = |place: &&Place| place.answered.load(Ordering::Acquire) < survey.0;
        self.places.iter().filter(late).count()
    }

    /// The last snapshot of each shard.
    #[must_use]
    pub fn snapshots(&self) -> Vec<Counters> {
        let read = |place: &Place| place.snapshot.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.places.iter().map(read).collect()
    }

    /// The number of messages in each shard's mailbox.
    #[must_use]
    pub fn mailbox_messages(&self) -> Vec<usize> {
        self.shards.iter().map(Sender::len).collect()
    }

    /// The shard no longer waits for snapshots.
    pub(in crate::shard) fn stop_waiting(&self, shard: usize) {
        self.waiting.fetch_and(!(1 << shard), Ordering::Relaxed);
    }

    /// The last survey.
    pub(super) fn last_survey(&self) -> Survey {
        Survey(self.asked.load(Ordering::Acquire))
    }

    /// Returns true if and only if a shard was asked and has not answered.
    pub(in crate::shard) fn is_asked(&self, shard: usize) -> bool {
        self.places[shard].answered.load(Ordering::Relaxed) < self.asked.load(Ordering::Relaxed)
    }

    /// Posts a shard's answer to `survey` and all before it, and wakes the shards that wait.
    pub(in crate::shard) fn answer(&self, shard: usize, survey: Survey, snapshot: Counters) {
        let place = &self.places[shard];
        *place.snapshot.lock().unwrap_or_else(PoisonError::into_inner) = snapshot;
        place.answered.store(survey.0, Ordering::Release);
        let waiting = ShardSet::from_bits(self.waiting.load(Ordering::Relaxed));
        let waiting = self.shards.iter().enumerate().filter(|&(number, _)| waiting.contains(number));
        waiting.for_each(|(_, sender)| sender.notify());
    }

    /// Posts the last answer of a shard that ends. It answers every later survey.
    pub(super) fn answer_for_good(&self, shard: usize, snapshot: Counters) {
        self.answer(shard, Survey(u64::MAX), snapshot);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;
    use crate::base::mailbox::{Receiver, Wake, mailbox};

    #[derive(Default)]
    struct CountingWake(AtomicUsize);

    impl Wake for CountingWake {
        fn wake(&self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn shards(wakes: &[Arc<CountingWake>]) -> (Vec<Sender<Message>>, Vec<Receiver<Message>>) {
        wakes.iter().map(|wake| mailbox(1, Arc::clone(wake) as Arc<dyn Wake>)).unzip()
    }

    fn counters(bytes: u64) -> Counters {
        Counters { sent_bytes: bytes, ..Counters::default() }
    }

    #[test]
    fn a_survey_wakes_every_shard_and_each_answer_those_that_wait() {
        let wakes = [Arc::default(), Arc::default()];
        let (senders, receivers) = shards(&wakes);
        let board = Board::new(senders);
        assert!(receivers.iter().all(Receiver::prepare_to_sleep));
        let survey = board.begin_survey(Some(1));
        assert_eq!(wakes.each_ref().map(|wake| wake.0.load(Ordering::Relaxed)), [1, 1]);
        assert!(board.is_asked(0) && board.is_asked(1));
        board.answer(1, board.last_survey(), counters(5));
        assert_eq!(board.unanswered(survey), 1);
        assert!(receivers.iter().all(Receiver::prepare_to_sleep));
        board.answer(0, board.last_survey(), counters(7));
        assert_eq!(wakes.each_ref().map(|wake| wake.0.load(Ordering::Relaxed)), [1, 2], "shard 1 waits");
        assert_eq!(board.unanswered(survey), 0);
        assert_eq!(board.snapshots().iter().map(|counters| counters.sent_bytes).collect::<Vec<_>>(), [7, 5]);
        board.stop_waiting(1);
        assert!(receivers.iter().all(Receiver::prepare_to_sleep));
        board.answer(0, board.last_survey(), counters(8));
        assert_eq!(wakes.each_ref().map(|wake| wake.0.load(Ordering::Relaxed)), [1, 2]);
    }

    #[test]
    fn an_answer_is_one_to_all_surveys_before_it_and_to_none_behind_it() {
        let board = Board::new(shards(&[Arc::default()]).0);
        let (first, second) = (board.begin_survey(None), board.begin_survey(None));
        board.answer(0, first, counters(1));
        assert_eq!((board.unanswered(first), board.unanswered(second)), (0, 1));
        assert!(board.is_asked(0));
        board.answer(0, second, counters(1));
        assert!(!board.is_asked(0));
    }

    #[test]
    fn a_shard_that_has_ended_is_never_late() {
        let board = Board::new(shards(&[Arc::default()]).0);
        board.answer_for_good(0, counters(3));
        let survey = board.begin_survey(None);
        assert_eq!(board.unanswered(survey), 0);
        assert_eq!(board.snapshots()[0].sent_bytes, 3);
    }
}
