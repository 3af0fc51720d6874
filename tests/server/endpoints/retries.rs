//! Publishes under idempotency keys, and the answers to their retries.

use super::{begin_lines, check, problem};
use crate::common::{Client, DriverKind, EventStream, Server, for_each_driver, number, wire};

for_each_driver!(
    a_retried_request_is_answered_as_the_first_time_and_publishes_nothing,
    every_endpoint_that_publishes_takes_the_header,
    the_header_covers_one_array,
    envelopes_have_keys_of_their_own_in_arrays_too,
    lines_have_keys_of_their_own_alone,
    lines_that_come_one_after_the_other_know_the_keys_of_those_before,
    as_many_keys_are_remembered_as_the_option_says_and_they_are_counted,
    many_connections_that_publish_under_one_key_at_once_publish_once,
);

/// A publish of this body, with these further headers.
fn post(target: &str, headers: &str, body: &str) -> String {
    format!("POST {target} HTTP/1.1\nHost: localhost\n{headers}Content-Length: {}\n\n{body}", body.len())
}

/// The answer of this status with this JSON, in which ids are masked.
fn json(status: &str, content_type: &str, body: &str) -> String {
    let ids = body.matches('#').count();
    let digits: usize =
        body.split('#').skip(1).map(|rest| rest.bytes().take_while(u8::is_ascii_digit).count()).sum();
    let length = body.len() - ids - digits + 27 * ids;
    format!(
        "HTTP/1.1 {status}\nDate: *\nCache-Control: no-store\nContent-Type: {content_type}\nContent-Length: {length}\n\n{body}"
    )
}

fn ok(body: &str) -> String {
    json("200 OK", "application/json", body)
}

const ANOTHER_REQUEST: &str = "Idempotency-Key was used for another request within the last five minutes; a new request needs a new key";
const ANOTHER_EVENT: &str =
    "`idempotencyKey` was used for another event within the last five minutes; a new event needs a new key";
const LINES: &str = "Content-Type: application/x-ndjson\n";

/// Publishes an event and checks its number.
fn expect_next(server: &Server, expected: u64) {
    let (id, _) = Client::connect(server).publish_text("end", "x");
    assert_eq!(number(&id), expected);
}

