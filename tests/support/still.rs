//! A server of one shard whose network takes everything at once and does nothing: what is left is its own cost.

use std::cell::Cell;
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant, SystemTime};

use downpour::api::{self, ApiOptions, Hosts, Reach};
use downpour::base::id::{ConnId, EpochTag};
use downpour::base::mailbox::{Wake, mailbox};
use downpour::base::random::SplitMix64;
use downpour::conn::ConnOptions;
use downpour::driver::{Completion, Driver, SendStart};
use downpour::frame::batch::Batch;
use downpour::frame::notice::KeepaliveStyle;
use downpour::frame::offer::Offer;
use downpour::frame::outbox::OutboxLimits;
use downpour::http::{HttpDate, http_date};
use downpour::hub::retention::Retention;
use downpour::hub::{Backlog, Hub, HubOptions};
use downpour::log::Log;
use downpour::log::memory::MemoryLog;
use downpour::shard::apply::{Applier, application_ticket};
use downpour::shard::board::Board;
use downpour::shard::keys::IdempotencyKeys;
use downpour::shard::{Links, MAILBOX_MESSAGES_MAX, Shard, ShardOptions};
use downpour::sse::event::Event;

/// What every client asks for.
const REQUEST: &[u8] = b"GET /channels/news HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n";

/// A network of clients that ask for one stream each, and read whatever comes as it comes.
#[derive(Debug)]
pub(crate) struct StillDriver {
    to_accept: usize,
    /// Connections whose request is to be read.
    to_receive: VecDeque<ConnId>,
    /// Sends so far, and their bytes.
    taken: Rc<Cell<(u64, u64)>>,
}

impl Driver for StillDriver {
    type Socket = ();

    fn adopt(&mut self, (): (), conn: ConnId) -> io::Result<()> {
        self.to_receive.push_back(conn);
        Ok(())
    }

    fn recv(&mut self, _conn: ConnId) {}

    fn send(&mut self, _conn: ConnId, offer: Offer<'_>) -> SendStart {
        let bytes = offer.bytes();
        let (sends, sent) = self.taken.get();
        self.taken.set((sends + 1, sent + bytes as u64));
        SendStart::Sent(bytes)
    }

    fn shutdown(&mut self, _conn: ConnId) {}

    fn close(&mut self, _conn: ConnId) {}

    fn pause_accepting(&mut self, _paused: bool) {}

    fn stop_listening(&mut self) {}

    fn is_listening(&self) -> bool {
        true
    }

    fn wait(&mut self, _timeout: Option<Duration>) -> io::Result<()> {
        Ok(())
    }

    fn next(&mut self) -> Option<Completion<'_, ()>> {
        if let Some(conn) = self.to_receive.pop_front() {
            return Some(Completion::Received { conn, bytes: REQUEST });
        }
        self.to_accept = self.to_accept.checked_sub(1)?;
        Some(Completion::Accepted { socket: (), listener: 0 })
    }

    fn waker(&self) -> Arc<dyn Wake> {
        Arc::new(Nobody)
    }
}

/// Nobody sleeps here.
#[derive(Debug)]
struct Nobody;

impl Wake for Nobody {
    fn wake(&self) {}
}

/// The server, with its streams.
pub(crate) struct Still {
    shard: Shard<StillDriver>,
    hub: Arc<Hub>,
    log: Arc<dyn Log>,
    taken: Rc<Cell<(u64, u64)>>,
    serial: u64,
    now: Instant,
    date: HttpDate,
}

impl Still {
    /// A server with so many streams of the channel `news`.
    pub(crate) fn with_streams(streams: u32) -> Still {
        let hub = Arc::new(Hub::new(HubOptions {
            retention: Retention { events_max: 1000, bytes_max: 64 << 20, age_max: None },
            channels_max: 1000,
            backlog: Backlog::default(),
            shards: 1,
        }));
        let (sender, receiver) = mailbox(MAILBOX_MESSAGES_MAX, Arc::new(Nobody));
        let senders = vec![sender];
        let keys = Arc::new(IdempotencyKeys::new(1, senders.clone()));
        let sink = Arc::new(Applier::new(Arc::clone(&hub), senders.clone(), Arc::clone(&keys)));
        let log: Arc<dyn Log> = Arc::new(MemoryLog::new(EpochTag::from_bits(1), sink));
        let links = Links {
            hub: Arc::clone(&hub),
            log: Arc::clone(&log),
            mailbox: receiver,
            publishers: senders.clone().into(),
            keys,
            connections: Arc::new(AtomicUsize::new(0)),
            board: Arc::new(Board::new(senders)),
            random: Box::new(SplitMix64::new(1)),
        };
        let taken = Rc::new(Cell::new((0, 0)));
        let driver = StillDriver {
            to_accept: streams as usize,
            to_receive: VecDeque::new(),
            taken: Rc::clone(&taken),
        };
        let now = Instant::now();
        let shard = Shard::new(options(streams as usize), driver, links, now);
        let mut still =
            Still { shard, hub, log, taken, serial: 0, now, date: http_date(SystemTime::UNIX_EPOCH) };
        while still.hub.subscribers("news") < streams || still.shard.has_work() {
            still.turn();
        }
        still
    }

    /// Publishes `events` of 64 bytes of data to `news`, and delivers them to every stream.
    pub(crate) fn publish_and_deliver(&mut self, events: usize) {
        let mut batch = Batch::new();
        let data = "x".repeat(64);
        (0..events).for_each(|_| batch.push(&["news"], &Event::new(&data)));
        self.log.append(batch, application_ticket(self.serial));
        self.serial += 1;
        while self.hub.cursor(0) != self.hub.head() || self.shard.has_work() {
            self.turn();
        }
    }

    /// How many sends the network took, and how many bytes.
    pub(crate) fn taken(&self) -> (u64, u64) {
        self.taken.get()
    }

    fn turn(&mut self) {
        self.shard.wait(self.now).expect("a still network waits");
        self.shard.turn(self.now, self.date);
    }
}

fn options(connections_max: usize) -> ShardOptions {
    ShardOptions {
        number: 0,
        conn: ConnOptions {
            head_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(75),
            publish_timeout: Duration::from_secs(5),
            keepalive: Some(Duration::from_secs(30)),
            keepalive_style: KeepaliveStyle::Event,
            body_bytes_max: 1 << 20,
            outbox: OutboxLimits { bytes_max: 256 << 10, frames_max: 256 },
            plan_body: api::plan_body,
        },
        api: vec![ApiOptions { hosts: Hosts::default(), reach: Reach::Loopback, stream_channels_max: 128 }],
        connections_max,
        retry: Duration::from_secs(3),
        retry_jitter: Duration::ZERO,
        stream_age_max: None,
        drain_timeout: Duration::from_secs(10),
    }
}
