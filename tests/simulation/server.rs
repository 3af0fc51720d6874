//! The server under test: whole shards, their hub and a log. The world turns one shard or another. A
//! shard sleeps as a thread would, from the announcement of its wait until a wake-up.

use std::cell::{Cell, RefCell};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use downpour::base::id::{ClientId, ConnId, Sequence};
use downpour::base::mailbox::{Sender, Wake};
use downpour::base::name::Selector;
use downpour::base::random::SplitMix64;
use downpour::driver::sim::{SimDriver, SimNet, SimSocket};
use downpour::driver::{Completion, Driver, SendStart};
use downpour::frame::offer::Offer;
use downpour::http::http_date;
use downpour::hub::{Backlog, Hub, Receivers};
use downpour::log::sim::SimLog;
use downpour::log::{Append, Log};
use downpour::record::Events;
use downpour::record::targets::client_target;
use downpour::shard::core::{Core, CoreOptions};
use downpour::shard::{Message, Shard, ShardOptions};
use downpour::sse::event::Event;

use crate::allocated::{for_server, for_world};
use crate::memory::Memory;
use crate::model::{Model, Recorder, TARGETS, target_name};
use crate::world::World;

/// More channels than a reader merges for a pattern.
const CROWD: usize = 70;

/// One life of the server.
pub(crate) struct Server {
    pub(crate) members: Vec<Member>,
    pub(crate) hub: Arc<Hub>,
    connections: Arc<AtomicUsize>,
    pub(crate) memory: Memory,
    start: Instant,
    /// The head of the order at the beginning of the last turn.
    turn_head: Arc<AtomicU64>,
}

/// A shard with the state of its thread.
pub(crate) struct Member {
    pub(crate) shard: Shard<MeddlingDriver>,
    net: SimNet,
    meddling: Rc<Meddling>,
    woken: Arc<Woken>,
    /// Whether it sleeps, and until when if that is known.
    is_sleeping: bool,
    deadline: Option<Instant>,
    /// Its thread does not run before this round.
    pub(crate) lags_until: u64,
}

/// The parts of a server that the world can reach.
pub(crate) struct Reach {
    pub(crate) hub: Arc<Hub>,
    pub(crate) log: Arc<SimLog>,
    /// The start of the hub's time.
    pub(crate) start: Instant,
    pub(crate) mailboxes: Vec<Sender<Message>>,
}

impl Reach {
    /// The place that the slowest shard has taken.
    pub(crate) fn taken_by_all(&self) -> u64 {
        taken_by_all(&self.hub, self.mailboxes.len())
    }
}

fn taken_by_all(hub: &Hub, shards: usize) -> u64 {
    (0..shards).map(|shard| hub.cursor(shard).0).min().expect("there is a shard")
}

/// How a turn ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turned {
    Well,
    /// With a panic, after which the shard restarted.
    Panicked,
}

impl Server {
    /// Starts a server on the world's medium, and lets the world reach it.
    pub(crate) fn start(world: &mut World) -> Server {
        let World { rules, random, model, nets, medium, now, began, reach, .. } = world;
        let turn_head = Arc::new(AtomicU64::new(0));
        let wakers: Vec<Arc<Woken>> = nets.iter().map(|_| Arc::default()).collect();
        let wake = |woken: &Arc<Woken>| Arc::clone(woken) as Arc<dyn Wake>;
        let options =
            CoreOptions { hub: rules.hub, idempotency_keys_max: 1_000_000, ..CoreOptions::default() };
        let mut inner = None;
        let mut open = |hub: &Arc<Hub>, sink| {
            let recorder = Arc::new(Recorder { model: Arc::clone(model), inner: sink });
            let log = Arc::new(SimLog::open(medium, random.bits(), rules.log, *now - *began, recorder));
            inner = Some(Arc::clone(&log));
            Arc::new(EagerLog {
                inner: log,
                hub: Arc::clone(hub),
                backlog: rules.hub.backlog,
                shards: nets.len(),
                eagerness: rules.log_eagerness,
                random: Mutex::new(SplitMix64::new(random.bits())),
                turn_head: Arc::clone(&turn_head),
            }) as Arc<dyn Log>
        };
        let (core, receivers) = for_server(|| {
            let open = |hub: &Arc<Hub>, sink| for_world(|| open(hub, sink));
            Core::new(&options, wakers.iter().map(wake), None, open)
        });
        let log = inner.expect("the log was opened");
        let hub = Arc::clone(&core.hub);
        let parts = nets.iter().zip(wakers).zip(receivers).enumerate();
        let members = parts.map(|(number, ((net, woken), mailbox))| {
            let meddling = Rc::new(Meddling {
                log: Arc::clone(&log),
                probability: rules.log_eagerness * 0.2,
                random: RefCell::new(SplitMix64::new(random.bits())),
                panics: Cell::new(false),
            });
            let driver = MeddlingDriver { inner: net.driver(), meddling: Rc::clone(&meddling) };
            let random = Box::new(SplitMix64::new(random.bits()));
            let options = ShardOptions { number, ..rules.shard.clone() };
            let shard = for_server(|| Shard::new(options, driver, core.clone(), mailbox, random, *now));
            let net = net.clone();
            Member { shard, net, meddling, woken, is_sleeping: false, deadline: None, lags_until: 0 }
        });
        let members = members.collect();
        if rules.is_crowded {
            // Channels without publishers, so that a reader of their pattern walks the order of all
            // events.
            for name in (0..CROWD).map(|n| Selector::parse(&format!("entity:crowd/{n}"))) {
                for_server(|| hub.add(0, &name.expect("it is a name")).expect("there is room"));
            }
        }
        let mailboxes = core.publishers.mailboxes().to_vec();
        *reach = Some(Reach { hub: Arc::clone(&hub), log, start: *now, mailboxes });
        let connections = Arc::clone(&core.open_connections);
        Server { members, hub, connections, memory: Memory::new(core), start: *now, turn_head }
    }

