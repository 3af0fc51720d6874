//! What reaches the log, when it is answered, and what is the same after a restart.

use std::sync::Arc;
use std::time::Duration;

use crate::base::id::Sequence;
use crate::driver::sim::SimPeer;
use crate::log::sim::{SimLog, SimLogOptions, SimMedium};
use crate::log::{Committed, Log, Origin, Refusal};
use crate::shard::Message;
use crate::shard::tests::{Servers, held_log, read};

/// Shards over a simulated log on this medium.
fn servers_on(medium: &SimMedium, options: SimLogOptions) -> (Servers, Arc<SimLog>) {
    let mut opened = None;
    let servers = Servers::with_log(None, |sink| {
        let log = Arc::new(SimLog::open(medium, 7, options, Duration::ZERO, sink));
        opened = Some(Arc::clone(&log));
        log
    });
    (servers, opened.unwrap())
}

fn servers(options: SimLogOptions) -> (Servers, Arc<SimLog>) {
    servers_on(&SimMedium::default(), options)
}

/// Publishes to the channel `a`. Different data has different idempotency keys here.
fn post(data: &str) -> String {
    let (first, len) = (&data[..1], data.len());
    format!(
        "POST /channels/a HTTP/1.1\r\nHost: localhost\r\nIdempotency-Key: k{first}{len}\r\n\
         Content-Length: {len}\r\n\r\n{data}"
    )
}

const DELETE: &str = "DELETE /channels/a HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// The data that a stream replays.
fn replayed(servers: &mut Servers) -> Vec<String> {
    let peer = servers.request(0, "GET /channels/a?replay=all HTTP/1.1\r\nHost: localhost\r\n\r\n");
    servers.settle();
    let text = read(&peer);
    let lines = text.lines().filter_map(|line| line.strip_prefix("data: "));
    lines.filter(|data| !data.starts_with('{')).map(str::to_owned).collect()
}

#[track_caller]
fn check(peer: &SimPeer, parts: &[&str]) {
    let answer = read(peer);
    assert!(parts.iter().all(|part| answer.contains(part)), "{answer:?} has not all of {parts:?}");
}

#[test]
fn an_event_is_delivered_when_it_is_applied_and_answered_when_it_is_acknowledged() {
    let (mut servers, log) = servers(SimLogOptions { late_probability: 1.0, ..SimLogOptions::default() });
    let stream = servers.subscribe(1, "a");
    let publisher = servers.request(0, &post("x"));
    servers.settle();
    assert_eq!(read(&publisher), "");
    log.step();
    servers.settle();
    check(&stream, &["data: x"]);
    assert_eq!(read(&publisher), "", "it is not acknowledged");
    log.step();
    servers.settle();
    check(&publisher, &["200 OK", "\"receivers\":1"]);
}

#[test]
fn an_event_that_may_not_be_safe_is_answered_so_and_its_retry_settles_it() {
    let options =
        SimLogOptions { late_probability: 1.0, unsafe_probability: 1.0, ..SimLogOptions::default() };
    let (mut servers, log) = servers(options);
    let publisher = servers.request(0, &post("x"));
    servers.settle();
    log.step();
    log.step();
    servers.settle();
    check(&publisher, &["503", "may still appear"]);
    let retry = servers.request(1, &post("x"));
    servers.settle();
    check(&retry, &["200 OK", ".000000000000001", "\"duplicate\":true"]);
    assert_eq!(log.waiting(), 0, "it publishes nothing");
}

#[test]
fn what_many_requests_publish_in_a_turn_is_one_group_under_one_hold_of_the_hubs_lock() {
    let locks_of = |publishers: usize| {
        let mut servers = Servers::new(None);
        let peers: Vec<SimPeer> =
            (0..publishers).map(|at| servers.request(0, &post(&at.to_string()))).collect();
        let before = servers.core.hub.locks();
        servers.turn(0);
        let locks = servers.core.hub.locks() - before;
        servers.settle();
        peers.iter().for_each(|peer| check(peer, &["200 OK"]));
        locks
    };
    assert_eq!(locks_of(1), locks_of(10));
}

#[test]
fn a_drop_is_applied_in_its_place_of_the_order_and_answered_by_its_outcome() {
    let (mut servers, log) = servers(SimLogOptions::default());
    let first = servers.request(0, &post("1"));
    servers.settle();
    log.step();
    let dropping = servers.request(0, DELETE);
    servers.settle();
    let second = servers.request(1, &post("2"));
    servers.settle();
    assert_eq!(read(&dropping), "", "the log has not committed it");
    assert_eq!(replayed(&mut servers), ["1"]);
    log.step();
    log.step();
    servers.settle();
    check(&dropping, &["200 OK", "\"removed\":1"]);
    check(&first, &["200 OK", ".000000000000001"]);
    check(&second, &["200 OK", ".000000000000002"]);
    assert_eq!(replayed(&mut servers), ["2"]);
}

#[test]
fn a_drop_that_the_log_refuses_drops_nothing() {
    let medium = SimMedium::default();
    let (mut servers, log) = servers_on(&medium, SimLogOptions::default());
    let publisher = servers.request(0, &post("1"));
    servers.settle();
    log.step();
    servers.settle();
    check(&publisher, &["200 OK"]);
    let refusing = SimLogOptions { refuse_probability: 1.0, ..SimLogOptions::default() };
    let (mut servers, log) = servers_on(&medium, refusing);
    let dropping = servers.request(0, DELETE);
    servers.settle();
    log.step();
    servers.settle();
    check(&dropping, &["503", "the log refused to drop the history: simulated"]);
    assert_eq!(replayed(&mut servers), ["1"]);
}

