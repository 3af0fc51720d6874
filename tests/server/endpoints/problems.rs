//! Errors: status, headers and text of each.

use super::{check, problem};
use crate::common::{DriverKind, Server, for_each_driver};

for_each_driver!(what_is_wrong_is_reported_as_a_problem,);

fn what_is_wrong_is_reported_as_a_problem(io: DriverKind) {
    let server = Server::start(io, &["--max-body", "100"]);
    let get = |target: &str, headers: &str| format!("GET {target} HTTP/1.1\nHost: localhost\n{headers}\n");
    let post = |target: &str, headers: &str, body: &str| {
        format!("POST {target} HTTP/1.1\nHost: localhost\n{headers}Content-Length: {}\n\n{body}", body.len())
    };
    let close = "Connection: close\n";
    let too_long = format!("/sse?{}", "x".repeat(8200));
    for (request, status, headers, detail) in [
        (get("/", ""), "404 Not Found", "", "there is nothing at \"/\""),
        (
            post("/sse", "", ""),
            "405 Method Not Allowed",
            "Allow: GET, HEAD, OPTIONS\n",
            "POST is not allowed here; expected GET, HEAD, OPTIONS",
        ),
        (
            get("/publish", ""),
            "405 Method Not Allowed",
            "Allow: POST, OPTIONS\n",
            "GET is not allowed here; expected POST, OPTIONS",
        ),
        (
            "PUT /channels/a HTTP/1.1\nHost: localhost\n\n".to_owned(),
            "405 Method Not Allowed",
            "Allow: GET, HEAD, POST, DELETE, OPTIONS\n",
            "PUT is not allowed here; expected GET, HEAD, POST, DELETE, OPTIONS",
        ),
        (
            get("/sse", "Accept: application/json, text/event-stream;q=0\n"),
            "406 Not Acceptable",
            "",
            "the only answer here is text/event-stream, which Accept: \"application/json, \
             text/event-stream;q=0\" excludes",
        ),
        (
            post("/publish", "Content-Type: text/plain\n", "{}"),
            "415 Unsupported Media Type",
            "",
            "Content-Type: found \"text/plain\", expected application/json or application/x-ndjson",
        ),
        (
            post("/channels/a", "", &"x".repeat(101)),
            "413 Content Too Large",
            close,
            "the request body is longer than 100 bytes",
        ),
        (
            "POST /publish HTTP/1.1\nHost: localhost\nTransfer-Encoding: chunked\n\n65\r\n".to_owned(),
            "413 Content Too Large",
            close,
            "the request body is longer than 100 bytes",
        ),
        (get(&too_long, ""), "414 URI Too Long", close, "the request target is longer than 8192 bytes"),
        (
            get("/sse", &format!("X: {}\n", "y".repeat(16_384))),
            "431 Request Header Fields Too Large",
            close,
            "the request head is longer than 16384 bytes",
        ),
        (
            get("/sse", &"X: y\n".repeat(100)),
            "431 Request Header Fields Too Large",
            close,
            "the request has more than 100 header fields",
        ),
        (
            post("/publish", "Expect: tea\n", "{}"),
            "417 Expectation Failed",
            close,
            "the expectation \"tea\" cannot be met; only 100-continue can",
        ),
        (
            "POST /publish HTTP/1.1\nHost: localhost\nTransfer-Encoding: gzip, chunked\n\n0\r\n\r\n"
                .to_owned(),
            "501 Not Implemented",
            close,
            "the transfer coding \"gzip\" is not supported; only chunked is",
        ),
        (get("/sse?user_id=", ""), "400 Bad Request", "", "`userId`: a user's id must not be empty"),
        (
            "GET / HTTP/2.0\nHost: localhost\n\n".to_owned(),
            "505 HTTP Version Not Supported",
            close,
            "HTTP/2.0 is not supported; this server speaks HTTP/1.1 and HTTP/1.0",
        ),
        (
            "GET / HTTP/1.1\n\n".to_owned(),
            "400 Bad Request",
            close,
            "the request has no Host header, which HTTP/1.1 demands",
        ),
        (
            get("/sse?channel=a%2", ""),
            "400 Bad Request",
            "",
            "bad percent-encoding in the query: two hex digits must follow the % at byte 9",
        ),
        (
            post("/publish", "", r#"{"channel":"a","data":1,"ttl":0}"#),
            "400 Bad Request",
            "",
            "`ttl`: found 0, expected a whole number of seconds from 1 to 4294967295",
        ),
        (
            post("/publish", "", "{}"),
            "400 Bad Request",
            "",
            "no target; expected exactly one of `channel`, `channels`, `userId`, `clientId` and `all`",
        ),
        (
            post("/publish", "", ""),
            "400 Bad Request",
            "",
            "the body is empty; expected a JSON object or an array of them",
        ),
        (
            post("/channels/a?event=x%0Ay", "", "x"),
            "400 Bad Request",
            "",
            "`event` must not contain CR, LF or NUL; found one at byte 1",
        ),
        (
            "GET /sse HTTP/1.1\nHost: evil.example\n\n".to_owned(),
            "403 Forbidden",
            "",
            "this listener is reached by loopback names and addresses alone, not by \"evil.example\"; allow a \
             name with --host NAME",
        ),
        (
            post("/channels/a", "Origin: http://evil.example\n", "x"),
            "403 Forbidden",
            "",
            "web pages of the origin \"http://evil.example\" may not publish or manage; only the server's own may, and \
             those whose host is named with --host NAME",
        ),
    ] {
        check(&server, &request, &problem(status, headers, detail));
    }
}
