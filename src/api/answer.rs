//! The answer to a publisher once its events are committed (section "Publishing" of the contract).

use super::error::ApiError;
use super::places::{Places, push_range};
use crate::base::id::EventId;
use crate::http::{Problem, Response, Status};

/// The form of the answer to a publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnswerForm {
    is_batch: bool,
    places: Places,
}

impl AnswerForm {
    /// The answer for one event.
    pub(super) fn single(places: Places) -> AnswerForm {
        AnswerForm { is_batch: false, places }
    }

    /// The answer for an array.
    pub(super) fn batch(places: Places) -> AnswerForm {
        AnswerForm { is_batch: true, places }
    }

    /// Returns true if the answer contains the number of streams that received the event: it was a
    /// single event, not an array.
    #[must_use]
    pub fn wants_receivers(&self) -> bool {
        !self.is_batch
    }

    /// The problem of a publish to a client that is not connected. `part` is the number of the item of
    /// an array that names it.
    #[must_use]
    pub fn unknown_client(&self, part: u64) -> Problem {
        match self.is_batch {
            false => ApiError::UnknownClient.into(),
            true => ApiError::UnknownClient.within(format_args!("item {part}")),
        }
    }

    /// The places of the envelopes.
    #[must_use]
    pub fn places_mut(&mut self) -> &mut Places {
        &mut self.places
    }

    fn body(&self, first: Option<EventId>, receivers: Option<u64>) -> Vec<u8> {
        let ranges = self.places.ranges(first);
        let mut ids = IdWriter { own: self.places.own_ids(), place: 0 };
        let mut body = Vec::with_capacity(96);
        if self.is_batch {
            let (published, duplicates) = (self.places.events(), self.places.duplicates());
            push_batch(&mut body, published, duplicates, Some((&ranges, ids)));
        } else {
            body.extend_from_slice(br#"{"success":true,"id":"#);
            ranges.iter().for_each(|&(id, _)| ids.push(&mut body, id));
            if let Some(receivers) = receivers {
                body.extend_from_slice(format!(r#","receivers":{receivers}"#).as_bytes());
            }
            body.push(b'}');
        }
        body
    }
}

/// Answers a publish whose events are committed. `first` is the id of the first event, and the others
/// follow; `None` if all events of an array were published before. The answer lists each event by the id
/// that its receivers get. `receivers` is the count for a single event; `None` leaves it out.
#[must_use]
pub fn answer_published(
    form: &AnswerForm,
    first: Option<EventId>,
    receivers: Option<u64>,
) -> Response<'static> {
    Response::json(Status::OK, form.body(first, receivers))
}

/// Answers a repeated publish under the same idempotency key like the first one, with `duplicate` added.
#[must_use]
pub fn answer_duplicate(form: &AnswerForm, first: EventId, receivers: Option<u64>) -> Response<'static> {
    let mut body = form.body(Some(first), receivers);
    body.pop();
    body.extend_from_slice(br#","duplicate":true}"#);
    Response::json(Status::OK, body)
}

/// The result of a body of lines so far. It keeps ids up to a bound ([`LISTED_EVENTS_MAX`],
/// [`OWN_ID_BYTES_MAX`]). The answer to a longer body has no ids.
#[derive(Clone, Debug, Default)]
pub struct LinesAccount {
    published: u64,
    /// The number of envelopes so far, including those that were published before.
    places: u64,
    /// How many envelopes were published before; `None` if no envelope has an idempotency key.
    duplicates: Option<u64>,
    /// The first id and the length of each series of consecutive ids.
    ranges: Vec<(EventId, u64)>,
    own_ids: Vec<(u64, Box<str>)>,
    own_id_bytes: usize,
    /// The answer has no ids, because there are too many.
    is_over: bool,
}

/// The answer to a body of lines lists at most this many ids.
pub const LISTED_EVENTS_MAX: u64 = 1_000_000;

/// For the answer to a body of lines, at most this many bytes of publishers' own ids are kept.
pub const OWN_ID_BYTES_MAX: usize = 8 * 1024 * 1024;

impl LinesAccount {
    /// Adds envelopes whose events are committed. `first` is the id of the first event; `None` if all of
    /// them were published before.
    pub fn add(&mut self, first: Option<EventId>, places: &Places) {
        let place = self.places;
        self.published += places.events();
        self.places += places.len();
        if let Some(duplicates) = places.duplicates() {
            *self.duplicates.get_or_insert(0) += duplicates;
        }
        self.own_id_bytes += places.own_ids().iter().map(|(_, id)| id.len()).sum::<usize>();
        if self.is_over || self.places > LISTED_EVENTS_MAX || self.own_id_bytes > OWN_ID_BYTES_MAX {
            let LinesAccount { published, places, duplicates, .. } = *self;
            *self = LinesAccount { published, places, duplicates, is_over: true, ..LinesAccount::default() };
            return;
        }
        self.own_ids.extend(places.own_ids().iter().map(|(at, id)| (place + at, id.clone())));
        places.ranges(first).into_iter().for_each(|range| push_range(&mut self.ranges, range));
    }

    /// How many events were published, without those that were published before.
    #[must_use]
    pub fn published(&self) -> u64 {
        self.published
    }

    /// Answers a body in which every line is published.
    #[must_use]
    pub fn answer(&self) -> Response<'static> {
        let ids = IdWriter { own: &self.own_ids, place: 0 };
        let mut body = Vec::new();
        let listed = (!self.is_over).then_some((&*self.ranges, ids));
        push_batch(&mut body, self.published, self.duplicates, listed);
        Response::json(Status::OK, body)
    }

    /// As [`LinesAccount::answer`], without the ids.
    #[must_use]
    pub fn answer_without_ids(&self) -> Response<'static> {
        let mut body = Vec::new();
        push_batch(&mut body, self.published, self.duplicates, None);
        Response::json(Status::OK, body)
    }

