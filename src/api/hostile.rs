//! Bad bodies and bad parameters, and the error for each.

use super::tests::{ask, handle, options, published, request, response};
use super::{Reply, ServerStatus};
use crate::http::Status;

/// Bodies of `POST /publish`, with the status and a part of the detail.
const BAD_DOCUMENTS: &[(&str, u16, &str)] = &[
    ("", 400, "the body is empty; expected a JSON object or an array"),
    (" \n", 400, "the body is empty"),
    ("{", 400, "not JSON at line 1 column 1: EOF while parsing an object"),
    ("hello", 400, "not JSON at line 1 column 1: expected value"),
    ("\u{feff}\u{feff}{}", 400, "not JSON at line 1 column 1"),
    ("{'channel':'a'}", 400, "not JSON at line 1 column 2: key must be a string"),
    ("{\"channel\":\"a\",\n\"data\":1,}", 400, "not JSON at line 2 column 10: trailing comma"),
    ("{\"channel\":\"a\",\"data\":1}{}", 400, "not JSON at line 1 column 25: trailing characters"),
    ("{\"channel\":\"a\",\"data\":\"\n\"}", 400, "control character"),
    ("{\"channel\":\"a\",\"data\":01}", 400, "not JSON"),
    ("{\"channel\":\"\\ud800\",\"data\":1}", 400, "not JSON"),
    ("\"x\"", 400, "no envelope at line 1 column 3: invalid type: string \"x\", expected an envelope"),
    ("17", 400, "expected an envelope, which is a JSON object"),
    ("null", 400, "expected an envelope"),
    ("{}", 400, "no target; expected exactly one of `channel`"),
    (r#"{"data":1}"#, 400, "no target"),
    (r#"{"channel":"a"}"#, 400, "no data; expected `data` (any JSON value) or `text`"),
    (r#"{"channel":"a","text":null}"#, 400, "no data"),
    (r#"{"channel":"a","data":1,"text":"x"}"#, 400, "both `data` and `text` are given"),
    (r#"{"channel":"a","text":1}"#, 400, "`text`: found a number, expected a string"),
    (r#"{"channel":"a","channels":["b"],"data":1}"#, 400, "both `channel` and `channels` are given"),
    (r#"{"channel":"a","all":true,"data":1}"#, 400, "both `channel` and `all` are given"),
    (r#"{"channel":"a","data":1,"data":2}"#, 400, "`data` is given twice"),
    (r#"{"channel":"a","channel":null,"data":2}"#, 400, "`channel` is given twice"),
    (r#"{"channel":"a","dta":1}"#, 400, "unknown field \"dta\"; the fields are `channel`, `channels`"),
    (r#"{"channel":"a","data":1,"":[{}]}"#, 400, "unknown field \"\""),
    (r#"{"channel":7,"data":1}"#, 400, "`channel`: found a number, expected a channel's name"),
    (r#"{"channel":["a"],"data":1}"#, 400, "`channel`: found an array, expected a channel's name"),
    (r#"{"channel":"","data":1}"#, 400, "`channel`: a channel name must not be empty"),
    (r#"{"channel":"a b","data":1}"#, 400, "`channel`: a channel name must not contain"),
    (r#"{"channel":"a,b","data":1}"#, 400, "found ',' at byte 1"),
    (r#"{"channel":"a\n","data":1}"#, 400, "found '\\n' at byte 1"),
    (r#"{"channel":"a*","data":1}"#, 400, "`channel`: \"a*\" is a pattern"),
    (r#"{"channel":"*","data":1}"#, 400, "`channel`: \"*\" is a pattern"),
    (r#"{"channels":"a","data":1}"#, 400, "`channels`: found a string, expected an array of channel names"),
    (r#"{"channels":[],"data":1}"#, 400, "`channels` is empty"),
    (r#"{"channels":["a",1],"data":1}"#, 400, "`channels`: found a number, expected channel names"),
    (r#"{"channels":["a",[]],"data":1}"#, 400, "`channels`: found an array"),
    (r#"{"channels":["a",""],"data":1}"#, 400, "`channels`: a channel name must not be empty"),
    (r#"{"channels":["a","b*"],"data":1}"#, 400, "`channels`: \"b*\" is a pattern"),
    (r#"{"all":false,"data":1}"#, 400, "`all`: found false, expected true"),
    (r#"{"userId":1,"data":1}"#, 400, "`userId`: found a number, expected a string"),
    (r#"{"userId":"","data":1}"#, 400, "`userId`: a user's id must not be empty"),
    (r#"{"userId":"a\u0085","data":1}"#, 400, "found '\\u{85}' at byte 1"),
    (r#"{"userId":"u"}"#, 400, "no data"),
    (r#"{"all":true,"data":1,"event":""}"#, 400, "`event` must not be empty"),
    (r#"{"clientId":"c","data":1}"#, 404, "no client with this `clientId` is connected"),
    (
        r#"{"channel":"a","data":1,"ttl":0}"#,
        400,
        "`ttl`: found 0, expected a whole number of seconds from 1 to 4294967295",
    ),
    (
        r#"{"channel":"a","data":1,"ttl":4294967296}"#,
        400,
        "`ttl`: found a larger number, expected a whole number of seconds from 1 to 4294967295",
    ),
    (r#"{"channel":"a","data":1,"ttl":-1}"#, 400, "`ttl`: found a negative number, expected"),
    (r#"{"channel":"a","data":1,"ttl":1.5}"#, 400, "`ttl`: found a number with a fraction"),
    (r#"{"channel":"a","data":1,"ttl":"5"}"#, 400, "`ttl`: found a string, expected"),
    (
        r#"{"channel":"a","data":1,"idempotencyKey":1}"#,
        400,
        "`idempotencyKey`: found a number, expected a string",
    ),
    (
        r#"{"channel":"a","data":1,"idempotencyKey":""}"#,
        400,
        "`idempotencyKey` has 1 to 255 bytes, this one has 0",
    ),
    (
        r#"{"channel":"a","data":1,"idempotencyKey":"ä\u0085"}"#,
        400,
        "`idempotencyKey`: expected no control characters; found another at byte 2",
    ),
    (
        r#"[{"channel":"a","data":1},{"channel":"a","data":1,"idempotencyKey":""}]"#,
        400,
        "item 1: `idempotencyKey` has",
    ),
    (
        r#"[{"channel":"a","data":1,"idempotencyKey":"x"},{"channel":"b","data":1,"idempotencyKey":"x"}]"#,
        409,
        "item 1: `idempotencyKey` was used for another event within the last five minutes; a new event needs a new key",
    ),
    (r#"{"channel":"a","data":1,"event":""}"#, 400, "`event` must not be empty"),
    (r#"{"channel":"a","data":1,"event":"a\nb"}"#, 400, "`event` must not contain CR, LF or NUL"),
    (r#"{"channel":"a","data":1,"event":{}}"#, 400, "`event`: found an object, expected a string"),
    (r#"{"channel":"a","data":1,"id":""}"#, 400, "`id` must not be empty"),
    (
        r#"{"channel":"a","data":1,"id":"x\u0000"}"#,
        400,
        "`id` must not contain control characters; found one at byte 1",
    ),
    (r#"{"channel":"a","data":1,"id":7}"#, 400, "`id`: found a number, expected a string"),
    (
        r#"{"channel":"a","data":1,"id":"AAAAAAAAAAA.000000000000041"}"#,
        400,
        "`id`: AAAAAAAAAAA.000000000000041 has the form of the ids that the server gives",
    ),
    (r#"{"channel":"a","data":1,"retry":0}"#, 400, "`retry` is a number of milliseconds above 0"),
    (r#"{"channel":"a","data":1,"retry":-1}"#, 400, "`retry`: found a negative number"),
    (r#"{"channel":"a","data":1,"retry":1.5}"#, 400, "`retry`: found a number with a fraction"),
    (r#"{"channel":"a","data":1,"retry":"5"}"#, 400, "`retry`: found a string, expected a whole number"),
    (r#"{"channel":"a","data":1,"key":""}"#, 400, "`key` has 1 to 256 bytes, this one has 0"),
    (r#"{"channel":"a","data":1,"key":true}"#, 400, "`key`: found true, expected a string"),
    ("[", 400, "item 0: not JSON at line 1 column 1: EOF while parsing a list"),
    ("[1]", 400, "item 0: no envelope at line 1 column 2: invalid type: integer `1`"),
    (r#"[{"channel":"a","data":1},{"channel":"b"}]"#, 400, "item 1: no data"),
    (r#"[{"channel":"a","data":1},{"channel":"b","data":1,"all":true},{}]"#, 400, "item 1: both"),
    (
        r#"[{"channel":"a","data":1},{"clientId":"c","data":1}]"#,
        404,
        "item 1: no client with this `clientId`",
    ),
    (r#"[{"channel":"a","data":1},{"channel":"b","data":1,"ttl":0}]"#, 400, "item 1: `ttl`: found 0"),
    (
        r#"[{"channel":"a","data":1},{"channel":"b","data":1,"id":"AAAAAAAAAAA.000000000000041"}]"#,
        400,
        "item 1: `id`: AAAAAAAAAAA.000000000000041 has",
    ),
    (r#"[{"channel":"a","data":1} {"channel":"b"}]"#, 400, "item 1: not JSON at line 1 column 27"),
    (r#"[{"channel":"a","data":1}]x"#, 400, "not JSON at line 1 column 27: trailing characters"),
    (r#"[[{"channel":"a","data":1}]]"#, 400, "item 0: no envelope"),
];

#[test]
fn errors_of_bad_documents_name_the_fault() {
    let mut wrong = Vec::new();
    for &(body, status, detail) in BAD_DOCUMENTS {
        let Reply::Respond(response) = ask("POST /publish", body) else { panic!("accepted {body:?}") };
        let problem: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
        let found = problem["detail"].as_str().unwrap();
        if response.status().code() != status || !found.contains(detail) {
            wrong.push(format!(
                "{body:?}\n  expected {status} {detail}\n  found {} {found}",
                response.status()
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn values_that_are_too_long_are_refused() {
    let names = |count: usize| (0..count).map(|i| format!("\"{i}\"")).collect::<Vec<_>>().join(",");
    let long = "x".repeat(257);
    for (body, detail) in [
        (format!(r#"{{"channel":"{long}","data":1}}"#), "at most 256 bytes, this one has 257"),
        (format!(r#"{{"channel":"a","data":1,"id":"{long}"}}"#), "`id` has at most 256 bytes"),
        (format!(r#"{{"channel":"a","data":1,"event":"{long}"}}"#), "`event` has at most 256 bytes"),
        (
            format!(r#"{{"channel":"a","data":1,"key":"{long}"}}"#),
            "`key` has 1 to 256 bytes, this one has 257",
        ),
        (format!(r#"{{"channels":[{}],"data":1}}"#, names(129)), "`channels` has more than 128 names"),
        (format!("\"{}\"", "x".repeat(100_000)), "…"),
        ("[".repeat(100_000), "item 0: no envelope"),
        (format!(r#"{{"channel":{}"#, "[".repeat(100_000)), "EOF while parsing a list"),
    ] {
        let response = response(ask("POST /publish", &body));
        let text = str::from_utf8(response.body()).unwrap();
        assert_eq!(response.status(), Status::BAD_REQUEST);
        assert!(text.contains(detail) && text.len() < 500, "{text}");
    }
    let most = format!(r#"{{"channels":[{}],"data":{}1{}}}"#, names(128), "[".repeat(5000), "]".repeat(5000));
    assert_eq!(published(ask("POST /publish", &most)).0.len(), 1);
}

#[test]
fn errors_of_bad_publishes_to_a_path_name_the_fault() {
    for (target, status, detail) in [
        ("/channels/", 400, "`channel`: a channel name must not be empty"),
        ("/channels/a%20b", 400, "found ' ' at byte 1"),
        ("/channels/a*", 400, "is a pattern"),
        ("/channels/%zz", 400, "bad percent-encoding in the path"),
        ("/channels/a?evnt=x", 400, "unknown parameter \"evnt\"; expected `event`, `id`, `retry` and `key`"),
        ("/channels/a?id=x&id=y", 400, "the parameter `id` is given twice"),
        ("/channels/a?event=", 400, "`event` must not be empty"),
        ("/channels/a?id=%0A", 400, "`id` must not contain control characters"),
        ("/channels/a?id=AAAAAAAAAAA.000000000000041", 400, "has the form of the ids that the server gives"),
        ("/channels/a?retry=0", 400, "`retry` is a number of milliseconds above 0"),
        ("/channels/a?retry=%2B5", 400, "`retry`: found something else, expected a whole number"),
        ("/channels/a?retry=18446744073709551616", 400, "`retry`: found a number with too many digits"),
        ("/channels/a?key=", 400, "`key` has 1 to 256 bytes"),
        ("/channels/a?key=%GG", 400, "bad percent-encoding in the query"),
        ("/publish?channel=a", 400, "unknown parameter \"channel\"; expected none"),
        ("/sse", 405, "POST is not allowed here; expected GET, HEAD, OPTIONS"),
        ("/nothing", 404, "there is nothing at \"/nothing\""),
        ("/dashboard", 501, "/dashboard is not part of this version of the server"),
    ] {
        let response = response(ask(&format!("POST {target}"), r#"{"channel":"a","data":1}"#));
        let text = str::from_utf8(response.body()).unwrap().replace("\\\"", "\"");
        assert_eq!(response.status().code(), status, "{target}: {text}");
        assert!(text.contains(detail), "{target}: {text}");
    }
}

#[test]
fn bodies_are_utf8() {
    for target in ["/channels/a", "/publish"] {
        let head = request(&format!("POST {target}"), "");
        let response = response(handle(&head, b"ab\xffc", &options(), ServerStatus::Ready));
        assert_eq!(
            response.body(),
            br#"{"type":"about:blank","title":"Bad Request","status":400,"detail":"not UTF-8: the byte at 2 begins no character"}"#
        );
    }
}
