//! Streams whose channels change: which notices they are sent, and where.

use super::{answer, ask, change, client_of, events, stream};
use crate::hub::Receivers;
use crate::record::Events;
use crate::shard::tests::{Servers, read};
use crate::sse::event::Event;

fn subscribed(channel: &str, channels: &str) -> String {
    format!(r#"subscribed {{"channel":"{channel}","channels":[{channels}]}}"#)
}

fn unsubscribed(channel: &str, channels: &str) -> String {
    format!(r#"unsubscribed {{"channel":"{channel}","channels":[{channels}]}}"#)
}

/// Applies events without any shard having a turn.
fn apply(servers: &Servers, targets: &[&str], texts: &[&str]) {
    let mut batch = Events::new();
    texts.iter().for_each(|text| batch.push(targets, &Event::new(text)));
    servers.core.hub.apply(servers.core.hub.head().next(), &batch, None);
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
        assert_eq!(servers.core.hub.subscribers("a"), 0);
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
    assert_eq!(servers.core.hub.subscribers("b*"), 0);
}

#[test]
fn a_subscription_is_sent_in_its_place_to_a_stream_whose_shard_is_behind() {
    let mut servers = Servers::new(None);
    let (peer, client) = stream(&mut servers, 0, "channel=a");
    // More than the shard takes at once, so that it is not at the head when the request comes.
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
        let mut batch = Events::new();
        batch.push(targets, &Event::new("x"));
        let applied = servers.core.hub.apply(servers.core.hub.head().next(), &batch, Some(1));
        let Receivers::Counting(tally) = applied.receivers else { panic!("two shards count") };
        tally
    };
    // The streams of shard 0 subscribed to another channel of both events, or to `a` alone.
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
fn a_stream_that_catches_up_is_notified_in_place_and_never_gets_channels_that_it_left_meanwhile() {
    let mut servers = Servers::new(None);
    let filler = "x".repeat(30_000);
    for n in 0..60 {
        apply(&servers, &[["a", "b"][n % 2]], &[&format!("{n} {filler}")]);
    }
    let peer = servers.request(0, "GET /sse?channels=a,b&replay=all HTTP/1.1\r\nHost: localhost\r\n\r\n");
    servers.settle(); // It does not read on: more is queued than the network holds.
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
            // It has `c` from its place on. It left `d` before it reached that channel's place.
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
fn a_stream_with_too_much_queued_or_too_many_channels_takes_no_more() {
    let mut servers = Servers::new(None);
    let (_peer, client) = stream(&mut servers, 1, "channels=1,2,3,4,5,6,7,8");
    let asked = change(&mut servers, 0, "subscribe", &client, "9");
    servers.settle();
    let (status, body) = answer(&asked);
    assert_eq!(status, 400);
    assert!(body.contains("a stream has at most 8 channels"), "{body}");

    // A stream that does not read is refused further notices once its queue is over its bound.
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
    // More than its queue holds and more than is retained: 100 events of a channel.
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
