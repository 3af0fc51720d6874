//! A publisher's JSON envelope as it was sent: which fields it has, and of what kind their values are. What the fields
//! mean, and which of them go together, is decided by [`super::publish`].
//!
//! Texts are borrowed from the body where they have no escapes, and `data` is not looked into.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::error::{ApiError, quoted};
use crate::base::limits::EVENT_CHANNELS_MAX;

/// A field of an envelope. Some are parameters of a query too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
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
    /// What makes a retry safe.
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
    pub const fn name(self) -> &'static str {
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

    /// The field of this name.
    pub(super) fn parse(name: &str) -> Option<Field> {
        Field::ALL.into_iter().find(|field| field.name() == name)
    }

    /// All names, for messages.
    pub(super) fn list() -> String {
        Field::ALL.map(|field| format!("`{}`", field.name())).join(", ")
    }
}

/// What a field holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found<'a> {
    /// A string.
    Text(Cow<'a, str>),
    /// A whole number from 0 on.
    Number(u64),
    /// `true` or `false`.
    Bool(bool),
    /// `null`.
    Null,
    /// An array; no more of its items than [`EVENT_CHANNELS_MAX`] and one are kept, and no arrays in it.
    List(Vec<Found<'a>>),
    /// What no field holds.
    Other(&'static str),
}

impl Found<'_> {
    /// What it is, for messages.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Found::Text(_) => "a string",
            Found::Number(_) => "a number",
            Found::Bool(true) => "true",
            Found::Bool(false) => "false",
            Found::Null => "null",
            Found::List(_) => "an array",
            Found::Other(kind) => kind,
        }
    }
}

/// An envelope as it was sent. A field that is `null` counts as left out, `data` alone excepted.
#[derive(Debug, Default)]
pub(super) struct RawEnvelope<'a> {
    fields: [Option<Found<'a>>; Field::ALL.len()],
    data: Option<&'a RawValue>,
    /// The first field that no envelope has, quoted.
    unknown: Option<String>,
    /// The first field that came twice.
    repeated: Option<Field>,
}

impl<'a> RawEnvelope<'a> {
    /// Says which field should not be there.
    pub(super) fn check_fields(&mut self) -> Result<(), ApiError> {
        match (self.unknown.take(), self.repeated) {
            (Some(name), _) => Err(ApiError::UnknownField { name }),
            (None, Some(field)) => Err(ApiError::RepeatedField { field }),
            (None, None) => Ok(()),
        }
    }

    /// Returns true if and only if the field is given, and not as `null`. Not for `data`.
    pub(super) fn has(&self, field: Field) -> bool {
        self.fields[field as usize].is_some()
    }

    /// What a field holds. Not for `data`.
    pub(super) fn take(&mut self, field: Field) -> Option<Found<'a>> {
        self.fields[field as usize].take()
    }

    /// The text of a field that holds one.
    pub(super) fn take_text(&mut self, field: Field) -> Result<Option<Cow<'a, str>>, ApiError> {
        match self.take(field) {
            None => Ok(None),
            Some(Found::Text(text)) => Ok(Some(text)),
            Some(other) => Err(ApiError::WrongKind { field, found: other.kind(), expected: "a string" }),
        }
    }

    /// The JSON text of `data`, as it was written.
    pub(super) fn data(&self) -> Option<&'a str> {
        self.data.map(RawValue::get)
    }
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
        let mut seen = 0u16;
        while let Some(name) = map.next_key_seed(NameSeed)? {
            let field = match name {
                Ok(field) => field,
                Err(unknown) => {
                    map.next_value::<IgnoredAny>()?;
                    envelope.unknown.get_or_insert(unknown);
                    continue;
                }
            };
            if seen & (1 << (field as usize)) != 0 {
                envelope.repeated.get_or_insert(field);
            }
            seen |= 1 << (field as usize);
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

/// Reads a field's name: the field, or the name of none, quoted.
struct NameSeed;

impl<'de> DeserializeSeed<'de> for NameSeed {
    type Value = Result<Field, String>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for NameSeed {
    type Value = Result<Field, String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field's name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(Field::parse(name).ok_or_else(|| quoted(name)))
    }
}

/// Reads any value, so that errors can say what was found in the words of the contract.
struct FoundSeed {
    keeps_lists: bool,
}

impl<'de> DeserializeSeed<'de> for FoundSeed {
    type Value = Found<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Found<'de>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for FoundSeed {
    type Value = Found<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Found<'de>, E> {
        Ok(Found::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Found<'de>, E> {
        Ok(Found::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Found<'de>, E> {
        Ok(Found::Number(number))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Found<'de>, E> {
        Ok(Found::Other("a negative number"))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Found<'de>, E> {
        Ok(Found::Other("a number with a fraction, an exponent, or too many digits"))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Found<'de>, E> {
        Ok(Found::Bool(value))
    }

    fn visit_unit<E>(self) -> Result<Found<'de>, E> {
        Ok(Found::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Found<'de>, A::Error> {
        let mut items = Vec::new();
        while self.keeps_lists && items.len() <= EVENT_CHANNELS_MAX {
            match seq.next_element_seed(FoundSeed { keeps_lists: false })? {
                Some(item) => items.push(item),
                None => return Ok(Found::List(items)),
            }
        }
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Found::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Found<'de>, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Found::Other("an object"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert!(!envelope.has(Field::Event) && envelope.check_fields().is_ok());
        assert_eq!(envelope.data(), Some("null"));
    }

    #[test]
    fn every_kind_of_value_is_told() {
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
