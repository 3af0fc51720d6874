//! Requests about live streams by their client ids: every endpoint and every error, to the byte.

use super::{STREAM_HEAD, check, chunk, connected, problem};
use crate::common::{Client, DriverKind, EventStream, Server, for_each_driver, wait_for, wire};

for_each_driver!(
    the_channels_of_a_live_stream_are_changed_by_body_and_by_query,
    a_change_is_sent_to_the_stream_without_an_id,
    what_is_wrong_with_a_change_is_reported,
    a_stream_is_shown_and_ended_by_its_id,
    an_event_goes_to_one_client_and_its_publisher_gets_404_once_that_is_gone,
    the_client_command_publishes_to_one_client,
);

/// A stream and its client id.
fn open(server: &Server, target: &str) -> (EventStream, String) {
    let mut stream = EventStream::open(server, target);
    let connected = stream.expect("connected");
    let data: serde_json::Value = serde_json::from_str(&connected.data).unwrap();
    assert_eq!(data["clientId"], data["client_id"]);
    (stream, data["clientId"].as_str().unwrap().to_owned())
}

fn post(target: &str, body: &str) -> String {
    format!("POST {target} HTTP/1.1\nHost: localhost\nContent-Length: {}\n\n{body}", body.len())
}

fn json(body: &str, masked_bytes: usize) -> String {
    let length = body.len() + masked_bytes;
    format!(
        "HTTP/1.1 200 OK\nDate: *\nCache-Control: no-store\nContent-Type: application/json\nContent-Length: {length}\n\n{body}"
    )
}

const UNKNOWN: &str = "no client with this `clientId` is connected";

