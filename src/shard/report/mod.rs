//! Reports of what all shards have counted: a request for one is answered when every shard has put up its counters since,
//! or, where one is late, with what it put up last.

pub mod board;
pub mod counters;
mod listing;
mod metrics;
mod stats;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::Shard;
use super::publishing::keys::IdempotencyKeys;
use crate::api::ReportForm;
use crate::base::account::Account;
use crate::base::id::ConnId;
use crate::driver::Driver;
use crate::http::{Response, Status};
use crate::hub::Hub;
use crate::hub::counts::HubCounts;

use board::{Board, Question};
use counters::Counters;
use listing::Listing;

/// How long a report waits for shards. A shard answers after its present turn, which takes some milliseconds.
const REPORT_WAIT: Duration = Duration::from_millis(500);

/// The content type of metrics, as the specification of OpenMetrics 1.0 gives it and Prometheus asks for it.
const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What a server has counted.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// What each shard has.
    pub shards: Vec<Counters>,
    /// Messages that wait for each shard.
    pub mailbox_messages: Vec<usize>,
    /// Shards that did not answer in time, whose counters are those of an earlier report.
    pub late: usize,
    /// What the hub has.
    pub hub: HubCounts,
    /// Idempotency keys that are remembered.
    pub idempotency_keys: usize,
    /// Bytes of unfinished bodies and of unread answers that are held for all peers.
    pub body_memory_bytes: usize,
    /// Lines that the process's log has lost, where that is counted.
    pub log_lines_dropped: Option<u64>,
}

impl Report {
    /// Reads what there is after a question, whether or not all shards have answered it.
    #[must_use]
    pub fn read(
        board: &Board,
        question: Question,
        hub: &Hub,
        keys: &IdempotencyKeys,
        account: &Account,
    ) -> Report {
        Report {
            late: board.unanswered(question),
            shards: board.snapshots(),
            mailbox_messages: board.mailbox_messages(),
            hub: hub.counts(),
            idempotency_keys: keys.count(),
            body_memory_bytes: account.held(),
            log_lines_dropped: board.log_lines_dropped(),
        }
    }

    /// What all shards have counted together.
    #[must_use]
    pub fn total(&self) -> Counters {
        let mut total = Counters::default();
        self.shards.iter().for_each(|counters| total.add(counters));
        total
    }
}

/// Who waits to be told what the shards have counted, or which channels there are.
#[derive(Debug, Default)]
pub(super) struct Reports {
    /// Requests that wait for what all shards have counted.
    pending: Vec<PendingReport>,
    /// Requests for pages of channels that are being looked for.
    listings: VecDeque<Listing>,
    /// A turn has begun whose length is not noted yet.
    has_turned: bool,
}

impl Reports {
    pub(super) fn begin_turn(&mut self) {
        self.has_turned = true;
    }

    pub(super) fn has_work(&self, board: &Board) -> bool {
        // Reports whose shards have all answered wait for nothing.
        let is_settled = |report: &PendingReport| board.unanswered(report.question) == 0;
        !self.listings.is_empty() || self.pending.iter().any(is_settled)
    }

    /// When the first report waits no longer.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.pending.first().map(|report| report.deadline)
    }
}

/// A request that waits for its report.
#[derive(Debug)]
struct PendingReport {
    conn: ConnId,
    form: ReportForm,
    question: Question,
    deadline: Instant,
}

impl<D: Driver> Shard<D> {
    /// Asks all shards what they have counted, for a connection that wants to know.
    pub(super) fn begin_report(&mut self, conn: ConnId, form: ReportForm) {
        let question = self.core.board.ask(Some(self.options.number));
        // Answered before the connection gives up waiting for its answer.
        let wait = REPORT_WAIT.min(self.options.conn.publish_timeout / 2);
        self.reports.pending.push(PendingReport { conn, form, question, deadline: self.now + wait });
    }

    /// Puts up what this shard has counted, if it was asked to.
    pub(super) fn put_up_counters(&mut self) {
        let number = self.options.number;
        let is_over = self.is_drained();
        if !is_over && !self.core.board.is_asked(number) {
            return;
        }
        let question = self.core.board.last_question();
        self.counters.connections = self.connections.peers.len() as u64;
        self.counters.timers = self.connections.timers.len() as u64;
        self.counters.publishers_paused = self.publishing.paused_len() as u64;
        self.counters.publishes_refused = self.common.refusals.by_status();
        let snapshot = self.counters.clone();
        if is_over {
            self.core.board.answer_for_good(number, snapshot);
        } else {
            self.core.board.answer(number, question, snapshot);
        }
    }

    /// Answers the reports that have what they waited for, or waited long enough.
    pub(super) fn settle_reports(&mut self) {
        if self.reports.pending.is_empty() {
            return;
        }
        let (mut as_metrics, mut as_stats) = (None, None); // What is told to several is rendered once.
        for pending in std::mem::take(&mut self.reports.pending) {
            if self.core.board.unanswered(pending.question) > 0 && self.now < pending.deadline {
                self.reports.pending.push(pending);
                continue;
            }
            let report = || {
                Report::read(
                    &self.core.board,
                    pending.question,
                    &self.core.hub,
                    &self.core.keys,
                    &self.core.account,
                )
            };
            let response = match pending.form {
                ReportForm::Metrics => as_metrics.get_or_insert_with(|| {
                    Response::new(Status::OK, METRICS_TYPE, metrics::render(report()).into_bytes())
                }),
                ReportForm::Stats => as_stats.get_or_insert_with(|| {
                    let text = stats::render(&report(), &self.core.hub.subscribed());
                    Response::json(Status::OK, text.into_bytes())
                }),
            }
            .clone();
            self.answer(pending.conn, &response);
            self.act(pending.conn);
        }
        if self.reports.pending.is_empty() {
            self.core.board.stop_waiting(self.options.number);
        }
    }

    /// Notes how long the last turn took, and the fan-out that ended with it, if one did: `now` is its end.
    pub(super) fn note_durations(&mut self, now: Instant) {
        if !std::mem::take(&mut self.reports.has_turned) {
            return;
        }
        self.counters.turns.note(now.saturating_duration_since(self.now));
        if self.streams.is_round_over()
            && let Some(began) = self.streams.take_fan_out_began()
        {
            self.counters.fan_outs.note(now.saturating_duration_since(began));
        }
    }
}
