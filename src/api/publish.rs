//! Publishing (section "Publishing" of the contract): envelopes, arrays of them, and bodies that are the data, to
//! batches. Of an array either all is taken or nothing.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer, SeqAccess, Visitor};

use super::answer::{AnswerForm, OwnIds};
use super::envelope::{Field, Found, RawEnvelope};
use super::error::{ApiError, quoted};
use crate::auth::Permission;
use crate::base::id::EventId;
use crate::base::limits::{EVENT_CHANNELS_MAX, EVENT_KEY_BYTES_MAX};
use crate::base::name::{ChannelName, Selector};
use crate::frame::batch::Batch;
use crate::http::{Pairs, Problem};
use crate::sse::event::Event;

/// Events that were asked for and are allowed, on their way into a batch.
#[derive(Debug)]
pub(super) struct Publication<'p> {
    permission: &'p Permission,
    batch: Batch,
    own_ids: OwnIds,
}

impl<'p> Publication<'p> {
    pub(super) fn new(permission: &'p Permission) -> Publication<'p> {
        Publication { permission, batch: Batch::new(), own_ids: OwnIds::default() }
    }

    /// The batch, and the ids that publishers gave to its events.
    pub(super) fn into_parts(self) -> (Batch, OwnIds) {
        (self.batch, self.own_ids)
    }

    /// Adds the event of an envelope, or nothing.
    pub(super) fn add(&mut self, mut envelope: RawEnvelope<'_>) -> Result<(), ApiError> {
        envelope.check_fields()?;
        let target = take_target(&mut envelope)?;
        for (field, what) in [(Field::Ttl, "`ttl`"), (Field::IdempotencyKey, "`idempotencyKey`")] {
            if envelope.has(field) {
                return Err(ApiError::NotBuilt { what });
            }
        }
        if let Some(key) = envelope.take_text(Field::Key)? {
            check_key(&key)?;
        }
        let text = envelope.take_text(Field::Text)?;
        let data = match (envelope.data(), &text) {
            (Some(data), None) => data,
            (None, Some(text)) => text,
            (None, None) => return Err(ApiError::NoData),
            (Some(_), Some(_)) => return Err(ApiError::DataAndText),
        };
        let event_type = envelope.take_text(Field::Event)?;
        let id = envelope.take_text(Field::Id)?;
        let retry_ms = take_retry(&mut envelope)?;
        let event = build_event(data, event_type.as_deref(), id.as_deref(), retry_ms)?;
        match &target {
            Target::Channel(name) => self.push(&[name], &event),
            Target::Channels(names) => {
                let names: Vec<&str> = names.iter().map(|name| &**name).collect();
                self.push(&names, &event)
            }
        }
    }

    /// Adds an event to channels whose names are checked.
    fn push(&mut self, channels: &[&str], event: &Event<'_>) -> Result<(), ApiError> {
        if let Some(name) = channels.iter().find(|name| !self.permission.may_publish(name)) {
            return Err(ApiError::PublishForbidden { channel: quoted(name) });
        }
        if let Some(id) = event.id() {
            self.own_ids.push(self.batch.len() as u64, id);
        }
        self.batch.push(channels, event);
        Ok(())
    }
}

/// Where an event goes.
enum Target<'a> {
    Channel(Cow<'a, str>),
    Channels(Vec<Cow<'a, str>>),
}

const TARGETS: [Field; 5] = [Field::Channel, Field::Channels, Field::UserId, Field::ClientId, Field::All];

fn take_target<'a>(envelope: &mut RawEnvelope<'a>) -> Result<Target<'a>, ApiError> {
    let mut given = TARGETS.into_iter().filter(|field| envelope.has(*field));
    let field = match (given.next(), given.next()) {
        (None, _) => return Err(ApiError::NoTarget),
        (Some(first), Some(second)) => return Err(ApiError::SeveralTargets { first, second }),
        (Some(field), None) => field,
    };
    let found = envelope.take(field).unwrap_or(Found::Null);
    let wrong = |found: &Found<'_>, expected| ApiError::WrongKind { field, found: found.kind(), expected };
    match (field, found) {
        (Field::Channel, Found::Text(name)) => {
            check_name(field, &name)?;
            Ok(Target::Channel(name))
        }
        (Field::Channel, found) => Err(wrong(&found, "a channel's name")),
        (Field::Channels, Found::List(items)) => take_channels(items).map(Target::Channels),
        (Field::Channels, found) => Err(wrong(&found, "an array of channel names")),
        (Field::All, Found::Bool(true)) => Err(ApiError::NotBuilt { what: "the target `all`" }),
        (Field::All, found) => Err(wrong(&found, "true")),
        (Field::UserId, Found::Text(_)) => Err(ApiError::NotBuilt { what: "the target `userId`" }),
        (Field::ClientId, Found::Text(_)) => Err(ApiError::NotBuilt { what: "the target `clientId`" }),
        (_, found) => Err(wrong(&found, "a string")),
    }
}

