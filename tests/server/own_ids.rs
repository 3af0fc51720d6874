//! Resuming after ids that publishers gave, and events that lapse, over real sockets.

use crate::common::{Client, DriverKind, EventStream, Server, for_each_driver, wait_for};
use serde_json::{Value, json};

for_each_driver!(
    a_publishers_id_is_looked_up_among_the_events_that_the_stream_would_receive,
    an_id_that_was_used_twice_resumes_after_the_earliest_that_is_known,
    only_ids_with_a_tag_of_this_server_are_its_own,
    an_id_is_known_however_its_event_went_until_enough_others_came,
    an_event_is_replayed_for_its_ttl_and_not_missed_after_it,
);

/// Publishes an envelope. Returns the status and the body of the answer.
fn publish(client: &mut Client, envelope: &Value) -> (u16, Value) {
    let body = envelope.to_string();
    let length = body.len();
    let request =
        format!("POST /publish HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{body}");
    let answer = client.ask(&request);
    (answer.status(), serde_json::from_slice(&answer.body).unwrap())
}

/// Publishes a text with an id to a channel.
fn publish_own(client: &mut Client, channel: &str, text: &str, id: &str) {
    let envelope = json!({"channel": channel, "text": text, "id": id});
    assert_eq!(publish(client, &envelope), (200, json!({"success": true, "id": id, "receivers": 0})));
}

/// The events of a stream that begins so, up to `caught-up`, as types and data.
fn replay(server: &Server, target: &str, last_event_id: Option<&str>) -> Vec<String> {
    let before = streams(server);
    let mut stream = match last_event_id {
        Some(id) => EventStream::resume(server, target, id),
        None => EventStream::open(server, target),
    };
    stream.expect("connected");
    let mut seen = Vec::new();
    loop {
        let event = stream.next().unwrap();
        match &*event.kind {
            "message" => seen.push(event.data),
            "gap" => {
                let gap: Value = serde_json::from_str(&event.data).unwrap();
                seen.push(format!("gap {} {}", gap["reason"].as_str().unwrap(), gap["missed"]));
            }
            "caught-up" => {
                let told: Value = serde_json::from_str(&event.data).unwrap();
                seen.extend((told["complete"] == false).then(|| "incomplete".to_owned()));
                break;
            }
            kind => panic!("{kind} {}", event.data),
        }
    }
    drop(stream);
    // The stream is no longer among the receivers of the next event.
    wait_for("the stream to go", || (streams(server) == before).then_some(()));
    seen
}

/// The number of streams.
fn streams(server: &Server) -> u64 {
    let answer = Client::connect(server).ask(GET_STATS);
    serde_json::from_slice::<Value>(&answer.body).unwrap()["total_clients"].as_u64().unwrap()
}

const GET_STATS: &str = "GET /sse/stats HTTP/1.1\r\nHost: localhost\r\n\r\n";

const UNKNOWN: [&str; 2] = ["gap unknown-id null", "incomplete"];

