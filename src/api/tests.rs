//! Requests to replies, and committed events to answers. `hostile` has the bad requests.

use super::*;
use crate::auth::{Permission, Rights};
use crate::base::id::{EpochTag, EventId, Sequence};
use crate::base::name::Selector;
use crate::conn::{Admission, BodyPlan, Lines};
use crate::http::{RequestHead, ResponseContext, Version, http_date, parse};
use crate::hub::Retention;
use crate::hub::{Backlog, Begin, HOLD_STEPS, HubOptions};
use std::time::SystemTime;

pub(super) fn head(text: &str) -> RequestHead {
    parse(text.as_bytes()).unwrap().unwrap().0
}

pub(super) fn options() -> ApiOptions {
    ApiOptions { stream_channels_max: 4, ..ApiOptions::default() }
}

pub(super) fn request(line: &str, headers: &str) -> RequestHead {
    head(&format!("{line} HTTP/1.1\r\nHost: localhost:8080\r\n{headers}\r\n"))
}

thread_local! {
    static FINGERPRINTS: Fingerprints = Fingerprints::new();
    static HUB: Hub = hub();
}

/// A hub with one epoch, with the tag [`TAG`].
fn hub() -> Hub {
    let retention = Retention { events_max: 10, bytes_max: usize::MAX, age_max: None };
    let hub = Hub::new(HubOptions {
        retention,
        channels_max: 10,
        backlog: Backlog::default(),
        shards: 1,
        hold_steps: HOLD_STEPS,
    });
    hub.begin_epoch(EpochTag::from_bits(TAG), Sequence(1));
    hub
}

/// The bits of the tag that the server knows.
pub(super) const TAG: u64 = 0;

fn with_checks<T>(act: impl FnOnce(Checks<'_>) -> T) -> T {
    FINGERPRINTS.with(|fingerprints| HUB.with(|hub| act(Checks { fingerprints, hub })))
}

/// Handles a request, and decides about its head. All requests of a test use the same fingerprints.
pub(super) fn handle(head: &RequestHead, body: &[u8], options: &ApiOptions, status: ServerStatus) -> Reply {
    let request = Request { head: head.clone(), body: body.to_vec(), permission: None };
    with_checks(|checks| super::handle(&request, options, status, checks))
}

fn admitted(head: &RequestHead, status: ServerStatus) -> Result<Admission, Problem> {
    decide(head, &options(), status).admission
}

pub(super) fn ask(line: &str, body: &str) -> Reply {
    handle(&request(line, ""), body.as_bytes(), &options(), ServerStatus::Ready)
}

pub(super) fn response(reply: Reply) -> Response<'static> {
    match reply {
        Reply::Respond(response) => response,
        Reply::Publish { .. }
        | Reply::Subscribe(_)
        | Reply::Report(_)
        | Reply::ListChannels(_)
        | Reply::DropHistory(_)
        | Reply::Client(_) => panic!("no answer: {reply:?}"),
    }
}

pub(super) fn published(reply: Reply) -> (Vec<(String, String)>, AnswerForm) {
    match reply {
        Reply::Publish { batch, form, .. } => (events(&batch), form),
        Reply::Respond(response) => panic!("{}", String::from_utf8_lossy(response.body())),
        Reply::Subscribe(_)
        | Reply::Report(_)
        | Reply::ListChannels(_)
        | Reply::DropHistory(_)
        | Reply::Client(_) => panic!("not a publish"),
    }
}

/// The channels and the text of each event. The text has `#` for the server's id.
fn events(batch: &Events) -> Vec<(String, String)> {
    let event = |draft: crate::record::EventRef<'_>| {
        let channels = draft.targets().collect::<Vec<_>>().join(",");
        (channels, str::from_utf8(draft.text).unwrap().replace(&"0".repeat(EventId::WIDTH), "#"))
    };
    batch.iter().map(event).collect()
}

fn event(channels: &str, frame: &str) -> (String, String) {
    (channels.to_owned(), frame.to_owned())
}

