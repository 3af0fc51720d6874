//! Permissions: proxies, names of the server, and web pages of other origins.

use crate::common::{Answer, Client, DriverKind, EventStream, Server, exchange, for_each_driver, wire};

for_each_driver!(
    what_nginx_passes_on_may_subscribe_and_nothing_else,
    a_bare_proxy_pass_cannot_be_distinguished_from_this_machine,
    a_name_that_a_proxy_passes_on_needs_host,
    insecure_lets_proxies_publish,
    a_user_may_be_named_through_a_proxy_that_is_trusted_with_it,
    pages_of_other_origins_neither_publish_nor_manage,
    an_empty_host_names_nothing,
);

/// Every request that publishes or manages, up to its `Host`.
const GUARDED: [(&str, &str); 15] = [
    ("POST /publish", r#"{"channel":"news","data":1}"#),
    ("POST /channels/news", "x"),
    ("POST /events/send", r#"{"data":1}"#),
    ("POST /sse/broadcast?channel=news", "1"),
    ("POST /sse/broadcast-all", "1"),
    ("POST /sse/notify-user?user_id=u", "1"),
    ("POST /notify", r#"{"channel":"news","notification":{"type":"info","title":"t","message":"m"}}"#),
    ("POST /progress", r#"{"userId":"u","progress":{"taskId":"t","progress":1,"status":"running"}}"#),
    ("POST /data-update", r#"{"entity":"e","action":"created","data":{}}"#),
    ("GET /channels", ""),
    ("DELETE /channels/news", ""),
    ("GET /sse/stats", ""),
    ("GET /metrics", ""),
    ("GET /clients/x", ""),
    ("DELETE /clients/x", ""),
];

/// Requests that every client may make.
const OPEN: [&str; 9] = [
    "HEAD /sse",
    "HEAD /events",
    "HEAD /channels/news",
    "GET /healthz",
    "GET /readyz",
    "OPTIONS /publish",
    "POST /sse/subscribe?client_id=x&channel=a",
    "POST /sse/unsubscribe?client_id=x&channel=a",
    "OPTIONS *",
];

fn ask(server: &Server, line: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    exchange(server, &wire(&format!("{line} HTTP/1.1\n{headers}Content-Length: {length}\n\n{body}")))
}

fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

/// The headers of the documented nginx recipe for a visitor's request. Its default `Host` is the name in
/// `proxy_pass`.
fn recipe(server: &Server) -> String {
    format!("X-Forwarded-For: 203.0.113.9\nHost: {}\n", server.address())
}

#[track_caller]
fn assert_refused_for_the_proxy(answer: &str) {
    assert_eq!(status(answer), 403, "{answer}");
    assert!(answer.contains("--publish-key") && answer.contains("--trust-user-parameter"), "{answer}");
}

fn what_nginx_passes_on_may_subscribe_and_nothing_else(io: DriverKind) {
    let server = Server::start(io, &[]);
    let mut stream = EventStream::over(
        Client::connect(&server),
        &wire(&format!("GET /sse?channels=news HTTP/1.1\n{}Connection:\n\n", recipe(&server))),
        "",
    );
    stream.expect("connected");
    for (line, body) in GUARDED {
        assert_refused_for_the_proxy(&ask(&server, line, &recipe(&server), body));
    }
    let ndjson = format!("{}Content-Type: application/x-ndjson\n", recipe(&server));
    let lines = "{\"channel\":\"news\",\"data\":1}\n";
    assert_refused_for_the_proxy(&ask(&server, "POST /publish", &ndjson, lines));
    for user in ["userId", "user_id"] {
        let line = format!("GET /sse?{user}=jane");
        assert_refused_for_the_proxy(&ask(&server, &line, &recipe(&server), ""));
    }
    for line in OPEN {
        let answer = ask(&server, line, &recipe(&server), "");
        assert!(matches!(status(&answer), 200 | 204 | 404), "{line}: {answer}");
    }
    // Any one of these headers shows that there is a proxy, however it is spelled and whatever its
    // value.
    for header in ["x-forwarded-for: 127.0.0.1", "X-Real-IP: ::1", "forwarded:", "Via: 1.1 \u{fc}"] {
        let headers = format!("Host: localhost\n{header}\n");
        assert_refused_for_the_proxy(&ask(&server, "POST /channels/news", &headers, "x"));
    }
    let (_, receivers) = Client::connect(&server).publish_text("news", "the first");
    assert_eq!(receivers, 1);
    assert_eq!(stream.message(), "the first");
}

/// So the documentation warns of such a line.
fn a_bare_proxy_pass_cannot_be_distinguished_from_this_machine(io: DriverKind) {
    let server = Server::start(io, &[]);
    let request = format!(
        "POST /channels/news HTTP/1.0\nHost: {}\nConnection: close\nContent-Length: 1\n\nx",
        server.address()
    );
    assert_eq!(status(&exchange(&server, &wire(&request))), 200);
}

fn a_name_that_a_proxy_passes_on_needs_host(io: DriverKind) {
    let forwarded = "X-Forwarded-For: 203.0.113.9\nHost: events.example.org\n";
    let server = Server::start(io, &[]);
    let answer = ask(&server, "HEAD /sse", forwarded, "");
    assert_eq!(status(&answer), 403);
    let answer = ask(&server, "GET /sse", forwarded, "");
    assert!(status(&answer) == 403 && answer.contains("--host NAME"), "{answer}");

    let named = Server::start(io, &["--host", "events.example.org", "--host", "a.example", "--insecure"]);
    for host in ["events.example.org", "EVENTS.example.org:443", "a.example.", "localhost", "127.0.0.1:1"] {
        let answer = ask(&named, "HEAD /sse", &format!("Host: {host}\n"), "");
        assert_eq!(status(&answer), 200, "{host}");
    }
    assert_eq!(status(&ask(&named, "HEAD /sse", "Host: b.example\n", "")), 403);
    let any = Server::start(io, &["--host", "*", "--insecure"]);
    assert_eq!(status(&ask(&any, "HEAD /sse", "Host: b.example\n", "")), 200);
}

fn insecure_lets_proxies_publish(io: DriverKind) {
    let server = Server::start(io, &["--insecure"]);
    for (line, body) in GUARDED {
        let answer = ask(&server, line, &recipe(&server), body);
        assert!(matches!(status(&answer), 200 | 404), "{line}: {answer}");
    }
    assert_eq!(status(&ask(&server, "HEAD /sse?userId=jane", &recipe(&server), "")), 200);
}

fn a_user_may_be_named_through_a_proxy_that_is_trusted_with_it(io: DriverKind) {
    let server = Server::start(io, &["--trust-user-parameter"]);
    assert_eq!(status(&ask(&server, "HEAD /sse?userId=jane", &recipe(&server), "")), 200);
    assert_refused_for_the_proxy(&ask(&server, "POST /channels/news", &recipe(&server), "x"));
}

fn pages_of_other_origins_neither_publish_nor_manage(io: DriverKind) {
    let server = Server::start(io, &[]);
    for origin in ["http://evil.example", "http://localhost:1", "null"] {
        let headers = format!("Host: {}\nOrigin: {origin}\n", server.address());
        for (line, body) in GUARDED {
            let answer = ask(&server, line, &headers, body);
            assert!(status(&answer) == 403 && answer.contains("web pages of the origin"), "{line}: {answer}");
        }
        for line in OPEN {
            let answer = ask(&server, line, &headers, "");
            let expected: &[u16] = if line.starts_with("POST ") { &[403] } else { &[200, 204] };
            assert!(expected.contains(&status(&answer)), "{line}: {answer}");
        }
    }
    let own = format!("Host: {0}\nOrigin: http://{0}\n", server.address());
    for (line, body) in GUARDED {
        let answer = ask(&server, line, &own, body);
        assert!(matches!(status(&answer), 200 | 404), "{line}: {answer}");
    }
}

fn an_empty_host_names_nothing(io: DriverKind) {
    let server = Server::start(io, &[]);
    let any = Server::start(io, &["--host", "*", "--insecure"]);
    for line in ["GET /sse", "POST /channels/news", "GET /healthz"] {
        assert_eq!(status(&ask(&server, line, "Host:\n", "")), 403, "{line}");
        assert_eq!(status(&ask(&any, line, "Host: \n", "")), 400, "{line}");
    }
    let mut client = Client::connect(&server);
    let answer: Answer = client.ask("GET /healthz HTTP/1.0\r\n\r\n");
    assert_eq!(answer.status(), 200, "no browser leaves it out");
}
