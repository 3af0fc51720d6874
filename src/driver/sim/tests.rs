use std::collections::BTreeSet;

use super::*;
use crate::base::id::ConnId;
use crate::driver::{Completion, Driver, SendStart, with_offer};

const CONN: ConnId = ConnId { index: 0, generation: 7 };

/// Waits until a peer is accepted, and adopts it.
fn accept(driver: &mut SimDriver, conn: ConnId) {
    for _ in 0..100 {
        driver.wait(None).unwrap();
        let accepted = match driver.next() {
            Some(Completion::Accepted { socket, .. }) => Some(socket),
            _ => None,
        };
        if let Some(socket) = accepted {
            driver.adopt(socket, conn).unwrap();
            return;
        }
    }
    panic!("nobody was accepted");
}

fn connected(seed: u64, options: SimOptions) -> (SimNet, SimDriver, SimPeer) {
    let net = SimNet::new(seed, options);
    let (mut driver, peer) = (net.driver(), net.connect());
    accept(&mut driver, CONN);
    (net, driver, peer)
}

/// Waits once. Returns the completions as text.
fn wait(driver: &mut SimDriver) -> Vec<String> {
    driver.wait(None).unwrap();
    let mut seen = Vec::new();
    while let Some(completion) = driver.next() {
        seen.push(format!("{completion:?}"));
    }
    seen
}

fn send(driver: &mut SimDriver, bytes: &[u8]) -> SendStart {
    with_offer(&[bytes], |offer| driver.send(CONN, offer))
}

#[test]
fn short_sends_of_every_length_happen() {
    let options = SimOptions { short_send_probability: 0.5, ..SimOptions::calm() };
    let parts: [&[u8]; 3] = [b"four", b"fives", b"sixsix"];
    let (mut at_once, mut pending) = (BTreeSet::new(), BTreeSet::new());
    for seed in 0..500 {
        let options = SimOptions { pending_send_probability: 0.5, ..options.clone() };
        let (_net, mut driver, peer) = connected(seed, options);
        let taken = match with_offer(&parts, |offer| driver.send(CONN, offer)) {
            SendStart::Sent(bytes) => {
                at_once.insert(bytes);
                bytes
            }
            SendStart::Pending => {
                driver.wait(None).unwrap();
                let Some(Completion::Sent { bytes, .. }) = driver.next() else { panic!("no outcome") };
                pending.insert(bytes);
                bytes
            }
            SendStart::Failed(error) => panic!("{error}"),
        };
        assert_eq!(peer.read(100), b"fourfivessixsix"[..taken]);
        let expected =
            if taken < 15 { vec!["Writable { conn: ConnId { index: 0, generation: 7 } }"] } else { vec![] };
        assert_eq!(wait(&mut driver), expected);
    }
    let every: BTreeSet<usize> = (0..=15).collect();
    assert_eq!((at_once, pending), (every.clone(), every));
}

#[test]
fn a_peer_may_read_a_pending_send_before_its_end_is_told_or_only_after() {
    let options = SimOptions { pending_send_probability: 1.0, ..SimOptions::calm() };
    let read_early = |seed| {
        let (_net, mut driver, peer) = connected(seed, options.clone());
        assert!(matches!(send(&mut driver, b"x"), SendStart::Pending));
        let early = peer.read(1);
        wait(&mut driver);
        assert_eq!([early.clone(), peer.read(1)].concat(), b"x");
        !early.is_empty()
    };
    let outcomes: BTreeSet<bool> = (0..20).map(read_early).collect();
    assert_eq!(outcomes.len(), 2);
}

#[test]
fn room_comes_only_by_the_peers_reading() {
    let options = SimOptions { send_buffer_bytes: 10..=10, ..SimOptions::calm() };
    let (net, mut driver, peer) = connected(0, options);
    assert!(matches!(send(&mut driver, &[0; 11]), SendStart::Sent(10)));
    assert!(net.is_quiet());
    assert_eq!(wait(&mut driver).len(), 0);
    assert_eq!(peer.read(1).len(), 1);
    assert!(!net.is_quiet());
    assert_eq!(wait(&mut driver).len(), 1);
    assert!(matches!(send(&mut driver, &[0; 11]), SendStart::Sent(1)));
}

