//! How often a delivery takes the lock that all shards share.

use crate::base::name::Selector;
use crate::driver::sim::SimPeer;
use crate::hub::Begin;
use crate::record::Events;
use crate::shard::tests::{SHARDS, Servers, read};
use crate::sse::event::Event;

#[test]
fn the_hubs_lock_is_taken_a_few_times_for_a_batch_and_never_for_a_delivery() {
    let locks_of = |streams: usize| {
        let mut servers = Servers::new(None);
        let streams: Vec<SimPeer> = (0..streams).map(|at| servers.subscribe(at % SHARDS, "a")).collect();
        servers.settle();
        let mut batch = Events::new();
        (0..10).for_each(|_| batch.push(&["a"], &Event::new("live")));
        let before = servers.core.hub.locks();
        servers.core.hub.apply(servers.core.hub.head().next(), &batch, None);
        servers.settle();
        let locks = servers.core.hub.locks() - before;
        assert!(streams.iter().all(|stream| read(stream).matches("data: live").count() == 10));
        locks
    };
    // One to apply the events. For each shard, one before it sleeps, to see that there are events, and
    // one to take them.
    assert_eq!([2, 80].map(locks_of), [1 + 2 * SHARDS as u64; 2]);
}

#[test]
fn what_one_hold_does_not_suffice_for_goes_on_with_each_turn() {
    let mut servers = Servers::new(None);
    let mut batch = Events::new();
    (0..90).for_each(|at| batch.push(&[&format!("room:{at}")], &Event::new("x")));
    servers.core.hub.apply(servers.core.hub.head().next(), &batch, None);
    servers.settle();
    let names = [Selector::parse("room:*").unwrap()];
    let _ = servers.core.hub.subscribe(0, &names, None, Begin::AtHead).unwrap(); // It needs the names in order.
    assert!(servers.core.hub.is_unfinished());
    (0..10).for_each(|_| servers.turn(0));
    assert!(!servers.core.hub.is_unfinished());
}
