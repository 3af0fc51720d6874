//! Idempotency keys (section "Publishing" of the contract): their syntax, and the content that each
//! covers. The shards know which keys were used before.

use std::collections::HashMap;
use std::num::NonZeroU32;

use super::error::ApiError;
use super::target::Target;
use crate::base::fingerprint::{Fingerprint, Fingerprints};
use crate::base::limits::IDEMPOTENCY_KEY_BYTES_MAX;
use crate::http::{Known, Problem, RequestHead};
use crate::record::Claim;
use crate::sse::event::Event;

/// The idempotency keys of a request, or of a part of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Claims {
    /// No key.
    #[default]
    None,
    /// One key for the whole request: for all events of its batch.
    Request(Claim),
    /// One key for each of these events, in the order of the batch.
    Events(Vec<EventClaim>),
}

/// The idempotency key of one event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventClaim {
    /// The index of the event in its batch.
    pub event: usize,
    /// The key.
    pub claim: Claim,
    /// The part of the request that contains the envelope.
    pub(super) part: Part,
}

impl EventClaim {
    /// The problem of a key that was used before with other content, and the number of the line, in a
    /// body of lines.
    #[must_use]
    pub fn conflict(&self) -> (Problem, Option<u64>) {
        let error = ApiError::KeyReused { key: "`idempotencyKey`", what: "event" };
        match self.part {
            Part::Whole => (error.into(), None),
            Part::Item(item) => (error.within(format_args!("item {item}")), None),
            Part::Line(line) => (error.within(format_args!("line {line}")), Some(line)),
        }
    }
}

impl Claims {
    /// The problem of a request key that was used before with other content.
    #[must_use]
    pub fn request_conflict() -> Problem {
        ApiError::KeyReused { key: "Idempotency-Key", what: "request" }.into()
    }

    pub(super) fn of_events(claims: Vec<EventClaim>) -> Claims {
        if claims.is_empty() { Claims::None } else { Claims::Events(claims) }
    }

    /// Adds the key of the whole request, if it has one.
    pub(super) fn with_request(self, claim: Option<Claim>) -> Result<Claims, ApiError> {
        match (self, claim) {
            (claims, None) => Ok(claims),
            (Claims::None, Some(claim)) => Ok(Claims::Request(claim)),
            (Claims::Request(_) | Claims::Events(_), Some(_)) => Err(ApiError::KeyAndKeys),
        }
    }
}

/// The part of a request that contains an envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// The whole request.
    Whole,
    /// An item of an array, counted from 0.
    Item(u64),
    /// A line of a body of lines, counted from 1.
    Line(u64),
}

impl Part {
    /// The number of the item or the line; 0 for the whole request.
    pub(super) fn number(self) -> u64 {
        match self {
            Part::Whole => 0,
            Part::Item(number) | Part::Line(number) => number,
        }
    }
}

/// Checks the header of a request, if it has one.
pub(super) fn check_header(head: &RequestHead) -> Result<Option<&str>, Problem> {
    let Some(key) = head.header(Known::IdempotencyKey)? else { return Ok(None) };
    let name = "Idempotency-Key";
    check_length(name, key)?;
    match key.bytes().position(|byte| !byte.is_ascii_graphic()) {
        Some(at) => {
            Err(ApiError::BadIdempotencyKey { name, expected: "visible ASCII characters only", at }.into())
        }
        None => Ok(Some(key)),
    }
}

/// The key of a whole request, if it has one. It covers the method, the target and the body.
pub(super) fn of_request(
    head: &RequestHead,
    body: &[u8],
    fingerprints: &Fingerprints,
) -> Result<Option<Claim>, Problem> {
    let Some(key) = check_header(head)? else { return Ok(None) };
    let request = (head.method(), head.path_raw(), head.query_raw(), body);
    Ok(Some(Claim { key: fingerprints.of(key), body: fingerprints.of(&request) }))
}

fn check_length(name: &'static str, key: &str) -> Result<(), ApiError> {
    if key.is_empty() || key.len() > IDEMPOTENCY_KEY_BYTES_MAX {
        return Err(ApiError::IdempotencyKeyLength { name, bytes: key.len() });
    }
    Ok(())
}

/// The keys of the envelopes of a request, or of a part of it.
#[derive(Debug)]
pub(super) struct EnvelopeKeys<'f> {
    fingerprints: &'f Fingerprints,
    claims: Vec<EventClaim>,
    /// For each key, the first event with it.
    events: HashMap<Fingerprint, (usize, Fingerprint)>,
}

