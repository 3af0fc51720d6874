//! Floor 5: one core. A shard joins a driver, connections, and its cursor on the hub's order: each action of a
//! connection becomes a call on the driver, the API or the log, and each event a run in the outboxes of its streams.
//!
//! A turn handles what the driver reports and what is in the mailbox, then does bounded amounts of the shard's own work:
//! streams that have something to say are sent to, a part of them in each turn; when all were that the last events went
//! to, more is taken from the hub. So everything that came meanwhile goes out in one send for each stream, and neither a publisher nor a newcomer
//! waits for the end of a fan-out. Nothing in a shard blocks but the driver's wait.

pub mod apply;
pub mod board;
mod catch_up;
mod channels;
#[cfg(test)]
mod client_tests;
mod clients;
mod connections;
pub mod counters;
mod drain;
mod expiry;
#[cfg(test)]
mod fairness_tests;
mod fan_out;
mod idempotency;
#[cfg(test)]
mod idempotency_tests;
#[cfg(test)]
mod keepalive_tests;
pub mod keys;
mod lingering;
#[cfg(test)]
mod lock_tests;
mod marked;
mod memory;
mod metrics;
mod peer;
mod publish;
mod questions;
pub mod report;
mod retries;
#[cfg(test)]
mod retries_tests;
mod rooms;
mod slow;
mod sources;
mod spread;
mod stats;
mod subscribe;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod timer_tests;

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant, SystemTime};

use crate::api::ApiOptions;
use crate::base::account::Account;
use crate::base::id::{ConnId, Sequence};
use crate::base::mailbox::Receiver;
use crate::base::random::Random;
use crate::base::slots::Slots;
use crate::base::wheel::Wheel;
use crate::conn::{Common, ConnOptions};
use crate::driver::Driver;
use crate::http::{HttpDate, http_date};
use crate::hub::index::Index;
use crate::hub::live::LiveRun;
use crate::hub::reader::Slice;
use crate::hub::{Hub, SHARDS_MAX};
use crate::log::Log;

use apply::{Outcome, Publishers};
use board::Board;
use channels::Listing;
use counters::Counters;
use drain::Drain;
use expiry::Hearing;
use keys::IdempotencyKeys;
use lingering::Lingerers;
use marked::Marked;
use peer::Peer;
use publish::Tickets;
use questions::Questions;
pub use questions::{Answer, Question};
use report::PendingReport;
use rooms::Rooms;
use slow::SlowLook;
use sources::Sources;

/// The step of the shard's timer wheel: deadlines are kept at most this late.
const TIMER_TICK: Duration = Duration::from_millis(4);

/// Marked streams that one turn sends to before it looks at completions again.
const FLUSHES_PER_TURN_MAX: usize = 256;

/// Connections beyond the limit that are taken in order to be told of it.
pub const CONNECTIONS_OVER_LIMIT_MAX: usize = 256;

/// Most connections that a shard has room for from its beginning on: beyond it, its tables move as they grow.
const ROOM_MAX: usize = 1 << 20;

/// Actions of one connection that are carried out before others have theirs.
const ACTIONS_AT_ONCE_MAX: usize = 64;

/// Actions that one turn carries out of connections that the driver tells of, and again of those that anything else has
/// come up for. Those that have more to do go on in a later turn.
const ACTIONS_PER_TURN_MAX: usize = 4096;

/// Actions that one turn carries out of connections that had more to do than they were given before.
const UNFINISHED_ACTIONS_PER_TURN_MAX: usize = 1024;

/// Connections whose time has come, or may have, that one turn looks at.
const EXPIRIES_PER_TURN_MAX: usize = 1024;

/// Turns in which it is waited at the most for what had come when deadlines were due to be handed over.
const HEARING_TURNS_MAX: u32 = 1024;

/// How long a publisher waits at the most before it is looked whether the shards that are behind have caught up.
pub const PAUSE: Duration = Duration::from_millis(1);

/// How long nothing is logged of what was just logged.
const TELL_AGAIN: Duration = Duration::from_secs(10);

/// How long after its fan-outs a shard keeps the segments it used.
const SOURCES_KEPT: Duration = Duration::from_secs(1);

/// Messages that a shard's mailbox holds: all outcomes that may be under way, connections that are handed on, the answers
/// to its questions, the questions of others, of which each shard may put in one too many, and what else it is told.
pub const MAILBOX_MESSAGES_MAX: usize =
    publish::BATCHES_UNDER_WAY_MAX + spread::HANDED_ON_MAX + 2 * questions::QUESTIONS_MAX + SHARDS_MAX + 64;

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

