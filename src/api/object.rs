//! JSON objects in which every field is known and required: the bodies of the publishes of fixed form.
//!
//! A field is named by its path from the body, such as `progress.status`, so that errors can name it.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::error::{ApiError, listed, quoted};
use super::found::{Found, NameSeed};

/// The JSON text of a field's value, unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Value<'a> {
    field: &'static str,
    text: &'a str,
}

/// Reads a body that is one JSON value. Returns the value unchanged, without surrounding space.
pub(super) fn read_value<'a>(body: &'a str, expected: &'static str) -> Result<&'a str, ApiError> {
    if body.trim_ascii().is_empty() {
        return Err(ApiError::EmptyBody { expected });
    }
    serde_json::from_str::<&RawValue>(body).map(RawValue::get).map_err(|error| ApiError::in_body(&error))
}

/// Reads a body that is an object with these fields.
pub(super) fn read_body<'a, const N: usize>(
    body: &'a str,
    fields: [&'static str; N],
) -> Result<[Value<'a>; N], ApiError> {
    let text = read_value(body, "a JSON object")?;
    if !text.starts_with('{') {
        return Err(ApiError::NoObject { found: Found::read(text).kind() });
    }
    read_fields(text, fields).map_err(|error| match error {
        NotRead::Field(error) => error,
        NotRead::Json(error) => ApiError::in_body(&error),
    })
}

impl<'a> Value<'a> {
    /// The error for a value of the wrong kind.
    fn wrong(self, expected: &'static str) -> ApiError {
        ApiError::WrongValue { field: self.field, found: Found::read(self.text).kind().into(), expected }
    }

    /// The values of an object with these fields, which are given by their paths.
    pub(super) fn object<const N: usize>(
        self,
        fields: [&'static str; N],
    ) -> Result<[Value<'a>; N], ApiError> {
        self.check_object()?;
        read_fields(self.text, fields).map_err(|error| match error {
            NotRead::Field(error) => error,
            NotRead::Json(_) => ApiError::WrongValue {
                field: self.field,
                found: "an object with a name that is not Unicode".into(), // The first parse found no other fault.
                expected: "an object",
            },
        })
    }

    /// Refuses a value that is not an object.
    pub(super) fn check_object(self) -> Result<(), ApiError> {
        if self.text.starts_with('{') { Ok(()) } else { Err(self.wrong("an object")) }
    }

    /// The value as a string.
    pub(super) fn string(self) -> Result<Cow<'a, str>, ApiError> {
        let Found::Text(text) = Found::read(self.text) else { return Err(self.wrong("a string")) };
        Ok(text)
    }

    /// Refuses a value that is none of these words. `expected` lists them.
    pub(super) fn check_word(self, words: &[&str], expected: &'static str) -> Result<(), ApiError> {
        let Found::Text(word) = Found::read(self.text) else { return Err(self.wrong(expected)) };
        if words.contains(&&*word) {
            return Ok(());
        }
        Err(ApiError::WrongValue { field: self.field, found: quoted(&word).into(), expected })
    }

    /// Refuses a value that is not a number from 0 to 100.
    pub(super) fn check_percentage(self) -> Result<(), ApiError> {
        let expected = "a number from 0 to 100";
        match self.text.parse::<f64>() {
            Ok(number) if (0.0..=100.0).contains(&number) => Ok(()),
            // The text is valid JSON, so if it begins like a number, it is one.
            Ok(_) => {
                Err(ApiError::WrongValue { field: self.field, found: cut_number(self.text).into(), expected })
            }
            Err(_) => Err(self.wrong(expected)),
        }
    }

    /// The JSON text.
    pub(super) fn text(self) -> &'a str {
        self.text
    }
}

/// Returns a number as it was written, but shortens one that is too long for an error.
fn cut_number(text: &str) -> String {
    if text.len() <= NUMBER_BYTES_MAX { text.to_owned() } else { format!("{}…", &text[..NUMBER_BYTES_MAX]) }
}

const NUMBER_BYTES_MAX: usize = 40;

enum NotRead {
    /// A missing, unknown or repeated field.
    Field(ApiError),
    /// Invalid JSON.
    Json(serde_json::Error),
}

fn read_fields<'a, const N: usize>(
    text: &'a str,
    fields: [&'static str; N],
) -> Result<[Value<'a>; N], NotRead> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let known = || listed(fields.map(name));
    let Read { values, unknown, repeated } =
        deserializer.deserialize_map(FieldsVisitor { fields }).map_err(NotRead::Json)?;
    if let Some(name) = unknown {
        return Err(NotRead::Field(ApiError::UnknownField { name, known: known() }));
    }
    if let Some(field) = repeated {
        return Err(NotRead::Field(ApiError::RepeatedField { field }));
    }
    let mut read = [Value { field: "", text: "" }; N];
    for ((place, field), value) in read.iter_mut().zip(fields).zip(values) {
        let Some(text) = value else {
            return Err(NotRead::Field(ApiError::MissingField { field, known: known() }));
        };
        *place = Value { field, text };
    }
    Ok(read)
}

