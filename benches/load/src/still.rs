//! A driver that does nothing, and whole shards over it: the rest of a delivery is the server's own
//! work.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use downpour::Event;
use downpour::api::ApiOptions;
use downpour::base::id::{ConnId, EpochTag};
use downpour::base::limits::COMPLETIONS_PER_WAIT_MAX;
use downpour::base::mailbox::{Receiver, Wake};
use downpour::base::random::SplitMix64;
use downpour::conn::ConnOptions;
use downpour::driver::{Completion, Driver, SendStart};
use downpour::frame::chunk::Chunk;
use downpour::frame::offer::Offer;
use downpour::frame::outbox::OutboxLimits;
use downpour::http::{HttpDate, http_date};
use downpour::hub::Retention;
use downpour::hub::{Hub, HubOptions};
use downpour::log::Append;
use downpour::log::memory::MemoryLog;
use downpour::record::{Events, Record};
use downpour::shard::core::{Core, CoreOptions};
use downpour::shard::publishing::tickets::application_ticket;
use downpour::shard::{Message, Shard, ShardOptions};

/// The request of every connection.
const REQUEST: &[u8] = b"GET /channels/a HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// Longest time for any step before a bench fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// Accepts `connecting` connections, hands each one its request, and takes every send whole.
struct StillDriver {
    /// Connections that are not accepted yet.
    connecting: usize,
    /// Connections whose request is still to be handed over, from the back.
    asking: Vec<ConnId>,
    /// Whether a connection has asked, by its slot.
    has_asked: Vec<bool>,
    /// Completions left in this wait.
    completions: usize,
    /// Bytes taken.
    taken: u64,
    told: Arc<Told>,
    is_listening: bool,
    woken: Arc<Woken>,
    /// Each shard has a thread of its own, which may sleep.
    may_sleep: bool,
}

/// What a driver publishes to other threads before each wait.
#[derive(Default)]
struct Told {
    /// Bytes taken.
    taken: AtomicU64,
    /// All connections were accepted and their requests handled: their streams are live.
    is_open: AtomicBool,
}

/// A socket without anything behind it.
#[derive(Debug)]
struct StillSocket;

/// Ends a sleep.
#[derive(Default)]
struct Woken {
    is_woken: Mutex<bool>,
    changed: Condvar,
}

impl Wake for Woken {
    fn wake(&self) {
        *self.is_woken.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_one();
    }
}

impl Woken {
    fn sleep(&self, timeout: Duration) {
        let is_woken = self.is_woken.lock().unwrap_or_else(PoisonError::into_inner);
        let slept = self.changed.wait_timeout_while(is_woken, timeout, |is_woken| !*is_woken);
        *slept.unwrap_or_else(PoisonError::into_inner).0 = false;
    }
}

impl Driver for StillDriver {
    type Socket = StillSocket;

    fn adopt(&mut self, _: StillSocket, conn: ConnId) -> io::Result<()> {
        let slot = conn.index as usize;
        self.has_asked.resize(self.has_asked.len().max(slot + 1), false);
        self.has_asked[slot] = false;
        Ok(())
    }

    fn recv(&mut self, conn: ConnId) {
        if !std::mem::replace(&mut self.has_asked[conn.index as usize], true) {
            self.asking.push(conn);
        }
    }

    #[inline]
    fn send(&mut self, _: ConnId, offer: Offer<'_>) -> SendStart {
        let bytes = offer.bytes();
        self.taken += bytes as u64;
        SendStart::Sent(bytes)
    }

    fn shutdown(&mut self, _: ConnId) {}

    fn close(&mut self, _: ConnId) {}

    fn pause_accepting(&mut self, _: bool) {}

    fn stop_listening(&mut self) {
        self.is_listening = false;
    }