/// What joins a shard to the rest of the server.
#[derive(Debug)]
pub struct Links {
    /// The hub that it reads from.
    pub hub: Arc<Hub>,
    /// The log that it appends to.
    pub log: Arc<dyn Log>,
    /// What other threads tell it.
    pub mailbox: Receiver<Message>,
    /// Who is told when this shard has completed a count of receivers.
    pub publishers: Publishers,
    /// The idempotency keys that all shards were given, as what the log commits settles them.
    pub keys: Arc<IdempotencyKeys>,
    /// How many connections all shards hold together.
    pub connections: Arc<AtomicUsize>,
    /// How many of them linger.
    pub lingering: Arc<AtomicUsize>,
    /// What is held for those whose bodies are unfinished and whose answers are unread.
    pub account: Arc<Account>,
    /// Where all shards put up what they have counted.
    pub board: Arc<Board>,
    /// Where its random bits come from. Clients are named by them: nobody may be able to predict them.
    pub random: Box<dyn Random>,
}

/// One core's worth of server.
pub struct Shard<D: Driver> {
    options: ShardOptions,
    driver: D,
    peers: Slots<Peer>,
    /// When connections are to be looked at, by their slots.
    timers: Wheel,
    /// What is heard before deadlines that are due are looked at.
    hearing: Option<Hearing>,
    hub: Arc<Hub>,
    log: Arc<dyn Log>,
    mailbox: Receiver<Message>,
    publishers: Publishers,
    keys: Arc<IdempotencyKeys>,
    connections: Arc<AtomicUsize>,
    lingerers: Lingerers,
    account: Arc<Account>,
    board: Arc<Board>,
    random: Box<dyn Random>,
    common: Common,
    counters: Counters,
    index: Index,
    rooms: Rooms,
    /// How many events to all there were up to the shard's cursor.
    all_count: u64,
    /// How far this shard has taken the order, as of its last look.
    cursor: Sequence,
    taken: Vec<LiveRun>,
    sources: Sources,
    sources_used: Option<Instant>,
    /// Slots of streams that have something to say.
    marked: Marked,
    /// Connections that were sent to, and may have something else to do.
    unsettled: Vec<ConnId>,
    /// Slots of connections that had more to do than they were given. They wait here and not among those that are marked,
    /// so that no connection holds a fan-out up by always having something to do.
    unfinished: VecDeque<u32>,
    /// Actions that this part of the turn may still carry out.
    actions_left: usize,
    /// Slots of streams whose outbox was full for the run that is being delivered.
    fallen: Vec<u32>,
    /// Slots of streams that may read on in the history.
    readers: VecDeque<u32>,
    /// Slots of streams whose place this shard has yet to reach.
    ahead: Vec<u32>,
    slice: Slice,
    tickets: Tickets,
    questions: Questions,
    /// Slots of connections that wait to publish, since a shard is behind.
    paused: VecDeque<ConnId>,
    /// Whose answers wait while outcomes of what the log has are taken; `None` where answers are sent at once.
    held_back: Option<Vec<ConnId>>,
    /// Slots of connections that wait for an idempotency key to be settled.
    waiting_for_keys: VecDeque<ConnId>,
    /// Slots of connections that wait for the receivers of what was published before.
    recounts: VecDeque<ConnId>,
    drain: Drain,
    /// Another shard hands connections on to this one, and has not said that it is done.
    is_handed_connections: bool,
    /// Whose turn it is to take a connection of a listener that this shard has for all.
    next_taker: usize,
    /// Requests that wait for what all shards have counted.
    reports: Vec<PendingReport>,
    /// Requests for pages of channels that are being looked for.
    listings: VecDeque<Listing>,
    slow_look: SlowLook,
    /// When events were taken that some streams have yet to be sent.
    fan_out_began: Option<Instant>,
    /// A turn has begun at `now` whose length is not noted yet.
    has_turned: bool,
    /// When it was last logged that connections cannot be accepted.
    accept_failure_told: Option<Instant>,
    /// The instant from which its times count.
    start: Instant,
    /// The present moment, as of this turn.
    now: Instant,
    date: HttpDate,
}

