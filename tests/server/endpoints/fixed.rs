//! The publishes of fixed form: the bytes of each request, of its answer, and of the streams.

use super::{STREAM_HEAD, check, chunk, connected, problem};
use crate::common::{Client, DriverKind, EventStream, Server, for_each_driver, wire};

for_each_driver!(
    events_are_sent_to_a_channel,
    a_broadcast_takes_its_channel_from_the_query_or_from_the_body,
    notifications_go_to_their_channel,
    data_updates_go_to_the_channel_of_their_entity,
    what_is_wrong_with_a_body_is_reported,
    users_and_all_streams_are_published_to,
    a_users_events_and_those_to_all_are_resumed_with,
    every_endpoint_holds_to_the_rules_of_publishing,
);

/// A request with a JSON body.
fn post(target: &str, body: &str) -> String {
    format!(
        "POST {target} HTTP/1.1\nHost: localhost\nContent-Type: application/json\nContent-Length: {}\n\n{body}",
        body.len()
    )
}

/// The answer to one event.
fn published(id: &str, receivers: u64) -> String {
    let unmasked = if id.starts_with('#') { 27 } else { id.len() };
    let body = format!("{{\"success\":true,\"id\":\"{id}\",\"receivers\":{receivers}}}");
    format!(
        "HTTP/1.1 200 OK\nDate: *\nCache-Control: no-store\nContent-Type: application/json\nContent-Length: {}\n\n{body}",
        body.len() - id.len() + unmasked
    )
}

