//! Floor 5: one core. A shard joins a driver, connections, and its cursor on the hub's order: each action of a
//! connection becomes a call on the driver, the API or the log, and each event a run in the outboxes of its streams.
//!
//! A turn handles what the driver reports and what is in the mailbox, then does bounded amounts of the shard's own work:
//! streams that have something to say are sent to, a part of them in each turn; when all were that the last events went
//! to, more is taken from the hub. So everything that came meanwhile goes out in one send for each stream, and neither a publisher nor a newcomer
//! waits for the end of a fan-out. Nothing in a shard blocks but the driver's wait.

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
use crate::conn::{Common, ConnOptions};
use crate::driver::Driver;
use crate::http::{HttpDate, http_date};
use crate::hub::SHARDS_MAX;

use self::core::Core;
use connections::{Connections, HANDED_ON_MAX};
use drain::Drain;
use publishing::apply::Outcome;
use publishing::{BATCHES_UNDER_WAY_MAX, Publishing};
use questions::Questions;
pub use questions::{Answer, Question};
use report::Reports;
use report::counters::Counters;
use streams::Streams;

pub use connections::CONNECTIONS_OVER_LIMIT_MAX;
pub use publishing::PAUSE;

/// Most connections that a shard has room for from its beginning on: beyond it, its tables move as they grow.
const ROOM_MAX: usize = 1 << 20;

/// Messages that a shard's mailbox holds: all outcomes that may be under way, connections that are handed on, the answers
/// to its questions, the questions of others, of which each shard may put in one too many, and what else it is told.
pub const MAILBOX_MESSAGES_MAX: usize =
    BATCHES_UNDER_WAY_MAX + HANDED_ON_MAX + 2 * questions::QUESTIONS_MAX + SHARDS_MAX + 64;

/// What a shard is told by other threads.
#[derive(Debug)]
pub enum Message {
    /// What became of a batch that this shard appended.
    Outcome(Outcome),
    /// What another shard wants of a stream of this one.
    Question(Box<Question>),
    /// The answer to a question of this shard.
    Answer(Box<Answer>),
    /// A connection that another shard has accepted and that is for this one.
    Connection {
        /// What the other driver has handed over.
        descriptor: OwnedFd,
        /// Which listener took it.
        listener: usize,
    },
    /// No such connection follows.
    AllHandedOn,
    /// Finish: end the streams, answer what is under way, and take no more.
    Drain,
}

/// How a shard is set up.
#[derive(Clone, Debug)]
pub struct ShardOptions {
    /// Its place among the shards that read from the hub, from 0.
    pub number: usize,
    /// Bounds and times of its connections.
    pub conn: ConnOptions,
    /// What the API needs to know, for each listener of the driver.
    pub api: Vec<ApiOptions>,
    /// Connections that all shards take together.
    pub connections_max: usize,
    /// How long clients are told to wait before they reconnect.
    pub retry: Duration,
    /// By how much that is lengthened at most, at random.
    pub retry_jitter: Duration,
    /// How long a stream lasts, give or take a fifth at random; `None` for ever.
    pub stream_age_max: Option<Duration>,
    /// How long a drain may take.
    pub drain_timeout: Duration,
}

/// One core's worth of server.
///
/// What it knows of its connections is in four parts, each of which owns its state. A panic has all of them made anew
/// ([`Shard::restart`]); the other fields outlive it.
pub struct Shard<D: Driver> {
    options: ShardOptions,
    driver: D,
    core: Core,
    /// What other threads tell it.
    mailbox: Receiver<Message>,
    random: Box<dyn Random>,
    common: Common,
    counters: Counters,
    drain: Drain,
    /// Another shard hands connections on to this one, and has not said that it is done.
    is_handed_connections: bool,
    /// The next number of a batch or of a question. None is ever given twice, so that what comes for those before a restart
    /// is nobody's.
    next_serial: u64,
    /// The instant from which its times count.
    start: Instant,
    /// The present moment, as of this turn.
    now: Instant,
    date: HttpDate,

    connections: Connections,
    streams: Streams,
    publishing: Publishing,
    questions: Questions,
    reports: Reports,
}