fn a_publishers_id_is_looked_up_among_the_events_that_the_stream_would_receive(io: DriverKind) {
    let server = Server::start(io, &[]);
    let mut publisher = Client::connect(&server);
    publish_own(&mut publisher, "a", "1", "order 7/é");
    publish_own(&mut publisher, "b", "2", "other");
    publish_own(&mut publisher, "chat/1", "3", "other");
    publisher.publish(r#"[{"userId":"ann","text":"4","id":"hers"},{"all":true,"text":"5","id":"all"}]"#);
    publisher.publish_text("a", "6");
    publish_own(&mut publisher, "b", "7", "other");
    for (target, id, expected) in [
        ("/channels/a", Some("order 7/é"), &["5", "6"][..]),
        ("/channels/a?lastEventId=order%207/%C3%A9", None, &["5", "6"]),
        ("/channels/a?last_event_id=order+7/%C3%A9", None, &["5", "6"]),
        ("/channels/a?lastEventId=none", Some("order 7/é"), &["5", "6"]),
        ("/channels/a", Some("order 7/"), &UNKNOWN),
        ("/channels/b", Some("order 7/é"), &UNKNOWN),
        ("/channels/b", Some("other"), &["5", "7"]),
        ("/channels/chat%2F1", Some("other"), &["5"]),
        ("/sse?channels=a,chat/1", Some("other"), &["5", "6"]),
        ("/sse?channels=a,b,chat/1", Some("other"), &["3", "5", "6", "7"]),
        ("/sse?channel=chat/*", Some("other"), &["5"]),
        ("/sse?channel=*", Some("order 7/é"), &["2", "3", "5", "6", "7"]),
        ("/sse?channel=a&userId=ann", Some("hers"), &["5", "6"]),
        ("/sse?channel=a&userId=ann", Some("order 7/é"), &["4", "5", "6"]),
        ("/sse?channel=a&userId=bob", Some("hers"), &UNKNOWN),
        ("/sse?channel=none", Some("all"), &[]),
    ] {
        assert_eq!(replay(&server, target, id), expected, "{target} after {id:?}");
    }
    // Live events follow as usual.
    let mut stream = EventStream::resume(&server, "/channels/a", "all");
    stream.expect("connected");
    assert_eq!(stream.message(), "6");
    stream.expect("caught-up");
    publisher.publish(r#"[{"channel":"a","text":"live","id":"all"}]"#);
    let live = stream.expect("message");
    assert_eq!((&*live.data, &*live.id), ("live", "all"));
}

fn an_id_that_was_used_twice_resumes_after_the_earliest_that_is_known(io: DriverKind) {
    let server = Server::start(io, &["--history-events", "3"]);
    let mut publisher = Client::connect(&server);
    publish_own(&mut publisher, "a", "1", "twice");
    publish_own(&mut publisher, "a", "2", "between");
    publish_own(&mut publisher, "a", "3", "twice");
    assert_eq!(replay(&server, "/channels/a", Some("twice")), ["2", "3"]);
    publisher.publish_text("a", "4");
    assert_eq!(replay(&server, "/channels/a", Some("twice")), ["4"], "the first has left");
    publisher.publish_text("a", "5");
    publisher.publish_text("a", "6");
    assert_eq!(replay(&server, "/channels/a", Some("twice")), UNKNOWN);
    assert_eq!(replay(&server, "/channels/a", Some("between")), UNKNOWN);
}

fn only_ids_with_a_tag_of_this_server_are_its_own(io: DriverKind) {
    let server = Server::start(io, &[]);
    let mut publisher = Client::connect(&server);
    let (servers, _) = publisher.publish_text("a", "first");
    let (tag, _) = servers.split_once('.').unwrap();
    let known = format!("{tag}.000000000000077");
    let (status, problem) = publish(&mut publisher, &json!({"channel": "a", "data": 1, "id": known}));
    assert_eq!(status, 400);
    let detail = format!(
        "`id`: {known} has the form of the ids that the server gives; choose another form, or leave it out"
    );
    assert_eq!(problem["detail"], detail);
    let item = json!([{"channel": "a", "data": 1}, {"channel": "a", "data": 1, "id": known}]);
    assert_eq!(publish(&mut publisher, &item).1["detail"], format!("item 1: {detail}"));
    let verbatim = format!("POST /channels/a?id={known} HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx");
    assert_eq!(publisher.ask(&verbatim.replace("Host: x", "Host: localhost")).status(), 400);
    // The id of another server is treated as a publisher's.
    let other = "AAAAAAAAAAA.000000000000077";
    assert_eq!(replay(&server, "/channels/a", Some(other)), UNKNOWN);
    publish_own(&mut publisher, "a", "second", other);
    publisher.publish_text("a", "third");
    assert_eq!(replay(&server, "/channels/a", Some(other)), ["third"]);
    assert_eq!(replay(&server, "/channels/a", Some(&servers)), ["second", "third"], "nothing else was taken");
}

fn an_id_is_known_however_its_event_went_until_enough_others_came(io: DriverKind) {
    let server = Server::start(io, &["--history-events", "100", "--history-bytes", "1MiB"]);
    let mut publisher = Client::connect(&server);
    publish_own(&mut publisher, "a", "1", "mine");
    let large = "x".repeat(100_000);
    for _ in 0..20 {
        publisher.publish_text("large", &large);
    }
    assert_eq!(replay(&server, "/channels/a?replay=all", None).len(), 0, "its event is gone, for bytes");
    assert_eq!(replay(&server, "/channels/a", Some("mine")).len(), 0, "nothing is missing behind it");
    publisher.publish_text("a", "2");
    assert_eq!(replay(&server, "/channels/a", Some("mine")), ["2"]);
    for _ in 0..20 {
        publisher.publish_text("large", &large);
    }
    let expected = ["gap history-expired null", "incomplete"];
    assert_eq!(replay(&server, "/channels/a", Some("mine")), expected, "2 is gone behind it");
    (3..=100).for_each(|n| drop(publisher.publish_text("a", &n.to_string())));
    assert_eq!(replay(&server, "/channels/a", Some("mine"))[0], expected[0]);
    publisher.publish_text("a", "101");
    assert_eq!(replay(&server, "/channels/a", Some("mine")), UNKNOWN);
}

fn an_event_is_replayed_for_its_ttl_and_not_missed_after_it(io: DriverKind) {
    let server = Server::start(io, &[]);
    let mut publisher = Client::connect(&server);
    let mut live = EventStream::open(&server, "/channels/a");
    let start = live.expect("connected").id;
    publisher.publish(
        r#"[{"channel":"a","text":"1"},{"channel":"a","text":"2","ttl":1,"id":"mine"},
            {"channel":"a","text":"3","ttl":3600},{"channel":"b","text":"4","ttl":1}]"#,
    );
    wait_for("what has lapsed to be replayed no more", || {
        (replay(&server, "/channels/a?replay=all", None) == ["1", "3"]).then_some(())
    });
    for (target, id, expected) in [
        ("/channels/a", Some(&*start), &["1", "3"][..]),
        ("/channels/a", Some("mine"), &["3"]),
        ("/channels/a?replay=2", None, &["1", "3"]),
        ("/sse?channel=*", Some(&*start), &["1", "3"]),
        ("/channels/b?replay=all", None, &[]),
    ] {
        assert_eq!(replay(&server, target, id), expected, "{target} after {id:?}");
    }
    // A live stream gets it too, unless it is itself a second late.
    let second = live.message();
    assert_eq!(second, "1");
    let next = live.message();
    assert!(next == "3" || (next == "2" && live.message() == "3"), "{next}");
}
