//! What a world's server holds while it has clients, and when all of them have left.

use std::time::Duration;

use downpour::hub::TICK;

use crate::allocated::for_server;
use crate::model::{CHANNELS, lock};
use crate::publisher::Publisher;
use crate::server::Server;
use crate::world::{Phase, World, serve};

/// When everyone leaves, this much time passes, this often, with this many turns of each shard. Every
/// connection times out meanwhile.
const LEAVING_TIME: Duration = Duration::from_secs(100);
const LEAVING_ROUNDS: usize = 4;
const LEAVING_TURNS: usize = 10;

/// The hub compacts two sparse pages in a tick.
const TIDY_TICKS: u32 = 100;

/// Plays one life of a server, in which everyone leaves `rounds` times. Returns the bytes that it held
/// each time, without its history, and the number of its shards.
pub(crate) fn play_rounds(seed: u64, rounds: usize) -> (Vec<i64>, usize) {
    let mut world = World::new(seed, u64::MAX);
    world.rounds = Some(rounds);
    world.tell_time();
    let mut server = Server::start(&mut world);
    world.begin_life();
    serve(&mut server, &mut world);
    drop(server);
    world.end_life();
    (world.left, world.nets.len())
}

impl World {
    /// Everyone leaves a server that has come to rest, and its history is dropped. Checks that nothing is
    /// left.
    pub(crate) fn leave_and_return(&mut self, server: &mut Server) {
        let model = lock(&self.model);
        self.subscribers.iter_mut().for_each(|subscriber| subscriber.give_up(&model));
        self.publishers.iter_mut().for_each(Publisher::give_up);
        drop(model);
        for _ in 0..LEAVING_ROUNDS {
            self.now += LEAVING_TIME;
            self.turn_all(server);
        }
        assert_eq!(server.connections_len(), 0, "connections without clients have timed out");
        self.check_nothing_left(server);
        self.stats.emptied += 1;
        self.left.push(server.memory.beside_history());
        let is_over = self.rounds.is_some_and(|rounds| self.left.len() >= rounds);
        self.begin(if is_over { Phase::Crashed } else { Phase::Playing });
    }

    /// Turns all shards a few times.
    fn turn_all(&mut self, server: &mut Server) {
        for _ in 0..LEAVING_TURNS {
            self.shards_in_any_order().into_iter().for_each(|shard| self.turn(server, shard));
        }
    }

    /// Checks what a server holds without clients and without the history of its channels.
    fn check_nothing_left(&mut self, server: &Server) {
        let mut model = lock(&self.model);
        for (index, name) in CHANNELS.into_iter().enumerate() {
            model.note_drop(index);
            for_server(|| server.hub.drop_history(name));
        }
        drop(model);
        for _ in 0..TIDY_TICKS {
            self.now += TICK;
            self.tell_time();
            for_server(|| server.tidy());
        }
        let model = lock(&self.model);
        server.check_no_client(&model);
        let targets = model.bytes_beside_channels(self.rules.hub.retention.events_max);
        let (held, most) = (server.hub.held_bytes(), self.rules.tidied_bytes_max(targets, model.own_ids()));
        assert!(held <= most, "the hub holds {held} bytes without channels, of {most}");
        let left = server.memory.check_left(&self.rules);
        self.stats.left_bytes_max = self.stats.left_bytes_max.max(u64::try_from(left).unwrap_or(0));
    }

    /// Checks a server that has drained.
    pub(crate) fn check_end(&mut self, server: &mut Server) {
        assert!(self.drained_by.is_some_and(|by| self.now <= by), "the drain took too long");
        self.now += LEAVING_TIME;
        self.turn_all(server); // A shard keeps the segments that it used last for a second.
        self.check_nothing_left(server);
        server.check_drained();
    }

    /// Checks that the server holds no more than its clients account for.
    pub(crate) fn check_server_memory(&mut self, server: &mut Server) {
        let connections = server.connections_len();
        assert!(server.timers_len() <= connections, "a timer belongs to a connection");
        let held = server.memory.check(&self.rules, connections);
        let most = &mut self.stats.beside_history_max;
        *most = (*most).max(u64::try_from(held).unwrap_or(0));
    }

    /// Checks that the history keeps to its bound.
    pub(crate) fn check_memory(&mut self) {
        let Some(reach) = &self.reach else { return };
        let untaken = reach.hub.head().0 - reach.taken_by_all();
        let untaken = usize::try_from(untaken).expect("few events");
        let (held, most) = (reach.hub.held_bytes(), self.rules.held_bytes_max(untaken));
        assert!(
            held <= most,
            "the history holds {held} bytes, {most} at the most, {untaken} events not taken"
        );
        self.stats.held_bytes_max = self.stats.held_bytes_max.max(held as u64);
    }
}