fn encoded(response: &Response<'_>) -> String {
    let date = http_date(SystemTime::UNIX_EPOCH);
    let context = ResponseContext { version: Version::Http11, persistent: true, head_only: false, date };
    let mut out = Vec::new();
    response.encode(&mut out, &context);
    String::from_utf8(out).unwrap().replace("Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n", "")
}

fn first() -> EventId {
    EventId { tag: EpochTag::from_bits(0), sequence: Sequence(41) }
}

#[test]
fn a_body_is_published_verbatim_to_the_channel_of_its_path() {
    let (events, form) = published(ask("POST /channels/news", "hello\nworld"));
    assert_eq!(events, [event("news", "id: #\ndata: hello\ndata: world\n\n")]);
    assert_eq!(
        encoded(&answer_published(&form, Some(first()), Some(2))),
        "HTTP/1.1 200 OK\r\nCache-Control: no-store\r\nContent-Type: application/json\r\nContent-Length: 65\r\n\r\n\
         {\"success\":true,\"id\":\"AAAAAAAAAAA.000000000000041\",\"receivers\":2}"
    );
    let (events, form) = published(ask("POST /channels/chat%2F7?event=t%C3%A4st&id=a+1&retry=250&key=k", ""));
    assert_eq!(events, [event("chat/7", "retry: 250\nevent: täst\nid: a 1\ndata:\n\n")]);
    assert_eq!(
        answer_published(&form, Some(first()), Some(0)).body(),
        br#"{"success":true,"id":"a 1","receivers":0}"#
    );
    let (events, _) = published(ask("POST /channels/chat/7", " x"));
    assert_eq!(events, [event("chat/7", "id: #\ndata:  x\n\n")]);
}

