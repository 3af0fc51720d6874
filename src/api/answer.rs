//! What a publisher is told once its events are committed (section "Publishing" of the contract).

use super::error::ApiError;
use crate::base::id::EventId;
use crate::http::{Problem, Response, Status};

/// The ids that publishers gave to events of a batch, with the place of each in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnIds(Vec<(u64, Box<str>)>);

impl OwnIds {
    /// Notes the id of the event at `place`, which is behind all that were noted.
    pub(super) fn push(&mut self, place: u64, id: &str) {
        self.0.push((place, Box::from(id)));
    }

    /// Forgets the ids of the events from `events` on.
    pub fn truncate(&mut self, events: usize) {
        self.0.retain(|&(place, _)| place < events as u64);
    }
}

/// How a publish is to be answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnswerForm {
    /// How many events an array had; `None` for one event.
    batch_events: Option<u64>,
    own_ids: OwnIds,
}

impl AnswerForm {
    /// For one event.
    pub(super) fn single(own_ids: OwnIds) -> AnswerForm {
        AnswerForm { batch_events: None, own_ids }
    }

    /// For an array of `events` events.
    pub(super) fn batch(events: u64, own_ids: OwnIds) -> AnswerForm {
        AnswerForm { batch_events: Some(events), own_ids }
    }

    /// Returns true if and only if the answer says how many streams received the event: it was one, not in an array.
    #[must_use]
    pub fn wants_receivers(&self) -> bool {
        self.batch_events.is_none()
    }

    /// The problem of a publish whose event at `place` goes to a client that is not connected.
    #[must_use]
    pub fn unknown_client(&self, place: usize) -> Problem {
        match self.batch_events {
            None => ApiError::UnknownClient.into(),
            Some(_) => ApiError::UnknownClient.within(format_args!("item {place}")),
        }
    }
}

/// Answers a publish whose events are committed, the first of them as `first` and the others behind it. Each event is
/// told by the id that its receivers see. `receivers` are those of a single event; `None` leaves them out.
#[must_use]
pub fn answer_published(form: &AnswerForm, first: EventId, receivers: Option<u64>) -> Response<'static> {
    let mut ids = IdWriter { own: &form.own_ids.0, place: 0 };
    let mut body = Vec::with_capacity(96);
    match form.batch_events {
        None => {
            body.extend_from_slice(br#"{"success":true,"id":"#);
            ids.push(&mut body, first);
            if let Some(receivers) = receivers {
                body.extend_from_slice(format!(r#","receivers":{receivers}"#).as_bytes());
            }
            body.push(b'}');
        }
        Some(events) => push_batch(&mut body, events, Some((&[(first, events)], ids))),
    }
    Response::json(Status::OK, body)
}

/// What a body of lines has come to so far. The ids of its events are kept up to a bound
/// ([`LISTED_EVENTS_MAX`], [`OWN_ID_BYTES_MAX`]); the answer to a longer one leaves them out.
#[derive(Clone, Debug, Default)]
pub struct LinesAccount {
    published: u64,
    /// The first id of each stretch of events without a hole, and how many they are.
    ranges: Vec<(EventId, u64)>,
    own_ids: Vec<(u64, Box<str>)>,
    own_id_bytes: usize,
    /// More events, or ids, than are listed.
    is_over: bool,
}

/// Most events whose ids are in the answer to a body of lines.
pub const LISTED_EVENTS_MAX: u64 = 1_000_000;

/// Most bytes of publishers' own ids that are kept for the answer to a body of lines.
pub const OWN_ID_BYTES_MAX: usize = 8 * 1024 * 1024;

impl LinesAccount {
    /// Adds a batch of `events` events that is committed, the first of them as `first`.
    pub fn add(&mut self, first: EventId, events: u64, own_ids: OwnIds) {
        let place = self.published;
        self.published += events;
        self.own_id_bytes += own_ids.0.iter().map(|(_, id)| id.len()).sum::<usize>();
        if self.is_over || self.published > LISTED_EVENTS_MAX || self.own_id_bytes > OWN_ID_BYTES_MAX {
            *self = LinesAccount { published: self.published, is_over: true, ..LinesAccount::default() };
            return;
        }
        self.own_ids.extend(own_ids.0.into_iter().map(|(at, id)| (place + at, id)));
        match self.ranges.last_mut() {
            Some((start, count)) if follows(*start, *count, first) => *count += events,
            _ => self.ranges.push((first, events)),
        }
    }

    /// How many events are published.
    #[must_use]
    pub fn published(&self) -> u64 {
        self.published
    }

    /// Answers a body all of whose lines are published.
    #[must_use]
    pub fn answer(&self) -> Response<'static> {
        let ids = IdWriter { own: &self.own_ids, place: 0 };
        let mut body = Vec::new();
        push_batch(&mut body, self.published, (!self.is_over).then_some((&self.ranges, ids)));
        Response::json(Status::OK, body)
    }

    /// Answers a body that goes no further: at a bad line, or as the log or the connection refused more of it. The
    /// answer says how many events are published, and where `line` is given which line is bad.
    #[must_use]
    pub fn refuse(&self, problem: Problem, line: Option<u64>) -> Response<'static> {
        let problem = problem.with_count("published", self.published);
        let problem = match line {
            Some(line) => problem.with_count("line", line),
            None => problem,
        };
        problem.into_response()
    }
}