#[test]
fn a_drop_that_the_log_is_not_certain_of_is_answered_so() {
    let (mut servers, log) = held_log::servers();
    let dropping = servers.request(0, DELETE);
    servers.settle();
    assert_eq!(log.refuse(&Refusal::Uncertain), 1);
    servers.settle();
    check(&dropping, &["503", "it may still be dropped"]);
}

#[test]
fn a_log_that_is_opened_again_has_the_same_history_with_its_drops() {
    let medium = SimMedium::default();
    let (mut servers, log) = servers_on(&medium, SimLogOptions::default());
    for request in [&*post("1"), &post("2"), DELETE, &post("3"), &post("4")] {
        let peer = servers.request(0, request);
        servers.settle();
        log.step();
        servers.settle();
        check(&peer, &["200 OK"]);
    }
    assert_eq!(replayed(&mut servers), ["3", "4"]);
    let (mut again, _) = servers_on(&medium, SimLogOptions::default());
    assert_eq!(replayed(&mut again), ["3", "4"]);
    assert_eq!(again.core.hub.head(), Sequence(4));
}

#[test]
fn idempotency_keys_of_events_from_elsewhere_are_known() {
    let (mut servers, log) = held_log::servers();
    let publisher = servers.request(0, &post("x"));
    servers.settle();
    let (ticket, record) = log.waiting.lock().unwrap().remove(0);
    log.sink.refused(ticket, record.clone(), Refusal::Refused { reason: "full".to_owned() });
    servers.settle();
    check(&publisher, &["503"]);
    let origin = Origin::Elsewhere { age: Duration::ZERO };
    log.sink.committed(&[Committed { first: Sequence(1), record: &record, origin }]);
    let retry = servers.request(1, &post("x"));
    servers.settle();
    check(&retry, &["200 OK", ".000000000000001", "\"duplicate\":true"]);
    assert!(log.waiting.lock().unwrap().is_empty());
}

#[test]
fn a_drain_has_the_log_commit_what_waits() {
    let (mut servers, log) = held_log::servers();
    let publisher = servers.request(0, &post("x"));
    servers.settle();
    assert_eq!(log.waiting.lock().unwrap().len(), 1);
    servers.core.publishers.mailboxes()[0].try_send(Message::Drain).unwrap();
    servers.settle();
    check(&publisher, &["200 OK"]);
}

#[test]
fn publishers_wait_while_too_many_bytes_wait_in_the_log() {
    let (mut servers, log) = servers(SimLogOptions { backlog_bytes_max: 1000, ..SimLogOptions::default() });
    let large = servers.request(0, &post(&"x".repeat(1000)));
    servers.settle();
    let small = servers.request(1, &post("y"));
    servers.settle();
    assert_eq!(log.waiting(), 1, "the second waits outside of the log");
    log.step();
    servers.settle();
    check(&large, &["200 OK"]);
    assert_eq!(log.waiting(), 1);
    log.step();
    servers.settle();
    check(&small, &["200 OK"]);
}

#[test]
fn until_the_log_is_open_nothing_is_taken_and_the_server_is_not_ready() {
    let medium = SimMedium::default();
    let (mut before, log) = servers_on(&medium, SimLogOptions::default());
    let publisher = before.request(0, &post("1"));
    before.settle();
    log.step();
    before.settle();
    check(&publisher, &["200 OK"]);

    let mut opening = None;
    let mut servers = Servers::with_log(None, |sink| {
        let options = SimLogOptions::default();
        let log = Arc::new(SimLog::begin_to_open(&medium, 8, options, Duration::ZERO, sink));
        opening = Some(Arc::clone(&log));
        log
    });
    let log = opening.unwrap();
    let ready = "GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let asked = [servers.request(0, ready), servers.request(0, &post("2")), servers.subscribe(0, "a")];
    servers.settle();
    check(&asked[0], &["503", "starting"]);
    check(&asked[1], &["503", "starting", "Retry-After"]);
    check(&asked[2], &["200 OK", "event: overloaded"]);
    while !log.is_ready() {
        log.step();
    }
    let asked = servers.request(0, ready);
    servers.settle();
    check(&asked, &["200 OK"]);
    assert_eq!(replayed(&mut servers), ["1"]);
}

#[test]
fn what_a_turn_was_to_append_is_published_although_the_turn_panics() {
    let mut servers = Servers::new(Some(1)); // At the first client id.
    let publisher = servers.request(0, &post("x"));
    let _stream = servers.subscribe(0, "a");
    assert_eq!(servers.settle(), 1);
    assert_eq!(read(&publisher), "");
    let retry = servers.request(0, &post("x"));
    servers.settle();
    check(&retry, &["200 OK", "\"duplicate\":true"]);
}

#[test]
fn a_drop_concerns_the_events_before_it_in_its_group_and_none_behind_it() {
    let mut servers = Servers::new(None);
    let before = servers.request(0, &post("1"));
    let dropping = servers.request(0, DELETE);
    let behind = servers.request(0, &post("2"));
    servers.settle();
    check(&before, &["200 OK"]);
    check(&dropping, &["200 OK", "\"removed\":1"]);
    check(&behind, &["200 OK"]);
    assert_eq!(replayed(&mut servers), ["2"]);
}
