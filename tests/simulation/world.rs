//! The world of one seed: its clients, network, medium and clock, and the lives of its server.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use downpour::base::random::SplitMix64;
use downpour::driver::sim::{SimNet, SimPeer};
use downpour::log::Ticket;
use downpour::log::sim::SimMedium;
use downpour::shard::Message;

use crate::allocated::for_server;
use crate::model::{Model, lock};
use crate::publisher::{Publisher, append_aside};
use crate::rules::{Rules, pick};
use crate::scene::{Ghost, Scene};
use crate::server::{Reach, Server, Turned};
use crate::stats::Stats;
use crate::subscriber::Subscriber;

/// How much longer than its time a drain may take: shards hear of it and run a little later.
const DRAIN_LATE_MAX: Duration = Duration::from_millis(100);

/// Most waits until everything must have settled or ended.
const WAITS_MAX: u64 = 200_000;

/// Everything has settled after this many rounds of a millisecond without activity. A publisher that
/// waits for shards asks again within one round.
const CALM_ROUNDS: u64 = 3;

/// Steps without connects and leaves after everything has settled.
const CALM_STEPS: u64 = 40;

/// The phase of the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Every client acts at random.
    Playing,
    /// Every client reads and writes until there is no more activity.
    Settling,
    /// There is no more activity.
    Settled,
    /// Everyone leaves.
    Leaving,
    /// The server was asked to end.
    Draining,
    /// The server ends without being asked.
    Crashed,
}

/// Everything but the server.
pub(crate) struct World {
    pub(crate) rules: Rules,
    pub(crate) random: SplitMix64,
    pub(crate) model: Arc<Mutex<Model>>,
    /// A network for each shard.
    pub(crate) nets: Vec<SimNet>,
    pub(crate) medium: SimMedium,
    pub(crate) now: Instant,
    /// The beginning of its time.
    pub(crate) began: Instant,
    pub(crate) reach: Option<Reach>,
    pub(crate) stats: Stats,
    /// Everyone leaves this often at least, each time the server has come to rest; then it ends. What it
    /// held then beside its history, in bytes.
    pub(crate) rounds: Option<usize>,
    pub(crate) left: Vec<i64>,
    pub(crate) subscribers: Vec<Subscriber>,
    pub(crate) publishers: Vec<Publisher>,
    ghosts: Vec<Ghost>,
    phase: Phase,
    step: u64,
    /// The steps of the next settling, of the end of this server, and of the end of the world.
    settle_at: u64,
    life_end: u64,
    steps_max: u64,
    calm_until: u64,
    /// Waits in the present phase.
    waits: u64,
    /// The server was asked to end.
    is_draining: bool,
    /// When a server that drains must have ended.
    pub(crate) drained_by: Option<Instant>,
    /// Clients that connected to a server that drains, and do not send a whole request.
    newcomers: Vec<SimPeer>,
    /// The step of each shard's last restart.
    restarted_at: Vec<Option<u64>>,
    /// The number of rounds, and how many of the last rounds had no activity.
    round: u64,
    calm_rounds: u64,
}

/// Plays `steps` steps of the world that `seed` determines.
///
/// # Panics
/// If the server violates the contract.
pub(crate) fn play(seed: u64, steps: u64) -> Stats {
    let mut world = World::new(seed, steps);
    loop {
        world.tell_time();
        let mut server = Server::start(&mut world);
        world.begin_life();
        serve(&mut server, &mut world);
        drop(server);
        world.end_life();
        if world.step >= steps {
            world.stats.steps = world.step;
            world.stats.crowded = u64::from(world.rules.is_crowded);
            world.stats.few_channels = u64::from(world.rules.may_overstate_losses());
            return world.stats;
        }
    }
}

