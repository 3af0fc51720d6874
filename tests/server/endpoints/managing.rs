//! Managing channels: their list, and dropping the history of one.

use super::{check, chunk, problem};
use crate::common::{Client, DriverKind, EventStream, Server, for_each_driver};

for_each_driver!(
    channels_are_listed_by_name_with_streams_and_events,
    channels_are_listed_in_pages,
    a_page_that_cannot_be_is_reported,
    a_history_is_dropped_and_a_resume_over_it_tells_one_gap,
    what_cannot_be_dropped_is_reported,
);

/// A JSON answer.
fn json(body: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\nDate: *\nCache-Control: no-store\nContent-Type: application/json\nContent-Length: {}\n\n{body}",
        body.len()
    )
}

fn list(server: &Server, channels: &str) {
    check(
        server,
        "GET /channels HTTP/1.1\nHost: localhost\n\n",
        &json(&format!("{{\"channels\":[{channels}]}}")),
    );
}

fn delete(target: &str) -> String {
    format!("DELETE {target} HTTP/1.1\nHost: localhost\n\n")
}

fn channels_are_listed_by_name_with_streams_and_events(io: DriverKind) {
    let server = Server::start(io, &[]);
    list(&server, "");
    let mut publisher = Client::connect(&server);
    for channel in ["news", "a%22b", "news"] {
        publisher.publish_text(channel, "x");
    }
    let _stream = EventStream::open(&server, "/sse?channels=news,quiet&userId=jane");
    publisher.ask("POST /sse/broadcast-all HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\n1");
    list(
        &server,
        r#"{"name":"a\"b","subscribers":0,"retained":1},{"name":"news","subscribers":1,"retained":2},{"name":"quiet","subscribers":1,"retained":0}"#,
    );
    check(
        &server,
        "HEAD /channels HTTP/1.1\nHost: localhost\n\n",
        "HTTP/1.1 200 OK\nDate: *\nCache-Control: no-store\nContent-Type: application/json\nContent-Length: 150\n\n",
    );
}

fn channels_are_listed_in_pages(io: DriverKind) {
    let server = Server::start(io, &["--shards", "2"]);
    let names: Vec<String> = (0..1001).map(|n| format!("room:{n:04}")).collect();
    let envelope = |name: &String| format!(r#"{{"channel":"{name}","text":"x"}}"#);
    let batch = format!("[{}]", names.iter().map(envelope).collect::<Vec<_>>().join(","));
    let mut client = Client::connect(&server);
    client.ask(&format!(
        "POST /publish HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{batch}",
        batch.len()
    ));
    for other in ["Zoo", "zoo", "gr%C3%B6%C3%9Fe"] {
        client.publish_text(other, "x");
    }
    let page = |query: &str, names: &[&str], next: Option<&str>| {
        let entry = |name: &&str| format!(r#"{{"name":"{name}","subscribers":0,"retained":1}}"#);
        let entries = names.iter().map(entry).collect::<Vec<_>>().join(",");
        let next = next.map_or(String::new(), |next| format!(r#","next":"{next}""#));
        let request = format!("GET /channels{query} HTTP/1.1\nHost: localhost\n\n");
        check(&server, &request, &json(&format!(r#"{{"channels":[{entries}]{next}}}"#)));
    };
    let rooms: Vec<&str> = names.iter().map(String::as_str).collect();
    page("?limit=3", &["Zoo", "größe", rooms[0]], Some(rooms[0]));
    page("?limit=2&after=room:1000", &["zoo"], None);
    page("?after=zoo", &[], None);
    page("?prefix=room:099&limit=4", &rooms[990..994], Some(rooms[993]));
    page("?prefix=room:099&after=room:0993&limit=6", &rooms[994..1000], None);
    page("?prefix=room:", &rooms[..1000], Some(rooms[999]));
    page("?limit=1000&prefix=room&after=room:0999", &rooms[1000..], None);
    page("?after=gr%C3%B6%C3%9Fe&limit=1", &rooms[..1], Some(rooms[0]));
}

fn a_page_that_cannot_be_is_reported(io: DriverKind) {
    let server = Server::start(io, &[]);
    for (query, detail) in [
        ("limit=0", "the parameter `limit`: found \"0\", expected 1 to 1000"),
        ("limit=1001", "the parameter `limit`: found \"1001\", expected 1 to 1000"),
        ("limit=", "the parameter `limit`: found \"\", expected 1 to 1000"),
        ("limit=1&limit=1", "the parameter `limit` is given twice"),
        ("from=a", "unknown parameter \"from\"; expected `limit`, `after` and `prefix`"),
    ] {
        let request = format!("GET /channels?{query} HTTP/1.1\nHost: localhost\n\n");
        check(&server, &request, &problem("400 Bad Request", "", detail));
    }
}

fn a_history_is_dropped_and_a_resume_over_it_tells_one_gap(io: DriverKind) {
    let server = Server::start(io, &["--shards", "2"]);
    let mut live = EventStream::open(&server, "/channels/chat/7");
    let first = live.expect("connected").id;
    let mut publisher = Client::connect(&server);
    for text in ["one", "two", "three"] {
        publisher.publish_text("chat%2F7", text);
    }
    check(&server, &delete("/channels/chat/7"), &json(r#"{"success":true,"removed":3}"#));
    check(&server, &delete("/channels/chat/7"), &json(r#"{"success":true,"removed":0}"#));
    publisher.publish_text("chat%2F7", "four");
    // A live stream is not affected.
    for text in ["one", "two", "three", "four"] {
        assert_eq!(live.message(), text);
    }
    let mut client = Client::connect(&server);
    client
        .send(format!("GET /channels/chat/7 HTTP/1.1\r\nHost: localhost\r\nLast-Event-ID: {first}\r\n\r\n"));
    client.take_through(b"\n\n\r\n");
    client.expect(&format!(
        "{}{}{}",
        chunk(
            "event: gap\ndata: {\"reason\":\"history-expired\",\"missed\":null,\"lastEventId\":\"#0\"}\n\n"
        ),
        chunk("id: #4\ndata: four\n\n"),
        chunk("event: caught-up\ndata: {\"replayed\":1,\"complete\":false}\n\n"),
    ));
}

fn what_cannot_be_dropped_is_reported(io: DriverKind) {
    let server = Server::start(io, &[]);
    let _stream = EventStream::open(&server, "/sse?channel=held");
    for (target, status, detail) in [
        (
            "/channels/news",
            "404 Not Found",
            "the channel \"news\" has neither subscribers nor retained events",
        ),
        (
            "/channels/entity:*",
            "400 Bad Request",
            "the path: \"entity:*\" is a pattern; the history of one channel is dropped at a time",
        ),
        (
            "/channels/a%2Cb",
            "400 Bad Request",
            "the path: a channel name must not contain control characters, spaces or commas; found ',' at byte 1",
        ),
    ] {
        check(&server, &delete(target), &problem(status, "", detail));
    }
    check(
        &server,
        "DELETE /channels/held HTTP/1.1\nHost: localhost\nOrigin: http://evil.example\n\n",
        &problem(
            "403 Forbidden",
            "",
            "web pages of the origin \"http://evil.example\" may not publish or manage; only the server's own may, \
             and those whose host is named with --host NAME",
        ),
    );
}
