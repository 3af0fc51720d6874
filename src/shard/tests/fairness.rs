//! Connections that always have something to do delay nobody. Turns and the work of a turn are counted,
//! never time.

use crate::driver::sim::{SimOptions, SimPeer};
use crate::record::{Events, Record};
use crate::shard::connections::{ACTIONS_PER_TURN_MAX, UNFINISHED_ACTIONS_PER_TURN_MAX};
use crate::shard::publishing::tickets::application_ticket;
use crate::shard::tests::{Servers, read};
use crate::sse::event::Event;

/// Turns within which an event is sent to a stream: the turn that finds it, and one to spare.
const TURNS_MAX: u32 = 2;

const HEALTH: &str = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";

fn servers() -> Servers {
    Servers::over(&SimOptions::calm(), |options| {
        options.connections_max = 100_000;
        options.conn.body_bytes_max = 1 << 20;
    })
}

fn apply(servers: &Servers, channel: &str, data: &str) {
    let mut batch = Events::new();
    batch.push(&[channel], &Event::new(data));
    servers.core.log.append(&mut vec![(application_ticket(0), Record::from(batch))]); // A ticket that nobody waits for.
}

/// One turn of the busy shard, and one of the other, so that nobody waits for it.
fn turn(servers: &mut Servers) {
    servers.turn(0);
    servers.turn(1);
}

/// Publishes to a quiet stream again and again. `keep_busy` gives other connections something to do
/// before each turn. Each event reaches the stream within [`TURNS_MAX`] turns.
fn deliver_beside(servers: &mut Servers, mut keep_busy: impl FnMut(&mut Servers)) {
    let quiet = servers.subscribe(0, "quiet");
    servers.settle();
    assert!(read(&quiet).contains("connected"));
    (0..10).for_each(|_| {
        keep_busy(servers);
        turn(servers);
    });
    for round in 0..30 {
        let data = format!("event {round}");
        apply(servers, "quiet", &data);
        let mut turns = 0;
        while !read(&quiet).contains(&data) {
            assert!(turns < TURNS_MAX, "the event of round {round} is not there after {turns} turns");
            keep_busy(servers);
            turn(servers);
            turns += 1;
        }
    }
}

#[test]
fn an_event_does_not_wait_for_connections_that_pipeline() {
    for connections in [3, 40] {
        let mut servers = servers();
        let peers: Vec<SimPeer> = (0..connections).map(|_| servers.nets[0].connect()).collect();
        let mut sent = vec![0_usize; peers.len()];
        let mut answers = 0;
        deliver_beside(&mut servers, |_| {
            for (peer, sent) in peers.iter().zip(&mut sent) {
                answers += read(peer).matches("HTTP/1.1 200").count();
                // Whole requests one after the other. The peer's buffer may take a part of the last one.
                let requests = HEALTH.repeat(1024);
                let from = *sent % HEALTH.len();
                *sent += peer.write(&requests.as_bytes()[from..]);
            }
        });
        assert!(answers > 1000, "they are answered meanwhile: {answers}");
    }
}

#[test]
fn one_turn_does_a_bounded_amount_for_connections_that_pipeline() {
    let mut servers = servers();
    let peers: Vec<SimPeer> = (0..500).map(|_| servers.nets[0].connect()).collect();
    for peer in &peers {
        let _ = peer.write(HEALTH.repeat(200).as_bytes());
    }
    let mut answered = vec![0; peers.len()];
    let (mut turns, mut all) = (0, 0);
    while all < 200 * peers.len() {
        servers.turn(0);
        turns += 1;
        for (peer, answered) in peers.iter().zip(&mut answered) {
            *answered += read(peer).matches("HTTP/1.1 200").count();
        }
        all = answered.iter().sum();
        // An answer may be sent in a later turn than the one that makes it, but not in an earlier one.
        let most = turns * (ACTIONS_PER_TURN_MAX + UNFINISHED_ACTIONS_PER_TURN_MAX);
        assert!(all <= most, "{all} answers in {turns} turns");
        assert!(turns < 1000, "it goes on: {all}");
    }
    assert!(answered.iter().all(|&answered| answered == 200), "each has its turn");
    assert!(turns > 10, "it takes many turns: {turns}");
}