#[test]
fn an_envelope_is_published_as_it_says() {
    for (envelope, channels, frame) in [
        (r#"{"channel":"a","data":{"x": 1}}"#, "a", "id: #\ndata: {\"x\": 1}\n\n"),
        (r#"{"channel":"a","data":"text"}"#, "a", "id: #\ndata: \"text\"\n\n"),
        (r#"{"channel":"a","data":null}"#, "a", "id: #\ndata: null\n\n"),
        ("{\"channel\":\"a\",\"data\":[1,\r\n 2]}", "a", "id: #\ndata: [1,\ndata:  2]\n\n"),
        (r#"{"channel":"a","text":"x\ny"}"#, "a", "id: #\ndata: x\ndata: y\n\n"),
        (r#"{"channel":"a","text":""}"#, "a", "id: #\ndata:\n\n"),
        (r#"{"channels":["a","b","a"],"data":1}"#, "a,b", "id: #\ndata: 1\n\n"),
        (
            " {\"channel\":\"\\u0061\",\"event\":\"e\",\"id\":\"i\",\"retry\":5,\"key\":\"k\",\"data\":1}\n",
            "a",
            "retry: 5\nevent: e\nid: i\ndata: 1\n\n",
        ),
        (
            r#"{"channel":"a","userId":null,"event":null,"retry":null,"text":null,"data":1}"#,
            "a",
            "id: #\ndata: 1\n\n",
        ),
    ] {
        let (events, form) = published(ask("POST /publish", envelope));
        assert_eq!(events, [event(channels, frame)], "{envelope}");
        assert!(form.wants_receivers());
    }
}

#[test]
fn an_array_is_published_whole() {
    let body = r#"[{"channel":"a","data":1}, {"channel":"b","text":"x","id":"own"}]"#;
    let (events, form) = published(ask("POST /publish", body));
    assert_eq!(events, [event("a", "id: #\ndata: 1\n\n"), event("b", "id: own\ndata: x\n\n")]);
    assert_eq!(
        answer_published(&form, Some(first()), None).body(),
        br#"{"success":true,"published":2,"ids":["AAAAAAAAAAA.000000000000041","own"]}"#
    );
    let (events, form) = published(ask("POST /publish", r#" [{"channel":"a","data":1}] "#));
    assert!(events.len() == 1 && !form.wants_receivers());
    let empty = response(ask("POST /publish", "[]"));
    assert_eq!(
        encoded(&empty),
        "HTTP/1.1 200 OK\r\nCache-Control: no-store\r\nContent-Type: application/json\r\nContent-Length: 39\r\n\r\n\
         {\"success\":true,\"published\":0,\"ids\":[]}"
    );
}

fn lines(bytes: &[u8], first_line: u64) -> ReadLines {
    let lines = Lines { permission: None, bytes: bytes.to_vec(), first_line, is_end: true, failure: None };
    with_checks(|checks| read_lines(&lines, &Permission::everything(), checks))
}

#[test]
fn lines_are_read_up_to_the_first_bad_one() {
    let body = b"{\"channel\":\"a\",\"data\":1}\r\n\n \t\n{\"channel\":\"b\",\"text\":\"x\",\"id\":\"o\"}";
    let read = lines(body, 1);
    assert_eq!(events(&read.batch), [event("a", "id: #\ndata: 1\n\n"), event("b", "id: o\ndata: x\n\n")]);
    assert!(read.error.is_none());
    let mut account = LinesAccount::default();
    account.add(Some(first()), &read.places);
    assert_eq!(
        account.answer().body(),
        br#"{"success":true,"published":2,"ids":["AAAAAAAAAAA.000000000000041","o"]}"#
    );

    let good = "{\"channel\":\"a\",\"data\":1}\n";
    for (bad, status, detail) in [
        ("{}\n", 400, "line 14: no target"),
        ("[]\n", 400, "line 14: no envelope at column 0: invalid type: sequence"),
        ("{\"channel\":\"a\",\n", 400, "line 14: not JSON at column 15: EOF while parsing"),
        ("x", 400, "line 14: not JSON at column 1: expected value"),
        ("{\"channel\":\"a\",\"data\":1} {}\n", 400, "line 14: not JSON at column 26: trailing characters"),
        ("{\"channel\":\"a\",\"data\":1,\"clientId\":\"c\"}\n", 400, "line 14: both"),
        ("{\"channel\":\"a\",\"data\":1,\"ttl\":0}\n", 400, "line 14: `ttl`: found 0"),
    ] {
        let read = lines(format!("{good}\n{good}\n{bad}{good}").as_bytes(), 10);
        let error = read.error.unwrap();
        assert_eq!((read.batch.len(), error.line), (2, 14));
        assert_eq!(error.problem.status().code(), status);
        assert!(error.problem.detail().starts_with(detail), "{}", error.problem.detail());
    }
    let read = lines(b"\n{\"channel\":\"a\xff\"}", 1);
    assert_eq!(read.error.unwrap().problem.detail(), "line 2: not UTF-8: the byte at 13 begins no character");
}

#[test]
fn lines_without_events_are_nothing_to_publish() {
    for body in [b"".as_slice(), b"\n", b"\r\n\r\n"] {
        let read = lines(body, 1);
        assert!(read.batch.is_empty() && read.error.is_none());
    }
}

#[test]
fn a_byte_order_mark_before_json_is_skipped_and_before_data_is_data() {
    let (events, _) = published(ask("POST /publish", "\u{feff}{\"channel\":\"a\",\"data\":1}"));
    assert_eq!(events, [event("a", "id: #\ndata: 1\n\n")]);
    let (events, _) = published(ask("POST /publish", "\u{feff} [{\"channel\":\"a\",\"data\":1}]"));
    assert_eq!(events.len(), 1);
    let (events, _) = published(ask("POST /sse/broadcast?channel=a", "\u{feff}[1]"));
    assert_eq!(events, [event("a", "id: #\ndata: [1]\n\n")]);
    let (events, _) =
        published(ask("POST /data-update", "\u{feff}{\"entity\":\"e\",\"action\":\"created\",\"data\":{}}"));
    assert!(!events[0].1.contains('\u{feff}'), "{}", events[0].1);
    let change = "\u{feff}{\"clientId\":\"0000000000000000000000000000002a-1-c\",\"channel\":\"a\"}";
    assert!(matches!(ask("POST /events/subscribe", change), Reply::Client(_)));
    let (events, _) = published(ask("POST /channels/a", "\u{feff}x"));
    assert_eq!(events, [event("a", "id: #\ndata: \u{feff}x\n\n")]);

    let line = "\u{feff}{\"channel\":\"a\",\"data\":1}\n";
    assert!(lines(line.as_bytes(), 1).error.is_none());
    assert!(lines("\u{feff}\n\u{feff}".as_bytes(), 1).error.is_some(), "one begins the body alone");
    assert!(lines(line.as_bytes(), 2).error.is_some());
}

#[test]
fn requests_that_this_version_lacks_get_501() {
    let status = |reply| response(reply).status().code();
    for line in [
        "GET /sse?token=t",
        "GET /channels/a?errors=stream",
        "GET /events?control=comments",
        "GET /sse?gap=end",
        "GET /sse?if=active",
        "GET /sse?slow=drop-oldest",
        "GET /sse?replay=latest",
        "POST /channels/a?end=true",
        "POST /channels/a?unwatched=30s",
        "POST /channels/a?ids=keep",
        "POST /channels/a?token=t",
        "POST /publish?token=t",
        "POST /sse/subscribe?client_id=x&channel=a&token=t",
        "GET /clients/x?token=t",
        "DELETE /clients/x?token=t",
        "GET /channels?token=t",
        "DELETE /channels/a?token=t",
        "GET /metrics?token=t",
        "GET /sse/stats?Token=t",
    ] {
        assert_eq!(status(ask(line, "x")), 501, "{line}");
    }
    for end in ["true", "false"] {
        let envelope = format!("{{\"channel\":\"a\",\"data\":1,\"end\":{end}}}");
        assert_eq!(status(ask("POST /publish", &envelope)), 501);
        assert_eq!(status(ask("POST /events/send", &envelope)), 400, "it is no field there");
    }
    let error = lines(b"{\"channel\":\"a\",\"end\":true}", 1).error.unwrap();
    assert_eq!(error.problem.status().code(), 501);
    let events = "Content-Type: Text/Event-Stream; charset=utf-8\r\n";
    for (line, headers) in [
        ("POST /channels/a", events),
        ("PUT /channels/a", events),
        ("POST /stop?channel=a", ""),
        ("GET /dashboard", ""),
        ("POST /clients/x/token", ""),
        ("DELETE /users/u/streams", ""),
        ("POST /users/u/revoke", ""),
    ] {
        let problem = admitted(&request(line, headers), ServerStatus::Ready).unwrap_err();
        assert_eq!(problem.status().code(), 501, "{line}");
    }
}

#[test]
fn the_head_determines_how_the_body_is_read() {
    let json = "Content-Type: application/json\r\n";
    let form = "Content-Type: application/x-www-form-urlencoded\r\n";
    let ndjson = "Content-Type: application/x-ndjson; charset=utf-8\r\n";
    let text = "Content-Type: text/plain\r\n";
    let key = "Idempotency-Key: k\r\n";
    let both = format!("{ndjson}{key}");
    for (line, headers, expected) in [
        ("POST /publish", "", "whole"),
        ("POST /publish", json, "whole"),
        ("POST /publish", form, "whole"),
        ("POST /publish", ndjson, "lines"),
        ("POST /publish?channel=a", ndjson, "400"),
        ("POST /publish", text, "415"),
        ("POST /publish", key, "whole"),
        ("POST /publish", "Idempotency-Key:\r\n", "400"),
        ("POST /publish", "Idempotency-Key: a b\r\n", "400"),
        ("POST /publish", &both, "400"),
        ("POST /channels/a", text, "whole"),
        ("POST /channels/a", ndjson, "whole"),
        ("POST /channels/a", key, "whole"),
        ("GET /sse", "", "whole"),
        ("GET /healthz", key, "whole"),
        ("OPTIONS /publish", text, "whole"),
        ("POST /nothing", "", "404"),
        ("PUT /publish", "", "405"),
        ("POST /progress", "", "whole"),
        ("POST /progress", form, "whole"),
        ("POST /events/send", json, "whole"),
        ("POST /sse/broadcast", ndjson, "415"),
        ("POST /notify", text, "415"),
        ("POST /data-update", key, "whole"),
        ("GET /notify", "", "405"),
        ("POST /dashboard", "", "501"),
        ("GET /channels/%", "", "400"),
    ] {
        let decision = decide(&request(line, headers), &options(), ServerStatus::Ready);
        let is_publish =
            line.starts_with("POST ") && !line.ends_with("/nothing") && !line.ends_with("/dashboard");
        assert_eq!(decision.is_publish, is_publish, "{line}");
        let found = match decision.admission.map(|admission| admission.body) {
            Ok(BodyPlan::Whole) => "whole".to_owned(),
            Ok(BodyPlan::Short) => "short".to_owned(),
            Ok(BodyPlan::Lines) => "lines".to_owned(),
            Err(problem) => problem.status().code().to_string(),
        };
        assert_eq!(found, expected, "{line} {headers}");
    }
}

#[test]
fn the_methods_of_a_path_are_listed() {
    assert_eq!(
        encoded(&response(ask("OPTIONS /channels/news", ""))),
        "HTTP/1.1 204 No Content\r\nCache-Control: no-store\r\nAllow: GET, HEAD, POST, DELETE, OPTIONS\r\n\r\n"
    );
    assert_eq!(
        encoded(&response(ask("OPTIONS *", ""))),
        "HTTP/1.1 204 No Content\r\nCache-Control: no-store\r\nAllow: GET, HEAD, POST, DELETE, OPTIONS\r\n\r\n"
    );
    let text = encoded(&response(ask("DELETE /publish", "")));
    assert!(text.starts_with("HTTP/1.1 405 Method Not Allowed\r\n"));
    assert!(text.contains("\r\nAllow: POST, OPTIONS\r\n"));
}

#[test]
fn health_and_readiness_differ_while_the_server_drains() {
    let ask = |path, status| encoded(&response(handle(&request(path, ""), b"", &options(), status)));
    let health = "HTTP/1.1 200 OK\r\nCache-Control: no-store\r\nContent-Type: text/plain\r\nContent-Length: 3\r\n\r\nok\n";
    let ready = "HTTP/1.1 200 OK\r\nCache-Control: no-store\r\nContent-Type: text/plain\r\nContent-Length: 6\r\n\r\nready\n";
    assert_eq!(ask("GET /healthz", ServerStatus::Ready), health);
    assert_eq!(ask("GET /healthz", ServerStatus::Draining), health);
    assert_eq!(ask("GET /readyz", ServerStatus::Ready), ready);
    assert_eq!(
        ask("GET /readyz", ServerStatus::Draining),
        "HTTP/1.1 503 Service Unavailable\r\nCache-Control: no-store\r\nContent-Type: application/problem+json\r\nContent-Length: 99\r\n\
         Retry-After: 1\r\n\r\n{\"type\":\"about:blank\",\"title\":\"Service Unavailable\",\"status\":503,\
         \"detail\":\"the server is draining\"}"
    );
    assert!(ask("GET /readyz", ServerStatus::Starting).contains("503"));
}

#[test]
fn a_server_that_drains_takes_no_events_but_still_gets_subscribes() {
    let ask = |line, status| handle(&request(line, ""), b"x", &options(), status);
    let refused = response(ask("POST /channels/a", ServerStatus::Draining));
    assert_eq!(refused.status(), Status::SERVICE_UNAVAILABLE);
    let refused = response(ask("DELETE /channels/a", ServerStatus::Draining));
    assert_eq!(refused.status(), Status::SERVICE_UNAVAILABLE);
    assert!(matches!(ask("GET /channels", ServerStatus::Draining), Reply::ListChannels(_)));
    assert!(matches!(ask("GET /sse", ServerStatus::Draining), Reply::Subscribe(_)));
    let head = request("POST /publish", "Content-Type: application/x-ndjson\r\n");
    assert!(admitted(&head, ServerStatus::Ready).is_ok());
    let problem = admitted(&head, ServerStatus::Draining).unwrap_err();
    assert_eq!(problem.status(), Status::SERVICE_UNAVAILABLE);
}

#[test]
fn a_subscribe_becomes_a_request_for_a_stream() {
    for line in ["GET /sse?channels=a,b", "HEAD /events?channel=a&channel=b"] {
        let Reply::Subscribe(request) = ask(line, "") else { panic!("{line}") };
        let channels: Vec<&str> = request.channels.iter().map(Selector::as_str).collect();
        assert_eq!((channels, request.begin), (vec!["a", "b"], Begin::AtHead));
    }
    for (path, name) in [("/channels/entity%3A42", "entity:42"), ("/channels/entity:*", "entity:*")] {
        let Reply::Subscribe(request) = ask(&format!("GET {path}"), "") else { panic!("{path}") };
        assert_eq!(request.channels[..], [Selector::parse(name).unwrap()]);
    }
}

#[test]
fn foreign_hosts_and_foreign_pages_are_refused() {
    let foreign = head("GET /sse HTTP/1.1\r\nHost: evil.example\r\n\r\n");
    let reply = handle(&foreign, b"", &options(), ServerStatus::Ready);
    assert_eq!(response(reply).status(), Status::FORBIDDEN);
    let page = "Origin: http://evil.example\r\n";
    let reply = |line| handle(&request(line, page), b"x", &options(), ServerStatus::Ready);
    assert_eq!(response(reply("POST /channels/a")).status(), Status::FORBIDDEN);
    assert!(matches!(reply("GET /sse"), Reply::Subscribe(_)), "reading is what CORS protects");
    let lines = request("POST /publish", &format!("Content-Type: application/x-ndjson\r\n{page}"));
    let problem = admitted(&lines, ServerStatus::Ready).unwrap_err();
    assert_eq!(problem.status(), Status::FORBIDDEN);
}

#[test]
fn a_request_may_do_what_was_decided_by_its_head_and_no_more() {
    let permission = Permission::new(Rights::Only(vec![]), Rights::Only(vec![]));
    let body = br#"{"channel":"a","data":1}"#.to_vec();
    let change = br#"{"channel":"a","clientId":"0000000000000000000000000000002a-1-c"}"#.to_vec();
    for (line, body) in [
        ("POST /publish", &body),
        ("POST /channels/a", &body),
        ("POST /sse/broadcast?channel=a", &body),
        ("POST /events/subscribe", &change),
        ("DELETE /channels/a", &body),
        ("GET /channels/a", &body),
    ] {
        let ask = |permission| {
            let request = Request { head: request(line, ""), body: body.clone(), permission };
            with_checks(|checks| super::handle(&request, &options(), ServerStatus::Ready, checks))
        };
        assert_eq!(response(ask(Some(permission.clone()))).status(), Status::FORBIDDEN, "{line}");
        assert!(!matches!(ask(Some(Permission::everything())), Reply::Respond(_)), "{line}");
    }
    let problem = publish::check_path("a", &permission).unwrap_err();
    assert_eq!(Problem::from(problem).status(), Status::FORBIDDEN, "before the body");
}

#[test]
fn a_channel_that_may_not_be_published_to_is_403() {
    let permission = Permission::new(Rights::Only(vec![Selector::parse("a*").unwrap()]), Rights::All);
    let body = br#"[{"channel":"a1","data":1},{"channels":["a2","b"],"data":1}]"#;
    let problem = with_checks(|checks| publish::read_document(body, &permission, checks)).unwrap_err();
    assert_eq!(problem.status(), Status::FORBIDDEN);
    assert_eq!(problem.detail(), "item 1: publishing to the channel \"b\" is not allowed");
    assert!(
        with_checks(|checks| publish::read_verbatim("b", crate::http::pairs(""), b"", &permission, checks))
            .is_err()
    );
    let bytes = b"{\"channel\":\"b\",\"data\":1}\n".to_vec();
    let lines = Lines { permission: None, bytes, first_line: 1, is_end: true, failure: None };
    assert_eq!(
        with_checks(|checks| read_lines(&lines, &permission, checks)).error.unwrap().problem.status(),
        Status::FORBIDDEN
    );
}
