//! Events to single clients. A client is a target of its own, from its first event until its stream leaves; then the model
//! forgets all its events, and the hub must do the same.

use downpour::base::id::{ClientId, NodeId};
use downpour::record::Addressed;
use downpour::record::targets::client_target;

use crate::records::{CLIENTS, FIRST_CLIENT, Target, client_of};
use crate::retained::Step;
use crate::stream::Stream;
use crate::world::World;

/// The clients, in their places among all targets, and those that have left.
#[derive(Debug)]
pub(crate) struct Clients {
    /// The last client of each place. No two streams ever have the same client id.
    ids: [ClientId; CLIENTS],
    secrets: u128,
    /// Clients that left, and the last event of each: the hub keeps the target until every shard has taken that.
    left: Vec<(ClientId, u64)>,
}

impl Clients {
    /// Only clients that nobody knows.
    pub(crate) fn new() -> Clients {
        let nobody = |slot| ClientId { secret: u128::MAX, node: NodeId::ALONE, shard: 0, slot };
        Clients { ids: [0, 1].map(nobody), secrets: 0, left: Vec::new() }
    }

    /// The client that was last in a place. Its stream may have left.
    pub(crate) fn last_in(&self, place: usize) -> ClientId {
        self.ids[place]
    }
}

impl World {
    /// Makes a stream the target of a client in `place`, as the first event to it does. A stream has one client id.
    pub(crate) fn attach(&mut self, index: usize, place: usize) {
        let target = FIRST_CLIENT + place;
        let has_client = self.streams[index].selectors.iter().any(|&selector| client_of(selector).is_some());
        if has_client || self.has_client(place) {
            return;
        }
        let (shard, head) = (self.streams[index].shard, self.head());
        self.clients.secrets += 1;
        let client = ClientId {
            secret: self.clients.secrets,
            node: NodeId::ALONE,
            shard: u16::try_from(shard).expect("there are few shards"),
            slot: u32::try_from(place).expect("there are few places"),
        };
        self.clients.ids[place] = client;
        assert!(!self.hub.has_target(client), "nobody had the id before");
        let added = self.hub.add_client(shard, client);
        assert!(self.hub.has_target(client));
        assert_eq!((added.shard_cursor.0, added.at.0), (self.cursors[shard], head));
        assert_eq!(added.count, 0, "there was no event to the client before");
        self.targets[target] = Target { is_known: true, ..Target::default() };
        let stream = &mut self.streams[index];
        let last = stream.ids.len();
        stream.selectors.insert(last, target);
        stream.had_from.insert(last, head);
        stream.ids.push(added.channel);
    }

    /// Returns true if and only if a stream has the client in this place.
    pub(crate) fn has_client(&self, place: usize) -> bool {
        self.subscribers(FIRST_CLIENT + place).next().is_some()
    }

    /// Checks which events to single clients the hub would refuse: the first one to each client without a stream.
    pub(crate) fn check_addressed(&self, addressed: Vec<Addressed>) {
        let mut expected: Vec<Addressed> = Vec::new();
        for &event in &addressed {
            let has_stream = (0..CLIENTS)
                .any(|place| self.clients.last_in(place) == event.client && self.has_client(place));
            if !has_stream && expected.iter().all(|known| known.client != event.client) {
                expected.push(event);
            }
        }
        assert_eq!(self.hub.without_target(addressed), expected, "events to clients without a stream");
    }

    /// Forgets all events to the client of a stream that has left. Shards that have yet to take them get none of them.
    pub(crate) fn forget_client_of(&mut self, stream: &Stream) {
        let Some(place) = stream.selectors.iter().find_map(|&selector| client_of(selector)) else { return };
        let target = FIRST_CLIENT + place;
        let last = self.targets[target].events.last().copied().unwrap_or(0);
        self.clients.left.push((self.clients.ids[place], last));
        self.targets[target] = Target::default();
        for event in self.events.values_mut().filter(|event| event.targets == [target]) {
            event.targets.clear();
            event.selectors.clear();
        }
    }

    /// Checks that no client that left is a target, and that its entry goes once every shard has taken its last event.
    pub(crate) fn check_clients_gone(&mut self, step: Step) {
        let taken = self.taken_by_all();
        for &(client, last) in &self.clients.left {
            assert!(!self.hub.has_target(client), "{client} has left");
            let is_there = self.hub.find(&client_target(client)).is_some();
            let may_wait = step == Step::Keeps; // It goes with the next step that gives up anything.
            assert!(
                is_there == (last > taken) || may_wait,
                "{client} has left with event {last} as its last"
            );
        }
        if step != Step::Keeps {
            self.clients.left.retain(|&(_, last)| last > taken);
        }
    }
}