fn a_retried_request_is_answered_as_the_first_time_and_publishes_nothing(io: DriverKind) {
    let server = Server::start(io, &["--shards", "2"]);
    let mut stream = EventStream::open(&server, "/channels/a");
    stream.expect("connected");
    let key = "Idempotency-Key: order-17\n";
    let request = post("/publish", key, r#"{"channel":"a","data":1}"#);
    check(&server, &request, &ok(r##"{"success":true,"id":"#1","receivers":1}"##));
    // Also if there are other receivers than the first time.
    let mut other = EventStream::open(&server, "/channels/a");
    other.expect("connected");
    for _ in 0..4 {
        check(&server, &request, &ok(r##"{"success":true,"id":"#1","receivers":1,"duplicate":true}"##));
    }
    let conflict = problem("409 Conflict", "", ANOTHER_REQUEST);
    check(&server, &post("/publish", key, r#"{"channel":"a","data":2}"#), &conflict);
    check(&server, &post("/channels/a", key, r#"{"channel":"a","data":1}"#), &conflict);
    check(
        &server,
        &post("/publish", "Idempotency-Key: order-18\n", r#"{"channel":"a","data":1}"#),
        &ok(r##"{"success":true,"id":"#2","receivers":2}"##),
    );
    expect_next(&server, 3);
    assert_eq!([stream.message(), stream.message()], ["1", "1"]);
}

fn every_endpoint_that_publishes_takes_the_header(io: DriverKind) {
    let server = Server::start(io, &[]);
    let mut event = 0;
    for (target, body) in [
        ("/channels/a?id=own", "text"),
        ("/events/send", r#"{"data":1}"#),
        ("/sse/broadcast?channel=a", "1"),
        ("/sse/broadcast-all", "1"),
        ("/sse/notify-user?user_id=u", "1"),
        ("/notify", r#"{"channel":"a","notification":{"type":"info","title":"t","message":"m"}}"#),
        ("/progress", r#"{"userId":"u","progress":{"taskId":"t","progress":1,"status":"running"}}"#),
        ("/data-update", r#"{"entity":"e","action":"created","data":{}}"#),
    ] {
        event += 1;
        let id = if target.contains("own") { "own".to_owned() } else { format!("#{event}") };
        let request = post(target, &format!("Idempotency-Key: {event}\n"), body);
        check(&server, &request, &ok(&format!(r#"{{"success":true,"id":"{id}","receivers":0}}"#)));
        let again = format!(r#"{{"success":true,"id":"{id}","receivers":0,"duplicate":true}}"#);
        check(&server, &request, &ok(&again));
    }
    expect_next(&server, event + 1);
}

fn the_header_covers_one_array(io: DriverKind) {
    let server = Server::start(io, &[]);
    let key = "Idempotency-Key: k\n";
    let array =
        r#"[{"channel":"a","data":1},{"channel":"b","text":"two","id":"own"},{"channel":"c","data":3}]"#;
    let answer = r##"{"success":true,"published":3,"ids":["#1","own","#3"]"##;
    check(&server, &post("/publish", key, array), &ok(&format!("{answer}}}")));
    let again = format!(r#"{answer},"duplicate":true}}"#);
    check(&server, &post("/publish", key, array), &ok(&again));
    let conflict = problem("409 Conflict", "", ANOTHER_REQUEST);
    check(&server, &post("/publish", key, r#"[{"channel":"a","data":1}]"#), &conflict);
    let both =
        "both the header Idempotency-Key, which covers the whole request, and `idempotencyKey` are given";
    let array = r#"[{"channel":"a","data":1,"idempotencyKey":"x"}]"#;
    check(&server, &post("/publish", "Idempotency-Key: l\n", array), &problem("400 Bad Request", "", both));
    expect_next(&server, 4);
}

fn envelopes_have_keys_of_their_own_in_arrays_too(io: DriverKind) {
    let server = Server::start(io, &[]);
    let envelope =
        |data: u64, key: &str| format!(r#"{{"channel":"a","data":{data},"idempotencyKey":"{key}"}}"#);
    let publish = |body: &str| post("/publish", "", body);
    let first = publish(&envelope(1, "größe"));
    check(&server, &first, &ok(r##"{"success":true,"id":"#1","receivers":0}"##));
    check(&server, &first, &ok(r##"{"success":true,"id":"#1","receivers":0,"duplicate":true}"##));
    check(&server, &publish(&envelope(2, "größe")), &problem("409 Conflict", "", ANOTHER_EVENT));

    let plain = r#"{"channel":"a","data":0}"#;
    let array = publish(&format!(
        "[{plain},{},{},{},{}]",
        envelope(1, "größe"),
        envelope(2, "b"),
        envelope(3, "c"),
        envelope(2, "b")
    ));
    let answer = r##"{"success":true,"published":3,"duplicates":2,"ids":["#2","#1","#3","#4","#3"]}"##;
    check(&server, &array, &ok(answer));
    let answer = r##"{"success":true,"published":1,"duplicates":4,"ids":["#5","#1","#3","#4","#3"]}"##;
    check(&server, &array, &ok(answer));
    let array = publish(&format!("[{},{}]", envelope(2, "b"), envelope(1, "größe")));
    let answer = r##"{"success":true,"published":0,"duplicates":2,"ids":["#3","#1"]}"##;
    check(&server, &array, &ok(answer));
    let array = publish(&format!("[{},{plain}]", envelope(4, "d")));
    check(&server, &array, &ok(r##"{"success":true,"published":2,"duplicates":0,"ids":["#6","#7"]}"##));

    // No event of an array is published if one of its keys was used for another event.
    let array = publish(&format!("[{plain},{},{}]", envelope(5, "new"), envelope(5, "b")));
    check(&server, &array, &problem("409 Conflict", "", &format!("item 2: {ANOTHER_EVENT}")));
    let array = publish(&format!("[{},{plain},{}]", envelope(5, "new"), envelope(6, "new")));
    check(&server, &array, &problem("409 Conflict", "", &format!("item 2: {ANOTHER_EVENT}")));
    check(&server, &publish(&envelope(6, "new")), &ok(r##"{"success":true,"id":"#8","receivers":0}"##));
}

fn lines_have_keys_of_their_own_alone(io: DriverKind) {
    let server = Server::start(io, &[]);
    let line = |data: u64, key: &str| {
        format!("{{\"channel\":\"a\",\"data\":{data},\"idempotencyKey\":\"{key}\"}}\n")
    };
    let text = line(1, "a") + "{\"channel\":\"a\",\"data\":0}\n\n" + &line(2, "b") + &line(1, "a");
    check(
        &server,
        &post("/publish", LINES, &text),
        &ok(r##"{"success":true,"published":3,"duplicates":1,"ids":["#1","#2","#3","#1"]}"##),
    );
    check(
        &server,
        &post("/publish", LINES, &text),
        &ok(r##"{"success":true,"published":1,"duplicates":3,"ids":["#1","#4","#3","#1"]}"##),
    );
    let detail = "Idempotency-Key does not cover a body of lines; give envelopes keys of their own";
    check(
        &server,
        &post("/publish", &format!("{LINES}Idempotency-Key: k\n"), &text),
        &problem("400 Bad Request", "", detail),
    );
    let conflict = |line: u64, published: u64, duplicates: u64| {
        let body = format!(
            "{{\"type\":\"about:blank\",\"title\":\"Conflict\",\"status\":409,\"detail\":\"line {line}: {ANOTHER_EVENT}\",\
             \"published\":{published},\"duplicates\":{duplicates},\"line\":{line}}}"
        );
        json("409 Conflict", "application/problem+json", &body)
    };
    let text = line(3, "c") + &line(2, "b") + "\n" + &line(9, "b") + &line(4, "d");
    check(&server, &post("/publish", LINES, &text), &conflict(4, 1, 1));
    let text = line(5, "e") + &line(6, "e") + &line(7, "f");
    check(&server, &post("/publish", LINES, &text), &conflict(2, 1, 0));
    expect_next(&server, 7);
}

fn lines_that_come_one_after_the_other_know_the_keys_of_those_before(io: DriverKind) {
    let server = Server::start(io, &[]);
    let (mut stream, mut client) = begin_lines(&server);
    let line = "{\"channel\":\"a\",\"data\":1,\"idempotencyKey\":\"k\"}\n";
    let chunk = format!("{:x}\r\n{line}\r\n", line.len());
    client.send(&chunk);
    assert_eq!(stream.message(), "1");
    client.send(&chunk);
    client.send(chunk.replace(":1,", ":2,"));
    let answer = client.answer();
    let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!((answer.status(), &body["published"], &body["duplicates"]), (409, &1.into(), &1.into()));
    assert_eq!(body["line"], 3);
    expect_next(&server, 2);
}

fn as_many_keys_are_remembered_as_the_option_says_and_they_are_counted(io: DriverKind) {
    let server = Server::start(io, &["--idempotency-keys", "2"]);
    let request = |key: &str| post("/channels/a", &format!("Idempotency-Key: {key}\n"), "x");
    let answer = |event: u64| ok(&format!(r##"{{"success":true,"id":"#{event}","receivers":0}}"##));
    let again =
        |event: u64| ok(&format!(r##"{{"success":true,"id":"#{event}","receivers":0,"duplicate":true}}"##));
    for (key, event) in [("a", 1), ("b", 2), ("c", 3)] {
        check(&server, &request(key), &answer(event));
    }
    check(&server, &request("b"), &again(2));
    check(&server, &request("c"), &again(3));
    check(&server, &request("a"), &answer(4));
    let answer = Client::connect(&server).ask("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let metrics = String::from_utf8(answer.body).unwrap();
    for line in ["\ndownpour_publish_duplicates_total 2\n", "\ndownpour_idempotency_keys 2\n"] {
        assert!(metrics.contains(line), "{metrics}");
    }
}

fn many_connections_that_publish_under_one_key_at_once_publish_once(io: DriverKind) {
    let server = Server::start(io, &["--shards", "2"]);
    let mut stream = EventStream::open(&server, "/channels/a");
    stream.expect("connected");
    let request = wire(&post("/channels/a", "Idempotency-Key: k\n", "once"));
    let mut clients: Vec<Client> = (0..40).map(|_| Client::connect(&server)).collect();
    clients.iter_mut().for_each(|client| client.send(&request));
    let is_first = |client: &mut Client| {
        let body: serde_json::Value = serde_json::from_slice(&client.answer().body).unwrap();
        assert_eq!((number(body["id"].as_str().unwrap()), &body["receivers"]), (1, &1.into()));
        body.get("duplicate").is_none()
    };
    assert_eq!(clients.iter_mut().filter_map(|client| is_first(client).then_some(())).count(), 1);
    expect_next(&server, 2);
    assert_eq!(stream.message(), "once");
}