/// Returns true if and only if `next` is the id right behind `count` events from `start` on.
fn follows(start: EventId, count: u64, next: EventId) -> bool {
    start.tag == next.tag && start.sequence.plus(count) == next.sequence
}

fn push_batch(body: &mut Vec<u8>, published: u64, listed: Option<(&[(EventId, u64)], IdWriter<'_>)>) {
    body.extend_from_slice(format!(r#"{{"success":true,"published":{published}"#).as_bytes());
    if let Some((ranges, mut ids)) = listed {
        body.reserve(usize::try_from(published).unwrap_or(0).saturating_mul(EventId::WIDTH + 3));
        body.extend_from_slice(br#","ids":["#);
        let mut separator: &[u8] = b"";
        for &(first, count) in ranges {
            for offset in 0..count {
                body.extend_from_slice(separator);
                ids.push(body, EventId { tag: first.tag, sequence: first.sequence.plus(offset) });
                separator = b",";
            }
        }
        body.push(b']');
    }
    body.push(b'}');
}

/// Writes the ids of events one after the other, those of publishers in the places of theirs.
struct IdWriter<'a> {
    own: &'a [(u64, Box<str>)],
    place: u64,
}

impl IdWriter<'_> {
    fn push(&mut self, body: &mut Vec<u8>, id: EventId) {
        match self.own.split_first() {
            Some(((place, own), rest)) if *place == self.place => {
                self.own = rest;
                // Displayed as JSON, escapes included.
                body.extend_from_slice(serde_json::Value::from(&**own).to_string().as_bytes());
            }
            _ => {
                body.push(b'"');
                body.extend_from_slice(&id.encode()); // Of letters that JSON does not escape.
                body.push(b'"');
            }
        }
        self.place += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::id::{EpochTag, Sequence};

    fn id(number: u64) -> EventId {
        EventId { tag: EpochTag::from_bits(0), sequence: Sequence(number) }
    }

    fn own(ids: &[(u64, &str)]) -> OwnIds {
        let mut own = OwnIds::default();
        ids.iter().for_each(|(place, id)| own.push(*place, id));
        own
    }

    fn text(response: &Response<'_>) -> String {
        String::from_utf8(response.body().to_vec()).unwrap()
    }

    #[test]
    fn one_event_is_answered_with_its_id_and_its_receivers() {
        let form = AnswerForm::single(OwnIds::default());
        assert!(form.wants_receivers());
        let response = answer_published(&form, id(42), Some(3));
        assert_eq!(response.status(), Status::OK);
        assert_eq!(text(&response), r#"{"success":true,"id":"AAAAAAAAAAA.000000000000042","receivers":3}"#);
        let response = answer_published(&form, id(42), None);
        assert_eq!(text(&response), r#"{"success":true,"id":"AAAAAAAAAAA.000000000000042"}"#);
    }

    #[test]
    fn an_id_of_the_publishers_is_answered_as_it_was_given() {
        let form = AnswerForm::single(own(&[(0, "a\"\t")]));
        let response = answer_published(&form, id(1), Some(0));
        assert_eq!(text(&response), r#"{"success":true,"id":"a\"\t","receivers":0}"#);
    }

    #[test]
    fn a_batch_is_answered_with_all_ids_in_order() {
        let form = AnswerForm::batch(3, own(&[(1, "x")]));
        assert!(!form.wants_receivers());
        assert_eq!(
            text(&answer_published(&form, id(9), None)),
            r#"{"success":true,"published":3,"ids":["AAAAAAAAAAA.000000000000009","x","AAAAAAAAAAA.000000000000011"]}"#
        );
        let form = AnswerForm::batch(0, OwnIds::default());
        assert_eq!(text(&answer_published(&form, id(9), None)), r#"{"success":true,"published":0,"ids":[]}"#);
    }

    #[test]
    fn lines_are_counted_over_all_their_batches() {
        let mut account = LinesAccount::default();
        assert_eq!(text(&account.answer()), r#"{"success":true,"published":0,"ids":[]}"#);
        account.add(id(1), 2, own(&[(1, "x")]));
        account.add(id(3), 1, OwnIds::default());
        account.add(id(7), 1, own(&[(0, "y")]));
        assert_eq!((account.published(), account.ranges.len()), (4, 2));
        assert_eq!(
            text(&account.answer()),
            r#"{"success":true,"published":4,"ids":["AAAAAAAAAAA.000000000000001","x","AAAAAAAAAAA.000000000000003","y"]}"#
        );
    }

    #[test]
    fn batches_of_different_epochs_are_not_joined() {
        let mut account = LinesAccount::default();
        account.add(id(1), 1, OwnIds::default());
        let next = EventId { tag: EpochTag::from_bits(1), sequence: Sequence(2) };
        account.add(next, 1, OwnIds::default());
        assert_eq!(
            text(&account.answer()),
            r#"{"success":true,"published":2,"ids":["AAAAAAAAAAA.000000000000001","BAAAAAAAAAA.000000000000002"]}"#
        );
    }

    #[test]
    fn too_many_ids_are_left_out() {
        let mut account = LinesAccount::default();
        account.add(id(1), LISTED_EVENTS_MAX, OwnIds::default());
        assert!(text(&account.answer()).contains(r#""ids":["AAAAAAAAAAA.000000000000001","#));
        account.add(id(LISTED_EVENTS_MAX + 1), 1, OwnIds::default());
        account.add(id(LISTED_EVENTS_MAX + 2), 1, own(&[(0, "x")]));
        assert_eq!(text(&account.answer()), r#"{"success":true,"published":1000002}"#);

        let mut account = LinesAccount::default();
        let long = "x".repeat(OWN_ID_BYTES_MAX / 2);
        account.add(id(1), 3, own(&[(0, &long), (1, &long), (2, "x")]));
        assert_eq!(text(&account.answer()), r#"{"success":true,"published":3}"#);
    }

    #[test]
    fn a_refused_body_says_how_far_it_came() {
        let mut account = LinesAccount::default();
        account.add(id(1), 16, OwnIds::default());
        let response = account.refuse(Problem::bad_request("line 17: no target"), Some(17));
        assert_eq!(response.status(), Status::BAD_REQUEST);
        assert_eq!(
            text(&response),
            r#"{"type":"about:blank","title":"Bad Request","status":400,"detail":"line 17: no target","published":16,"line":17}"#
        );
        let response = account.refuse(Problem::bad_request("cut off"), None);
        assert!(text(&response).ends_with(r#""detail":"cut off","published":16}"#));
    }
}