fn take_channels(items: Vec<Found<'_>>) -> Result<Vec<Cow<'_, str>>, ApiError> {
    let field = Field::Channels;
    if items.is_empty() {
        return Err(ApiError::NoChannels);
    }
    if items.len() > EVENT_CHANNELS_MAX {
        return Err(ApiError::TooManyChannels);
    }
    let names = items.into_iter().map(|item| {
        let Found::Text(name) = item else {
            let expected = "channel names in the array";
            return Err(ApiError::WrongKind { field, found: item.kind(), expected });
        };
        check_name(field, &name)?;
        Ok(name)
    });
    names.collect()
}

/// Checks a name that an event goes to.
fn check_name(field: Field, name: &str) -> Result<(), ApiError> {
    ChannelName::check(name).map_err(|error| ApiError::BadName { field, error })?;
    if name.ends_with('*') && matches!(Selector::parse(name), Ok(Selector::Prefix(_))) {
        return Err(ApiError::PatternTarget { field, name: quoted(name) });
    }
    Ok(())
}

/// Checks a conflation key. What it conflates is the policies' business.
fn check_key(key: &str) -> Result<(), ApiError> {
    if key.is_empty() || key.len() > EVENT_KEY_BYTES_MAX {
        return Err(ApiError::BadKey { bytes: key.len() });
    }
    Ok(())
}

fn take_retry(envelope: &mut RawEnvelope<'_>) -> Result<Option<u64>, ApiError> {
    match envelope.take(Field::Retry) {
        None => Ok(None),
        Some(Found::Number(retry_ms)) => Ok(Some(retry_ms)),
        Some(other) => Err(wrong_retry(other.kind())),
    }
}

fn wrong_retry(found: &'static str) -> ApiError {
    ApiError::WrongKind { field: Field::Retry, found, expected: "a whole number of milliseconds above 0" }
}

fn build_event<'a>(
    data: &'a str,
    event_type: Option<&'a str>,
    id: Option<&'a str>,
    retry_ms: Option<u64>,
) -> Result<Event<'a>, ApiError> {
    let mut event = Event::new(data);
    if let Some(event_type) = event_type {
        event = event.with_type(event_type)?;
    }
    if let Some(id) = id {
        if EventId::parse(id.as_bytes()).is_some() {
            return Err(ApiError::ServerId { id: id.to_owned() });
        }
        event = event.with_id(id)?;
    }
    if let Some(retry_ms) = retry_ms {
        event = event.with_retry(retry_ms)?;
    }
    Ok(event)
}

/// Reads the body of `POST /publish`: one envelope, or an array of them.
pub(super) fn read_document(body: &[u8], permission: &Permission) -> Result<(Batch, AnswerForm), Problem> {
    let text = utf8(body)?;
    let mut publication = Publication::new(permission);
    match text.trim_ascii_start().bytes().next() {
        None => return Err(ApiError::EmptyBody.into()),
        Some(b'[') => read_items(text, &mut publication)?,
        Some(_) => {
            let envelope: RawEnvelope<'_> =
                serde_json::from_str(text).map_err(|error| ApiError::in_body(&error))?;
            publication.add(envelope)?;
            let (batch, own_ids) = publication.into_parts();
            return Ok((batch, AnswerForm::single(own_ids)));
        }
    }
    let (batch, own_ids) = publication.into_parts();
    let form = AnswerForm::batch(batch.len() as u64, own_ids);
    Ok((batch, form))
}