#[test]
fn a_peer_writes_no_more_than_the_connection_holds() {
    let options = SimOptions { receive_buffer_bytes: 5, ..SimOptions::calm() };
    let (_net, mut driver, peer) = connected(0, options);
    assert_eq!(peer.write(b"more than five"), 5);
    assert_eq!(peer.write(b"x"), 0);
    driver.recv(CONN);
    assert_eq!(wait(&mut driver).len(), 1);
    assert_eq!(peer.write(b"x"), 1);
}

/// A conversation in which everything happens. Returns everything that was seen.
fn conversation(seed: u64, options: &SimOptions) -> Vec<String> {
    let net = SimNet::new(seed, options.clone());
    let mut driver = net.driver();
    let peers: Vec<SimPeer> = (0..5).map(|_| net.connect()).collect();
    let mut seen = Vec::new();
    for index in 0..5 {
        accept(&mut driver, ConnId { index, generation: 0 });
        driver.recv(ConnId { index, generation: 0 });
    }
    for round in 0..20 {
        peers.iter().for_each(|peer| seen.push(format!("{} {:?}", peer.write(b"hello"), peer.read(round))));
        driver.wait(None).unwrap();
        let mut again = Vec::new();
        while let Some(completion) = driver.next() {
            if let Completion::Received { conn, .. } = completion {
                again.push(conn);
            }
            seen.push(format!("{completion:?}"));
        }
        again.into_iter().for_each(|conn| driver.recv(conn));
    }
    seen
}

#[test]
fn a_seed_determines_everything() {
    let options = SimOptions { reset_probability: 0.01, ..SimOptions::hostile() };
    let conversations: BTreeSet<Vec<String>> = (0..20).map(|seed| conversation(seed, &options)).collect();
    assert_eq!(conversations.len(), 20, "different seeds, different fates");
    (0..20).for_each(|seed| assert_eq!(conversation(seed, &options), conversation(seed, &options)));
}

#[test]
fn completions_come_late_but_not_later_than_allowed() {
    let options = SimOptions { delay_probability: 1.0, delay_waits_max: 3, ..SimOptions::calm() };
    let delay = |seed| {
        let (_net, mut driver, peer) = connected(seed, options.clone());
        driver.recv(CONN);
        assert_eq!(peer.write(b"x"), 1);
        (0..10).position(|_| !wait(&mut driver).is_empty()).unwrap()
    };
    // A completion that falls due during a wait comes up in the next.
    let delays: BTreeSet<usize> = (0..100).map(delay).collect();
    assert_eq!(delays, BTreeSet::from([0, 1, 2]));
}

#[test]
fn connections_break_at_sends_and_writes_and_both_ends_learn_of_it() {
    let options = SimOptions { reset_probability: 1.0, ..SimOptions::calm() };
    let (_net, mut driver, peer) = connected(0, options.clone());
    driver.recv(CONN);
    assert!(matches!(send(&mut driver, b"x"), SendStart::Failed(_)));
    assert!(peer.was_reset() && peer.read(1).is_empty());

    let (_net, mut driver, peer) = connected(0, options);
    driver.recv(CONN);
    let _ = peer.write(b"x");
    assert!(peer.was_reset());
    let seen: Vec<String> = (0..3)
        .flat_map(|_| {
            let seen = wait(&mut driver);
            driver.recv(CONN);
            seen
        })
        .collect();
    assert!(seen.last().unwrap().starts_with("Failed"), "{seen:?}");
    assert!(matches!(send(&mut driver, b"x"), SendStart::Failed(_)));
}

