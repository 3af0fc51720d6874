//! Live streams addressed by their client ids, over two shards whose turns the test controls.

mod changing;
mod reaching;

use crate::driver::sim::SimPeer;
use crate::shard::tests::{Servers, read};

/// The client id in a stream's `connected` event.
fn client_of(text: &str) -> &str {
    let (_, rest) = text.split_once(r#""clientId":""#).unwrap_or_else(|| panic!("{text:?}"));
    rest.split('"').next().unwrap()
}

/// A stream of `shard` and its client id.
fn stream(servers: &mut Servers, shard: usize, query: &str) -> (SimPeer, String) {
    let peer = servers.request(shard, &format!("GET /sse?{query} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    servers.settle();
    let client = client_of(&read(&peer)).to_owned();
    (peer, client)
}

fn change(servers: &mut Servers, shard: usize, verb: &str, client: &str, channel: &str) -> SimPeer {
    let target = format!("/sse/{verb}?clientId={client}&channel={channel}");
    servers.request(shard, &format!("POST {target} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
}

/// Status and body of an answer.
fn answer(peer: &SimPeer) -> (u16, String) {
    let text = read(peer);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{text:?}"));
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

fn ask(servers: &mut Servers, shard: usize, method: &str, client: &str) -> (u16, String) {
    let request = format!("{method} /clients/{client} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let peer = servers.request(shard, &request);
    servers.settle();
    answer(&peer)
}

/// The types and data of a stream's events, in short.
fn events(text: &str) -> Vec<String> {
    let mut events = Vec::new();
    let mut kind = "";
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("event: ") {
            kind = name;
        } else if let Some(data) = line.strip_prefix("data: ") {
            events.push(format!("{kind}{}{data}", if kind.is_empty() { "" } else { " " }));
            kind = "";
        }
    }
    events
}
