//! Values and names in a publisher's JSON: their kinds, in the words of the contract.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::error::quoted;
use crate::base::limits::EVENT_CHANNELS_MAX;

/// The value of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found<'a> {
    /// A string.
    Text(Cow<'a, str>),
    /// A whole number, 0 or more.
    Number(u64),
    /// `true` or `false`.
    Bool(bool),
    /// `null`.
    Null,
    /// An array. At most [`EVENT_CHANNELS_MAX`] + 1 of its items are kept. Arrays in it are kept without
    /// their items.
    List(Vec<Found<'a>>),
    /// A value that no field may have.
    Other(&'static str),
}

impl<'a> Found<'a> {
    /// Reads the text of a JSON value.
    pub(super) fn read(text: &'a str) -> Found<'a> {
        let mut deserializer = serde_json::Deserializer::from_str(text);
        // The JSON parser has accepted the text before, but did not decode its string or number.
        (FoundSeed { keeps_lists: false }).deserialize(&mut deserializer).unwrap_or(match text.as_bytes() {
            [b'"', ..] => Found::Other("a string that is not Unicode"),
            _ => Found::Other("a number out of range"),
        })
    }

    /// The kind of the value, for messages.
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

/// Reads the name of a field. Returns the field, or the name in quotes if it is unknown.
pub(super) struct NameSeed<F>(pub(super) F);

impl<'de, T, F: Fn(&str) -> Option<T>> DeserializeSeed<'de> for NameSeed<F> {
    type Value = Result<T, String>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<T, F: Fn(&str) -> Option<T>> Visitor<'_> for NameSeed<F> {
    type Value = Result<T, String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field's name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok((self.0)(name).ok_or_else(|| quoted(name)))
    }
}

/// Reads any value, so that errors can describe it in the words of the contract.
pub(super) struct FoundSeed {
    /// The items of an array are kept.
    pub(super) keeps_lists: bool,
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

    #[test]
    fn values_that_were_not_looked_into_are_read_later() {
        assert_eq!(Found::read("\"a\""), Found::Text(Cow::Borrowed("a")));
        assert_eq!(Found::read("[[[1]]]").kind(), "an array");
        assert_eq!(Found::read("\"\\ud800\"").kind(), "a string that is not Unicode");
        assert_eq!(Found::read("1e999").kind(), "a number out of range");
    }
}