impl<D: Driver> Shard<D> {
    /// A shard that accepts from `driver`'s listeners. `now` is the instant from which its times count.
    #[must_use]
    pub fn new(options: ShardOptions, driver: D, links: Links, now: Instant) -> Shard<D> {
        let Links { hub, log, mailbox, publishers, keys, connections, lingering, account, board, random } =
            links;
        let cursor = hub.cursor(options.number);
        let common = Common::new(options.conn.keepalive_style);
        let is_handed_connections = Self::is_handed_connections(&options);
        let room = Self::room(&options);
        Shard {
            options,
            driver,
            peers: Slots::with_room_for(room),
            timers: Wheel::with_room_for(room, now, TIMER_TICK),
            hearing: None,
            hub,
            log,
            mailbox,
            publishers,
            keys,
            connections,
            lingerers: Lingerers::new(lingering),
            account,
            board,
            random,
            common,
            counters: Counters::default(),
            index: Index::with_room_for(room),
            rooms: Rooms::default(),
            all_count: 0,
            cursor,
            taken: Vec::new(),
            sources: Sources::default(),
            sources_used: None,
            marked: Marked::default(),
            unsettled: Vec::new(),
            unfinished: VecDeque::new(),
            actions_left: 0,
            fallen: Vec::new(),
            readers: VecDeque::new(),
            ahead: Vec::new(),
            slice: Slice::default(),
            tickets: Tickets::default(),
            questions: Questions::default(),
            paused: VecDeque::new(),
            held_back: None,
            waiting_for_keys: VecDeque::new(),
            recounts: VecDeque::new(),
            drain: Drain::No,
            is_handed_connections,
            next_taker: 0,
            reports: Vec::new(),
            listings: VecDeque::new(),
            slow_look: SlowLook::default(),
            fan_out_began: None,
            has_turned: false,
            accept_failure_told: None,
            start: now,
            now,
            date: http_date(SystemTime::UNIX_EPOCH), // Until the first turn says which it is.
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

    /// Announces a wait, and says how long that is at the most; `None` without bound. [`Shard::wait`] does this by itself:
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
        self.has_turned = true;
        self.actions_left = ACTIONS_PER_TURN_MAX;
        while let Some(conn) = self.next_completion() {
            self.act(conn);
        }
        self.finish_actions();
        self.take_messages();
        self.settle_reports(); // Before their time is over, and they are answered so.
        self.go_on_listing(); // The same holds for it.
        self.expire();
        self.settle_tallies();
        self.fan_out();
        self.catch_up();
        self.hub.tidy();
        self.resume_paused();
        self.resume_retries();
        self.advance_drain();
        self.look_for_slow_streams();
        self.put_up_counters();
    }

    /// Begins anew after a panic in [`Shard::turn`]: all connections are closed, and everything that was known of them is
    /// forgotten. Clients come back and resume; batches under way are published, and nobody is told.
    pub fn restart(&mut self) {
        self.counters.connections = self.peers.len() as u64;
        self.counters.note_restart();
        for conn in self.peers.ids().collect::<Vec<_>>() {
            self.driver.close(conn);
            self.forget(conn);
        }
        self.lingerers.clear();
        self.timers = Wheel::with_room_for(Self::room(&self.options), self.now, TIMER_TICK);
        self.hearing = None;
        self.index = Index::with_room_for(Self::room(&self.options));
        self.taken.clear();
        self.sources.clear();
        self.marked.clear();
        self.unsettled.clear();
        self.unfinished.clear();
        self.fallen.clear();
        self.readers.clear();
        self.ahead.clear();
        self.paused.clear();
        self.held_back = None;
        self.waiting_for_keys.clear();
        self.recounts.clear();
        self.reports.clear();
        self.listings.clear();
        self.board.stop_waiting(self.options.number);
        self.fan_out_began = None;
        self.has_turned = false;
        self.tickets.forget_all();
        self.questions.forget_all();
        for waiting in self.hub.forget_shard(self.options.number) {
            self.publishers.tell_counted(waiting);
        }
        self.cursor = self.hub.cursor(self.options.number);
    }

    /// Returns true if and only if the shard has drained: it holds no connection and takes none.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        matches!(self.drain, Drain::Closing { .. })
            && !self.driver.is_listening()
            && !self.is_handed_connections
            && self.peers.is_empty()
    }

    /// How many connections this shard holds.
    #[must_use]
    pub fn connections_len(&self) -> usize {
        self.peers.len()
    }

    /// How many of its connections wait for a moment.
    #[must_use]
    pub fn timers_len(&self) -> usize {
        self.timers.len()
    }

    /// Returns true if and only if there is work that waits for nothing.
    #[must_use]
    pub fn has_work(&self) -> bool {
        !self.marked.is_empty()
            || !self.unfinished.is_empty()
            || !self.readers.is_empty()
            || self.tickets.has_settled()
            || self.keys.has_told(self.options.number)
            || self.board.is_asked(self.options.number)
            || self.has_settled_reports()
            || !self.listings.is_empty()
            || self.hub.is_unfinished()
    }

    /// Returns true if and only if there are events to take. What does not concern this shard the hub passes over for it.
    fn has_events(&mut self) -> bool {
        if self.hub.head() != self.cursor {
            self.cursor = self.hub.cursor(self.options.number);
        }
        self.hub.head() != self.cursor
    }

    fn next_deadline(&self) -> Option<Instant> {
        let sources = self.sources_used.map(|used| used + SOURCES_KEPT);
        // Nobody tells a publisher's shard when the others have caught up, nor one that retries when they have counted:
        // it asks.
        let is_paused = !self.paused.is_empty() || !self.recounts.is_empty();
        let paused = is_paused.then(|| self.now + PAUSE);
        let deadlines = [
            self.timers.next_deadline(),
            sources,
            self.drain_deadline(),
            paused,
            self.reports_deadline(),
            self.slow_look.deadline(),
        ];
        deadlines.into_iter().flatten().min()
    }

    fn take_messages(&mut self) {
        self.held_back = Some(Vec::new());
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
            .field("connections", &self.peers.len())
            .field("cursor", &self.cursor)
            .finish_non_exhaustive()
    }
}
