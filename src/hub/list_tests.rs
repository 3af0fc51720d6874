//! Lists under the hub's lock that grow with events and channels: how many of their places one call may
//! move.

use std::num::NonZeroU32;
use std::time::Duration;

use super::*;
use crate::base::id::{ClientId, NodeId, Sequence};
use crate::base::name::Selector;
use crate::hub::tests::{finish, hub, take_all};
use crate::record::Events;
use crate::sse::event::Event;

/// The most places of a part: a list of one part has twice as many as others, and a last growth by a
/// few.
const PLACES_MAX: usize = 2 * 512 + 4;

fn subscribe(hub: &Hub, names: &[&str]) -> Subscribed {
    let names: Vec<_> = names.iter().map(|text| Selector::parse(text).unwrap()).collect();
    hub.subscribe(0, &names, None, Begin::AtHead).unwrap()
}

#[test]
fn the_numbers_of_a_channel_never_move_as_a_whole() {
    let hub = hub(usize::MAX, usize::MAX);
    let numbers_of = |name: &str| {
        let state = hub.lock();
        let retained = &state.channels.get(state.channels.find(name).unwrap()).retained;
        (retained.len(), retained.longest_part())
    };
    for _ in 0..30 {
        let mut batch = Events::new();
        for number in 0..1000 {
            batch.push(&["a"], &Event::new("x"));
            batch.set_ttl(NonZeroU32::new(number % 2));
        }
        hub.apply(hub.head().next(), &batch, None);
        take_all(&hub);
    }
    let (len, longest) = numbers_of("a");
    assert!(len == 30_000 && longest <= PLACES_MAX, "{longest} of {len} lie together");
    // Events that lapse go from anywhere among the others.
    hub.set_now(Duration::from_secs(5));
    finish(&hub);
    let (len, longest) = numbers_of("a");
    assert!(len == 15_000 && longest <= PLACES_MAX, "{longest} of {len} lie together");
}

#[test]
fn the_list_of_pages_never_moves_as_a_whole() {
    let hub = hub(usize::MAX, usize::MAX);
    hub.lock().history.segment_bytes = 8192; // Two events fill a page.
    let data = "x".repeat(3900);
    let _ = subscribe(&hub, &["a"]);
    for number in 0..5000 {
        let mut batch = Events::new();
        batch.push(&[["a", "b"][number % 7 / 6]], &Event::new(&data));
        hub.apply(hub.head().next(), &batch, None);
        take_all(&hub);
    }
    let pages = || {
        let state = hub.lock();
        (state.history.pages().len(), state.history.pages().longest_part())
    };
    let (before, longest) = pages();
    assert!(before > 1100 && longest <= PLACES_MAX, "{longest} of {before} lie together");
    // Pages that retain little of many others are joined, and the pages between them go.
    hub.drop_history("a");
    finish(&hub);
    let (after, longest) = pages();
    assert!(after < before && longest <= PLACES_MAX, "{longest} of {after} lie together");
    assert_eq!(hub.drop_history("b"), Some(5000 / 7), "it keeps all of its events");
}

#[test]
fn the_counts_that_shards_make_never_move_as_a_whole() {
    let hub = hub(100, usize::MAX);
    let _ = subscribe(&hub, &["a", "b"]);
    let mut tallies = Vec::new();
    for _ in 0..5000 {
        let mut batch = Events::new();
        batch.push(&["a", "b"], &Event::new("x"));
        match hub.apply(hub.head().next(), &batch, Some(0)).receivers {
            Receivers::Counting(tally) => tallies.push(tally),
            Receivers::Exactly(count) => panic!("{count} of two channels"),
        }
    }
    let longest = hub.lock().tallies.longest_part();
    assert!(longest <= PLACES_MAX, "{longest} lie together");
    take_all(&hub);
    assert!(tallies.iter().all(|tally| tally.add(0, 1)));
    hub.lock().forget_tallies();
    assert!(hub.lock().tallies.is_empty());
}

#[test]
fn the_clients_that_left_never_move_as_a_whole() {
    let hub = hub(100, usize::MAX);
    let client = |slot| ClientId { secret: 7, node: NodeId::ALONE, shard: 0, slot };
    let mut leaving = Vec::new();
    for slot in 0..4000 {
        leaving.push(hub.add_client(0, client(slot)).channel);
        let mut batch = Events::new();
        batch.push_to_client(client(slot), 0, &Event::new("x"));
        hub.apply(hub.head().next(), &batch, None);
    }
    take_all(&hub);
    let mut state = hub.lock();
    state.budget.spend(HOLD_STEPS); // As if others had left before them under this hold.
    leaving.into_iter().for_each(|id| state.end_subscription(0, id));
    let (len, longest) = (state.leaving.len(), state.leaving.longest_part());
    assert!(len == 4000 && longest <= PLACES_MAX, "{longest} of {len} lie together");
    hub.publish_counts(&state);
    drop(state);
    finish(&hub);
    let state = hub.lock();
    assert!(
        state.leaving.is_empty() && state.history.entry(Sequence(7)).is_none_or(|entry| entry.holders == 0)
    );
}
