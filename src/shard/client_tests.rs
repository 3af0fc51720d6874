//! Live streams that are named by their client ids, over two shards of which the test says when each has a turn.

use std::time::Duration;

use super::tests::{Servers, read};
use crate::driver::sim::SimPeer;
use crate::frame::batch::Batch;
use crate::hub::Receivers;
use crate::sse::event::Event;

/// The id that a stream was told, once it was told it; what came with that is in the text.
fn client_of(text: &str) -> &str {
    let (_, rest) = text.split_once(r#""clientId":""#).unwrap_or_else(|| panic!("{text:?}"));
    rest.split('"').next().unwrap()
}

/// A stream of `shard` that was told its id.
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

/// The status and the body of an answer.
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

/// The types and data of a stream's events, shortly.
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

fn subscribed(channel: &str, channels: &str) -> String {
    format!(r#"subscribed {{"channel":"{channel}","channels":[{channels}]}}"#)
}

fn unsubscribed(channel: &str, channels: &str) -> String {
    format!(r#"unsubscribed {{"channel":"{channel}","channels":[{channels}]}}"#)
}

#[test]
fn a_stream_is_changed_over_whichever_shard_and_once() {
    for asked in 0..2 {
        let mut servers = Servers::new(None);
        let (peer, client) = stream(&mut servers, 1, "channel=a&userId=ann");
        for _ in 0..2 {
            let answered = change(&mut servers, asked, "subscribe", &client, "b");
            servers.settle();
            assert_eq!(answer(&answered), (200, r#"{"success":true,"channels":["a","b"]}"#.to_owned()));
        }
        assert!(servers.publish(0, r#"{"channel":"b","text":"1"}"#).ends_with("\"receivers\":1}"));
        assert!(servers.publish(0, r#"{"channels":["b","a"],"text":"2"}"#).ends_with("\"receivers\":1}"));
        for _ in 0..2 {
            let answered = change(&mut servers, asked, "unsubscribe", &client, "a");
            servers.settle();
            assert_eq!(answer(&answered), (200, r#"{"success":true,"channels":["b"]}"#.to_owned()));
        }
        assert!(servers.publish(0, r#"{"channel":"a","text":"3"}"#).ends_with("\"receivers\":0}"));
        servers.publish(0, r#"{"userId":"ann","text":"4"}"#);
        let expected = [&subscribed("b", r#""a","b""#), "1", "2", &unsubscribed("a", r#""b""#), "4"];
        assert_eq!(events(&read(&peer)), expected);
        assert_eq!(servers.hub.subscribers("a"), 0);
    }
}

#[test]
fn a_stream_may_have_no_channel_and_gets_what_goes_to_it_otherwise() {
    let mut servers = Servers::new(None);
    let (peer, client) = stream(&mut servers, 0, "channel=a");
    let answered = change(&mut servers, 1, "unsubscribe", &client, "a");
    servers.settle();
    assert_eq!(answer(&answered).1, r#"{"success":true,"channels":[]}"#);
    assert!(servers.publish(1, r#"{"all":true,"text":"1"}"#).ends_with("\"receivers\":1}"));
    change(&mut servers, 1, "subscribe", &client, "b*");
    servers.settle();
    servers.publish(1, r#"{"channel":"bc","text":"2"}"#);
    let expected = [&unsubscribed("a", ""), "1", &subscribed("b*", r#""b*""#), "2"];
    assert_eq!(events(&read(&peer)), expected);
    drop(peer);
    servers.settle();
    assert!(servers.publish(1, r#"{"all":true,"text":"3"}"#).ends_with("\"receivers\":0}"));
    assert_eq!(servers.hub.subscribers("b*"), 0);
}

#[test]
fn who_does_not_know_the_secret_does_not_find_the_stream() {
    let mut servers = Servers::new(None);
    let (_peer, client) = stream(&mut servers, 1, "channel=a");
    let (secret, place) = client.split_at(32);
    let flipped = |at: usize| {
        let digit = if &secret[at..=at] == "0" { "1" } else { "0" };
        format!("{}{digit}{}{place}", &secret[..at], &secret[at + 1..])
    };
    let elsewhere = [format!("{secret}-0-0"), format!("{secret}-2-0"), format!("{secret}-1-7")];
    for other in [flipped(0), flipped(15), flipped(16), flipped(31)].iter().chain(&elsewhere) {
        for shard in 0..2 {
            assert_eq!(ask(&mut servers, shard, "GET", other).0, 404, "{other}");
            assert_eq!(ask(&mut servers, shard, "DELETE", other).0, 404, "{other}");
            let answered = change(&mut servers, shard, "subscribe", other, "b");
            servers.settle();
            assert_eq!(answer(&answered).0, 404, "{other}");
            let body = format!(r#"{{"clientId":"{other}","text":"x"}}"#);
            assert!(servers.publish(shard, &body).contains(r#""status":404,"detail":"no client"#));
        }
    }
    assert_eq!(ask(&mut servers, 0, "GET", &client).0, 200);
}

/// Applies events without any shard having a turn.
fn apply(servers: &Servers, targets: &[&str], texts: &[&str]) {
    let mut batch = Batch::new();
    texts.iter().for_each(|text| batch.push(targets, &Event::new(text)));
    servers.hub.apply(servers.hub.head().next(), &batch, None);
}

#[test]
fn a_subscription_is_told_in_its_place_by_a_stream_whose_shard_is_behind() {
    let mut servers = Servers::new(None);
    let (peer, client) = stream(&mut servers, 0, "channel=a");
    // More than the shard takes at once, so that it is not at the head when it is asked.
    let many: Vec<String> = (0..100).map(|n| n.to_string()).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    apply(&servers, &["a"], &many[..99]);
    apply(&servers, &["b"], &["too early"]);
    apply(&servers, &["a"], &many[99..]);
    let asked = change(&mut servers, 0, "subscribe", &client, "b");
    servers.settle();
    assert_eq!(answer(&asked).0, 200);
    apply(&servers, &["b"], &["in time"]);
    servers.settle();
    let seen = events(&read(&peer));
    assert_eq!(seen[..100], many);
    assert_eq!(seen[100..], [subscribed("b", r#""a","b""#), "in time".to_owned()]);
    assert!(ask(&mut servers, 1, "GET", &client).1.contains(r#""state":"live""#));
}

#[test]
fn a_stream_is_counted_only_for_what_was_applied_after_it_subscribed() {
    let mut servers = Servers::new(None);
    let (_peer, client) = stream(&mut servers, 0, "channel=a");
    let (_other, _) = stream(&mut servers, 1, "channel=c");
    let filler = vec!["x"; 99];
    apply(&servers, &["a"], &filler);
    let count = |servers: &Servers, targets: &[&str]| {
        let mut batch = Batch::new();
        batch.push(targets, &Event::new("x"));
        let applied = servers.hub.apply(servers.hub.head().next(), &batch, Some(1));
        let Receivers::Counting(tally) = applied.receivers else { panic!("two shards count") };
        tally
    };
    // Shard 0 has subscribers of both events from another of their channels on, or from nothing but `a`.
    let (_third, _) = stream(&mut servers, 0, "channel=d");
    apply(&servers, &["a"], &filler);
    let before = count(&servers, &["b", "c", "d"]);
    change(&mut servers, 0, "subscribe", &client, "b");
    servers.turn(0);
    let after = count(&servers, &["b", "c"]);
    servers.settle();
    assert_eq!((before.total(), after.total()), (Some(2), Some(2)));
}

#[test]
fn a_stream_that_catches_up_is_told_in_place_and_what_it_left_meanwhile_it_never_gets() {
    let mut servers = Servers::new(None);
    let filler = "x".repeat(30_000);
    for n in 0..60 {
        apply(&servers, &[["a", "b"][n % 2]], &[&format!("{n} {filler}")]);
    }
    let peer = servers.request(0, "GET /sse?channels=a,b&replay=all HTTP/1.1\r\nHost: localhost\r\n\r\n");
    servers.settle(); // It does not read on: more than the network holds is to come.
    let mut text = String::from_utf8(peer.read(2000)).unwrap();
    let client = client_of(&text).to_owned();
    for (verb, channel) in [
        ("subscribe", "c"),
        ("unsubscribe", "b"),
        ("subscribe", "d"),
        ("unsubscribe", "d"),
        ("subscribe", "b"),
    ] {
        apply(&servers, &["b", "c", "d"], &["early"]);
        let asked = change(&mut servers, 1, verb, &client, channel);
        servers.settle();
        assert_eq!(answer(&asked).0, 200);
    }
    let (_, described) = ask(&mut servers, 1, "GET", &client);
    assert!(described.contains(r#""channels":["a","c","b"],"state":"catching-up""#), "{described}");
    apply(&servers, &["b"], &["late b"]);
    apply(&servers, &["c"], &["late c"]);
    while {
        servers.settle();
        let more = read(&peer);
        text.push_str(&more);
        !more.is_empty()
    } {}
    let seen: Vec<String> = events(&text).iter().map(|event| event.replace(&filler, "")).collect();
    let place = |event: &str| {
        seen.iter().position(|seen| seen.starts_with(event)).unwrap_or_else(|| panic!("{seen:?}"))
    };
    let left = place(&unsubscribed("b", r#""a""#));
    let numbers = seen[left..].iter().filter_map(|event| event.trim().parse::<u64>().ok());
    let numbers: Vec<u64> = numbers.collect();
    assert!(numbers.len() > 2 && numbers.iter().all(|n| n % 2 == 0), "{seen:?}");
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 2) && numbers.last() == Some(&58), "{seen:?}");
    let rest = &seen[place("caught-up")..];
    assert_eq!(
        rest[1..],
        [
            // What it had of `c` alone counts from its place, and `d` it left before it came to it.
            subscribed("c", r#""a","c""#),
            "early".to_owned(),
            "early".to_owned(),
            "early".to_owned(),
            "early".to_owned(),
            subscribed("b", r#""a","c","b""#),
            "late b".to_owned(),
            "late c".to_owned(),
        ]
    );
    assert_eq!(seen.iter().filter(|event| event.contains("subscribed")).count(), 4, "{seen:?}");
}

#[test]
fn an_event_to_one_client_reaches_it_alone_in_its_place_and_no_other_connection() {
    let mut servers = Servers::new(None);
    let (peer, client) = stream(&mut servers, 1, "channel=a");
    let (other, _) = stream(&mut servers, 0, "channel=a");
    servers.publish(0, r#"{"channel":"a","id":"first","text":"1"}"#);
    for shard in 0..2 {
        let body = format!(r#"{{"clientId":"{client}","text":"mine"}}"#);
        assert!(servers.publish(shard, &body).ends_with("\"receivers\":1}"));
        servers.publish(shard, r#"{"channel":"a","text":"2"}"#);
    }
    let text = read(&peer);
    assert_eq!(events(&text), ["1", "mine", "2", "mine", "2"]);
    assert_eq!(events(&read(&other)), ["1", "2", "2"]);
    assert_eq!(servers.hub.channels_len(), 1);

    let held = servers.hub.held_bytes();
    drop(peer);
    servers.settle();
    assert!(servers.hub.held_bytes() < held, "what was its own goes with it");
    let body = format!(r#"{{"clientId":"{client}","text":"late"}}"#);
    assert!(servers.publish(0, &body).contains(r#""status":404"#));
    let (again, _) = stream(&mut servers, 1, "channel=a&replay=all");
    servers.publish(0, r#"{"channel":"a","text":"3"}"#);
    assert!(!read(&again).contains("mine"));
}

#[test]
fn an_array_and_lines_name_what_goes_to_no_client() {
    let mut servers = Servers::new(None);
    let (peer, client) = stream(&mut servers, 1, "channel=a");
    let gone = "0000000000000000000000000000002a-1-7";
    let to = |client: &str, text: &str| format!(r#"{{"clientId":"{client}","text":"{text}"}}"#);
    let (good, bad, other) = (to(&client, "mine"), to(gone, "x"), r#"{"channel":"a","text":"all's"}"#);
    let head = servers.hub.head();
    let answer = servers.publish(0, &format!("[{other},{good},{bad},{good}]"));
    assert!(
        answer.contains(r#""status":404,"detail":"item 2: no client with this `clientId` is connected""#)
    );
    assert_eq!(servers.hub.head(), head, "nothing is published");
    let answer = servers.publish(0, &format!("[{other},{good},{good}]"));
    assert!(answer.starts_with(r#"{"success":true,"published":3"#), "{answer}");

    let lines = format!("{good}\n\n{other}\n{bad}\n{good}\n");
    let peer_of_lines = servers.request(
        0,
        &format!(
            "POST /publish HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\n\
             Content-Length: {}\r\n\r\n{lines}",
            lines.len()
        ),
    );
    servers.settle();
    let (status, body) = self::answer(&peer_of_lines);
    assert_eq!(status, 404);
    assert!(
        body.contains(r#""detail":"line 4: no client"#) && body.ends_with(r#","published":2,"line":4}"#),
        "{body}"
    );
    assert_eq!(events(&read(&peer)), ["all's", "mine", "mine", "mine", "all's"]);
}

#[test]
fn a_stream_is_described_and_ended_by_its_id() {
    let mut servers = Servers::new(None);
    let (peer, client) = stream(&mut servers, 1, "channels=b,a&user_id=ann");
    servers.now += Duration::from_secs(7);
    let described = format!(
        r#"{{"clientId":"{client}","client_id":"{client}","userId":"ann","channels":["b","a"],"state":"live","connectedSeconds":7,"lagEvents":0,"queuedBytes":0}}"#
    );
    assert_eq!(ask(&mut servers, 0, "GET", &client), (200, described));
    servers.publish(0, r#"{"channel":"a","text":"last"}"#);
    assert_eq!(ask(&mut servers, 0, "DELETE", &client), (200, r#"{"success":true}"#.to_owned()));
    let text = read(&peer);
    assert_eq!(events(&text), ["last", r#"shutdown {"reason":"deleted"}"#]);
    assert!(text.contains("retry: 1000") && peer.is_ended());
    assert_eq!(ask(&mut servers, 0, "GET", &client).0, 404);
    assert_eq!(servers.hub.subscribers("a"), 0);
}

#[test]
fn a_question_that_is_lost_or_finds_no_room_is_answered_503() {
    // A stream draws bits for its retry and, twice, for its name; its end draws them for its retry.
    let mut servers = Servers::with_mailboxes(Some(4), 2);
    let (_peer, client) = stream(&mut servers, 0, "channel=a");
    let asked = servers.request(1, &format!("DELETE /clients/{client} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    assert_eq!(servers.settle(), 1, "the shard panics over it");
    let (status, body) = answer(&asked);
    assert_eq!(status, 503);
    assert!(body.contains("did not answer"), "{body}");
    assert_eq!(ask(&mut servers, 1, "GET", &client).0, 404, "the stream is gone");

    let (_peer, client) = stream(&mut servers, 0, "channel=a");
    let asking: Vec<SimPeer> = (0..3).map(|_| change(&mut servers, 1, "subscribe", &client, "b")).collect();
    (0..3).for_each(|_| servers.turn(1)); // While shard 0 does nothing.
    let late: Vec<(u16, String)> = asking.iter().map(read).map(|text| status_of(&text)).collect();
    assert_eq!(late.iter().filter(|(status, _)| *status == 503).count(), 1, "{late:?}");
    servers.settle();
    let rest = asking.iter().map(read).filter(|text| text.starts_with("HTTP/1.1 200")).count();
    assert_eq!(rest, 2);
}

fn status_of(text: &str) -> (u16, String) {
    (text.split(' ').nth(1).map_or(0, |code| code.parse().unwrap()), text.to_owned())
}

#[test]
fn an_answer_that_comes_for_a_connection_that_went_on_is_nobodys() {
    let mut servers = Servers::new(None);
    let (peer, client) = stream(&mut servers, 0, "channel=a");
    let publisher = servers.nets[1].connect();
    let envelope = format!(r#"{{"clientId":"{client}","text":"late"}}"#);
    let post = |body: &str| {
        let len = body.len();
        let request =
            format!("POST /publish HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len}\r\n\r\n{body}");
        assert_eq!(publisher.write(request.as_bytes()), request.len());
    };
    post(&envelope);
    for _ in 0..8 {
        servers.now += Duration::from_secs(1);
        servers.turn(1); // Shard 0 does nothing, until the publisher's time is over.
    }
    assert!(read(&publisher).starts_with("HTTP/1.1 503"));
    post(r#"[{"channel":"a","text":"next"}]"#);
    servers.settle();
    assert!(answer(&publisher).1.starts_with(r#"{"success":true,"published":1"#));
    assert_eq!(events(&read(&peer)), ["next"]);
}

#[test]
fn a_stream_with_too_much_queued_or_too_many_channels_takes_no_more() {
    let mut servers = Servers::new(None);
    let (_peer, client) = stream(&mut servers, 1, "channels=1,2,3,4,5,6,7,8");
    let asked = change(&mut servers, 0, "subscribe", &client, "9");
    servers.settle();
    let (status, body) = answer(&asked);
    assert_eq!(status, 400);
    assert!(body.contains("a stream has at most 8 channels"), "{body}");

    // Told again and again while it does not read, a stream is told no more once its queue is over its bound.
    let (_slow, client) = stream(&mut servers, 1, "channel=a");
    let mut refused = None;
    for n in 0..20_000 {
        let verb = ["subscribe", "unsubscribe"][n % 2];
        let asked = change(&mut servers, 1, verb, &client, &"n".repeat(200));
        servers.turn(1);
        servers.turn(1);
        let (status, body) = answer(&asked);
        if status != 200 {
            refused = Some((status, body));
            break;
        }
    }
    let (status, body) = refused.expect("there is a bound");
    assert!(status == 503 && body.contains("as much queued as it may"), "{body}");
    let queued = ask(&mut servers, 1, "GET", &client).1;
    let queued: serde_json::Value = serde_json::from_str(&queued).unwrap();
    assert!(queued["queuedBytes"].as_u64().unwrap() < (1 << 16) + 1000, "{queued}");
}

#[test]
fn a_new_channel_is_refused_where_the_server_has_as_many_as_it_keeps() {
    let mut servers = Servers::new(None);
    let (_peer, client) = stream(&mut servers, 0, "channel=a");
    for n in 0..99 {
        apply(&servers, &[&format!("c{n}")], &["x"]);
    }
    let asked = change(&mut servers, 1, "subscribe", &client, "one-more");
    servers.settle();
    assert_eq!(answer(&asked).0, 429);
    let asked = change(&mut servers, 1, "subscribe", &client, "c7");
    servers.settle();
    assert_eq!(answer(&asked).0, 200);
}

#[test]
fn a_stream_of_one_channel_again_knows_what_it_misses() {
    let mut servers = Servers::new(None);
    let (peer, client) = stream(&mut servers, 0, "channel=a");
    for (verb, channel) in [("subscribe", "b"), ("unsubscribe", "a")] {
        change(&mut servers, 0, verb, &client, channel);
        servers.settle();
    }
    apply(&servers, &["a"], &["x"; 30]);
    // More than waits for it and is retained: 100 events of a channel.
    let texts: Vec<String> = (0..400).map(|n| format!("{n} {}", "x".repeat(2000))).collect();
    for text in &texts {
        apply(&servers, &["b"], &[text]);
        servers.turn(0);
        servers.turn(0);
    }
    let mut text = String::new();
    for _ in 0..50 {
        servers.settle();
        text.push_str(&read(&peer));
    }
    let seen = events(&text);
    let numbers = || seen.iter().filter_map(|event| event.split(' ').next()?.parse::<u64>().ok());
    let missed: Vec<u64> = seen
        .iter()
        .filter_map(|event| event.strip_prefix("gap "))
        .map(|data| {
            serde_json::from_str::<serde_json::Value>(data).unwrap()["missed"].as_u64().expect("it is known")
        })
        .collect();
    assert!(!missed.is_empty(), "nothing was missed of {} events", numbers().count());
    assert_eq!(missed.iter().sum::<u64>() + numbers().count() as u64, 400);
}

#[test]
fn a_key_is_settled_by_an_event_to_a_client_and_free_again_where_that_is_gone() {
    let mut servers = Servers::new(None);
    let (peer, client) = stream(&mut servers, 1, "channel=a");
    let gone = "0000000000000000000000000000002a-1-7";
    let to = |client: &str, key: &str| {
        format!(r#"{{"clientId":"{client}","text":"mine","idempotencyKey":"{key}"}}"#)
    };
    assert!(servers.publish(0, &to(&client, "k")).ends_with(r#""receivers":1}"#));
    for _ in 0..2 {
        let answer = servers.publish(0, &to(gone, "free"));
        assert!(answer.contains(r#""status":404"#), "the key is not under way: {answer}");
    }
    let lines = [to(&client, "k2"), to(gone, "free"), to(&client, "k3")].join("\n");
    let lines = servers.request(
        0,
        &format!(
            "POST /publish HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\n\
             Content-Length: {}\r\n\r\n{lines}",
            lines.len()
        ),
    );
    servers.settle();
    let (status, body) = answer(&lines);
    assert!(status == 404 && body.ends_with(r#""published":1,"duplicates":0,"line":2}"#), "{body}");
    assert!(servers.publish(1, &to(&client, "k3")).ends_with(r#""receivers":1}"#));
    assert!(
        servers
            .publish(1, r#"{"channel":"a","text":"all's","idempotencyKey":"free"}"#)
            .ends_with(r#""receivers":1}"#)
    );
    drop(peer);
    servers.settle();
    for key in ["k", "k2", "k3"] {
        let answer = servers.publish(0, &to(&client, key));
        assert!(answer.ends_with(r#","duplicate":true}"#), "as the first time, whoever has left: {answer}");
    }
}