fn subscribe(server: &Server, channel: &str) -> Client {
    let mut client = Client::connect(server);
    client.send(format!("GET /sse?channel={channel} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    let head = wire(&format!("{STREAM_HEAD}Transfer-Encoding: chunked\nConnection: close\n\n"));
    client.expect(&format!("{head}{}", chunk(&connected("#0", &format!("\"{channel}\"")))));
    client
}

fn events_are_sent_to_a_channel(io: DriverKind) {
    let server = Server::start(io, &[]);
    let (mut news, mut global) = (subscribe(&server, "news"), subscribe(&server, "global"));
    let body = r#"{"channel":"news","event":"e","data":{"x": "ü\n"},"retry":250}"#;
    check(&server, &post("/events/send", body), &published("#1", 1));
    news.expect(&chunk("retry: 250\nevent: e\nid: #1\ndata: {\"x\": \"ü\\n\"}\n\n"));
    check(&server, &post("/events/send", r#"{"data":"to all","id":"mine"}"#), &published("mine", 1));
    global.expect(&chunk("id: mine\ndata: \"to all\"\n\n"));
    // As curl sends it, and without a content type.
    check(
        &server,
        "POST /events/send HTTP/1.1\nHost: localhost\nContent-Type: application/x-www-form-urlencoded\n\
         Content-Length: 10\n\n{\"data\":1}",
        &published("#3", 1),
    );
    check(
        &server,
        "POST /events/send HTTP/1.0\nContent-Length: 10\n\n{\"data\":2}",
        &published("#4", 1).replace("\n\n", "\nConnection: close\n\n"),
    );
    global.expect(&format!("{}{}", chunk("id: #3\ndata: 1\n\n"), chunk("id: #4\ndata: 2\n\n")));
}

fn a_broadcast_takes_its_channel_from_the_query_or_from_the_body(io: DriverKind) {
    let server = Server::start(io, &[]);
    let (mut news, mut global) = (subscribe(&server, "news"), subscribe(&server, "global"));
    check(
        &server,
        &post("/sse/broadcast?channel=news&event=e", "{\"channel\":\"other\",\n \"data\":1}\n"),
        &published("#1", 1),
    );
    check(
        &server,
        &post("/sse/broadcast", r#"{"channel":"news","event":"f","data":[1]}"#),
        &published("#2", 1),
    );
    news.expect(&format!(
        "{}{}",
        chunk("event: e\nid: #1\ndata: {\"channel\":\"other\",\ndata:  \"data\":1}\n\n"),
        chunk("event: f\nid: #2\ndata: [1]\n\n")
    ));
    check(&server, &post("/sse/broadcast?event=g", "null"), &published("#3", 1));
    check(&server, &post("/sse/broadcast", r#"{"data":"x"}"#), &published("#4", 1));
    global.expect(&format!(
        "{}{}",
        chunk("event: g\nid: #3\ndata: null\n\n"),
        chunk("id: #4\ndata: \"x\"\n\n")
    ));
}

fn notifications_go_to_their_channel(io: DriverKind) {
    let server = Server::start(io, &[]);
    let mut alerts = subscribe(&server, "alerts");
    let body =
        r#"{"channel":"alerts","notification":{"type":"warning","title":"Disk","message":"90 % full"}}"#;
    check(&server, &post("/notify", body), &published("#1", 1));
    alerts.expect(&chunk(
        "event: notification\nid: #1\ndata: {\"type\":\"warning\",\"title\":\"Disk\",\"message\":\"90 % full\"}\n\n",
    ));
}

fn data_updates_go_to_the_channel_of_their_entity(io: DriverKind) {
    let server = Server::start(io, &[]);
    let mut entity = subscribe(&server, "entity:42");
    let body = r#"{"entity":"42","action":"updated","data":{"price":7}}"#;
    check(&server, &post("/data-update", body), &published("#1", 1));
    entity.expect(&chunk(&format!("event: data-update\nid: #1\ndata: {body}\n\n")));
    check(&server, &post("/data-update", &body.replace("42", "43")), &published("#2", 0));
}

fn what_is_wrong_with_a_body_is_reported(io: DriverKind) {
    let server = Server::start(io, &[]);
    for (target, body, detail) in [
        ("/events/send", "{}", "no data; expected `data` (any JSON value)"),
        ("/sse/broadcast?channel=a", "hello", "not JSON at line 1 column 1: expected value"),
        ("/sse/broadcast-all", "", "the body is empty; expected a JSON value, which is the data"),
        ("/sse/notify-user", "1", "the parameter `user_id` is missing; it names the user"),
        (
            "/notify",
            r#"{"channel":"a","notification":{"type":"fatal","title":"t","message":"m"}}"#,
            "`notification.type`: found \"fatal\", expected `info`, `warning` or `error`",
        ),
        (
            "/progress",
            r#"{"userId":"u","progress":{"taskId":"t","progress":100.5,"status":"running"}}"#,
            "`progress.progress`: found 100.5, expected a number from 0 to 100",
        ),
        (
            "/data-update",
            r#"{"entity":"a","action":"updated","data":[]}"#,
            "`data`: found an array, expected an object",
        ),
    ] {
        check(&server, &post(target, body), &problem("400 Bad Request", "", detail));
    }
}

fn users_and_all_streams_are_published_to(io: DriverKind) {
    let server = Server::start(io, &[]);
    let stream = |query: &str| EventStream::open(&server, &format!("/sse?{query}"));
    let (mut jane, mut again) = (stream("channel=a&userId=jane"), stream("channel=b&user_id=jane"));
    let mut nobody = stream("channel=a");
    for connected in [&mut jane, &mut again, &mut nobody] {
        let told: serde_json::Value = serde_json::from_str(&connected.expect("connected").data).unwrap();
        assert_eq!(told["channels"].as_array().map(Vec::len), Some(1));
    }
    let progress = r#"{"taskId":"t","progress":50,"status":"running"}"#;
    let to_user = [
        ("/progress", format!(r#"{{"userId":"jane","progress":{progress}}}"#), "progress", progress),
        ("/sse/notify-user?user_id=jane&event=e", "{}".to_owned(), "e", "{}"),
        ("/sse/notify-user?userId=jane", "1".to_owned(), "message", "1"),
        ("/events/send", r#"{"userId":"jane","data":2}"#.to_owned(), "message", "2"),
        ("/publish", r#"{"userId":"jane","data":3}"#.to_owned(), "message", "3"),
    ];
    for ((target, body, kind, data), number) in to_user.iter().zip(1..) {
        check(&server, &post(target, body), &published(&format!("#{number}"), 2));
        for stream in [&mut jane, &mut again] {
            assert_eq!(stream.expect(kind).data, *data);
        }
    }
    check(&server, &post("/publish", r#"{"userId":"joe","data":1}"#), &published("#6", 0));
    check(&server, &post("/publish", r#"{"all":true,"data":4}"#), &published("#7", 3));
    check(&server, &post("/sse/broadcast-all?event=e", "5"), &published("#8", 3));
    for stream in [&mut jane, &mut again, &mut nobody] {
        assert_eq!(stream.expect("message").data, "4");
        assert_eq!(stream.expect("e").data, "5");
    }
}

fn a_users_events_and_those_to_all_are_resumed_with(io: DriverKind) {
    let server = Server::start(io, &[]);
    let mut jane = EventStream::open(&server, "/sse?channel=a&userId=jane");
    let place = jane.expect("connected").id;
    drop(jane);
    for body in [
        r#"{"userId":"jane","data":1}"#,
        r#"{"all":true,"data":2}"#,
        r#"{"channel":"a","data":3}"#,
        r#"{"userId":"joe","data":4}"#,
        r#"{"userId":"jane","data":5}"#,
    ] {
        assert_eq!(Client::connect(&server).ask(&wire(&post("/publish", body))).status(), 200);
    }
    let mut jane = EventStream::resume(&server, "/sse?channel=a&userId=jane", &place);
    jane.expect("connected");
    let replayed: Vec<String> = (0..4).map(|_| jane.message()).collect();
    assert_eq!(replayed, ["1", "2", "3", "5"]);
    assert_eq!(jane.expect("caught-up").data, r#"{"replayed":4,"complete":true}"#);
}

fn every_endpoint_holds_to_the_rules_of_publishing(io: DriverKind) {
    let server = Server::start(io, &[]);
    for target in [
        "/events/send",
        "/sse/broadcast",
        "/sse/broadcast-all",
        "/sse/notify-user",
        "/notify",
        "/progress",
        "/data-update",
    ] {
        let headers =
            |more: &str| format!("POST {target} HTTP/1.1\nHost: localhost\n{more}Content-Length: 2\n\n{{}}");
        for kind in ["text/plain", "application/x-ndjson"] {
            let detail = format!("Content-Type: found \"{kind}\", expected application/json");
            check(
                &server,
                &headers(&format!("Content-Type: {kind}\n")),
                &problem("415 Unsupported Media Type", "", &detail),
            );
        }
        check(
            &server,
            &headers("Origin: http://evil.example\n"),
            &problem(
                "403 Forbidden",
                "",
                "web pages of the origin \"http://evil.example\" may not publish or manage; only the server's own may, and \
                 those whose host is named with --host NAME",
            ),
        );
        check(
            &server,
            &format!("POST {target} HTTP/1.1\nHost: evil.example\nContent-Length: 2\n\n{{}}"),
            &problem(
                "403 Forbidden",
                "",
                "this listener is reached by loopback names and addresses alone, not by \"evil.example\"; allow a \
                 name with --host NAME",
            ),
        );
        check(
            &server,
            &format!("GET {target} HTTP/1.1\nHost: localhost\n\n"),
            &problem(
                "405 Method Not Allowed",
                "Allow: POST, OPTIONS\n",
                "GET is not allowed here; expected POST, OPTIONS",
            ),
        );
        check(
            &server,
            &format!("OPTIONS {target} HTTP/1.1\nHost: localhost\n\n"),
            "HTTP/1.1 204 No Content\nDate: *\nCache-Control: no-store\nAllow: POST, OPTIONS\n\n",
        );
    }
}