impl<'f> EnvelopeKeys<'f> {
    pub(super) fn new(fingerprints: &'f Fingerprints) -> EnvelopeKeys<'f> {
        EnvelopeKeys { fingerprints, claims: Vec::new(), events: HashMap::new() }
    }

    /// Adds the key of an envelope whose event would get the index `event` in the batch. Returns the
    /// index of an equal event with the same key, if the batch has one: it stands in for this envelope.
    pub(super) fn add(
        &mut self,
        key: &str,
        content: (&Target<'_>, &Event<'_>, Option<&str>, Option<NonZeroU32>),
        event: usize,
        part: Part,
    ) -> Result<Option<usize>, ApiError> {
        let name = "`idempotencyKey`";
        check_length(name, key)?;
        if let Some((at, _)) = key.char_indices().find(|(_, letter)| letter.is_control()) {
            return Err(ApiError::BadIdempotencyKey { name, expected: "no control characters", at });
        }
        let claim = Claim { key: self.fingerprints.of(key), body: self.fingerprints.of(&content) };
        match self.events.get(&claim.key) {
            Some(&(first, body)) if body == claim.body => Ok(Some(first)),
            Some(_) => Err(ApiError::KeyReused { key: name, what: "event" }),
            None => {
                self.events.insert(claim.key, (event, claim.body));
                self.claims.push(EventClaim { event, claim, part });
                Ok(None)
            }
        }
    }

    /// The keys, each with its first event.
    pub(super) fn into_claims(self) -> Claims {
        Claims::of_events(self.claims)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{handle, head, options, request};
    use super::super::{Reply, ServerStatus};
    use super::*;

    fn claims(line: &str, headers: &str, body: &str) -> Result<Claims, (u16, String)> {
        match handle(&request(line, headers), body.as_bytes(), &options(), ServerStatus::Ready) {
            Reply::Publish { claims, .. } => Ok(claims),
            Reply::Respond(response) => {
                let body: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
                Err((response.status().code(), body["detail"].as_str().unwrap().to_owned()))
            }
            Reply::Subscribe(_)
            | Reply::Report(_)
            | Reply::ListChannels(_)
            | Reply::DropHistory(_)
            | Reply::Client(_) => panic!("not a publish"),
        }
    }

    fn refused(line: &str, headers: &str, body: &str) -> (u16, String) {
        claims(line, headers, body).unwrap_err()
    }

    #[test]
    fn the_key_of_a_request_is_for_its_method_path_query_and_body() {
        let key = "Idempotency-Key: k\r\n";
        let of = |line, headers, body| match claims(line, headers, body) {
            Ok(Claims::Request(claim)) => claim,
            other => panic!("{other:?}"),
        };
        let first = of("POST /channels/a?event=x", key, "1");
        assert_eq!(first, of("POST /channels/a?event=x", key, "1"));
        for (line, body) in [
            ("POST /channels/b?event=x", "1"),
            ("POST /channels/a?event=y", "1"),
            ("POST /channels/a", "1"),
            ("POST /channels/a?event=x", "2"),
            ("POST /sse/broadcast-all?event=x", "1"),
        ] {
            let other = of(line, key, body);
            assert!(other.key == first.key && other.body != first.body, "{line}");
        }
        let other = of("POST /channels/a?event=x", "Idempotency-Key: l\r\n", "1");
        assert!(other.key != first.key && other.body == first.body);
    }

    #[test]
    fn every_publish_takes_the_header_and_other_requests_ignore_it() {
        let key = "Idempotency-Key: k\r\n";
        for (target, body) in [
            ("/publish", r#"[{"channel":"a","data":1}]"#),
            ("/channels/a", "x"),
            ("/events/send", r#"{"data":1}"#),
            ("/sse/broadcast?channel=a", "1"),
            ("/sse/broadcast-all", "1"),
            ("/sse/notify-user?user_id=u", "1"),
            ("/notify", r#"{"channel":"a","notification":{"type":"info","title":"t","message":"m"}}"#),
            ("/progress", r#"{"userId":"u","progress":{"taskId":"t","progress":1,"status":"running"}}"#),
            ("/data-update", r#"{"entity":"e","action":"created","data":{}}"#),
        ] {
            let line = format!("POST {target}");
            assert!(matches!(claims(&line, key, body), Ok(Claims::Request(_))), "{target}");
            assert_eq!(claims(&line, "", body), Ok(Claims::None), "{target}");
        }
        let stream = handle(&request("GET /sse", key), b"", &options(), ServerStatus::Ready);
        assert!(matches!(stream, Reply::Subscribe(_)));
    }

    #[test]
    fn the_header_is_visible_ascii() {
        let body = r#"{"channel":"a","data":1}"#;
        let longest = format!("Idempotency-Key: {}\r\n", "~".repeat(255));
        assert!(matches!(claims("POST /publish", &longest, body), Ok(Claims::Request(_))));
        for (value, detail) in [
            (String::new(), "Idempotency-Key has 1 to 255 bytes, this one has 0"),
            ("x".repeat(256), "Idempotency-Key has 1 to 255 bytes, this one has 256"),
            (
                "a b".to_owned(),
                "Idempotency-Key: expected visible ASCII characters only; found another at byte 1",
            ),
        ] {
            let headers = format!("Idempotency-Key: {value}\r\n");
            assert_eq!(refused("POST /publish", &headers, body), (400, detail.to_owned()));
        }
        let plain =
            head("POST /channels/a HTTP/1.1\r\nHost: localhost\r\nIdempotency-Key: \"quoted\"\r\n\r\n");
        assert_eq!(check_header(&plain), Ok(Some("\"quoted\"")));
    }

    #[test]
    fn the_key_of_an_envelope_covers_its_meaning() {
        let of = |body: &str| match claims("POST /publish", "", body) {
            Ok(Claims::Events(claims)) => claims[0],
            other => panic!("{other:?}"),
        };
        let first = of(r#"{"channel":"a","data":[1,2],"event":"e","idempotencyKey":"k"}"#);
        let same =
            of(r#" {"idempotencyKey":"\u006b", "event":"e","data":[1,2],"userId":null,"channel":"a"}"#);
        assert_eq!(first, same);
        for other in [
            r#"{"channel":"b","data":[1,2],"event":"e","idempotencyKey":"k"}"#,
            r#"{"userId":"a","data":[1,2],"event":"e","idempotencyKey":"k"}"#,
            r#"{"all":true,"data":[1,2],"event":"e","idempotencyKey":"k"}"#,
            r#"{"channel":"a","data":[1, 2],"event":"e","idempotencyKey":"k"}"#,
            r#"{"channel":"a","data":[1,2],"idempotencyKey":"k"}"#,
            r#"{"channel":"a","data":[1,2],"event":"e","id":"e","idempotencyKey":"k"}"#,
            r#"{"channel":"a","data":[1,2],"event":"e","retry":1,"idempotencyKey":"k"}"#,
            r#"{"channel":"a","data":[1,2],"event":"e","key":"c","idempotencyKey":"k"}"#,
            r#"{"channel":"a","data":[1,2],"event":"e","ttl":1,"idempotencyKey":"k"}"#,
        ] {
            let other_claim = of(other).claim;
            assert!(other_claim.key == first.claim.key && other_claim.body != first.claim.body, "{other}");
        }
    }

    #[test]
    fn the_header_and_keys_of_envelopes_exclude_each_other() {
        let detail =
            "both the header Idempotency-Key, which covers the whole request, and `idempotencyKey` are given";
        for body in [
            r#"{"channel":"a","data":1,"idempotencyKey":"k"}"#,
            r#"[{"channel":"a","data":1},{"channel":"a","data":1,"idempotencyKey":"k"}]"#,
        ] {
            assert_eq!(refused("POST /publish", "Idempotency-Key: h\r\n", body), (400, detail.to_owned()));
        }
    }

    #[test]
    fn a_repeated_item_of_an_array_has_no_event_of_its_own() {
        let body = r#"[{"channel":"a","data":0},{"channel":"a","data":1,"idempotencyKey":"k"},
            {"channel":"a","data":1,"idempotencyKey":"k"},{"channel":"a","data":2,"idempotencyKey":"l"}]"#;
        let reply = handle(&request("POST /publish", ""), body.as_bytes(), &options(), ServerStatus::Ready);
        let Reply::Publish { batch, mut form, claims: Claims::Events(claims) } = reply else { panic!() };
        let events: Vec<(usize, Part)> = claims.iter().map(|claim| (claim.event, claim.part)).collect();
        assert_eq!(events, [(1, Part::Item(1)), (2, Part::Item(3))]);
        assert_eq!((batch.len(), form.places_mut().len(), form.places_mut().duplicates()), (3, 4, Some(1)));
    }
}
