//! A publisher's JSON envelope: its fields, and the kinds of their values. [`super::publish`] decides
//! what the fields mean and which may be combined.
//!
//! Texts without escapes are borrowed from the body. `data` is not parsed.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::error::{ApiError, listed, quoted};
use super::found::{Found, FoundSeed, NameSeed};

/// A field of an envelope. Some are also parameters of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    /// The channel that the event goes to.
    Channel,
    /// The channels that the event goes to.
    Channels,
    /// The user whose streams the event goes to.
    UserId,
    /// The stream that the event goes to.
    ClientId,
    /// The event goes to every stream.
    All,
    /// The payload, as JSON.
    Data,
    /// The payload, as text.
    Text,
    /// The type.
    Event,
    /// The publisher's own id.
    Id,
    /// The reconnection time in milliseconds.
    Retry,
    /// The conflation key.
    Key,
    /// How long the event may be replayed, in seconds.
    Ttl,
    /// The key that makes a retry safe.
    IdempotencyKey,
}

impl Field {
    const ALL: [Field; 13] = [
        Field::Channel,
        Field::Channels,
        Field::UserId,
        Field::ClientId,
        Field::All,
        Field::Data,
        Field::Text,
        Field::Event,
        Field::Id,
        Field::Retry,
        Field::Key,
        Field::Ttl,
        Field::IdempotencyKey,
    ];

    /// The field's name in the contract.
    #[must_use]
    pub(super) const fn name(self) -> &'static str {
        match self {
            Field::Channel => "channel",
            Field::Channels => "channels",
            Field::UserId => "userId",
            Field::ClientId => "clientId",
            Field::All => "all",
            Field::Data => "data",
            Field::Text => "text",
            Field::Event => "event",
            Field::Id => "id",
            Field::Retry => "retry",
            Field::Key => "key",
            Field::Ttl => "ttl",
            Field::IdempotencyKey => "idempotencyKey",
        }
    }

    /// The field with this name.
    pub(super) fn parse(name: &str) -> Option<Field> {
        Field::ALL.into_iter().find(|field| field.name() == name)
    }
}

/// A set of fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct FieldSet(u16);

impl FieldSet {
    /// Every field.
    pub(super) const ALL: FieldSet = FieldSet::of(&Field::ALL);

    /// The set of these fields.
    pub(super) const fn of(mut fields: &[Field]) -> FieldSet {
        let mut bits = 0;
        while let [first, rest @ ..] = fields {
            bits |= 1 << (*first as u16);
            fields = rest;
        }
        FieldSet(bits)
    }

    /// Returns true if the field is in the set.
    pub(super) fn contains(self, field: Field) -> bool {
        self.0 & (1 << (field as u16)) != 0
    }

    /// The names of the fields, for messages.
    fn list(self) -> String {
        listed(Field::ALL.into_iter().filter(|field| self.contains(*field)).map(Field::name))
    }
}

/// An envelope as the publisher sent it. A field that is `null` counts as absent, except `data`.
#[derive(Debug, Default)]
pub(super) struct RawEnvelope<'a> {
    fields: [Option<Found<'a>>; Field::ALL.len()],
    data: Option<&'a RawValue>,
    /// The fields that are present, `null` or not.
    given: FieldSet,
    /// The first unknown field, quoted.
    unknown: Option<String>,
    /// The first repeated field.
    repeated: Option<Field>,
}

impl<'a> RawEnvelope<'a> {
    /// Refuses an unknown or repeated field, and a field outside `known`.
    pub(super) fn check_fields(&mut self, known: FieldSet) -> Result<(), ApiError> {
        let misplaced =
            Field::ALL.into_iter().find(|field| self.given.contains(*field) && !known.contains(*field));
        let unknown = self.unknown.take().or_else(|| misplaced.map(|field| quoted(field.name())));
        match (unknown, self.repeated) {
            (Some(name), _) if known == FieldSet::ALL && name == "\"end\"" => {
                Err(ApiError::NotBuilt { what: "`end`, the end of a channel," })
            }
            (Some(name), _) => Err(ApiError::UnknownField { name, known: known.list() }),
            (None, Some(field)) => Err(ApiError::RepeatedField { field: field.name() }),
            (None, None) => Ok(()),
        }
    }

    /// Returns true if the field is present and not `null`. Not for `data`.
    pub(super) fn has(&self, field: Field) -> bool {
        self.fields[field as usize].is_some()
    }

    /// Takes the value of a field. Not for `data`.
    pub(super) fn take(&mut self, field: Field) -> Option<Found<'a>> {
        self.fields[field as usize].take()
    }

    /// Takes the text of a field.
    pub(super) fn take_text(&mut self, field: Field) -> Result<Option<Cow<'a, str>>, ApiError> {
        match self.take(field) {
            None => Ok(None),
            Some(Found::Text(text)) => Ok(Some(text)),
            Some(other) => Err(wrong_kind(field, &other, "a string")),
        }
    }

    /// The JSON text of `data`, unchanged.
    pub(super) fn data(&self) -> Option<&'a str> {
        self.data.map(RawValue::get)
    }
}