    /// One turn of a shard's thread, up to its next sleep.
    pub(crate) fn turn(&mut self, shard: usize, now: Instant) -> Turned {
        let since = now.duration_since(self.start);
        let Member { shard, woken, is_sleeping, deadline, .. } = &mut self.members[shard];
        woken.0.store(false, Ordering::Relaxed);
        self.turn_head.store(self.hub.head().0, Ordering::Relaxed);
        let served = catch_unwind(AssertUnwindSafe(|| {
            for_server(|| {
                shard.wait(now).expect("a simulated driver waits");
                self.hub.set_now(since);
                shard.turn(now, http_date(SystemTime::UNIX_EPOCH + since));
            });
        }));
        let turned = match served {
            Ok(()) => Turned::Well,
            Err(panic) if panic.is::<Forced>() => {
                for_server(|| shard.restart());
                Turned::Panicked
            }
            Err(panic) => resume_unwind(panic),
        };
        let timeout = if shard.is_drained() { None } else { for_server(|| shard.prepare_to_wait(now)) };
        *is_sleeping = timeout != Some(Duration::ZERO);
        *deadline = timeout.map(|timeout| now + timeout);
        turned
    }

    /// The earliest deadline of all sleeping shards.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.members.iter().filter_map(|member| member.deadline).min()
    }

    pub(crate) fn is_drained(&self) -> bool {
        self.members.iter().all(|member| member.shard.is_drained())
    }

    pub(crate) fn connections_len(&self) -> usize {
        self.members.iter().map(|member| member.shard.connections_len()).sum()
    }

    pub(crate) fn timers_len(&self) -> usize {
        self.members.iter().map(|member| member.shard.timers_len()).sum()
    }

    /// Lets the hub do all that it has put off.
    pub(crate) fn tidy(&self) {
        while self.hub.is_unfinished() {
            self.hub.tidy();
        }
    }

    /// Checks that no client that was connected is a target any more.
    pub(crate) fn check_no_client(&self, model: &Model) {
        for client in model.clients() {
            let target = client_target(ClientId::parse(client).expect("the server made it"));
            assert_eq!(self.hub.find(&target), None, "{client} has left");
        }
    }

    /// Checks that a drained server has left nothing behind.
    pub(crate) fn check_drained(&self) {
        assert_eq!((self.connections_len(), self.connections.load(Ordering::Relaxed)), (0, 0));
        let taken = taken_by_all(&self.hub, self.members.len());
        assert_eq!(taken, self.hub.head().0, "a shard that has ended holds the others up");
        let event = Event::new("to nobody");
        let names: Vec<String> = (0..TARGETS).map(target_name).collect();
        let all: Vec<&str> = names.iter().map(String::as_str).collect();
        let each = all.chunks(1).chain([&all[..]]);
        for (targets, number) in each.zip(self.hub.head().next().0..) {
            let mut batch = Events::new();
            batch.push(targets, &event);
            let receivers = self.hub.apply(Sequence(number), &batch, Some(0)).receivers;
            assert!(
                matches!(receivers, Receivers::Exactly(0)),
                "{targets:?} have subscribers: {receivers:?}"
            );
        }
    }
}