pub(super) fn utf8(body: &[u8]) -> Result<&str, ApiError> {
    str::from_utf8(body).map_err(|error| ApiError::NotUtf8 { at: error.valid_up_to() })
}

/// Adds the items of an array; an error names the item, counted from 0.
fn read_items(text: &str, publication: &mut Publication<'_>) -> Result<(), Problem> {
    let mut refused = None;
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let visitor = ItemsVisitor { publication, refused: &mut refused };
    let read = deserializer.deserialize_seq(visitor);
    let error = match (refused, read) {
        (Some(error), _) => error,
        (None, Err(error)) => ApiError::in_body(&error),
        (None, Ok(())) => return deserializer.end().map_err(|error| ApiError::in_body(&error).into()),
    };
    Err(error.within(format_args!("item {}", publication.batch.len())))
}

struct ItemsVisitor<'v, 'p> {
    publication: &'v mut Publication<'p>,
    /// Why the item behind those that were added is refused.
    refused: &'v mut Option<ApiError>,
}

impl<'de> Visitor<'de> for ItemsVisitor<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of envelopes")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while let Some(envelope) = seq.next_element::<RawEnvelope<'_>>()? {
            if let Err(error) = self.publication.add(envelope) {
                *self.refused = Some(error);
                return Err(serde::de::Error::custom("refused")); // Nobody reads it: what is refused is told.
            }
        }
        Ok(())
    }
}

/// Reads `POST /channels/{channel}`: the body is the data, and the query holds the rest.
pub(super) fn read_verbatim(
    channel: &str,
    query: Pairs<'_>,
    body: &[u8],
    permission: &Permission,
) -> Result<(Batch, AnswerForm), Problem> {
    check_name(Field::Channel, channel)?;
    let parameters = Parameters::read(query)?;
    if let Some(key) = &parameters.key {
        check_key(key)?;
    }
    let retry_ms = match &parameters.retry {
        None => None,
        Some(digits) => Some(parse_retry(digits)?),
    };
    let data = utf8(body)?;
    let event = build_event(data, parameters.event.as_deref(), parameters.id.as_deref(), retry_ms)?;
    let mut publication = Publication::new(permission);
    publication.push(&[channel], &event)?;
    let (batch, own_ids) = publication.into_parts();
    Ok((batch, AnswerForm::single(own_ids)))
}

/// Digits alone: no sign, no space.
fn parse_retry(text: &str) -> Result<u64, ApiError> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong_retry("something else"));
    }
    text.parse().map_err(|_| wrong_retry("a number with too many digits"))
}

/// The parameters of `POST /channels/{channel}`.
#[derive(Default)]
struct Parameters<'a> {
    event: Option<Cow<'a, str>>,
    id: Option<Cow<'a, str>>,
    retry: Option<Cow<'a, str>>,
    key: Option<Cow<'a, str>>,
}

impl<'a> Parameters<'a> {
    fn read(query: Pairs<'a>) -> Result<Parameters<'a>, Problem> {
        let mut parameters = Parameters::default();
        for pair in query {
            let (name, value) = pair?;
            let place = match &*name {
                "event" => &mut parameters.event,
                "id" => &mut parameters.id,
                "retry" => &mut parameters.retry,
                "key" => &mut parameters.key,
                TOKEN => continue,
                _ => return Err(unknown_parameter(&name, "`event`, `id`, `retry` and `key`")),
            };
            if place.replace(value).is_some() {
                return Err(Problem::bad_request(format!("the parameter `{name}` is given twice")));
            }
        }
        Ok(parameters)
    }
}

/// Refuses parameters where none mean anything: an envelope says all.
pub(super) fn check_no_parameters(query: Pairs<'_>) -> Result<(), Problem> {
    for pair in query {
        let (name, _) = pair?;
        if name != TOKEN {
            return Err(unknown_parameter(&name, "none; the envelope says all"));
        }
    }
    Ok(())
}

fn unknown_parameter(name: &str, known: &str) -> Problem {
    Problem::bad_request(format!("unknown parameter {}; expected {known}", quoted(name)))
}

/// The parameter for a client's token, which says nothing of the event.
const TOKEN: &str = "token";
