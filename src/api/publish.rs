//! Publishing (section "Publishing" of the contract): turns envelopes, arrays of envelopes, and bodies
//! of plain data into batches. An array is accepted whole or not at all.

use std::fmt;
use std::num::NonZeroU32;

use serde::de::{Deserializer, SeqAccess, Visitor};

use super::Checks;
use super::answer::AnswerForm;
use super::envelope::{Field, FieldSet, RawEnvelope};
use super::error::{ApiError, quoted};
use super::found::Found;
use super::keys::{Claims, EnvelopeKeys, Part};
use super::parameters;
use super::places::Places;
use super::target::{Target, check_name, push_target, take_target};
use crate::auth::Permission;
use crate::base::limits::EVENT_KEY_BYTES_MAX;
use crate::http::{Pairs, Problem};
use crate::hub::Hub;
use crate::record::Events;
use crate::sse::event::Event;

/// Collects permitted events in a batch.
#[derive(Debug)]
pub(super) struct Publication<'p> {
    permission: &'p Permission,
    hub: &'p Hub,
    batch: Events,
    places: Places,
    keys: EnvelopeKeys<'p>,
}

impl<'p> Publication<'p> {
    pub(super) fn new(permission: &'p Permission, checks: Checks<'p>) -> Publication<'p> {
        let Checks { fingerprints, hub } = checks;
        let keys = EnvelopeKeys::new(fingerprints);
        Publication { permission, hub, batch: Events::new(), places: Places::default(), keys }
    }

    /// The batch, the places of the envelopes, and their idempotency keys.
    pub(super) fn into_parts(self) -> (Events, Places, Claims) {
        (self.batch, self.places, self.keys.into_claims())
    }

    /// How many envelopes were added.
    pub(super) fn len(&self) -> u64 {
        self.places.len()
    }

    /// Adds the event of an envelope of `POST /publish`, or nothing after an error. `part` is the part
    /// of the request that contains the envelope.
    pub(super) fn add(&mut self, envelope: RawEnvelope<'_>, part: Part) -> Result<(), ApiError> {
        self.add_shaped(envelope, &ENVELOPE, part)
    }

    /// Adds the event of an envelope of this shape, or nothing after an error.
    pub(super) fn add_shaped(
        &mut self,
        mut envelope: RawEnvelope<'_>,
        shape: &Shape,
        part: Part,
    ) -> Result<(), ApiError> {
        envelope.check_fields(shape.fields)?;
        let target = match (take_target(&mut envelope, shape.fields)?, shape.default_channel) {
            (Some(target), _) => target,
            (None, Some(channel)) => Target::channel(Field::Channel.name(), channel.into())?,
            (None, None) => return Err(ApiError::NoTarget),
        };
        let key = envelope.take_text(Field::Key)?;
        if let Some(key) = &key {
            check_key(key)?;
        }
        let text = envelope.take_text(Field::Text)?;
        let data = match (envelope.data(), &text) {
            (Some(data), None) => data,
            (None, Some(text)) => text,
            (None, None) => return Err(shape.no_data()),
            (Some(_), Some(_)) => return Err(ApiError::DataAndText),
        };
        let event_type = envelope.take_text(Field::Event)?;
        let id = envelope.take_text(Field::Id)?;
        let retry_ms = take_retry(&mut envelope)?;
        let ttl = take_ttl(&mut envelope)?;
        let event = build_event(data, event_type.as_deref(), id.as_deref(), retry_ms)?;
        if let Some(idempotency_key) = envelope.take_text(Field::IdempotencyKey)? {
            // Everything that distinguishes this event from another.
            let content = (&target, &event, key.as_deref(), ttl);
            let same = self.keys.add(&idempotency_key, content, self.batch.len(), part)?;
            self.places.note_key();
            if let Some(same) = same {
                self.places.push(same, event.id());
                return Ok(());
            }
        }
        self.push_part(&target, &event, part)?;
        self.batch.set_ttl(ttl);
        if let Some(key) = &key {
            self.batch.set_key(key);
        }
        Ok(())
    }

    /// Adds the only event of a request.
    pub(super) fn push(&mut self, target: &Target<'_>, event: &Event<'_>) -> Result<(), ApiError> {
        self.push_part(target, event, Part::Whole)
    }

    fn push_part(&mut self, target: &Target<'_>, event: &Event<'_>, part: Part) -> Result<(), ApiError> {
        if let Target::Channels(names) = target {
            names.iter().try_for_each(|name| check_permitted(name, self.permission))?;
        }
        if let Some(id) = event.id()
            && self.hub.is_of_server(id)
        {
            return Err(ApiError::ServerId { id: id.to_owned() });
        }
        self.places.push(self.batch.len(), event.id());
        push_target(&mut self.batch, target, part.number(), event);
        Ok(())
    }

    /// Finishes a request with a single event.
    pub(super) fn into_single(self) -> PublishRequest {
        let (batch, places, claims) = self.into_parts();
        PublishRequest { batch, form: AnswerForm::single(places), claims }
    }
}

/// The events that a request publishes.
#[derive(Debug)]
pub(super) struct PublishRequest {
    pub(super) batch: Events,
    pub(super) form: AnswerForm,
    /// The idempotency keys in its body.
    pub(super) claims: Claims,
}

/// The fields that an envelope may have.
#[derive(Debug)]
pub(super) struct Shape {
    pub(super) fields: FieldSet,
    /// The channel of an event whose envelope names no target.
    pub(super) default_channel: Option<&'static str>,
}

