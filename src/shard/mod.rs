//! Floor 5: one core. A shard joins a driver, connections, and its cursor on the hub's order. Each
//! action of a connection becomes a call on the driver, the API or the log. Each event becomes a run in
//! the outboxes of its streams.
//!
//! A turn handles completions and the mailbox, then does bounded amounts of the shard's own work. It
//! sends to some of the streams with queued frames. Once every stream of the last fan-out was sent to,
//! it takes more events from the hub. So all events that came meanwhile go out in one send for each
//! stream, and neither a publisher nor a newcomer waits for the end of a fan-out. Nothing in a shard
//! blocks but the driver's wait.

mod connections;
pub mod core;
mod drain;
pub mod publishing;
mod questions;
pub mod report;
mod streams;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crate::api::ApiOptions;
use crate::base::mailbox::Receiver;
use crate::base::random::Random;
use crate::conn::{Common, ConnOptions, Context};
use crate::driver::Driver;
use crate::http::{HttpDate, http_date};
use crate::hub::SHARDS_MAX;

use self::core::Core;
use connections::{Connections, HANDED_ON_MAX};
use drain::Drain;
use publishing::publishers::Outcome;
use publishing::{Publishing, RECORDS_UNDER_WAY_MAX};
use questions::Questions;
pub use questions::{Answer, Question};
use report::Reports;
use report::counters::Counters;
use streams::Streams;

pub use connections::CONNECTIONS_OVER_LIMIT_MAX;
pub use publishing::PAUSE;

/// Most connections that a shard's tables have room for from the start. Beyond this number the tables
/// move as they grow.
const ROOM_MAX: usize = 1 << 20;

/// Messages that a shard's mailbox holds: the outcomes of all batches under way, connections handed on,
/// answers to its questions, questions of others (each shard may exceed the bound by one), and a few
/// other messages.
pub const MAILBOX_MESSAGES_MAX: usize =
    RECORDS_UNDER_WAY_MAX + HANDED_ON_MAX + 2 * questions::QUESTIONS_MAX + SHARDS_MAX + 64;

/// What other threads send to a shard.
#[derive(Debug)]
pub enum Message {
    /// The outcome of a record that this shard appended.
    Outcome(Outcome),
    /// A question of another shard about streams of this one.
    Question(Box<Question>),
    /// The answer to a question of this shard.
    Answer(Box<Answer>),
    /// A connection that another shard accepted for this one.
    Connection {
        /// The socket, as the other driver handed it over.
        descriptor: OwnedFd,
        /// The listener that accepted the connection.
        listener: usize,
    },
    /// The sender hands no more connections on.
    AllHandedOn,
    /// Begin to drain: end the streams, answer the requests under way, and accept no more.
    Drain,
}

/// How a shard is set up.
#[derive(Clone, Debug)]
pub struct ShardOptions {
    /// Its number among the shards that read from the hub, from 0.
    pub number: usize,
    /// Bounds and timeouts of its connections.
    pub conn: ConnOptions,
    /// Options of the API, one for each listener of the driver.
    pub api: Vec<ApiOptions>,
    /// Most connections of all shards together.
    pub connections_max: usize,
    /// The reconnection time that clients are sent.
    pub retry: Duration,
    /// Most that is added to `retry`, at random.
    pub retry_jitter: Duration,
    /// Age at which a stream ends, plus or minus a fifth at random; `None` for ever.
    pub stream_age_max: Option<Duration>,
    /// How long a drain may take.
    pub drain_timeout: Duration,
}

impl Default for ShardOptions {
    /// The first shard, with one listener on a loopback address. Tests and benches set what matters to them.
    fn default() -> ShardOptions {
        ShardOptions {
            number: 0,
            conn: ConnOptions::default(),
            api: vec![ApiOptions::default()],
            connections_max: 1000,
            retry: Duration::from_secs(3),
            retry_jitter: Duration::ZERO,
            stream_age_max: None,
            drain_timeout: Duration::from_secs(8),
        }
    }
}