    /// Answers a body that broke off: at a bad line, or because the log or the connection refused the
    /// rest. The answer contains the number of published events and, if `line` is given, the number of
    /// the bad line.
    #[must_use]
    pub fn refuse(&self, problem: Problem, line: Option<u64>) -> Response<'static> {
        let problem = problem.with_count("published", self.published);
        let problem = match self.duplicates {
            Some(duplicates) => problem.with_count("duplicates", duplicates),
            None => problem,
        };
        let problem = match line {
            Some(line) => problem.with_count("line", line),
            None => problem,
        };
        problem.into_response()
    }
}

fn push_batch(
    body: &mut Vec<u8>,
    published: u64,
    duplicates: Option<u64>,
    listed: Option<(&[(EventId, u64)], IdWriter<'_>)>,
) {
    body.extend_from_slice(format!(r#"{{"success":true,"published":{published}"#).as_bytes());
    if let Some(duplicates) = duplicates {
        body.extend_from_slice(format!(r#","duplicates":{duplicates}"#).as_bytes());
    }
    if let Some((ranges, mut ids)) = listed {
        let listed: u64 = ranges.iter().map(|(_, count)| count).sum();
        body.reserve(usize::try_from(listed).unwrap_or(0).saturating_mul(EventId::WIDTH + 3));
        body.extend_from_slice(br#","ids":["#);
        let mut separator: &[u8] = b"";
        for &(first, count) in ranges {
            for offset in 0..count {
                body.extend_from_slice(separator);
                ids.push(body, first.plus(offset));
                separator = b",";
            }
        }
        body.push(b']');
    }
    body.push(b'}');
}

/// Writes the ids of events one after the other. An event with its publisher's own id gets that one.
struct IdWriter<'a> {
    own: &'a [(u64, Box<str>)],
    place: u64,
}

impl IdWriter<'_> {
    fn push(&mut self, body: &mut Vec<u8>, id: EventId) {
        match self.own.split_first() {
            Some(((place, own), rest)) if *place == self.place => {
                self.own = rest;
                // `Display` writes JSON with its escapes.
                body.extend_from_slice(serde_json::Value::from(&**own).to_string().as_bytes());
            }
            _ => {
                body.push(b'"');
                body.extend_from_slice(&id.encode()); // It has no character that JSON escapes.
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

    /// Places of `events` events, some with ids of their publishers.
    fn places(events: usize, own: &[(usize, &str)]) -> Places {
        let mut places = Places::default();
        for event in 0..events {
            let id = own.iter().find(|(place, _)| *place == event).map(|(_, id)| *id);
            places.push(event, id);
        }
        places
    }

    fn text(response: &Response<'_>) -> String {
        String::from_utf8(response.body().to_vec()).unwrap()
    }

    #[test]
    fn one_event_is_answered_with_its_id_and_its_receivers() {
        let form = AnswerForm::single(places(1, &[]));
        assert!(form.wants_receivers());
        let response = answer_published(&form, Some(id(42)), Some(3));
        assert_eq!(response.status(), Status::OK);
        assert_eq!(text(&response), r#"{"success":true,"id":"AAAAAAAAAAA.000000000000042","receivers":3}"#);
        let response = answer_published(&form, Some(id(42)), None);
        assert_eq!(text(&response), r#"{"success":true,"id":"AAAAAAAAAAA.000000000000042"}"#);
    }

    #[test]
    fn an_id_of_the_publishers_is_answered_as_it_was_given() {
        let form = AnswerForm::single(places(1, &[(0, "a\"\t")]));
        let response = answer_published(&form, Some(id(1)), Some(0));
        assert_eq!(text(&response), r#"{"success":true,"id":"a\"\t","receivers":0}"#);
    }

    #[test]
    fn a_batch_is_answered_with_all_ids_in_order() {
        let form = AnswerForm::batch(places(3, &[(1, "x")]));
        assert!(!form.wants_receivers());
        assert_eq!(
            text(&answer_published(&form, Some(id(9)), None)),
            r#"{"success":true,"published":3,"ids":["AAAAAAAAAAA.000000000000009","x","AAAAAAAAAAA.000000000000011"]}"#
        );
        let form = AnswerForm::batch(Places::default());
        assert_eq!(
            text(&answer_published(&form, Some(id(9)), None)),
            r#"{"success":true,"published":0,"ids":[]}"#
        );
    }

    #[test]
    fn lines_are_counted_over_all_their_batches() {
        let mut account = LinesAccount::default();
        assert_eq!(text(&account.answer()), r#"{"success":true,"published":0,"ids":[]}"#);
        account.add(Some(id(1)), &places(2, &[(1, "x")]));
        account.add(Some(id(3)), &places(1, &[]));
        account.add(Some(id(7)), &places(1, &[(0, "y")]));
        assert_eq!((account.published(), account.ranges.len()), (4, 2));
        assert_eq!(
            text(&account.answer()),
            r#"{"success":true,"published":4,"ids":["AAAAAAAAAAA.000000000000001","x","AAAAAAAAAAA.000000000000003","y"]}"#
        );
    }

    #[test]
    fn batches_of_different_epochs_are_not_joined() {
        let mut account = LinesAccount::default();
        account.add(Some(id(1)), &places(1, &[]));
        let next = EventId { tag: EpochTag::from_bits(1), sequence: Sequence(2) };
        account.add(Some(next), &places(1, &[]));
        assert_eq!(
            text(&account.answer()),
            r#"{"success":true,"published":2,"ids":["AAAAAAAAAAA.000000000000001","BAAAAAAAAAA.000000000000002"]}"#
        );
    }

    #[test]
    fn too_many_ids_are_left_out() {
        let mut account = LinesAccount::default();
        account.add(Some(id(1)), &places(usize::try_from(LISTED_EVENTS_MAX).unwrap(), &[]));
        assert!(text(&account.answer()).contains(r#""ids":["AAAAAAAAAAA.000000000000001","#));
        account.add(Some(id(LISTED_EVENTS_MAX + 1)), &places(1, &[]));
        account.add(Some(id(LISTED_EVENTS_MAX + 2)), &places(1, &[(0, "x")]));
        assert_eq!(text(&account.answer()), r#"{"success":true,"published":1000002}"#);

        let mut account = LinesAccount::default();
        let long = "x".repeat(OWN_ID_BYTES_MAX / 2);
        account.add(Some(id(1)), &places(3, &[(0, &long), (1, &long), (2, "x")]));
        assert_eq!(text(&account.answer()), r#"{"success":true,"published":3}"#);
    }

    #[test]
    fn the_answer_to_a_refused_body_counts_its_published_events() {
        let mut account = LinesAccount::default();
        account.add(Some(id(1)), &places(16, &[]));
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
