//! The table of idempotency keys: its entries, their age and their number.

use std::time::{Duration, Instant};

use super::key_table::{Held, KEY_AGE_MAX, KeyTable, Published};
use crate::base::fingerprint::Fingerprints;
use crate::base::id::{EpochTag, EventId, Sequence};
use crate::hub::{Receivers, ShardSet};
use crate::log::Ticket;
use crate::record::{Claim, EventKey};

struct Bench {
    fingerprints: Fingerprints,
    table: KeyTable,
    now: Instant,
    tickets: u64,
}

fn id(number: u64) -> EventId {
    EventId { tag: EpochTag::from_bits(1), sequence: Sequence(number) }
}

fn shards(numbers: &[usize]) -> ShardSet {
    let mut set = ShardSet::default();
    numbers.iter().for_each(|&number| set.insert(number));
    set
}

impl Bench {
    fn new(keys_max: usize) -> Bench {
        let table = KeyTable::new(keys_max);
        Bench { fingerprints: Fingerprints::new(), table, now: Instant::now(), tickets: 0 }
    }

    fn claims(&self, keys: &[(&str, &str)]) -> Vec<Claim> {
        let claim = |&(key, body): &(&str, &str)| Claim {
            key: self.fingerprints.of(key),
            body: self.fingerprints.of(body),
        };
        keys.iter().map(claim).collect()
    }

    /// Begins for shard 0. Returns places and sequence numbers of events that were published before.
    fn begin(&mut self, keys: &[(&str, &str)]) -> Result<Vec<(usize, u64)>, Held> {
        self.begin_on(0, keys)
    }

    fn begin_on(&mut self, shard: usize, keys: &[(&str, &str)]) -> Result<Vec<(usize, u64)>, Held> {
        let known = self.table.begin(&self.claims(keys), shard, self.now)?;
        let number = |(place, published): (usize, Published)| (place, published.first.sequence.0);
        Ok(known.into_iter().map(number).collect())
    }

    /// Hands keys over as a batch; the position of a key is the place of its event.
    fn hand_over(&mut self, keys: &[&str]) -> Ticket {
        self.tickets += 1;
        let keys: Vec<EventKey> =
            keys.iter().enumerate().map(|(event, key)| self.event_key(event, key)).collect();
        self.table.hand_over(&keys, Ticket(self.tickets));
        Ticket(self.tickets)
    }

    fn event_key(&self, event: usize, key: &str) -> EventKey {
        EventKey { event, claim: self.claims(&[(key, "body")])[0] }
    }

    /// Publishes an event under a key.
    fn publish(&mut self, key: &str, number: u64) {
        assert_eq!(self.begin(&[(key, "body")]), Ok(vec![]));
        let ticket = self.hand_over(&[key]);
        self.table.committed(ticket, id(number), None);
        self.table.note_time(self.now);
    }

    fn is_known(&mut self, key: &str) -> bool {
        let known = self.begin(&[(key, "body")]).unwrap();
        if known.is_empty() {
            let key = self.event_key(0, key);
            self.table.release(&[key]);
        }
        !known.is_empty()
    }
}

#[test]
fn a_key_is_under_way_until_it_is_settled_and_then_known_with_its_event() {
    let mut bench = Bench::new(10);
    assert_eq!(bench.begin(&[("a", "1"), ("b", "2"), ("c", "3")]), Ok(vec![]));
    let ticket = bench.hand_over(&["a", "b", "c"]);
    assert_eq!(bench.begin_on(1, &[("b", "2")]), Err(Held::UnderWay));
    assert_eq!(bench.begin_on(3, &[("x", "9"), ("b", "2")]), Err(Held::UnderWay));
    assert_eq!(bench.table.committed(ticket, id(7), None), shards(&[1, 3]));
    assert_eq!(bench.begin(&[("c", "3")]), Ok(vec![(0, 9)]));
    assert_eq!(bench.begin(&[("x", "9"), ("b", "2"), ("y", "1"), ("a", "1")]), Ok(vec![(1, 8), (3, 7)]));
    assert_eq!(bench.begin(&[("x", "9")]), Err(Held::UnderWay), "it was not held back with `b`");
    assert_eq!(bench.table.len(), 5);
}

#[test]
fn the_same_key_with_another_body_is_a_conflict_in_its_place_and_changes_nothing() {
    let mut bench = Bench::new(10);
    bench.publish("old", 1);
    assert_eq!(bench.begin(&[("new", "body")]), Ok(vec![]));
    assert_eq!(bench.begin(&[("x", "body"), ("old", "other")]), Err(Held::Conflict(1)));
    assert_eq!(bench.begin(&[("x", "body"), ("new", "other")]), Err(Held::Conflict(1)));
    assert_eq!(bench.begin(&[("new", "body"), ("old", "other")]), Err(Held::Conflict(1)));
    assert_eq!(bench.begin(&[("x", "another")]), Ok(vec![]), "it was not reserved");
}