/// One core's worth of server.
///
/// The state of its connections is in five parts, which own it. A panic replaces all of them
/// ([`Shard::restart`]); the other fields outlive it.
pub struct Shard<D: Driver> {
    options: ShardOptions,
    driver: D,
    core: Core,
    /// Messages of other threads.
    mailbox: Receiver<Message>,
    random: Box<dyn Random>,
    common: Common,
    counters: Counters,
    drain: Drain,
    /// Another shard hands connections on to this one, and has not sent [`Message::AllHandedOn`] yet.
    is_handed_connections: bool,
    /// The last number given to a batch or a question. None is given twice, so outcomes and answers to a
    /// shard before its restart match nothing.
    next_serial: u64,
    /// The instant from which the shard's times count.
    start: Instant,
    clock: Clock,

    connections: Connections,
    streams: Streams,
    publishing: Publishing,
    questions: Questions,
    reports: Reports,
}

/// The time of a turn.
struct Clock {
    /// The instant at which the turn began.
    now: Instant,
    /// The current second.
    date: HttpDate,
}

impl Clock {
    /// The environment of the shard's connections in this turn.
    #[inline]
    fn context<'a>(&'a self, options: &'a ConnOptions, common: &'a Common) -> Context<'a> {
        Context { now: self.now, date: &self.date, options, common }
    }
}

impl<D: Driver> Shard<D> {
    /// A shard of `core` that accepts from `driver`'s listeners and reads `mailbox`, the one of its
    /// number. `random` makes client ids: nobody may be able to predict it. The shard's times count from
    /// `now`.
    #[must_use]
    pub fn new(
        options: ShardOptions,
        driver: D,
        core: Core,
        mailbox: Receiver<Message>,
        random: Box<dyn Random>,
        now: Instant,
    ) -> Shard<D> {
        let room = Self::room(&options);
        Shard {
            common: Common::new(options.conn.keepalive_style),
            counters: Counters::default(),
            drain: Drain::No,
            is_handed_connections: Self::is_handed_connections(&options),
            next_serial: 0,
            start: now,
            clock: Clock { now, date: http_date(SystemTime::UNIX_EPOCH) }, // The first turn sets the date.
            connections: Connections::new(room, now, Arc::clone(&core.lingering)),
            streams: Streams::new(room, core.hub.cursor(options.number)),
            publishing: Publishing::default(),
            questions: Questions::default(),
            reports: Reports::default(),
            options,
            driver,
            core,
            mailbox,
            random,
        }
    }

    /// The number of connections that the tables have room for, so that none of them moves as it grows.
    fn room(options: &ShardOptions) -> usize {
        (options.connections_max + CONNECTIONS_OVER_LIMIT_MAX).min(ROOM_MAX)
    }

    /// Waits until there is something to do. Without a deadline the wait has no bound.
    ///
    /// # Errors
    /// If the driver can no longer wait.
    pub fn wait(&mut self, now: Instant) -> io::Result<()> {
        let timeout = self.prepare_to_wait(now);
        let waited = self.driver.wait(timeout);
        self.mailbox.awake();
        waited
    }

    /// Announces a wait, and returns its longest duration; `None` without bound. [`Shard::wait`] calls
    /// this itself. A simulation calls it directly: its drivers never block, and other work runs in
    /// between.
    pub fn prepare_to_wait(&mut self, now: Instant) -> Option<Duration> {
        self.note_durations(now);
        // Checked after the sleep is announced: an event applied later finds this shard asleep, and
        // wakes it.
        let may_sleep = self.mailbox.prepare_to_sleep() && !self.has_events() && !self.has_work();
        if may_sleep {
            self.next_deadline().map(|deadline| deadline.saturating_duration_since(now))
        } else {
            Some(Duration::ZERO)
        }
    }