    fn is_listening(&self) -> bool {
        self.is_listening
    }

    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.told.taken.store(self.taken, Ordering::Release);
        self.completions = COMPLETIONS_PER_WAIT_MAX;
        let is_busy = self.connecting > 0 || !self.asking.is_empty() || timeout == Some(Duration::ZERO);
        if !is_busy {
            self.told.is_open.store(true, Ordering::Release);
            if self.may_sleep {
                self.woken.sleep(timeout.unwrap_or(PATIENCE));
            }
        }
        Ok(())
    }

    fn next(&mut self) -> Option<Completion<'_, StillSocket>> {
        self.completions = self.completions.checked_sub(1)?;
        if let Some(conn) = self.asking.pop() {
            return Some(Completion::Received { conn, bytes: REQUEST });
        }
        self.connecting = self.connecting.checked_sub(1)?;
        Some(Completion::Accepted { socket: StillSocket, listener: 0 })
    }

    fn waker(&self) -> Arc<dyn Wake> {
        Arc::clone(&self.woken) as Arc<dyn Wake>
    }
}

/// The number of streams, and of shards that serve them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Streams of all shards together, spread evenly.
    pub streams: usize,
    /// Shards.
    pub shards: usize,
    /// Each shard runs in a thread of its own. Otherwise all run in the caller's thread, in turns.
    pub has_threads: bool,
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let threads = if self.has_threads { "shard_threads" } else { "shards" };
        write!(f, "{}_streams/{}_{threads}", self.streams, self.shards)
    }
}

/// Shards with live streams on one channel.
pub struct StillServer {
    layout: Layout,
    core: Core,
    told: Vec<Arc<Told>>,
    /// Bytes that the streams of all shards have been sent once all published events are delivered.
    settled: u64,
    appended: u64,
    /// What is appended next. It keeps its room, as that of a shard does.
    group: Vec<Append>,
    runners: Runners,
}

enum Runners {
    Here(Vec<Runner>),
    Threads(Vec<thread::JoinHandle<()>>),
}

/// The parts of a shard, before its thread joins them.
struct Parts {
    options: ShardOptions,
    driver: StillDriver,
    mailbox: Receiver<Message>,
    core: Core,
}

impl Parts {
    fn join(self) -> Runner {
        let Parts { options, driver, mailbox, core } = self;
        let random = Box::new(SplitMix64::new(options.number as u64));
        let (hub, start) = (Arc::clone(&core.hub), Instant::now());
        let shard = Shard::new(options, driver, core, mailbox, random, start);
        Runner { shard, hub, start, date: http_date(SystemTime::UNIX_EPOCH) }
    }
}

/// A shard and the state of its loop.
struct Runner {
    shard: Shard<StillDriver>,
    hub: Arc<Hub>,
    start: Instant,
    date: HttpDate,
}

impl Runner {
    /// Serves until the shard has drained.
    fn run(mut self) {
        while !self.shard.is_drained() {
            self.turn();
        }
    }

    /// One turn, as the thread of a shard makes it.
    fn turn(&mut self) {
        self.shard.wait(Instant::now()).expect("this driver's wait does not fail");
        let now = Instant::now();
        self.hub.set_now(now.saturating_duration_since(self.start));
        self.shard.turn(now, self.date);
    }
}

impl StillServer {
    /// Shards whose streams are live.
    pub fn start(layout: Layout) -> StillServer {
        let Layout { streams, shards, has_threads } = layout;
        assert_eq!(streams % shards, 0, "each shard has the same share");
        let retention = Retention { events_max: 1000, bytes_max: 16 * 1024 * 1024, age_max: None };
        let core_options = CoreOptions {
            hub: HubOptions { retention, channels_max: 1000, ..HubOptions::default() },
            ..CoreOptions::default()
        };
        let wakers: Vec<Arc<Woken>> = (0..shards).map(|_| Arc::default()).collect();
        let wake = |woken: &Arc<Woken>| Arc::clone(woken) as Arc<dyn Wake>;
        let (core, receivers) = Core::new(&core_options, wakers.iter().map(wake), None, |_, sink| {
            Arc::new(MemoryLog::new(EpochTag::from_bits(1), sink))
        });
        let told: Vec<Arc<Told>> = (0..shards).map(|_| Arc::default()).collect();
        let parts = wakers.into_iter().zip(receivers).enumerate().map(|(number, (woken, mailbox))| {
            let driver = StillDriver {
                connecting: streams / shards,
                asking: Vec::new(),
                has_asked: Vec::new(),
                completions: 0,
                taken: 0,
                told: Arc::clone(&told[number]),
                is_listening: true,
                woken,
                may_sleep: has_threads,
            };
            Parts { options: options(number, streams), driver, mailbox, core: core.clone() }
        });
        let runners = if has_threads {
            Runners::Threads(parts.map(|parts| thread::spawn(move || parts.join().run())).collect())
        } else {
            Runners::Here(parts.map(Parts::join).collect())
        };
        let mut server =
            StillServer { layout, core, told, settled: 0, appended: 0, group: Vec::new(), runners };
        server.wait_for("the streams to open", |server| {
            server.told.iter().all(|told| told.is_open.load(Ordering::Acquire))
        });
        assert_eq!(server.core.hub.subscribers("a") as usize, streams, "every connection has a stream");
        server.settled = server.taken();
        server
    }