#[test]
fn an_event_does_not_wait_for_big_bodies() {
    let mut servers = servers();
    let body_bytes = 1 << 20;
    let head =
        format!("POST /channels/big HTTP/1.1\r\nHost: localhost\r\nContent-Length: {body_bytes}\r\n\r\n");
    let chunk = vec![b'x'; 60_000];
    let mut senders: Vec<(SimPeer, usize)> = Vec::new();
    let mut published = 0;
    deliver_beside(&mut servers, |servers| {
        while senders.len() < 8 {
            senders.push((servers.request(0, &head), body_bytes));
        }
        for (peer, left) in &mut senders {
            *left -= peer.write(&chunk[..chunk.len().min(*left)]);
        }
        senders.retain(|(peer, _)| {
            !read(peer).contains("HTTP/1.1 200") || {
                published += 1;
                false
            }
        });
    });
    assert!(published > 8, "they are published meanwhile: {published}");
}

#[test]
fn an_event_does_not_wait_for_replays() {
    let mut servers = servers();
    for at in 0..100 {
        apply(&servers, "old", &format!("old {at}"));
        turn(&mut servers);
    }
    let mut readers: Vec<SimPeer> = Vec::new();
    let mut replayed = 0;
    deliver_beside(&mut servers, |servers| {
        while readers.len() < 300 {
            readers.push(
                servers.request(0, "GET /sse?channels=old&replay=all HTTP/1.1\r\nHost: localhost\r\n\r\n"),
            );
        }
        readers.retain(|reader| {
            let is_over = read(reader).contains("caught-up");
            replayed += usize::from(is_over);
            !is_over
        });
    });
    assert!(replayed > 1000, "they are replayed to meanwhile: {replayed}");
}

#[test]
fn an_event_does_not_wait_for_those_who_connect() {
    let mut servers = servers();
    let mut newcomers: Vec<SimPeer> = Vec::new();
    let mut connected = 0;
    deliver_beside(&mut servers, |servers| {
        for _ in 0..400 {
            newcomers.push(servers.subscribe(0, "other"));
        }
        newcomers.retain(|stream| {
            let is_there = read(stream).contains("connected");
            connected += usize::from(is_there);
            !is_there
        });
    });
    assert!(connected > 5000, "they are connected meanwhile: {connected}");
}

#[test]
fn an_event_does_not_wait_for_streams_that_are_sent_a_notice_in_every_turn() {
    let mut servers = servers();
    let streams: Vec<SimPeer> = (0..40).map(|_| servers.subscribe(0, "first")).collect();
    servers.settle();
    let clients: Vec<String> = streams
        .iter()
        .map(|stream| {
            let seen = read(stream);
            let id = seen.split("\"clientId\":\"").nth(1).unwrap_or_else(|| panic!("{seen}"));
            id.split('"').next().unwrap().to_owned()
        })
        .collect();
    let asking: Vec<SimPeer> = clients.iter().map(|_| servers.nets[0].connect()).collect();
    let (mut at, mut sent) = (0_usize, 0);
    deliver_beside(&mut servers, |_| {
        at += 1;
        let action = if at % 2 == 1 { "subscribe" } else { "unsubscribe" };
        for (peer, client) in asking.iter().zip(&clients) {
            let request = format!(
                "POST /sse/{action}?channel=second&clientId={client} HTTP/1.1\r\nHost: localhost\r\n\
                 Content-Length: 0\r\n\r\n"
            );
            read(peer);
            assert_eq!(peer.write(request.as_bytes()), request.len());
        }
        sent += streams.iter().map(|stream| read(stream).matches("subscribed").count()).sum::<usize>();
    });
    assert!(sent > 500, "they are sent notices meanwhile: {sent}");
}

#[test]
fn an_event_to_many_streams_is_sent_in_as_many_turns_beside_connections_that_pipeline() {
    let turns = [0, 50].map(|connections| {
        let mut servers = servers();
        let peers: Vec<SimPeer> = (0..connections).map(|_| servers.nets[0].connect()).collect();
        let streams: Vec<SimPeer> = (0..2000).map(|_| servers.subscribe(0, "many")).collect();
        (0..40).for_each(|_| turn(&mut servers));
        assert!(streams.iter().all(|stream| read(stream).contains("connected")));
        for peer in &peers {
            let _ = peer.write(HEALTH.repeat(1000).as_bytes());
        }
        apply(&servers, "many", "to many");
        let mut waiting: Vec<&SimPeer> = streams.iter().collect();
        let mut turns = 0;
        while !waiting.is_empty() {
            turn(&mut servers);
            turns += 1;
            assert!(turns < 100, "{} wait", waiting.len());
            waiting.retain(|stream| !read(stream).contains("to many"));
        }
        turns
    });
    assert_eq!(turns[0], turns[1]);
}
