//! All forms of publishing, and what streams and publishers receive.

use std::fmt::Write;
use std::thread;

use super::{STREAM_HEAD, begin_lines, check, chunk, connected, problem};
use crate::common::{Client, DriverKind, EventStream, Server, for_each_driver, number, wait_for, wire};

for_each_driver!(
    a_publish_tells_how_many_streams_receive_it,
    an_array_is_published_whole_or_not_at_all,
    events_that_are_not_adjacent_come_all_the_same,
    a_body_that_is_the_event_takes_its_fields_from_the_query,
    a_client_that_asks_is_invited_to_send_its_body,
    lines_are_published_while_they_come,
    lines_stop_at_the_first_bad_one,
    a_body_of_two_hundred_thousand_lines_is_taken,
);

fn a_publish_tells_how_many_streams_receive_it(io: DriverKind) {
    let server = Server::start(io, &[]);
    let mut publisher = Client::connect(&server);
    let mut receivers = |target: &str| {
        let body = format!("{{{target},\"data\":1}}");
        let request = wire(&format!(
            "POST /publish HTTP/1.1\nHost: localhost\nContent-Length: {}\n\n{body}",
            body.len()
        ));
        let answer = publisher.ask(&request);
        let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        body["receivers"].as_u64().unwrap()
    };
    assert_eq!(receivers(r#""channel":"a""#), 0);
    assert_eq!(receivers(r#""channels":["a","b","c"]"#), 0);
    let open = |target: &str| {
        let mut stream = EventStream::open(&server, target);
        stream.expect("connected");
        stream
    };
    let mut first = open("/sse?channels=a,b");
    assert_eq!(receivers(r#""channel":"a""#), 1);
    assert_eq!(receivers(r#""channels":["a","b","c"]"#), 1);
    let mut second = open("/channels/a");
    let mut third = open("/sse?channels=b,c,a");
    assert_eq!(receivers(r#""channel":"a""#), 3);
    assert_eq!(receivers(r#""channel":"b""#), 2);
    assert_eq!(receivers(r#""channel":"c""#), 1);
    assert_eq!(receivers(r#""channels":["c","b"]"#), 2);
    assert_eq!(receivers(r#""channels":["a","b","c","d"]"#), 3);
    assert_eq!(receivers(r#""channels":["d","d"]"#), 0);

    // Each stream saw each of its events once.
    let numbers = |stream: &mut EventStream, count: usize| -> Vec<u64> {
        (0..count).map(|_| number(&stream.expect("message").id)).collect()
    };
    assert_eq!(numbers(&mut first, 6), [3, 4, 5, 6, 8, 9]);
    assert_eq!(numbers(&mut second, 2), [5, 9]);
    assert_eq!(numbers(&mut third, 5), [5, 6, 7, 8, 9]);
    drop(second);
    wait_for("the stream to be missed", || (receivers(r#""channel":"a""#) == 2).then_some(()));
}

fn an_array_is_published_whole_or_not_at_all(io: DriverKind) {
    let server = Server::start(io, &[]);
    let mut stream = EventStream::open(&server, "/sse?channels=a,b");
    stream.expect("connected");
    let good = r#"[{"channel":"a","data":1},{"channels":["b","a"],"text":"two","id":"own"},{"channel":"c","data":3}]"#;
    let post = |body: &str| {
        format!(
            "POST /publish HTTP/1.1\nHost: localhost\nContent-Type: application/json; charset=utf-8\n\
             Content-Length: {}\n\n{body}",
            body.len()
        )
    };
    check(
        &server,
        &post(good),
        "HTTP/1.1 200 OK\nDate: *\nCache-Control: no-store\nContent-Type: application/json\nContent-Length: 104\n\n\
         {\"success\":true,\"published\":3,\"ids\":[\"#1\",\"own\",\"#3\"]}",
    );
    check(
        &server,
        &post("[]"),
        "HTTP/1.1 200 OK\nDate: *\nCache-Control: no-store\nContent-Type: application/json\nContent-Length: 39\n\n\
         {\"success\":true,\"published\":0,\"ids\":[]}",
    );
    let bad = r#"[{"channel":"a","data":1},{"channel":"a"}]"#;
    let detail =
        "item 1: no data; expected `data` (any JSON value) or `text` (a string that is sent as it is)";
    check(&server, &post(bad), &problem("400 Bad Request", "", detail));
    let (last, _) = Client::connect(&server).publish_text("b", "end");
    assert_eq!(number(&last), 4);
    assert_eq!([stream.message(), stream.message(), stream.message()], ["1", "two", "end"]);
}

fn events_that_are_not_adjacent_come_all_the_same(io: DriverKind) {
    let server = Server::start(io, &[]);
    let mut stream = EventStream::open(&server, "/channels/a");
    stream.expect("connected");
    // More slices than one send takes.
    let events: Vec<String> = (0..400)
        .map(|at| format!(r#"{{"channel":"{}","data":{at}}}"#, if at % 2 == 0 { "a" } else { "b" }))
        .collect();
    Client::connect(&server).publish(&format!("[{}]", events.join(",")));
    for at in (0..400).step_by(2) {
        assert_eq!(stream.message(), at.to_string());
    }
}

fn a_body_that_is_the_event_takes_its_fields_from_the_query(io: DriverKind) {
    let server = Server::start(io, &[]);
    let mut client = Client::connect(&server);
    client.send("GET /channels/news HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let head = wire(&format!("{STREAM_HEAD}Transfer-Encoding: chunked\nConnection: close\n\n"));
    client.expect(&format!("{head}{}", chunk(&connected("#0", r#""news""#))));
    check(
        &server,
        "POST /channels/news?event=greet+ing&id=my%20id&retry=1500&key=k HTTP/1.1\nHost: localhost\n\
         Content-Type: application/x-www-form-urlencoded\nContent-Length: 12\n\nhe=llo\n\nwör",
        "HTTP/1.1 200 OK\nDate: *\nCache-Control: no-store\nContent-Type: application/json\nContent-Length: 43\n\n\
         {\"success\":true,\"id\":\"my id\",\"receivers\":1}",
    );
    client.expect(&chunk("retry: 1500\nevent: greet ing\nid: my id\ndata: he=llo\ndata:\ndata: wör\n\n"));
    check(
        &server,
        "POST /channels/news HTTP/1.0\nContent-Length: 0\n\n",
        "HTTP/1.1 200 OK\nDate: *\nCache-Control: no-store\nContent-Type: application/json\nContent-Length: 65\nConnection: close\n\n\
         {\"success\":true,\"id\":\"#2\",\"receivers\":1}",
    );
    client.expect(&chunk("id: #2\ndata:\n\n"));
}

fn a_client_that_asks_is_invited_to_send_its_body(io: DriverKind) {
    let server = Server::start(io, &[]);
    let mut client = Client::connect(&server);
    client.send(wire(
        "POST /channels/a HTTP/1.1\nHost: localhost\nExpect: 100-continue\nContent-Length: 5\n\n",
    ));
    assert_eq!(client.head(), "HTTP/1.1 100 Continue\r\n\r\n");
    client.send("hello");
    assert_eq!(client.answer().status(), 200);
    // Without a request for it: the answer is known already.
    client.send(wire("POST /nothing HTTP/1.1\nHost: localhost\nExpect: 100-continue\nContent-Length: 5\n\n"));
    let expected = problem("404 Not Found", "Connection: close\n", "there is nothing at \"/nothing\"");
    assert_eq!(client.answer().text(), wire(&expected));
    assert_eq!(client.rest(), b"");
}

fn lines_are_published_while_they_come(io: DriverKind) {
    let server = Server::start(io, &[]);
    let (mut stream, mut client) = begin_lines(&server);
    client.send("1d\r\n{\"channel\":\"a\",\"data\":\"one\"}\n\r\n");
    assert_eq!(stream.message(), "\"one\"", "published before the body's end");
    for piece in ["5\r\n\r\n\n{\"\r\n", "18\r\nchannel\":\"a\",\"text\":\"two\r\n", "3\r\n\"}\n\r\n"] {
        client.send(piece);
    }
    assert_eq!(stream.message(), "two");
    // The last line needs no line end.
    client.send("18\r\n{\"channel\":\"a\",\"data\":3}\r\n0\r\n\r\n");
    assert_eq!(stream.message(), "3");
    assert_eq!(
        client.answer().text(),
        wire(
            "HTTP/1.1 200 OK\nDate: *\nCache-Control: no-store\nContent-Type: application/json\nContent-Length: 128\n\n\
             {\"success\":true,\"published\":3,\"ids\":[\"#1\",\"#2\",\"#3\"]}"
        )
    );
    assert_eq!(client.ask("GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n").status(), 200);
}

fn lines_stop_at_the_first_bad_one(io: DriverKind) {
    let server = Server::start(io, &[]);
    let body = "{\"channel\":\"a\",\"data\":1}\r\n\n{\"channel\":\"a\",\"data\":2}\n{\"channel\":\"a\"}\n{\"channel\":\"a\",\"data\":4}\n";
    let body_of_answer = "{\"type\":\"about:blank\",\"title\":\"Bad Request\",\"status\":400,\"detail\":\
        \"line 4: no data; expected `data` (any JSON value) or `text` (a string that is sent as it is)\",\
        \"published\":2,\"line\":4}";
    check(
        &server,
        &format!(
            "POST /publish HTTP/1.1\nHost: localhost\nContent-Type: application/x-ndjson\nContent-Length: {}\n\n{body}",
            body.len()
        ),
        &format!(
            "HTTP/1.1 400 Bad Request\nDate: *\nCache-Control: no-store\nContent-Type: application/problem+json\nContent-Length: {}\n\n{body_of_answer}",
            body_of_answer.len()
        ),
    );
    let (id, _) = Client::connect(&server).publish_text("a", "x");
    assert_eq!(number(&id), 3);
}

fn a_body_of_two_hundred_thousand_lines_is_taken(io: DriverKind) {
    const LINES: u64 = 200_000;
    let server = Server::start(io, &["--history-events", "200001"]);
    let mut stream = EventStream::open(&server, "/channels/a");
    stream.expect("connected");
    let reader = thread::spawn(move || {
        for line in 0..LINES {
            let event = stream.expect("message");
            assert_eq!((event.data, number(&event.id)), (line.to_string(), line + 1));
        }
    });
    let mut client = Client::connect(&server);
    client.send(
        "POST /publish HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\n\
         Transfer-Encoding: chunked\r\n\r\n",
    );
    let mut text = String::new();
    for line in 0..LINES {
        writeln!(text, "{{\"channel\":\"a\",\"data\":{line}}}").unwrap();
    }
    // Chunks of many sizes, which end anywhere in a line.
    let mut rest = text.as_str();
    for size in [1, 13, 4096, 70_000, 999].into_iter().cycle() {
        let (piece, behind) = rest.split_at(size.min(rest.len()));
        client.send(format!("{:x}\r\n{piece}\r\n", piece.len()));
        rest = behind;
        if piece.is_empty() {
            break; // The last chunk, which is empty.
        }
    }
    let answer = client.answer();
    assert_eq!(answer.status(), 200);
    let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(body["published"], LINES);
    let ids: Vec<u64> =
        body["ids"].as_array().unwrap().iter().map(|id| number(id.as_str().unwrap())).collect();
    assert!(ids.iter().copied().eq(1..=LINES));
    reader.join().unwrap();
}