    /// Publishes, and waits until every stream's driver has taken all of it.
    pub fn deliver(&mut self, frames: Frames) {
        self.appended += 1;
        self.group.push((application_ticket(self.appended), Record::from(frames.batch)));
        self.core.log.append(&mut self.group);
        self.settled += self.layout.streams as u64 * frames.bytes;
        self.wait_for("the delivery", |server| server.taken() >= server.settled);
        debug_assert_eq!(self.taken(), self.settled, "streams are sent what was published and nothing else");
    }

    /// Bytes that drivers have taken, as of each one's last wait.
    fn taken(&self) -> u64 {
        self.told.iter().map(|told| told.taken.load(Ordering::Acquire)).sum()
    }

    /// Gives every shard a turn.
    fn advance(&mut self) {
        match &mut self.runners {
            Runners::Here(runners) => runners.iter_mut().for_each(Runner::turn),
            Runners::Threads(_) => thread::yield_now(),
        }
    }

    fn wait_for(&mut self, what: &str, is_done: impl Fn(&StillServer) -> bool) {
        let mut rounds = 0_u32;
        let mut deadline = None;
        while !is_done(self) {
            self.advance();
            rounds += 1;
            if rounds.is_multiple_of(4096) {
                let deadline = *deadline.get_or_insert_with(|| Instant::now() + PATIENCE);
                assert!(Instant::now() < deadline, "waited in vain for {what}");
            }
        }
    }
}

impl Drop for StillServer {
    fn drop(&mut self) {
        if let Runners::Threads(threads) = &mut self.runners {
            for mailbox in self.core.publishers.mailboxes() {
                // A shard that has ended takes no messages.
                drop(mailbox.try_send(Message::Drain));
            }
            for thread in threads.drain(..) {
                // Its panic has been reported.
                drop(thread.join());
            }
        }
    }
}

/// Events to the channel of all streams, rendered.
#[derive(Clone)]
pub struct Frames {
    batch: Events,
    /// Bytes that each stream gets.
    bytes: u64,
}

impl Frames {
    /// An event for each of these data.
    pub fn of(data: &[&str]) -> Frames {
        let mut batch = Events::new();
        data.iter().for_each(|data| batch.push(&["a"], &Event::new(data)));
        let bytes = batch.iter().map(|event| Chunk::of(event.text.len()).bytes() as u64).sum();
        Frames { batch, bytes }
    }
}

/// The command line's defaults, without timers.
fn options(number: usize, streams: usize) -> ShardOptions {
    let seconds = Duration::from_secs;
    ShardOptions {
        number,
        conn: ConnOptions {
            head_timeout: seconds(10),
            body_timeout: seconds(30),
            idle_timeout: seconds(75),
            stall_timeout: Some(seconds(120)),
            publish_timeout: seconds(5),
            body_bytes_max: 1024 * 1024,
            outbox: OutboxLimits { bytes_max: 256 * 1024, frames_max: 1024 },
            ..ConnOptions::default()
        },
        api: vec![ApiOptions { stream_channels_max: 16, ..ApiOptions::default() }],
        connections_max: streams,
        retry: seconds(3),
        drain_timeout: Duration::ZERO,
        ..ShardOptions::default()
    }
}