#[test]
fn a_reset_ends_a_send_that_waits_for_room() {
    let options = SimOptions { send_buffer_bytes: 1..=1, ..SimOptions::calm() };
    let end = |seed| {
        let (_net, mut driver, peer) = connected(seed, options.clone());
        assert!(matches!(send(&mut driver, b"xx"), SendStart::Sent(1)));
        peer.reset();
        let seen = wait(&mut driver);
        assert_eq!(seen.len(), 1);
        assert!(matches!(send(&mut driver, b"x"), SendStart::Failed(_)));
        seen[0][..6].to_owned()
    };
    let ends: BTreeSet<String> = (0..20).map(end).collect();
    assert_eq!(ends, BTreeSet::from(["Failed".to_owned(), "Writab".to_owned()]));
}

#[test]
fn closing_with_bytes_unreceived_takes_the_last_words_from_the_peer() {
    let (_net, mut driver, peer) = connected(0, SimOptions::calm());
    assert_eq!(peer.write(b"more"), 4);
    assert!(matches!(send(&mut driver, b"400 Bad Request"), SendStart::Sent(15)));
    driver.close(CONN);
    assert!(peer.was_reset() && !peer.is_ended());
    assert!(peer.read(100).is_empty());
}

#[test]
fn a_peer_ends_when_it_has_read_everything() {
    let (_net, mut driver, peer) = connected(0, SimOptions::calm());
    assert!(matches!(send(&mut driver, b"bye"), SendStart::Sent(3)));
    driver.close(CONN);
    assert!(!peer.is_ended());
    assert_eq!(peer.read(100), b"bye");
    assert!(peer.is_ended() && !peer.was_reset());
}

#[test]
fn accepting_fails_for_a_while_and_then_goes_on() {
    let options = SimOptions { accept_failure_probability: 0.5, ..SimOptions::calm() };
    let net = SimNet::new(3, options);
    let mut driver = net.driver();
    let peers: Vec<SimPeer> = (0..20).map(|_| net.connect()).collect();
    let seen: Vec<String> = (0..100).flat_map(|_| wait(&mut driver)).collect();
    let count = |word: &str| seen.iter().filter(|text| text.starts_with(word)).count();
    assert_eq!(count("Accepted"), peers.len());
    assert!(count("AcceptFailed") > 5 && net.is_quiet());
}

#[test]
fn a_server_can_be_started_again_and_the_old_connections_are_gone() {
    let (net, driver, peer) = connected(0, SimOptions::calm());
    drop(driver);
    assert!(peer.was_reset());
    assert!(net.connect().was_reset(), "nobody listens");
    let mut driver = net.driver();
    let peer = net.connect_to(1);
    driver.wait(None).unwrap();
    assert!(matches!(driver.next(), Some(Completion::Accepted { listener: 1, .. })));
    assert!(peer.is_ended(), "whoever drops a socket closes it");
}

#[test]
fn a_wake_up_is_told_once() {
    let (_net, driver, _peer) = connected(0, SimOptions::calm());
    assert!(!driver.take_woken());
    driver.waker().wake();
    assert!(driver.take_woken());
    assert!(!driver.take_woken());
}

#[test]
#[should_panic(expected = "a send is pending")]
fn a_send_while_one_is_pending_is_the_callers_bug() {
    let options = SimOptions { pending_send_probability: 1.0, ..SimOptions::calm() };
    let (_net, mut driver, _peer) = connected(0, options);
    let _ = send(&mut driver, b"xx");
    let _ = send(&mut driver, b"x");
}

#[test]
#[should_panic(expected = "is not open")]
fn a_call_for_a_closed_connection_is_the_callers_bug() {
    let (_net, mut driver, _peer) = connected(0, SimOptions::calm());
    driver.close(CONN);
    driver.recv(CONN);
}

#[test]
#[should_panic(expected = "nothing is sent after shutdown")]
fn a_send_after_shutdown_is_the_callers_bug() {
    let (_net, mut driver, _peer) = connected(0, SimOptions::calm());
    driver.shutdown(CONN);
    let _ = send(&mut driver, b"x");
}