    /// Does a bounded amount of the work that there is at `now`; `date` is the current second.
    pub fn turn(&mut self, now: Instant, date: HttpDate) {
        self.clock = Clock { now, date };
        self.reports.begin_turn();
        self.handle_completions();
        self.finish_actions();
        self.handle_messages();
        self.settle_reports(); // Before `expire` times them out.
        self.go_on_listing(); // Likewise.
        self.expire();
        self.settle_tallies();
        self.fan_out();
        self.catch_up();
        self.core.hub.tidy();
        self.resume_paused();
        self.resume_retries();
        self.append_outgoing();
        self.advance_drain();
        self.look_for_slow_streams();
        self.post_counters();
    }

    /// Starts again after a panic in [`Shard::turn`]: closes all connections and forgets their state.
    /// Clients reconnect and resume. Batches under way are published, but not answered.
    pub fn restart(&mut self) {
        self.append_outgoing(); // Their idempotency keys wait for the log.
        self.counters.connections = self.connections.len() as u64;
        self.counters.note_restart();
        self.close_all();
        for waiting in self.core.hub.forget_shard(self.options.number) {
            self.core.publishers.notify_counted(waiting);
        }
        self.core.board.stop_waiting(self.options.number);

        let room = Self::room(&self.options);
        self.connections.restart(room, self.clock.now, Arc::clone(&self.core.lingering));
        self.streams = Streams::new(room, self.core.hub.cursor(self.options.number));
        self.publishing = Publishing::default();
        self.questions = Questions::default();
        self.reports = Reports::default();
    }

    /// Returns true if and only if the shard has drained: it holds no connection and takes none.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        matches!(self.drain, Drain::Closing { .. })
            && !self.driver.is_listening()
            && !self.is_handed_connections
            && self.connections.is_empty()
    }

    /// The number of connections that this shard holds.
    #[must_use]
    pub fn connections_len(&self) -> usize {
        self.connections.len()
    }

    /// The number of its connections with an armed timer.
    #[must_use]
    pub fn timers_len(&self) -> usize {
        self.connections.timers.len()
    }

    /// Returns true if and only if there is work that can be done now.
    #[must_use]
    pub fn has_work(&self) -> bool {
        self.connections.has_work()
            || self.streams.has_work()
            || self.publishing.has_work()
            || self.core.keys.has_settled(self.options.number)
            || self.core.board.is_asked(self.options.number)
            || self.reports.has_work(&self.core.board)
            || self.core.hub.is_unfinished()
    }

    /// Returns true if and only if there are events to take. The hub moves the cursor past events that
    /// do not concern this shard.
    fn has_events(&mut self) -> bool {
        let (hub, cursor) = (&self.core.hub, &mut self.streams.cursor);
        if hub.head() != *cursor {
            *cursor = hub.cursor(self.options.number);
        }
        hub.head() != *cursor
    }

    fn next_deadline(&self) -> Option<Instant> {
        let deadlines = [
            self.connections.timers.next_deadline(),
            self.streams.deadline(),
            self.publishing.deadline(self.clock.now),
            self.reports.deadline(),
            self.drain_deadline(),
        ];
        deadlines.into_iter().flatten().min()
    }

    /// A number that no batch and no question of this shard had before.
    fn new_serial(&mut self) -> u64 {
        self.next_serial += 1;
        self.next_serial
    }

    fn handle_messages(&mut self) {
        self.publishing.held_back = Some(Vec::new());
        // A log that commits at once answers within the same turn.
        self.append_outgoing();
        loop {
            let Some(message) = self.mailbox.try_recv() else {
                if self.append_outgoing() {
                    continue; // What the messages brought may be answered already.
                }
                break;
            };
            match message {
                Message::Outcome(outcome) => self.handle_outcome(outcome),
                Message::Question(question) => self.answer_question(*question),
                Message::Answer(answer) => self.handle_answer(*answer),
                Message::Connection { descriptor, listener } => self.accept_handed_on(descriptor, listener),
                Message::AllHandedOn => self.is_handed_connections = false,
                Message::Drain => self.begin_drain(),
            }
        }
        self.send_held_back();
    }
}

impl<D: Driver> fmt::Debug for Shard<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shard")
            .field("number", &self.options.number)
            .field("connections", &self.connections.len())
            .field("cursor", &self.streams.cursor)
            .finish_non_exhaustive()
    }
}
