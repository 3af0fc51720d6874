//! Reports of what all shards have counted. A request for one is answered once every shard has posted
//! its counters since the request. If a shard is late, the report has its previous counters.

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

use board::{Board, Survey};
use counters::Counters;
use listing::Listing;

/// How long a report waits for shards. A shard answers at the end of its turn, within some milliseconds.
const REPORT_WAIT: Duration = Duration::from_millis(500);

/// The content type of metrics, as OpenMetrics 1.0 specifies it and Prometheus asks for it.
const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The counters of a server.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The counters of each shard.
    pub shards: Vec<Counters>,
    /// Messages in the mailbox of each shard.
    pub mailbox_messages: Vec<usize>,
    /// Shards that did not answer in time, whose counters are from an earlier report.
    pub late: usize,
    /// The counters of the hub.
    pub hub: HubCounts,
    /// Idempotency keys that are remembered.
    pub idempotency_keys: usize,
    /// Bytes of unfinished bodies and of unread answers that are held for all peers.
    pub body_memory_bytes: usize,
    /// Lines that the process's log has lost, if they are counted.
    pub log_lines_dropped: Option<u64>,
}

impl Report {
    /// Reads the counters after a survey, whether or not all shards have answered it.
    #[must_use]
    pub fn read(
        board: &Board,
        survey: Survey,
        hub: &Hub,
        keys: &IdempotencyKeys,
        account: &Account,
    ) -> Report {
        Report {
            late: board.unanswered(survey),
            shards: board.snapshots(),
            mailbox_messages: board.mailbox_messages(),
            hub: hub.counts(),
            idempotency_keys: keys.count(),
            body_memory_bytes: account.held(),
            log_lines_dropped: board.log_lines_dropped(),
        }
    }

    /// The counters of all shards together.
    #[must_use]
    pub fn total(&self) -> Counters {
        let mut total = Counters::default();
        self.shards.iter().for_each(|counters| total.add(counters));
        total
    }
}

/// Requests that wait for counters of the shards, or for a list of channels.
#[derive(Debug, Default)]
pub(super) struct Reports {
    /// Requests that wait for the counters of all shards.
    pending: Vec<PendingReport>,
    /// Requests for pages of channels that are being collected.
    listings: VecDeque<Listing>,
    /// A turn has begun, and its length is not noted yet.
    has_turned: bool,
}

impl Reports {
    pub(super) fn begin_turn(&mut self) {
        self.has_turned = true;
    }

    pub(super) fn has_work(&self, board: &Board) -> bool {
        // A report whose shards have all answered can be sent.
        let is_settled = |report: &PendingReport| board.unanswered(report.survey) == 0;
        !self.listings.is_empty() || self.pending.iter().any(is_settled)
    }

    /// When the first report is sent at the latest.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.pending.first().map(|report| report.deadline)
    }
}

/// A request that waits for its report.
#[derive(Debug)]
struct PendingReport {
    conn: ConnId,
    form: ReportForm,
    survey: Survey,
    deadline: Instant,
}

impl<D: Driver> Shard<D> {
    /// Asks all shards for their counters, to answer a connection's request.
    pub(super) fn begin_report(&mut self, conn: ConnId, form: ReportForm) {
        let survey = self.core.board.begin_survey(Some(self.options.number));
        // Answered before the connection stops waiting for its answer.
        let wait = REPORT_WAIT.min(self.options.conn.publish_timeout / 2);
        self.reports.pending.push(PendingReport { conn, form, survey, deadline: self.clock.now + wait });
    }

    /// Posts the counters of this shard if a survey asks for them.
    pub(super) fn post_counters(&mut self) {
        let number = self.options.number;
        let is_over = self.is_drained();
        if !is_over && !self.core.board.is_asked(number) {
            return;
        }
        let survey = self.core.board.last_survey();
        self.counters.connections = self.connections.peers.len() as u64;
        self.counters.timers = self.connections.timers.len() as u64;
        self.counters.publishers_paused = self.publishing.paused_len() as u64;
        self.counters.publishes_refused = self.common.refusals.by_status();
        let snapshot = self.counters.clone();
        if is_over {
            self.core.board.answer_for_good(number, snapshot);
        } else {
            self.core.board.answer(number, survey, snapshot);
        }
    }

    /// Answers the reports whose shards have answered, or whose time is over.
    pub(super) fn settle_reports(&mut self) {
        if self.reports.pending.is_empty() {
            return;
        }
        let (mut as_metrics, mut as_stats) = (None, None); // Each form is rendered once.
        for pending in std::mem::take(&mut self.reports.pending) {
            if self.core.board.unanswered(pending.survey) > 0 && self.clock.now < pending.deadline {
                self.reports.pending.push(pending);
                continue;
            }
            let report = || {
                Report::read(
                    &self.core.board,
                    pending.survey,
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

    /// Notes the length of the last turn, and of the fan-out that ended with it, if any; `now` is the
    /// turn's end.
    pub(super) fn note_durations(&mut self, now: Instant) {
        if !std::mem::take(&mut self.reports.has_turned) {
            return;
        }
        self.counters.turns.note(now.saturating_duration_since(self.clock.now));
        if self.streams.is_round_over()
            && let Some(began) = self.streams.end_fan_out()
        {
            self.counters.fan_outs.note(now.saturating_duration_since(began));
        }
    }
}
