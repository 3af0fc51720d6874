//! Counts how often each thing happened: a simulation in which nothing happens proves nothing.

/// Counts of one life or many.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stats {
    pub(crate) steps: u64,
    pub(crate) crashes: u64,
    pub(crate) drains: u64,
    pub(crate) restarts: u64,
    pub(crate) settled: u64,
    pub(crate) connected: u64,
    pub(crate) delivered: u64,
    pub(crate) caught_up: u64,
    pub(crate) caught_up_after_own: u64,
    pub(crate) replayed_with_ttl: u64,
    pub(crate) gaps_slow: u64,
    pub(crate) gaps_expired: u64,
    pub(crate) gaps_unknown: u64,
    pub(crate) pings: u64,
    pub(crate) shutdowns: u64,
    pub(crate) overloaded: u64,
    pub(crate) resets: u64,
    pub(crate) acknowledged: u64,
    pub(crate) refused: u64,
    pub(crate) uncertain: u64,
    pub(crate) bad_requests: u64,
    pub(crate) drops: u64,
    pub(crate) retried: u64,
    pub(crate) duplicates: u64,
    pub(crate) conflicts: u64,
    pub(crate) receivers_exact: u64,
    pub(crate) receivers_within: u64,
    pub(crate) behind: u64,
    pub(crate) delivered_to_all: u64,
    pub(crate) delivered_to_users: u64,
    pub(crate) delivered_to_clients: u64,
    pub(crate) changes: u64,
    pub(crate) subscribed: u64,
    pub(crate) unsubscribed: u64,
    pub(crate) subscribed_behind: u64,
    pub(crate) described: u64,
    pub(crate) deleted: u64,
    pub(crate) clients_unknown: u64,
    pub(crate) streams_full: u64,
    pub(crate) replayed: u64,
    pub(crate) receivers_left: u64,
    pub(crate) crowded: u64,
    pub(crate) few_channels: u64,
    pub(crate) lost: u64,
    pub(crate) held_bytes_max: u64,
    pub(crate) emptied: u64,
    pub(crate) kept_bytes_max: u64,
    pub(crate) beside_history_max: u64,
    pub(crate) left_bytes_max: u64,
}

impl Stats {
    /// Adds another life's counts.
    pub(crate) fn add(&mut self, other: &Stats) {
        for (mine, theirs) in self.counts().into_iter().zip(other.clone().counts()) {
            *mine += *theirs;
        }
        self.held_bytes_max = self.held_bytes_max.max(other.held_bytes_max);
        self.kept_bytes_max = self.kept_bytes_max.max(other.kept_bytes_max);
        self.beside_history_max = self.beside_history_max.max(other.beside_history_max);
        self.left_bytes_max = self.left_bytes_max.max(other.left_bytes_max);
    }

    fn counts(&mut self) -> [&mut u64; 45] {
        [
            &mut self.steps,
            &mut self.crashes,
            &mut self.drains,
            &mut self.restarts,
            &mut self.settled,
            &mut self.connected,
            &mut self.delivered,
            &mut self.caught_up,
            &mut self.caught_up_after_own,
            &mut self.replayed_with_ttl,
            &mut self.gaps_slow,
            &mut self.gaps_expired,
            &mut self.gaps_unknown,
            &mut self.pings,
            &mut self.shutdowns,
            &mut self.overloaded,
            &mut self.resets,
            &mut self.acknowledged,
            &mut self.refused,
            &mut self.uncertain,
            &mut self.bad_requests,
            &mut self.drops,
            &mut self.retried,
            &mut self.duplicates,
            &mut self.conflicts,
            &mut self.receivers_exact,
            &mut self.receivers_within,
            &mut self.behind,
            &mut self.delivered_to_all,
            &mut self.delivered_to_users,
            &mut self.delivered_to_clients,
            &mut self.changes,
            &mut self.subscribed,
            &mut self.unsubscribed,
            &mut self.subscribed_behind,
            &mut self.described,
            &mut self.deleted,
            &mut self.clients_unknown,
            &mut self.streams_full,
            &mut self.replayed,
            &mut self.receivers_left,
            &mut self.crowded,
            &mut self.few_channels,
            &mut self.lost,
            &mut self.emptied,
        ]
    }

    /// Checks that everything happened.
    pub(crate) fn check_all_happened(&self) {
        assert!(self.clone().counts().iter().all(|count| **count > 0), "something never happened: {self:#?}");
    }
}