/// Serves until the server has drained, or crashes.
pub(crate) fn serve(server: &mut Server, world: &mut World) {
    loop {
        world.round += 1;
        world.waits += 1;
        match world.phase {
            Phase::Playing => {
                world.turn_some(server);
                world.play_step(server);
            }
            Phase::Settling => {
                assert!(world.waits < WAITS_MAX, "the server does not come to rest");
                world.settle_some(server);
            }
            Phase::Settled if world.is_draining => world.check_shutdowns(),
            Phase::Settled => world.check_settled(server),
            Phase::Leaving => world.leave_and_return(server),
            Phase::Draining if server.is_drained() => return world.check_end(server),
            Phase::Draining => {
                assert!(world.waits < WAITS_MAX, "the server does not come to its end");
                world.turn_some(server);
                world.act();
                if world.random.chance(0.1) {
                    world.wait_in_drain(server);
                }
            }
            Phase::Crashed => return,
        }
        world.check_memory();
        world.check_server_memory(server);
    }
}

impl World {
    pub(crate) fn new(seed: u64, steps_max: u64) -> World {
        let mut random = SplitMix64::new(seed);
        let rules = Rules::draw(&mut random);
        let nets: Vec<SimNet> =
            (0..rules.hub.shards).map(|_| SimNet::new(random.bits(), rules.net.clone())).collect();
        let subscribers =
            (0..rules.subscribers).map(|number| Subscriber::new(number, &rules, &mut random)).collect();
        let publishers = (0..rules.publishers).map(|_| Publisher::default()).collect();
        let began = Instant::now();
        World {
            rules,
            random,
            model: Arc::default(),
            restarted_at: vec![None; nets.len()],
            nets,
            medium: SimMedium::default(),
            now: began,
            began,
            reach: None,
            stats: Stats::default(),
            rounds: None,
            left: Vec::new(),
            subscribers,
            publishers,
            ghosts: Vec::new(),
            phase: Phase::Playing,
            step: 0,
            settle_at: 0,
            life_end: 0,
            steps_max,
            calm_until: 0,
            waits: 0,
            is_draining: false,
            drained_by: None,
            newcomers: Vec::new(),
            round: 0,
            calm_rounds: 0,
        }
    }

    pub(crate) fn begin_life(&mut self) {
        let steps = if self.rounds.is_some() { u64::MAX } else { self.random.within(200..=1500) as u64 };
        self.life_end = self.steps_max.min(self.step.saturating_add(steps));
        self.settle_at = self.step + self.random.within(50..=400) as u64;
        self.is_draining = false;
        self.begin(Phase::Playing);
    }

    pub(crate) fn begin(&mut self, phase: Phase) {
        self.phase = phase;
        self.waits = 0;
        self.calm_rounds = 0;
    }

    /// The server is gone. It may have lost the tail of the log.
    pub(crate) fn end_life(&mut self) {
        let model = lock(&self.model);
        self.subscribers.iter_mut().for_each(|subscriber| subscriber.give_up(&model));
        self.publishers.iter_mut().for_each(Publisher::give_up);
        drop(model);
        self.newcomers.clear();
        self.ghosts.clear();
        self.reach = None;
        if self.phase == Phase::Crashed && self.random.chance(0.7) {
            let batches = self.random.within(1..=20);
            self.medium.lose_tail(batches);
            self.stats.lost += batches as u64;
        }
    }

    /// Turns awake shards in any order, except those that lag.
    fn turn_some(&mut self, server: &mut Server) {
        for shard in self.shards_in_any_order() {
            let member = &server.members[shard];
            let may_run = self.phase != Phase::Playing || member.lags_until <= self.round;
            if may_run && member.is_awake(self.now) && self.random.chance(0.4) {
                self.turn(server, shard);
            }
        }
    }

    /// Sets the time in the model and in the server. The server's time is set as any caller of the log's
    /// commit would.
    pub(crate) fn tell_time(&self) {
        let mut model = lock(&self.model);
        (model.now, model.step) = (Some(self.now), self.step);
        drop(model);
        if let Some(reach) = &self.reach {
            for_server(|| reach.hub.set_now(self.now.duration_since(reach.start)));
            reach.log.set_now(self.now.duration_since(self.began));
        }
    }