/// The error for a value of the wrong kind.
pub(super) fn wrong_kind(field: Field, found: &Found<'_>, expected: &'static str) -> ApiError {
    ApiError::WrongValue { field: field.name(), found: found.kind().into(), expected }
}

impl<'de> Deserialize<'de> for RawEnvelope<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<RawEnvelope<'de>, D::Error> {
        deserializer.deserialize_map(EnvelopeVisitor)
    }
}

struct EnvelopeVisitor;

impl<'de> Visitor<'de> for EnvelopeVisitor {
    type Value = RawEnvelope<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an envelope, which is a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawEnvelope<'de>, A::Error> {
        let mut envelope = RawEnvelope::default();
        while let Some(name) = map.next_key_seed(NameSeed(Field::parse))? {
            let field = match name {
                Ok(field) => field,
                Err(unknown) => {
                    map.next_value::<IgnoredAny>()?;
                    envelope.unknown.get_or_insert(unknown);
                    continue;
                }
            };
            if envelope.given.contains(field) {
                envelope.repeated.get_or_insert(field);
            }
            envelope.given.0 |= FieldSet::of(&[field]).0;
            if field == Field::Data {
                envelope.data = Some(map.next_value()?);
            } else {
                let found = map.next_value_seed(FoundSeed { keeps_lists: true })?;
                envelope.fields[field as usize] = Some(found).filter(|found| *found != Found::Null);
            }
        }
        Ok(envelope)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::limits::EVENT_CHANNELS_MAX;

    fn parse(text: &str) -> RawEnvelope<'_> {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn texts_without_escapes_are_borrowed_and_data_is_passed_through() {
        let text = "{\"text\":\"plain\",\"id\":\"\\u0061\",\"data\": {\"a\" :\n[1.0, \"\\u00e4\"]} }";
        let mut envelope = parse(text);
        assert!(matches!(envelope.take_text(Field::Text), Ok(Some(Cow::Borrowed("plain")))));
        assert_eq!(envelope.take_text(Field::Id), Ok(Some(Cow::Borrowed("a"))));
        assert_eq!(envelope.data(), Some("{\"a\" :\n[1.0, \"\\u00e4\"]}"));
        assert_eq!(envelope.take_text(Field::Event), Ok(None));
    }

    #[test]
    fn null_counts_as_left_out_but_is_data() {
        let mut envelope = parse(r#"{"event":null,"data":null}"#);
        assert!(!envelope.has(Field::Event) && envelope.check_fields(FieldSet::ALL).is_ok());
        assert_eq!(envelope.data(), Some("null"));
    }

    #[test]
    fn fields_of_another_form_are_unknown_even_as_null() {
        let known = FieldSet::of(&[Field::Channel, Field::Data]);
        assert!(parse(r#"{"channel":null,"data":1}"#).check_fields(known).is_ok());
        let error = parse(r#"{"ttl":null,"data":1}"#).check_fields(known).unwrap_err();
        assert_eq!(error.to_string(), "unknown field \"ttl\"; the fields are `channel` and `data`");
    }

    #[test]
    fn errors_name_every_kind_of_value() {
        for (value, kind) in [
            ("\"x\"", "a string"),
            ("1", "a number"),
            ("-1", "a negative number"),
            ("1.5", "a number with a fraction, an exponent, or too many digits"),
            ("18446744073709551616", "a number with a fraction, an exponent, or too many digits"),
            ("true", "true"),
            ("false", "false"),
            ("[1,[2],{}]", "an array"),
            ("{\"a\":{\"b\":[]}}", "an object"),
        ] {
            let text = format!("{{\"key\":{value}}}");
            assert_eq!(parse(&text).take(Field::Key).unwrap().kind(), kind);
        }
    }

    #[test]
    fn a_long_list_is_kept_up_to_its_bound() {
        let text = format!("{{\"channels\":[{}1]}}", "[[1]],".repeat(1000));
        let Some(Found::List(items)) = parse(&text).take(Field::Channels) else { panic!("a list") };
        assert_eq!(items.len(), EVENT_CHANNELS_MAX + 1);
        assert_eq!(items[0], Found::List(vec![]));
    }

    #[test]
    fn every_field_has_its_own_name_and_place() {
        for (index, field) in Field::ALL.into_iter().enumerate() {
            assert_eq!(Field::parse(field.name()), Some(field));
            assert_eq!(field as usize, index);
        }
        assert_eq!(Field::parse("Channel"), None);
    }
}