impl<D: Driver> Shard<D> {
    /// A shard of `core` that accepts from `driver`'s listeners and reads `mailbox`, the one of its number. `random` names
    /// its clients: nobody may be able to predict it. `now` is the instant from which its times count.
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
            now,
            date: http_date(SystemTime::UNIX_EPOCH), // Until the first turn says which it is.
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

    /// For how many connections the tables have room, so that none of them moves as it grows.
    fn room(options: &ShardOptions) -> usize {
        (options.connections_max + CONNECTIONS_OVER_LIMIT_MAX).min(ROOM_MAX)
    }

    /// Waits until there is something to do. With nothing left to do it may be long.
    ///
    /// # Errors
    /// Where the driver can no longer wait.
    pub fn wait(&mut self, now: Instant) -> io::Result<()> {
        let timeout = self.prepare_to_wait(now);
        let waited = self.driver.wait(timeout);
        self.mailbox.awake();
        waited
    }

    /// Announces a wait, and returns its longest duration; `None` without bound. [`Shard::wait`] does this by itself:
    /// a simulation, whose drivers never block, lets the world go on in between.
    pub fn prepare_to_wait(&mut self, now: Instant) -> Option<Duration> {
        self.note_durations(now);
        // Looked at after the sleep is announced: whoever applies later finds this shard asleep, and wakes it.
        let may_sleep = self.mailbox.prepare_to_sleep() && !self.has_events() && !self.has_work();
        if may_sleep {
            self.next_deadline().map(|deadline| deadline.saturating_duration_since(now))
        } else {
            Some(Duration::ZERO)
        }
    }

    /// Does what there is to do at `now`, a bounded amount of it; `date` is the present second.
    pub fn turn(&mut self, now: Instant, date: HttpDate) {
        self.now = now;
        self.date = date;
        self.reports.begin_turn();
        self.handle_completions();
        self.finish_actions();
        self.take_messages();
        self.settle_reports(); // Before their time is over, and they are answered so.
        self.go_on_listing(); // The same holds for it.
        self.expire();
        self.settle_tallies();
        self.fan_out();
        self.catch_up();
        self.core.hub.tidy();
        self.resume_paused();
        self.resume_retries();
        self.advance_drain();
        self.look_for_slow_streams();
        self.put_up_counters();
    }

    /// Begins anew after a panic in [`Shard::turn`]: closes all connections, and forgets everything that was known of them.
    /// Clients come back and resume. Batches under way are published, and nobody is told.
    pub fn restart(&mut self) {
        self.counters.connections = self.connections.len() as u64;
        self.counters.note_restart();
        self.close_all();
        for waiting in self.core.hub.forget_shard(self.options.number) {
            self.core.publishers.tell_counted(waiting);
        }
        self.core.board.stop_waiting(self.options.number);

        let room = Self::room(&self.options);
        self.connections.restart(room, self.now, Arc::clone(&self.core.lingering));
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

    /// How many connections this shard holds.
    #[must_use]
    pub fn connections_len(&self) -> usize {
        self.connections.len()
    }

    /// How many of its connections wait for a moment.
    #[must_use]
    pub fn timers_len(&self) -> usize {
        self.connections.timers.len()
    }

    /// Returns true if and only if there is work that waits for nothing.
    #[must_use]
    pub fn has_work(&self) -> bool {
        self.connections.has_work()
            || self.streams.has_work()
            || self.publishing.has_work()
            || self.core.keys.has_told(self.options.number)
            || self.core.board.is_asked(self.options.number)
            || self.reports.has_work(&self.core.board)
            || self.core.hub.is_unfinished()
    }

    /// Returns true if and only if there are events to take. What does not concern this shard the hub passes over for it.
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
            self.publishing.deadline(self.now),
            self.reports.deadline(),
            self.drain_deadline(),
        ];
        deadlines.into_iter().flatten().min()
    }

    /// A number that no batch and no question of this shard ever had.
    fn take_serial(&mut self) -> u64 {
        self.next_serial += 1;
        self.next_serial
    }

    fn take_messages(&mut self) {
        self.publishing.held_back = Some(Vec::new());
        while let Some(message) = self.mailbox.try_recv() {
            match message {
                Message::Outcome(outcome) => self.take_outcome(outcome),
                Message::Question(question) => self.take_question(*question),
                Message::Answer(answer) => self.take_answer(*answer),
                Message::Connection { descriptor, listener } => self.take_handed_on(descriptor, listener),
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