#[test]
fn refused_and_released_keys_are_free_again_and_those_who_wait_are_named() {
    let mut bench = Bench::new(10);
    assert_eq!(bench.begin(&[("a", "1"), ("b", "2")]), Ok(vec![]));
    let ticket = bench.hand_over(&["a", "b"]);
    assert_eq!(bench.begin_on(2, &[("b", "2")]), Err(Held::UnderWay));
    assert_eq!(bench.table.refused(ticket), shards(&[2]));
    assert_eq!(bench.table.len(), 0);
    assert_eq!(bench.begin(&[("a", "other")]), Ok(vec![]));
    assert_eq!(bench.begin_on(5, &[("a", "other")]), Err(Held::UnderWay));
    let a = bench.event_key(0, "a");
    assert_eq!(bench.table.release(&[a]), shards(&[5]));
    assert_eq!(bench.table.len(), 0);
}

#[test]
fn a_ticket_without_keys_settles_nothing() {
    let mut bench = Bench::new(10);
    bench.publish("a", 1);
    assert!(bench.table.committed(Ticket(99), id(5), None).is_empty());
    assert!(bench.table.refused(Ticket(1)).is_empty(), "settled once, for good");
    assert!(bench.is_known("a"));
}

#[test]
fn what_the_log_cannot_say_nobody_can_until_the_key_is_given_up() {
    let mut bench = Bench::new(10);
    assert_eq!(bench.begin(&[("a", "1")]), Ok(vec![]));
    let ticket = bench.hand_over(&["a"]);
    assert_eq!(bench.begin_on(1, &[("a", "1")]), Err(Held::UnderWay));
    assert_eq!(bench.table.uncertain(ticket), shards(&[1]));
    assert_eq!(bench.begin(&[("b", "1"), ("a", "1")]), Err(Held::Uncertain));
    assert_eq!(bench.begin(&[("a", "2")]), Err(Held::Conflict(0)));
    bench.now += KEY_AGE_MAX;
    assert_eq!(bench.begin(&[("a", "2")]), Ok(vec![]));
}

#[test]
fn a_key_is_remembered_for_five_minutes_from_when_it_was_settled() {
    let mut bench = Bench::new(10);
    assert_eq!(bench.begin(&[("slow", "body")]), Ok(vec![]));
    let ticket = bench.hand_over(&["slow"]);
    bench.now += 2 * KEY_AGE_MAX;
    assert_eq!(bench.begin(&[("slow", "body")]), Err(Held::UnderWay), "however long it takes");
    bench.table.committed(ticket, id(1), None);
    bench.table.note_time(bench.now);
    bench.now += KEY_AGE_MAX - Duration::from_nanos(1);
    bench.table.note_time(bench.now); // It has a time already.
    assert!(bench.is_known("slow"));
    bench.now += Duration::from_nanos(1);
    assert!(!bench.is_known("slow"));
    assert_eq!(bench.table.len(), 0);
}

#[test]
fn a_key_that_is_too_old_may_be_given_again_before_it_is_given_up() {
    let mut bench = Bench::new(1000);
    (0..100).for_each(|number| bench.publish(&format!("filler {number}"), number + 1));
    bench.publish("again", 101);
    bench.now += KEY_AGE_MAX;
    bench.publish("again", 102);
    assert!(bench.table.len() > 1, "the old ones go a few at a time");
    (0..100).for_each(|number| bench.publish(&format!("other {number}"), number + 103));
    assert_eq!(bench.table.len(), 101);
    assert_eq!(bench.begin(&[("again", "body")]), Ok(vec![(0, 102)]));
}

#[test]
fn beyond_the_bound_the_oldest_is_given_up_first_but_none_that_is_under_way() {
    let mut bench = Bench::new(3);
    ["a", "b", "c"].iter().zip(1..).for_each(|(key, number)| bench.publish(key, number));
    bench.publish("d", 4);
    assert_eq!(bench.table.len(), 3);
    assert_eq!(bench.begin(&[("b", "body"), ("c", "body"), ("d", "body")]), Ok(vec![(0, 2), (1, 3), (2, 4)]));
    assert!(!bench.is_known("a"));

    let many = [("1", "body"), ("2", "body"), ("3", "body"), ("4", "body")];
    assert_eq!(bench.begin(&many), Ok(vec![]));
    assert_eq!(bench.table.len(), 4, "all under way, and the others gone");
    for (key, _) in many {
        assert_eq!(bench.begin(&[(key, "body")]), Err(Held::UnderWay));
    }
    let ticket = bench.hand_over(&["1", "2", "3", "4"]);
    bench.table.committed(ticket, id(5), None);
    assert_eq!(bench.table.len(), 3);
    assert_eq!(bench.begin(&[("2", "body"), ("4", "body")]), Ok(vec![(0, 6), (1, 8)]));
    assert!(!bench.is_known("1"));
}

#[test]
fn receivers_are_those_of_the_first_time() {
    let mut bench = Bench::new(3);
    let claims = bench.claims(&[("a", "1")]);
    bench.table.begin(&claims, 0, bench.now).unwrap();
    let ticket = bench.hand_over(&["a"]);
    bench.table.committed(ticket, id(1), Some(&Receivers::Exactly(17)));
    let known = bench.table.begin(&claims, 0, bench.now).unwrap();
    assert!(matches!(known[0].1.receivers, Some(Receivers::Exactly(17))));
}
