//! The publishes of fixed form: the events of their bodies, and the errors of bad ones.

use super::Reply;
use super::tests::{ask, published, response};

/// The outcome of a body: the channels and the frame, or the status and the detail.
fn outcome(target: &str, body: &str) -> String {
    match ask(&format!("POST {target}"), body) {
        Reply::Respond(response) => {
            let problem: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
            format!("{} {}", response.status().code(), problem["detail"].as_str().unwrap())
        }
        reply @ (Reply::Publish { .. }
        | Reply::Subscribe(_)
        | Reply::Report(_)
        | Reply::ListChannels(_)
        | Reply::DropHistory(_)
        | Reply::Client(_)) => {
            let (events, form) = published(reply);
            assert!(form.wants_receivers() && events.len() == 1);
            format!("{}: {}", events[0].0, events[0].1)
        }
    }
}

#[track_caller]
fn check(target: &str, cases: &[(&str, &str)]) {
    for (body, expected) in cases {
        assert_eq!(outcome(target, body), *expected, "{target} {body}");
    }
}

#[test]
fn events_are_sent_to_a_channel_global_where_none_is_named() {
    check(
        "/events/send",
        &[
            (r#"{"data":1}"#, "global: id: #\ndata: 1\n\n"),
            (r#"{"channel":null,"data":null}"#, "global: id: #\ndata: null\n\n"),
            (
                r#"{"channel":"a","event":"e","data":{"x": [1]},"id":"i","retry":5}"#,
                "a: retry: 5\nevent: e\nid: i\ndata: {\"x\": [1]}\n\n",
            ),
            ("", "400 the body is empty; expected a JSON object"),
            (
                "[]",
                "400 no envelope at line 1 column 0: invalid type: sequence, expected an envelope, which is a JSON object",
            ),
            ("{}", "400 no data; expected `data` (any JSON value)"),
            (
                r#"{"data":1,"text":"x"}"#,
                "400 unknown field \"text\"; the fields are `channel`, `userId`, `clientId`, `data`, `event`, `id` and `retry`",
            ),
            (r#"{"data":1,"data":2}"#, "400 `data` is given twice"),
            (
                r#"{"channel":"a*","data":1}"#,
                "400 `channel`: \"a*\" is a pattern, and events are not published to patterns",
            ),
            (
                r#"{"data":1,"retry":"5"}"#,
                "400 `retry`: found a string, expected a whole number of milliseconds above 0",
            ),
            (r#"{"data":1,"userId":7}"#, "400 `userId`: found a number, expected a string"),
            (
                r#"{"data":1,"userId":"u","clientId":"c"}"#,
                "400 both `userId` and `clientId` are given; expected one of `channel`, `userId` and `clientId`",
            ),
            (r#"{"data":1,"userId":"u"}"#, "\u{1}user:u: id: #\ndata: 1\n\n"),
            (r#"{"data":1,"clientId":"c"}"#, "404 no client with this `clientId` is connected"),
        ],
    );
    check(
        "/events/send?channel=a",
        &[(r#"{"data":1}"#, "400 unknown parameter \"channel\"; expected none; the body says all")],
    );
}

#[test]
fn a_broadcast_names_its_channel_in_the_query_or_in_the_body() {
    check(
        "/sse/broadcast?channel=a&event=e+x",
        &[
            (" {\"channel\": \"b\"}\n", "a: event: e x\nid: #\ndata: {\"channel\": \"b\"}\n\n"),
            ("\"x\"", "a: event: e x\nid: #\ndata: \"x\"\n\n"),
            ("[1,\n2]", "a: event: e x\nid: #\ndata: [1,\ndata: 2]\n\n"),
            ("", "400 the body is empty; expected a JSON value, which is the data"),
            ("x", "400 not JSON at line 1 column 1: expected value"),
            ("1 2", "400 not JSON at line 1 column 3: trailing characters"),
        ],
    );
    check("/sse/broadcast?channel=b", &[("1", "b: id: #\ndata: 1\n\n")]);
    check("/sse/broadcast?event=e", &[("1", "global: event: e\nid: #\ndata: 1\n\n")]);
    check("/sse/broadcast?channel=", &[("1", "400 `channel`: a channel name must not be empty")]);
    check("/sse/broadcast?event=", &[("1", "400 `event` must not be empty; leave it out instead")]);
    check(
        "/sse/broadcast?chanel=a",
        &[("1", "400 unknown parameter \"chanel\"; expected `channel` and `event`")],
    );
    check(
        "/sse/broadcast",
        &[
            (r#"{"channel":"a","event":"e","data":[]}"#, "a: event: e\nid: #\ndata: []\n\n"),
            (r#"{"data":"x"}"#, "global: id: #\ndata: \"x\"\n\n"),
            (r#"{"channel":"a"}"#, "400 no data; expected `data` (any JSON value)"),
            (
                r#"{"channel":"a","data":1,"id":"i"}"#,
                "400 unknown field \"id\"; the fields are `channel`, `data` and `event`",
            ),
            ("", "400 the body is empty; expected a JSON object"),
        ],
    );
}

#[test]
fn events_to_users_and_to_all_are_checked_first() {
    let user = "\u{1}user:u: id: #\ndata: 1\n\n";
    let all = "\u{1}all: id: #\ndata: 1\n\n";
    check(
        "/sse/broadcast-all",
        &[("1", all), ("{", "400 not JSON at line 1 column 1: EOF while parsing an object")],
    );
    check(
        "/sse/broadcast-all?event=e",
        &[
            ("1", "\u{1}all: event: e\nid: #\ndata: 1\n\n"),
            ("", "400 the body is empty; expected a JSON value, which is the data"),
        ],
    );
    check("/sse/broadcast-all?channel=a", &[("1", "400 unknown parameter \"channel\"; expected `event`")]);
    check("/sse/notify-user?user_id=u&event=e", &[("1", "\u{1}user:u: event: e\nid: #\ndata: 1\n\n")]);
    check("/sse/notify-user?user_id=u", &[("1", user)]);
    check("/sse/notify-user?userId=a,b+c", &[("1", "\u{1}user:a,b c: id: #\ndata: 1\n\n")]);
    check("/sse/notify-user", &[("1", "400 the parameter `user_id` is missing; it names the user")]);
    check("/sse/notify-user?userId=", &[("1", "400 `user_id`: a user's id must not be empty")]);
    check("/sse/notify-user?userId=u&user_id=u", &[("1", "400 the parameter `user_id` is given twice")]);
}

#[test]
fn notifications_have_a_type_a_title_and_a_message() {
    check(
        "/notify",
        &[
            (
                r#"{"notification":{"type":"warning","title":"T","message":""},"channel":"a"}"#,
                "a: event: notification\nid: #\ndata: {\"type\":\"warning\",\"title\":\"T\",\"message\":\"\"}\n\n",
            ),
            (
                r#"{"channel":"a"}"#,
                "400 `notification` is missing; the fields are `channel` and `notification`",
            ),
            (r#"{"channel":1,"notification":{}}"#, "400 `channel`: found a number, expected a string"),
            (
                r#"{"channel":"a b","notification":{}}"#,
                "400 `channel`: a channel name must not contain control characters, spaces or commas; found ' ' at byte 1",
            ),
            (
                r#"{"channel":"a","notification":"x"}"#,
                "400 `notification`: found a string, expected an object",
            ),
            (
                r#"{"channel":"a","notification":{"type":"info","title":"T"}}"#,
                "400 `notification.message` is missing; the fields are `type`, `title` and `message`",
            ),
            (
                r#"{"channel":"a","notification":{"type":"fatal","title":"T","message":"M"}}"#,
                "400 `notification.type`: found \"fatal\", expected `info`, `warning` or `error`",
            ),
            (
                r#"{"channel":"a","notification":{"type":"info","title":null,"message":"M"}}"#,
                "400 `notification.title`: found null, expected a string",
            ),
            (
                r#"{"channel":"a","notification":{"type":"info","title":"T","message":["M"]}}"#,
                "400 `notification.message`: found an array, expected a string",
            ),
            (
                r#"{"channel":"a","notification":{"type":"info","title":"T","message":"M","icon":1}}"#,
                "400 unknown field \"icon\"; the fields are `type`, `title` and `message`",
            ),
        ],
    );
}

#[test]
fn progress_is_a_percentage_of_a_task_and_its_status() {
    let user = |progress: &str| format!("\u{1}user:u: event: progress\nid: #\ndata: {progress}\n\n");
    for progress in [
        r#"{"taskId":"t","progress":0,"status":"running"}"#,
        r#"{"taskId":"t","progress":99.5,"status":"failed"}"#,
        r#"{"taskId":"t","progress":100,"status":"completed"}"#,
    ] {
        let body = format!(r#"{{"userId":"u","progress":{progress}}}"#);
        assert_eq!(outcome("/progress", &body), user(progress));
    }
    check(
        "/progress",
        &[
            (
                r#"{"progress":{"taskId":"t","progress":100,"status":"completed"}}"#,
                "400 `userId` is missing; the fields are `userId` and `progress`",
            ),
            (
                r#"{"userId":"a\nb","progress":{}}"#,
                "400 `userId`: a user's id must not contain control characters; found '\\n' at byte 1",
            ),
            (
                r#"{"userId":"u","progress":{"taskId":7,"progress":0,"status":"running"}}"#,
                "400 `progress.taskId`: found a number, expected a string",
            ),
            (
                r#"{"userId":"u","progress":{"taskId":"t","progress":101,"status":"running"}}"#,
                "400 `progress.progress`: found 101, expected a number from 0 to 100",
            ),
            (
                r#"{"userId":"u","progress":{"taskId":"t","progress":"50","status":"running"}}"#,
                "400 `progress.progress`: found a string, expected a number from 0 to 100",
            ),
            (
                r#"{"userId":"u","progress":{"taskId":"t","progress":50,"status":"done"}}"#,
                "400 `progress.status`: found \"done\", expected `running`, `completed` or `failed`",
            ),
            (r#"{"userId":"u","progress":50}"#, "400 `progress`: found a number, expected an object"),
        ],
    );
}

#[test]
fn data_updates_go_whole_to_the_channel_of_their_entity() {
    let long = format!(r#"{{"entity":"{}","action":"created","data":{{}}}}"#, "x".repeat(250));
    let longest = format!(r#"{{"entity":"{}","action":"created","data":{{}}}}"#, "x".repeat(249));
    check(
        "/data-update",
        &[
            (
                " {\"entity\":\"42\", \"action\":\"updated\",\n\"data\":{\"a\":null}}\n",
                "entity:42: event: data-update\nid: #\ndata: {\"entity\":\"42\", \"action\":\"updated\",\ndata: \"data\":{\"a\":null}}\n\n",
            ),
            (
                r#"{"entity":"","action":"created","data":{}}"#,
                "400 `entity`: a channel name must not be empty",
            ),
            (
                r#"{"entity":"a b","action":"created","data":{}}"#,
                "400 `entity`: a channel name must not contain control characters, spaces or commas; found ' ' at byte 1",
            ),
            (
                r#"{"entity":"*","action":"created","data":{}}"#,
                "400 `entity`: \"entity:*\" is a pattern, and events are not published to patterns",
            ),
            (&long, "400 `entity`: a channel name has at most 256 bytes, this one has 257"),
            (
                r#"{"entity":42,"action":"created","data":{}}"#,
                "400 `entity`: found a number, expected a string",
            ),
            (
                r#"{"entity":"a","action":"removed","data":{}}"#,
                "400 `action`: found \"removed\", expected `created`, `updated` or `deleted`",
            ),
            (
                r#"{"entity":"a","action":"deleted","data":null}"#,
                "400 `data`: found null, expected an object",
            ),
            (
                r#"{"entity":"a","action":"deleted"}"#,
                "400 `data` is missing; the fields are `entity`, `action` and `data`",
            ),
            (
                r#"{"entity":"a","action":"deleted","data":{},"by":"me"}"#,
                "400 unknown field \"by\"; the fields are `entity`, `action` and `data`",
            ),
            ("[]", "400 the body is an array; expected a JSON object"),
            ("", "400 the body is empty; expected a JSON object"),
        ],
    );
    assert!(outcome("/data-update", &longest).starts_with("entity:xxx"));
    assert_eq!(response(ask("GET /data-update", "")).status().code(), 405);
}