impl Member {
    /// Returns true if and only if the thread would run now: it has work, or does not sleep any more.
    pub(crate) fn is_awake(&self, now: Instant) -> bool {
        if self.shard.is_drained() {
            return false; // Its thread has ended.
        }
        let is_due = self.deadline.is_some_and(|deadline| now >= deadline);
        !self.is_sleeping || is_due || self.woken.0.load(Ordering::Relaxed) || !self.net.is_quiet()
    }

    /// Makes the shard panic at its next send.
    pub(crate) fn panic_soon(&self) {
        self.meddling.panics.set(true);
    }
}

/// Wakes a shard's thread.
#[derive(Debug, Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A simulated log that sometimes commits during the append, as one in memory does.
#[derive(Debug)]
struct EagerLog {
    inner: Arc<SimLog>,
    hub: Arc<Hub>,
    backlog: Backlog,
    shards: usize,
    eagerness: f64,
    random: Mutex<SplitMix64>,
    turn_head: Arc<AtomicU64>,
}

impl Log for EagerLog {
    fn append(&self, group: &mut Vec<Append>) {
        // A turn may look at the shards before it gathers a group, and others may commit meanwhile.
        let head = self.turn_head.load(Ordering::Relaxed).min(self.hub.head().0);
        let behind = head.saturating_sub(taken_by_all(&self.hub, self.shards));
        let publishes = group.iter().any(|(_, record)| record.numbers() > 0);
        assert!(
            !publishes || behind <= self.backlog.events_max,
            "published with a shard {behind} events behind"
        );
        // The log's medium outlives the server, and with it the records.
        let mut kept = for_world(|| group.clone());
        for_server(|| group.clear());
        for_world(|| self.inner.append(&mut kept));
        if self.random.lock().unwrap_or_else(PoisonError::into_inner).chance(self.eagerness) {
            for_world(|| self.inner.step());
        }
    }

    fn is_ready(&self) -> bool {
        self.inner.is_ready()
    }

    fn is_behind(&self) -> bool {
        self.inner.is_behind()
    }

    fn flush(&self) {
        for_world(|| self.inner.flush());
    }

    fn close(&self) {
        for_world(|| self.inner.close());
    }
}

/// Disturbs a shard in the middle of its turn.
struct Meddling {
    /// The log commits then, as on behalf of another shard.
    log: Arc<SimLog>,
    probability: f64,
    random: RefCell<SplitMix64>,
    panics: Cell<bool>,
}

/// A panic that the test has forced.
struct Forced;

/// The simulated driver. Its log advances in the middle of calls.
pub(crate) struct MeddlingDriver {
    inner: SimDriver,
    meddling: Rc<Meddling>,
}

impl Driver for MeddlingDriver {
    type Socket = SimSocket;

    fn adopt(&mut self, socket: SimSocket, conn: ConnId) -> io::Result<()> {
        for_world(|| self.inner.adopt(socket, conn))
    }

    fn recv(&mut self, conn: ConnId) {
        for_world(|| self.inner.recv(conn));
    }

    fn send(&mut self, conn: ConnId, offer: Offer<'_>) -> SendStart {
        let Meddling { log, probability, random, panics } = &*self.meddling;
        if panics.take() {
            resume_unwind(Box::new(Forced));
        }
        if random.borrow_mut().chance(*probability) {
            for_world(|| log.step());
        }
        for_world(|| self.inner.send(conn, offer))
    }

    fn shutdown(&mut self, conn: ConnId) {
        for_world(|| self.inner.shutdown(conn));
    }

    fn close(&mut self, conn: ConnId) {
        for_world(|| self.inner.close(conn));
    }

    fn pause_accepting(&mut self, paused: bool) {
        for_world(|| self.inner.pause_accepting(paused));
    }

    fn stop_listening(&mut self) {
        for_world(|| self.inner.stop_listening());
    }

    fn is_listening(&self) -> bool {
        self.inner.is_listening()
    }

    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        for_world(|| self.inner.wait(timeout))
    }

    fn next(&mut self) -> Option<Completion<'_, SimSocket>> {
        for_world(|| self.inner.next())
    }

    fn hear(&mut self) -> Option<u64> {
        for_world(|| self.inner.hear())
    }

    fn handed_over(&self) -> u64 {
        self.inner.handed_over()
    }

    fn waker(&self) -> Arc<dyn Wake> {
        self.inner.waker()
    }
}
