//! The server under test: a whole shard, its hub and a log, over a driver that lets the world go on while it waits.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use downpour::base::id::{ConnId, Sequence};
use downpour::base::mailbox::{Sender, Wake, mailbox};
use downpour::base::name::ChannelName;
use downpour::base::random::SplitMix64;
use downpour::driver::sim::{SimDriver, SimSocket};
use downpour::driver::{Completion, Driver, SendStart};
use downpour::frame::batch::Batch;
use downpour::http::http_date;
use downpour::hub::{Hub, Receivers};
use downpour::log::sim::SimLog;
use downpour::log::{Log, Sink, Ticket};
use downpour::shard::apply::Applier;
use downpour::shard::board::Board;
use downpour::shard::{Links, MAILBOX_MESSAGES_MAX, Message, Shard};
use downpour::sse::event::Event;

use crate::model::{CHANNELS, Recorder};
use crate::world::World;

/// One life of the server.
pub(crate) struct Server {
    pub(crate) shard: Shard<WaitingDriver>,
    pub(crate) hub: Arc<Hub>,
    start: Instant,
}

/// What the world has of a server.
pub(crate) struct Reach {
    pub(crate) hub: Arc<Hub>,
    pub(crate) log: Arc<SimLog>,
    pub(crate) mailbox: Sender<Message>,
}

impl Server {
    /// Starts a server on what the world's medium holds, and lets the world reach it.
    pub(crate) fn start(world: &Rc<RefCell<World>>) -> Server {
        let mut borrowed = world.borrow_mut();
        let World { rules, random, model, net, medium, now, reach, .. } = &mut *borrowed;
        let driver = WaitingDriver { inner: net.driver(), world: Rc::clone(world) };
        let hub = Arc::new(Hub::new(rules.hub));
        let (sender, receiver) = mailbox(MAILBOX_MESSAGES_MAX, driver.waker());
        let inner: Arc<dyn Sink> = Arc::new(Applier::new(Arc::clone(&hub), vec![sender.clone()]));
        let recorder = Arc::new(Recorder { model: Arc::clone(model), inner });
        let log = Arc::new(SimLog::open(medium, random.bits(), rules.log, recorder));
        let eager = EagerLog {
            inner: Arc::clone(&log),
            eagerness: rules.log_eagerness,
            random: Mutex::new(SplitMix64::new(random.bits())),
        };
        let links = Links {
            hub: Arc::clone(&hub),
            log: Arc::new(eager),
            mailbox: receiver,
            publishers: vec![sender.clone()].into(),
            connections: Arc::default(),
            board: Arc::new(Board::new(vec![sender.clone()])),
            random: Box::new(SplitMix64::new(random.bits())),
        };
        let shard = Shard::new(rules.shard.clone(), driver, links, *now);
        *reach = Some(Reach { hub: Arc::clone(&hub), log, mailbox: sender });
        Server { shard, hub, start: *now }
    }

    /// One turn of the loop that every shard's thread runs.
    pub(crate) fn turn(&mut self, world: &RefCell<World>) {
        let before = world.borrow().now;
        self.shard.wait(before).expect("a simulated driver waits");
        let now = world.borrow().now;
        let since = now.duration_since(self.start);
        self.hub.set_now(since);
        self.shard.turn(now, http_date(SystemTime::UNIX_EPOCH + since));
    }

    /// Checks that nothing of a drained server is left.
    pub(crate) fn check_drained(&self) {
        assert_eq!(self.shard.connections_len(), 0);
        let event = Event::new("to nobody");
        let mut batch = Batch::new();
        batch.push(&CHANNELS, &event);
        let next = self.hub.head().next();
        assert!(matches!(self.hub.apply(next, &batch, Some(0)).receivers, Receivers::Exactly(0)));
        for (name, number) in CHANNELS.iter().zip(next.next().0..) {
            let batch = Batch::of(&ChannelName::parse(name).expect("a name"), &event);
            let receivers = self.hub.apply(Sequence(number), &batch, Some(0)).receivers;
            assert!(matches!(receivers, Receivers::Exactly(0)), "{name} has subscribers: {receivers:?}");
        }
    }
}

/// A simulated log that sometimes commits right when it is handed a batch, as one in memory does.
#[derive(Debug)]
struct EagerLog {
    inner: Arc<SimLog>,
    eagerness: f64,
    random: Mutex<SplitMix64>,
}

impl Log for EagerLog {
    fn append(&self, batch: Batch, ticket: Ticket) {
        self.inner.append(batch, ticket);
        if self.random.lock().unwrap_or_else(PoisonError::into_inner).chance(self.eagerness) {
            self.inner.step();
        }
    }
}

/// The simulated driver, which lets the world go on during a wait, as long as a real one would have slept.
pub(crate) struct WaitingDriver {
    inner: SimDriver,
    world: Rc<RefCell<World>>,
}

impl Driver for WaitingDriver {
    type Socket = SimSocket;

    fn adopt(&mut self, socket: SimSocket, conn: ConnId) -> io::Result<()> {
        self.inner.adopt(socket, conn)
    }

    fn recv(&mut self, conn: ConnId) {
        self.inner.recv(conn);
    }

    fn send(&mut self, conn: ConnId, batch: &[IoSlice<'_>]) -> SendStart {
        self.inner.send(conn, batch)
    }

    fn shutdown(&mut self, conn: ConnId) {
        self.inner.shutdown(conn);
    }

    fn close(&mut self, conn: ConnId) {
        self.inner.close(conn);
    }

    fn pause_accepting(&mut self, paused: bool) {
        self.inner.pause_accepting(paused);
    }

    fn stop_listening(&mut self) {
        self.inner.stop_listening();
    }

    fn is_listening(&self) -> bool {
        self.inner.is_listening()
    }

    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.world.borrow_mut().pass(timeout, &mut self.inner);
        self.inner.wait(timeout)
    }

    fn next(&mut self) -> Option<Completion<'_, SimSocket>> {
        self.inner.next()
    }

    fn waker(&self) -> Arc<dyn Wake> {
        self.inner.waker()
    }
}