    pub(crate) fn turn(&mut self, server: &mut Server, shard: usize) {
        self.tell_time();
        if server.turn(shard, self.now) == Turned::Panicked {
            self.note_restart(shard);
        }
    }

    fn note_restart(&mut self, shard: usize) {
        self.restarted_at[shard] = Some(self.step);
        self.stats.restarts += 1;
    }

    pub(crate) fn shards_in_any_order(&mut self) -> Vec<usize> {
        let mut shards: Vec<usize> = (0..self.nets.len()).collect();
        for index in 1..shards.len() {
            let other = self.random.within(0..=index);
            shards.swap(index, other);
        }
        shards
    }

    /// Gives every client and shard a turn. If there was no activity, time passes.
    fn settle_some(&mut self, server: &mut Server) {
        let mut happened = self.settle_step();
        for shard in self.shards_in_any_order() {
            if server.members[shard].is_awake(self.now) {
                happened = true;
                self.turn(server, shard);
            }
        }
        self.calm_rounds = if happened { 0 } else { self.calm_rounds + 1 };
        if self.calm_rounds > CALM_ROUNDS {
            self.begin(Phase::Settled);
        }
        self.now += Duration::from_millis(1);
    }

    /// One step: time passes, a client acts, or a life ends.
    fn play_step(&mut self, server: &mut Server) {
        if self.step >= self.life_end {
            return self.end_soon();
        }
        if self.step >= self.settle_at {
            self.settle_at = self.step + self.random.within(50..=400) as u64;
            return self.begin(Phase::Settling);
        }
        self.step += 1;
        if self.random.chance(0.0005) {
            let shard = self.random.within(0..=self.nets.len() - 1);
            if self.random.chance(0.5) {
                server.members[shard].panic_soon();
            } else {
                for_server(|| server.members[shard].shard.restart());
                self.note_restart(shard);
                self.turn(server, shard);
            }
        }
        if self.random.chance(0.004) {
            let shard = self.random.within(0..=self.nets.len() - 1);
            server.members[shard].lags_until = self.round + self.random.within(20..=400) as u64;
        }
        self.stats.behind += u64::from(self.reach.as_ref().expect("the server lives").hub.is_behind());
        let millis = match self.random.within(0..=499) {
            0 => self.random.within(5000..=40_000),
            1..=10 => self.random.within(100..=1000),
            11..=250 => self.random.within(0..=2),
            _ => 0,
        };
        self.now += Duration::from_millis(millis as u64);
        self.act();
    }

    /// Ends this life of the server. The last life ends in good order.
    fn end_soon(&mut self) {
        if self.step < self.steps_max && self.random.chance(0.5) {
            self.stats.crashes += 1;
            return self.begin(Phase::Crashed);
        }
        let reach = self.reach.as_ref().expect("the server lives");
        for mailbox in &reach.mailboxes {
            for_server(|| mailbox.try_send(Message::Drain)).expect("the mailbox has room");
        }
        self.stats.drains += 1;
        self.is_draining = true;
        self.drained_by = Some(self.now + self.rules.shard.drain_timeout + DRAIN_LATE_MAX);
        let reads_at_once = self.random.chance(0.5);
        self.begin(if reads_at_once { Phase::Settling } else { Phase::Draining });
    }

    /// Time passes while the server drains. Time that passes before a shard runs that could run is not the
    /// drain's.
    fn wait_in_drain(&mut self, server: &Server) {
        let before = self.now;
        self.now = match server.next_deadline() {
            Some(deadline) if deadline > before => deadline,
            _ => before + Duration::from_millis(1),
        };
        if server.members.iter().any(|member| member.is_awake(before))
            && let Some(by) = &mut self.drained_by
        {
            *by += self.now - before;
        }
        for net in &self.nets {
            if self.random.chance(0.5) {
                let newcomer = net.connect();
                let _ = newcomer.write(b"GET /sse HTTP/1.1\r\n"); // It does not go on.
                self.newcomers.push(newcomer);
            }
        }
    }