/// The shape of an envelope of `POST /publish`.
const ENVELOPE: Shape = Shape { fields: FieldSet::ALL, default_channel: None };

impl Shape {
    fn no_data(&self) -> ApiError {
        ApiError::NoData {
            expected: match self.fields.contains(Field::Text) {
                true => "`data` (any JSON value) or `text` (a string that is sent as it is)",
                false => "`data` (any JSON value)",
            },
        }
    }
}

/// Checks a conflation key. It stands in the record; nothing uses it yet.
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

fn take_ttl(envelope: &mut RawEnvelope<'_>) -> Result<Option<NonZeroU32>, ApiError> {
    let wrong = |found: &'static str| {
        let expected = "a whole number of seconds from 1 to 4294967295";
        Err(ApiError::WrongValue { field: Field::Ttl.name(), found: found.into(), expected })
    };
    match envelope.take(Field::Ttl) {
        None => Ok(None),
        Some(Found::Number(seconds)) => match u32::try_from(seconds).map(NonZeroU32::new) {
            Ok(Some(seconds)) => Ok(Some(seconds)),
            Ok(None) => wrong("0"),
            Err(_) => wrong("a larger number"),
        },
        Some(other) => wrong(other.kind()),
    }
}

fn wrong_retry(found: &'static str) -> ApiError {
    let expected = "a whole number of milliseconds above 0";
    ApiError::WrongValue { field: Field::Retry.name(), found: found.into(), expected }
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
        event = event.with_id(id)?;
    }
    if let Some(retry_ms) = retry_ms {
        event = event.with_retry(retry_ms)?;
    }
    Ok(event)
}

/// Reads the body of `POST /publish`: one envelope, or an array of them.
pub(super) fn read_document(
    body: &[u8],
    permission: &Permission,
    checks: Checks<'_>,
) -> Result<PublishRequest, Problem> {
    let text = json_text(body)?;
    let mut publication = Publication::new(permission, checks);
    match text.trim_ascii_start().bytes().next() {
        None => return Err(ApiError::EmptyBody { expected: "a JSON object or an array of them" }.into()),
        Some(b'[') => read_items(text, &mut publication)?,
        Some(_) => {
            let envelope: RawEnvelope<'_> =
                serde_json::from_str(text).map_err(|error| ApiError::in_body(&error))?;
            publication.add(envelope, Part::Whole)?;
            return Ok(publication.into_single());
        }
    }
    let (batch, places, claims) = publication.into_parts();
    Ok(PublishRequest { batch, form: AnswerForm::batch(places), claims })
}

/// The text of a JSON body, without the byte order mark that some programs write (RFC 8259 8.1).
pub(super) fn json_text(body: &[u8]) -> Result<&str, ApiError> {
    utf8(body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(body))
}

/// The mark that some programs write at the start of UTF-8.
pub(super) const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

pub(super) fn utf8(body: &[u8]) -> Result<&str, ApiError> {
    str::from_utf8(body).map_err(|error| ApiError::NotUtf8 { at: error.valid_up_to() })
}

/// Adds the items of an array. An error names its item, counted from 0.
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
    Err(error.within(format_args!("item {}", publication.len())))
}

struct ItemsVisitor<'v, 'p> {
    publication: &'v mut Publication<'p>,
    /// Why the item after the added ones is refused.
    refused: &'v mut Option<ApiError>,
}

impl<'de> Visitor<'de> for ItemsVisitor<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of envelopes")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while let Some(envelope) = seq.next_element::<RawEnvelope<'_>>()? {
            let part = Part::Item(self.publication.len());
            if let Err(error) = self.publication.add(envelope, part) {
                *self.refused = Some(error);
                return Err(serde::de::Error::custom("refused")); // `refused` has the error.
            }
        }
        Ok(())
    }
}

/// Checks the path of `POST /channels/{channel}` before the body is read.
pub(super) fn check_path(channel: &str, permission: &Permission) -> Result<(), ApiError> {
    check_name(Field::Channel.name(), channel)?;
    check_permitted(channel, permission)
}

fn check_permitted(channel: &str, permission: &Permission) -> Result<(), ApiError> {
    if permission.may_publish(channel) {
        return Ok(());
    }
    Err(ApiError::PublishForbidden { channel: quoted(channel) })
}

/// Reads `POST /channels/{channel}`: the body is the data, and the query has everything else.
pub(super) fn read_verbatim(
    channel: &str,
    query: Pairs<'_>,
    body: &[u8],
    permission: &Permission,
    checks: Checks<'_>,
) -> Result<PublishRequest, Problem> {
    let target = Target::channel(Field::Channel.name(), channel.into())?;
    let [event_type, id, retry, key] =
        parameters::read(query, ["event", "id", "retry", "key"])?.map(|given| given.map(|given| given.value));
    if let Some(key) = &key {
        check_key(key)?;
    }
    let retry_ms = match &retry {
        None => None,
        Some(digits) => Some(parse_retry(digits)?),
    };
    let data = utf8(body)?;
    let event = build_event(data, event_type.as_deref(), id.as_deref(), retry_ms)?;
    let mut publication = Publication::new(permission, checks);
    publication.push(&target, &event)?;
    if let Some(key) = &key {
        publication.batch.set_key(key);
    }
    Ok(publication.into_single())
}

/// Reads digits only: no sign, no space.
fn parse_retry(text: &str) -> Result<u64, ApiError> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong_retry("something else"));
    }
    text.parse().map_err(|_| wrong_retry("a number with too many digits"))
}
