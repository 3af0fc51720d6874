//! The state shared by the threads of the load: its end, its counts, its faults, and the connected
//! clients.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use indicatif::ProgressBar;

/// The state shared by the threads of one run.
#[derive(Debug)]
pub(crate) struct Shared {
    is_over: AtomicBool,
    /// The history and the idempotency keys are full: publishers go on at their rates, and readers
    /// begin.
    pub(crate) is_full: AtomicBool,
    counts: [AtomicU64; Count::ALL.len()],
    faults: Mutex<Vec<String>>,
    fault_count: AtomicU64,
    /// Seconds of the measurement.
    pub(crate) bar: ProgressBar,
    /// Client ids that get events of their own. The readers keep them up to date.
    pub(crate) clients: Mutex<Vec<String>>,
    /// Recent new channels, the newest last.
    pub(crate) newcomers: Mutex<Vec<String>>,
}

macro_rules! counts {
    ($($name:ident $column:literal),+ $(,)?) => {
        /// Counts, each at least 1 in every run.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Count { $($name),+ }

        impl Count {
            pub(crate) const ALL: [Count; [$($column),+].len()] = [$(Count::$name),+];

            /// Its name in the table and in the CSV.
            pub(crate) fn column(self) -> &'static str {
                match self { $(Count::$name => $column),+ }
            }
        }
    };
}

counts! {
    Published "published",
    Batches "batches",
    Lines "ndjson_bodies",
    Pipelined "pipelined",
    Large "large",
    Retries "retries",
    OwnIds "own_ids",
    Lapsing "lapsing",
    ToUsers "to_users",
    ToAll "to_all",
    ToClients "to_clients",
    ToPairs "to_pairs",
    SlowBodies "slow_bodies",
    Newcomers "new_channels",
    Refused "beyond_max_channels",
    Drops "drops",
    Lists "lists",
    Changes "live_changes",
    Connects "connects",
    Resumes "resumes",
    Closes "closes",
    HalfCloses "half_closes",
    Resets "resets",
    Stalls "stalls",
    LetGo "stalls_let_go",
    Received "received",
    Gaps "gaps",
}

impl Shared {
    /// `bar` shows how long the load has been measured.
    pub(crate) fn new(bar: ProgressBar) -> Shared {
        Shared {
            is_over: AtomicBool::new(false),
            is_full: AtomicBool::new(false),
            counts: [const { AtomicU64::new(0) }; Count::ALL.len()],
            faults: Mutex::default(),
            fault_count: AtomicU64::new(0),
            bar,
            clients: Mutex::default(),
            newcomers: Mutex::default(),
        }
    }

    pub(crate) fn count(&self, count: Count) {
        self.count_many(count, 1);
    }

    pub(crate) fn count_many(&self, count: Count, by: u64) {
        self.counts[count as usize].fetch_add(by, Ordering::Relaxed);
    }

    pub(crate) fn counted(&self, count: Count) -> u64 {
        self.counts[count as usize].load(Ordering::Relaxed)
    }

    /// Records a fault after which the load cannot go on.
    pub(crate) fn give_up(&self, fault: String) {
        if !self.is_over() {
            self.fault(fault);
            self.end();
        }
    }

    /// Records a fault. Of very many the first are kept.
    pub(crate) fn fault(&self, fault: String) {
        self.fault_count.fetch_add(1, Ordering::Relaxed);
        let mut faults = self.faults.lock().expect("no thread panics with it");
        if faults.len() < FAULTS_KEPT {
            self.bar.suspend(|| eprintln!("fault: {fault}"));
            faults.push(fault);
        }
    }

    /// The number of faults.
    pub(crate) fn faults(&self) -> u64 {
        self.fault_count.load(Ordering::Relaxed)
    }

    pub(crate) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    pub(crate) fn is_full(&self) -> bool {
        self.is_full.load(Ordering::Relaxed)
    }

    pub(crate) fn end(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }

    /// Parts of the load that were never done.
    pub(crate) fn never_done(&self) -> Vec<&'static str> {
        let never = Count::ALL.into_iter().filter(|&count| self.counted(count) == 0);
        never.map(Count::column).collect()
    }
}

const FAULTS_KEPT: usize = 50;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_never_done_is_named() {
        let shared = Shared::new(ProgressBar::hidden());
        for count in Count::ALL {
            shared.count(count);
        }
        assert!(shared.never_done().is_empty());
        assert!(Shared::new(ProgressBar::hidden()).never_done().contains(&"drops"));
    }

    #[test]
    fn every_fault_counts_and_the_first_are_kept() {
        let shared = Shared::new(ProgressBar::hidden());
        (0..60).for_each(|number| shared.fault(number.to_string()));
        assert_eq!((shared.faults(), shared.faults.lock().unwrap().len()), (60, FAULTS_KEPT));
    }
}
