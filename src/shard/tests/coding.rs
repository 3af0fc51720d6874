//! Streams in different codings get the same events, and each coding of a run is made once for all its
//! streams.

use std::collections::HashSet;

use crate::base::id::Sequence;
use crate::driver::sim::{SimOptions, SimPeer};
use crate::record::Events;
use crate::shard::tests::{Servers, read};
use crate::sse::event::Event;

/// Bytes of an event that do not fit into the simulated socket, which holds 4 KiB.
const LARGE: usize = 10_000;

impl Servers {
    /// Six streams of the first shard, by turns over HTTP/1.0 and HTTP/1.1.
    fn codings(&mut self, target: &str, headers: &str) -> Vec<SimPeer> {
        let ask = |version| format!("GET {target} HTTP/{version}\r\nHost: localhost\r\n{headers}\r\n");
        let requests: Vec<String> = ["1.0", "1.1"].into_iter().cycle().take(6).map(ask).collect();
        requests.iter().map(|request| self.request(0, request)).collect()
    }

    /// The blocks that hold what waits first for the streams of the first shard, by where they end.
    fn blocks(&mut self) -> HashSet<*const u8> {
        let peers = &mut self.shards[0].connections.peers;
        let streams: Vec<u32> = peers.iter().map(|(conn, _)| conn.index).collect();
        let end = |slot| {
            let peer = peers.get_at_mut(slot).expect("it was just there");
            peer.conn.offer(|offer| offer.slices()[0].as_ptr_range().end)
        };
        streams.into_iter().map(end).collect()
    }

    fn apply(&mut self, data: &str) {
        let mut batch = Events::new();
        batch.push(&["a"], &Event::new(data));
        self.core.hub.apply(self.core.hub.head().next(), &batch, None);
    }
}

/// The event of `data` in what a stream has received, without the framing of HTTP/1.1.
fn event_of(received: &str, data: &str) -> String {
    let end = received.find(data).unwrap_or_else(|| panic!("no event in {received:?}")) + data.len();
    let begin = received[..end].rfind("id: ").expect("every event has an id");
    assert!(received[end..].starts_with("\n\n"));
    received[begin..end].to_owned()
}

#[test]
fn the_streams_of_a_live_run_share_one_twin() {
    let mut servers = Servers::new(None);
    let streams = servers.codings("/sse?channels=a", "");
    servers.settle();
    let begun: Vec<String> = streams.iter().map(read).collect();
    assert!(begun.iter().all(|head| head.contains("connected")));
    servers.apply("live");
    servers.shards[0].take_events();
    assert_eq!(servers.blocks().len(), 2, "a block of the chunked streams, and one of the others");
    servers.settle();
    let seen: Vec<String> = streams.iter().map(read).collect();
    let event = event_of(&seen[0], "data: live");
    assert_eq!(seen[0], format!("{event}\n\n"), "nothing but the event");
    assert_eq!(seen[1], format!("{:x}\r\n{event}\n\n\r\n", event.len() + 2));
    assert!(seen.chunks(2).all(|pair| pair == &seen[..2]));
}

#[test]
fn streams_that_read_the_same_in_the_history_share_one_twin() {
    let network = SimOptions { send_buffer_bytes: 4096..=4096, ..SimOptions::calm() };
    let mut servers = Servers::over(&network, |_| {});
    let data = "x".repeat(LARGE);
    servers.apply("first");
    servers.apply(&data);
    let first = servers.core.hub.id_of(Sequence(servers.core.hub.head().0 - 1)).unwrap();
    let streams = servers.codings("/sse?channels=a", &format!("Last-Event-ID: {first}\r\n"));
    servers.settle();
    let begun: Vec<String> = streams.iter().map(read).collect();
    assert!(begun.iter().all(|begun| begun.contains("connected") && !begun.contains("data: first")));
    assert_eq!(servers.blocks().len(), 2, "a block of the chunked streams, and one of the others");
    let mut seen = begun;
    for _ in 0..10 {
        servers.settle();
        seen.iter_mut().zip(&streams).for_each(|(seen, stream)| seen.push_str(&read(stream)));
    }
    let events: HashSet<String> = seen.iter().map(|seen| event_of(seen, &format!("data: {data}"))).collect();
    assert_eq!(events.len(), 1);
}