    /// A random client acts.
    fn act(&mut self) {
        self.tell_time();
        match self.random.within(0..=9) {
            0 if self.random.chance(self.rules.aside_probability) => {
                let log = Arc::clone(&self.reach.as_ref().expect("the server lives").log);
                let ticket = Ticket(u64::MAX - self.step); // No shard has this ticket.
                self.with_scene(|scene, _, _| append_aside(scene, &*log, ticket));
            }
            0 | 1 => self.reach.as_ref().expect("the server lives").log.step(),
            2..=4 => {
                let index = self.random.within(0..=self.publishers.len() - 1);
                self.with_scene(|scene, subscribers, publishers| publishers[index].act(scene, subscribers));
            }
            _ => {
                let index = self.random.within(0..=self.subscribers.len() - 1);
                self.with_scene(|scene, subscribers, _| subscribers[index].act(scene));
            }
        }
    }

    /// Every client reads and writes all it can. Returns true if any did.
    fn settle_step(&mut self) -> bool {
        self.tell_time();
        let log = Arc::clone(&self.reach.as_ref().expect("the server lives").log);
        let mut happened = log.waiting() > 0;
        log.step();
        self.with_scene(|scene, subscribers, publishers| {
            for subscriber in subscribers.iter_mut() {
                happened |= subscriber.settle(scene);
            }
            for publisher in publishers {
                happened |= publisher.settle(scene, subscribers);
            }
        });
        happened
    }

    fn with_scene(&mut self, act: impl FnOnce(&mut Scene<'_>, &mut [Subscriber], &mut [Publisher])) {
        let reach = self.reach.as_ref().expect("the server lives");
        self.tell_time();
        let mut scene = Scene {
            random: &mut self.random,
            model: &mut lock(&self.model),
            stats: &mut self.stats,
            rules: &self.rules,
            nets: &self.nets,
            step: self.step,
            now: self.now,
            is_draining: self.is_draining,
            is_calm: self.step < self.calm_until,
            restarted_at: &self.restarted_at,
            taken: reach.taken_by_all(),
            ghosts: &mut self.ghosts,
        };
        act(&mut scene, &mut self.subscribers, &mut self.publishers);
    }

    /// Checks what must hold after settling: everything was delivered, reported and answered.
    fn check_settled(&mut self, server: &Server) {
        let model = lock(&self.model);
        assert_eq!(server.hub.head().0, model.head(), "everything that was committed is applied");
        let taken = self.reach.as_ref().expect("the server lives").taken_by_all();
        assert_eq!(taken, model.head(), "everything that was applied is taken");
        for subscriber in &mut self.subscribers {
            subscriber.check_settled(&model, &self.rules);
        }
        self.publishers.iter().for_each(Publisher::check_settled);
        drop(model);
        self.ghosts.clear();
        let clients = self.subscribers.iter().filter(|subscriber| subscriber.is_connected()).count()
            + self.publishers.iter().filter(|publisher| publisher.is_connected()).count();
        // The other connections linger without a client, and time out later.
        assert!(server.connections_len() >= clients, "the server has forgotten a connection");
        self.stats.settled += 1;
        self.calm_until = if self.random.chance(0.7) { self.step + CALM_STEPS } else { 0 };
        if *pick(&mut self.random, &[true, false]) {
            self.now += self.rules.shard.conn.keepalive.unwrap_or_default(); // Silence for that long.
        }
        let everyone_leaves = self.rounds.is_some() || self.random.chance(0.1);
        self.begin(if everyone_leaves { Phase::Leaving } else { Phase::Playing });
    }

    /// Checks that every client that could read knows that the server ends.
    fn check_shutdowns(&mut self) {
        self.subscribers.iter().for_each(Subscriber::check_drained);
        self.begin(Phase::Draining);
    }
}