/// The name at the end of a path.
fn name(path: &'static str) -> &'static str {
    path.rsplit_once('.').map_or(path, |(_, name)| name)
}

/// The fields of an object so far.
struct Read<'a, const N: usize> {
    values: [Option<&'a str>; N],
    /// The first unknown name, quoted.
    unknown: Option<String>,
    /// The first repeated field.
    repeated: Option<&'static str>,
}

struct FieldsVisitor<const N: usize> {
    fields: [&'static str; N],
}

impl<'de, const N: usize> Visitor<'de> for FieldsVisitor<N> {
    type Value = Read<'de, N>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Read<'de, N>, A::Error> {
        let mut read = Read { values: [None; N], unknown: None, repeated: None };
        let position = |given: &str| self.fields.iter().position(|field| name(field) == given);
        while let Some(found) = map.next_key_seed(NameSeed(position))? {
            match found {
                Ok(index) if read.values[index].is_some() => {
                    map.next_value::<IgnoredAny>()?;
                    read.repeated.get_or_insert(self.fields[index]);
                }
                Ok(index) => read.values[index] = Some(map.next_value::<&RawValue>()?.get()),
                Err(unknown) => {
                    map.next_value::<IgnoredAny>()?;
                    read.unknown.get_or_insert(unknown);
                }
            }
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message<T>(result: Result<T, ApiError>) -> String {
        result.err().map_or("nothing".to_owned(), |error| error.to_string())
    }

    #[test]
    fn fields_are_passed_through_as_they_were_written() {
        let [a, b] = read_body(" {\"b\" : [1, {}],\n\"\\u0061\":\"x\\n\"}\n", ["a", "b"]).unwrap();
        assert_eq!((a.text(), b.text()), ("\"x\\n\"", "[1, {}]"));
        assert_eq!(a.string().unwrap(), "x\n");
    }

    #[test]
    fn every_field_is_there_once_and_no_other() {
        let read = |body| message(read_body(body, ["a", "b"]));
        for (body, detail) in [
            ("", "the body is empty; expected a JSON object"),
            ("{", "not JSON at line 1 column 1: EOF while parsing an object"),
            ("{} {}", "not JSON at line 1 column 4: trailing characters"),
            ("[1]", "the body is an array; expected a JSON object"),
            ("1e999", "the body is a number out of range; expected a JSON object"),
            ("{\"a\":1}", "`b` is missing; the fields are `a` and `b`"),
            ("{\"a\":1,\"b\":1,\"c\":1}", "unknown field \"c\"; the fields are `a` and `b`"),
            ("{\"a\":1,\"b\":1,\"a\":1}", "`a` is given twice"),
            ("{\"a\":1,\"b\":null}", "nothing"),
        ] {
            assert_eq!(read(body), detail, "{body}");
        }
        assert!(read("{\"\\ud800\":1}").starts_with("not JSON at line 1 column 9: "));
    }

    #[test]
    fn inner_fields_are_named_by_their_paths() {
        let inner = |body| {
            let [outer] = read_body(body, ["outer"]).unwrap();
            message(outer.object(["outer.a"]))
        };
        assert_eq!(inner(r#"{"outer":{"a":1}}"#), "nothing");
        assert_eq!(inner(r#"{"outer":{}}"#), "`outer.a` is missing; the fields are `a`");
        assert_eq!(inner(r#"{"outer":{"a":1,"a":1}}"#), "`outer.a` is given twice");
        assert_eq!(inner(r#"{"outer":{"outer.a":1}}"#), "unknown field \"outer.a\"; the fields are `a`");
        assert_eq!(inner(r#"{"outer":[]}"#), "`outer`: found an array, expected an object");
        let detail = "`outer`: found an object with a name that is not Unicode, expected an object";
        assert_eq!(inner(r#"{"outer":{"\ud800":1}}"#), detail);
    }

    #[test]
    fn percentages_are_numbers_from_0_to_100() {
        let check = |text| message(Value { field: "n", text }.check_percentage());
        for text in ["0", "-0", "100", "33.3", "1e2", "1E-400"] {
            assert_eq!(check(text), "nothing", "{text}");
        }
        for (text, found) in [
            ("101", "101"),
            ("-1", "-1"),
            ("100.00001", "100.00001"),
            ("1e999", "1e999"),
            ("\"5\"", "a string"),
            ("null", "null"),
            ("true", "true"),
            ("{}", "an object"),
        ] {
            assert_eq!(check(text), format!("`n`: found {found}, expected a number from 0 to 100"));
        }
        let long = format!("1{}", "0".repeat(1000));
        assert!(message(Value { field: "n", text: &long }.check_percentage()).len() < 150);
    }

    #[test]
    fn only_listed_words_are_accepted() {
        let check = |text| message(Value { field: "w", text }.check_word(&["a", "b"], "`a` or `b`"));
        assert_eq!(check("\"\\u0061\""), "nothing");
        assert_eq!(check("\"A\""), "`w`: found \"A\", expected `a` or `b`");
        assert_eq!(check("1"), "`w`: found a number, expected `a` or `b`");
    }
}