fn the_channels_of_a_live_stream_are_changed_by_body_and_by_query(io: DriverKind) {
    let server = Server::start(io, &["--shards", "2"]);
    let (mut stream, client) = open(&server, "/sse?channel=a");
    let by_body = |verb: &str, channel: &str| {
        post(&format!("/events/{verb}"), &format!(r#"{{"clientId":"{client}","channel":"{channel}"}}"#))
    };
    let by_query = |verb: &str, parameter: &str, channel: &str| {
        post(&format!("/sse/{verb}?{parameter}={client}&channel={channel}"), "")
    };
    for (request, channels, told) in [
        (by_body("subscribe", "größe"), r#""a","größe""#, Some(("subscribed", "größe"))),
        (by_query("subscribe", "client_id", "gr%C3%B6%C3%9Fe"), r#""a","größe""#, None),
        (by_query("subscribe", "clientId", "b*"), r#""a","größe","b*""#, Some(("subscribed", "b*"))),
        (by_query("unsubscribe", "clientId", "a"), r#""größe","b*""#, Some(("unsubscribed", "a"))),
        (by_query("unsubscribe", "client_id", "a"), r#""größe","b*""#, None),
        (by_body("unsubscribe", "größe"), r#""b*""#, Some(("unsubscribed", "größe"))),
        (by_body("unsubscribe", "b*"), "", Some(("unsubscribed", "b*"))),
        (by_body("unsubscribe", "b"), "", None),
        (by_body("subscribe", "a"), r#""a""#, Some(("subscribed", "a"))),
    ] {
        check(&server, &request, &json(&format!(r#"{{"success":true,"channels":[{channels}]}}"#), 0));
        if let Some((kind, channel)) = told {
            let seen = stream.expect(kind);
            assert_eq!(seen.data, format!(r#"{{"channel":"{channel}","channels":[{channels}]}}"#));
        }
    }
    let (_, receivers) = Client::connect(&server).publish_text("a", "hello");
    assert_eq!((receivers, stream.expect("message").data.as_str()), (1, "hello"));
}

fn a_change_is_sent_to_the_stream_without_an_id(io: DriverKind) {
    let server = Server::start(io, &[]);
    let mut raw = Client::connect(&server);
    raw.send("GET /sse?channel=a HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let head = String::from_utf8(raw.take_through(b"\r\n\r\n")).unwrap();
    assert!(head.starts_with("HTTP/1.1 200") && STREAM_HEAD.contains("text/event-stream"));
    let first = String::from_utf8(raw.take_through(b"\n\n\r\n")).unwrap();
    assert_eq!(crate::common::masked(&first), chunk(&connected("#0", r#""a""#)));
    let client = first.split(r#""clientId":""#).nth(1).unwrap().split('"').next().unwrap();
    let request = post(&format!("/sse/subscribe?client_id={client}&channel=b"), "");
    check(&server, &request, &json(r#"{"success":true,"channels":["a","b"]}"#, 0));
    raw.expect(&chunk("event: subscribed\ndata: {\"channel\":\"b\",\"channels\":[\"a\",\"b\"]}\n\n"));
    let request = post(&format!("/sse/unsubscribe?client_id={client}&channel=a"), "");
    check(&server, &request, &json(r#"{"success":true,"channels":["b"]}"#, 0));
    raw.expect(&chunk("event: unsubscribed\ndata: {\"channel\":\"a\",\"channels\":[\"b\"]}\n\n"));
}

fn what_is_wrong_with_a_change_is_reported(io: DriverKind) {
    let server = Server::start(io, &["--max-channels-per-stream", "2", "--max-channels", "4"]);
    let (_stream, client) = open(&server, "/sse?channels=a,b");
    let (_other, roomy) = open(&server, "/sse?channel=c");
    let body = |fields: &str| post("/events/subscribe", fields);
    let named =
        |client: &str, channel: &str| body(&format!(r#"{{"clientId":"{client}","channel":"{channel}"}}"#));
    let query = |query: &str| post(&format!("/sse/unsubscribe?{query}"), "");
    let (bad, not_found) = ("400 Bad Request", "404 Not Found");
    let stranger = format!("{:032x}{}", 7, &client[32..]);
    for (request, status, headers, detail) in [
        (named("x", "a"), not_found, "", UNKNOWN),
        (named(&stranger, "a"), not_found, "", UNKNOWN),
        (named("0000000000000000000000000000002a-3f-1", "a"), not_found, "", UNKNOWN),
        (query(&format!("client_id={stranger}&channel=a")), not_found, "", UNKNOWN),
        (named(&client, "c"), bad, "", "a stream has at most 2 channels"),
        (
            body(r#"{"channel":"a"}"#),
            bad,
            "",
            "`clientId` is missing; the fields are `clientId` and `channel`",
        ),
        (
            body(r#"{"clientId":"x","channel":"a","more":1}"#),
            bad,
            "",
            "unknown field \"more\"; the fields are `clientId` and `channel`",
        ),
        (body(""), bad, "", "the body is empty; expected a JSON object"),
        (body("[]"), bad, "", "the body is an array; expected a JSON object"),
        (
            named(&client, "a b"),
            bad,
            "",
            "`channel`: a channel name must not contain control characters, spaces or commas; found ' ' at byte 1",
        ),
        (query("channel=a"), bad, "", "the parameter `client_id` is missing; it names the stream"),
        (query(&format!("client_id={client}")), bad, "", "the parameter `channel` is missing"),
        (
            query(&format!("client_id={client}&channel=a&chanel=b")),
            bad,
            "",
            "unknown parameter \"chanel\"; expected `client_id` and `channel`",
        ),
        (
            query(&format!("client_id={client}&clientId={client}&channel=a")),
            bad,
            "",
            "the parameter `client_id` is given twice",
        ),
        (
            post("/events/subscribe?channel=a", "{}"),
            bad,
            "",
            "unknown parameter \"channel\"; expected none; the body says all",
        ),
        (
            "POST /events/subscribe HTTP/1.1\nHost: localhost\nContent-Type: text/plain\nContent-Length: 2\n\n{}"
                .to_owned(),
            "415 Unsupported Media Type",
            "",
            "Content-Type: found \"text/plain\", expected application/json",
        ),
        (
            "GET /events/subscribe HTTP/1.1\nHost: localhost\n\n".to_owned(),
            "405 Method Not Allowed",
            "Allow: POST, OPTIONS\n",
            "GET is not allowed here; expected POST, OPTIONS",
        ),
        (
            "POST /sse/subscribe HTTP/1.1\nHost: localhost\nOrigin: http://evil.example\nContent-Length: 0\n\n"
                .to_owned(),
            "403 Forbidden",
            "",
            "web pages of the origin \"http://evil.example\" may not publish or manage; only the server's own may, \
             and those whose host is named with --host NAME",
        ),
    ] {
        check(&server, &request, &problem(status, headers, detail));
    }
    Client::connect(&server).publish_text("d", "x"); // The fourth channel.
    check(
        &server,
        &named(&roomy, "e"),
        &problem(
            "429 Too Many Requests",
            "Retry-After: 3\n",
            "the server has as many channels as it keeps; subscribe to one that exists, or later",
        ),
    );
    check(&server, &named(&roomy, "d"), &json(r#"{"success":true,"channels":["c","d"]}"#, 0));
}

fn a_stream_is_shown_and_ended_by_its_id(io: DriverKind) {
    let server = Server::start(io, &["--shards", "2"]);
    let (mut stream, client) = open(&server, "/sse?channels=b,a&userId=ann");
    let request = |method: &str, id: &str| format!("{method} /clients/{id} HTTP/1.1\nHost: localhost\n\n");
    let mut operator = Client::connect(&server);
    let shown = wait_for("all to be written", || {
        let answer = operator.ask(&wire(&request("GET", &client)));
        let text = String::from_utf8(answer.body).unwrap();
        text.contains(r#""queuedBytes":0"#).then_some(text)
    });
    let seconds = shown.split(r#""connectedSeconds":"#).nth(1).unwrap().split(',').next().unwrap();
    assert!(seconds.parse::<u32>().is_ok());
    assert_eq!(
        shown,
        format!(
            r#"{{"clientId":"{client}","client_id":"{client}","userId":"ann","channels":["b","a"],"state":"live","connectedSeconds":{seconds},"lagEvents":0,"queuedBytes":0}}"#
        )
    );
    let head = operator.ask(&wire(&request("GET", "x")));
    assert_eq!(head.status(), 404);
    for method in ["GET", "DELETE"] {
        check(&server, &request(method, "x"), &problem("404 Not Found", "", UNKNOWN));
    }
    let allowed = "GET, HEAD, DELETE, OPTIONS";
    check(
        &server,
        &request("OPTIONS", &client),
        &format!("HTTP/1.1 204 No Content\nDate: *\nCache-Control: no-store\nAllow: {allowed}\n\n"),
    );
    let refused = format!("POST is not allowed here; expected {allowed}");
    check(
        &server,
        &post(&format!("/clients/{client}"), ""),
        &problem("405 Method Not Allowed", &format!("Allow: {allowed}\n"), &refused),
    );

    Client::connect(&server).publish_text("a", "last");
    check(&server, &request("DELETE", &client), &json(r#"{"success":true}"#, 0));
    assert_eq!(stream.expect("message").data, "last");
    assert_eq!(stream.expect("shutdown").data, r#"{"reason":"deleted"}"#);
    check(&server, &request("GET", &client), &problem("404 Not Found", "", UNKNOWN));
}

fn an_event_goes_to_one_client_and_its_publisher_gets_404_once_that_is_gone(io: DriverKind) {
    let server = Server::start(io, &["--shards", "2"]);
    let (mut stream, client) = open(&server, "/sse?channel=a");
    let (mut other, gone) = open(&server, "/sse?channel=a");
    let envelope = |client: &str| format!(r#"{{"clientId":"{client}","event":"note","data":{{"n":1}}}}"#);
    let published =
        |number: u64| json(&format!(r##"{{"success":true,"id":"#{number}","receivers":1}}"##), 25);
    check(&server, &post("/publish", &envelope(&client)), &published(1));
    check(&server, &post("/events/send", &envelope(&client)), &published(2));
    for _ in 0..2 {
        assert_eq!(stream.expect("note").data, r#"{"n":1}"#);
    }
    Client::connect(&server).publish_text("a", "to both");
    assert_eq!(other.expect("message").data, "to both");
    drop(other);
    let missing = problem("404 Not Found", "", UNKNOWN);
    wait_for("the stream to be missed", || {
        let answer = Client::connect(&server).ask(&wire(&post("/publish", &envelope(&gone))));
        (answer.status() == 404).then_some(())
    });
    check(&server, &post("/publish", &envelope(&gone)), &missing);
    check(&server, &post("/events/send", &envelope("x")), &missing);
    let array = format!("[{},{}]", envelope(&client), envelope(&gone));
    let item = format!("item 1: {UNKNOWN}");
    check(&server, &post("/publish", &array), &problem("404 Not Found", "", &item));
    let lines = format!("{}\n\n{}\n{}\n", envelope(&client), envelope(&gone), envelope(&client));
    let mut publisher = Client::connect(&server);
    publisher.send(wire(&format!(
        "POST /publish HTTP/1.1\nHost: localhost\nContent-Type: application/x-ndjson\nContent-Length: {}\n\n{lines}",
        lines.len()
    )));
    let answer = publisher.answer().text();
    assert!(answer.starts_with("HTTP/1.1 404 Not Found\r\n"), "{answer}");
    let told = format!(r#""status":404,"detail":"line 3: {UNKNOWN}","published":1,"line":3}}"#);
    assert!(answer.ends_with(&told), "{answer}");
}

fn the_client_command_publishes_to_one_client(io: DriverKind) {
    let server = Server::start(io, &["--shards", "2"]);
    let (mut stream, client) = open(&server, "/sse?channel=a");
    let publish = |client: &str| {
        std::process::Command::new(env!("CARGO_BIN_EXE_downpour"))
            .args(["publish", "--url", &format!("http://{}", server.address()), "--client", client, "hello"])
            .output()
            .unwrap()
    };
    assert!(publish(&client).status.success());
    assert_eq!(stream.expect("message").data, "hello");
    let refused = publish("x");
    assert_eq!(refused.status.code(), Some(1));
    let told = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(told, format!("error: the server answered 404 Not Found: {UNKNOWN}\n"));
}
