//! The TOML file as a layer of options. Responsible for reading it, for unknown keys and for values of the wrong
//! kind, each told with its line; what the values mean is decided later.

use std::path::Path;
use std::sync::Arc;

use toml::de::{DeTable, DeValue};

use super::ConfigError;
use super::merge::{Given, Layer, Origin};
use super::nearest::nearest;
use super::table::{ALL, Arity, OptionSpec};

/// Reads the file at `path`.
pub(super) fn read(path: &Path) -> Result<Layer, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigError::FileUnreadable { path: path.to_owned(), source })?;
    parse(path, &text)
}

fn parse(path: &Path, text: &str) -> Result<Layer, ConfigError> {
    let table = DeTable::parse(text)
        .map_err(|source| ConfigError::FileNotToml { path: path.to_owned(), source: Box::new(source) })?;
    let shared_path: Arc<Path> = Arc::from(path);
    let mut layer = Layer::new();
    for (key, value) in table.get_ref() {
        let line = line_of(text, key.span().start);
        let spec = spec_of(key.get_ref()).ok_or_else(|| unknown_key(path, line, key.get_ref()))?;
        let values = values_of(spec, value.get_ref()).ok_or_else(|| ConfigError::WrongKind {
            path: path.to_owned(),
            line,
            key: spec.key(),
            found: kind_of(value.get_ref()),
            expected: match spec.arity {
                Arity::One => "a string or a whole number",
                Arity::Many => "an array of strings",
                Arity::Switch => "true or false",
            },
        })?;
        layer.insert(spec.name, Given { values, origin: Origin::File { path: shared_path.clone(), line } });
    }
    Ok(layer)
}

fn spec_of(key: &str) -> Option<&'static OptionSpec> {
    ALL.iter().copied().find(|spec| spec.key() == key)
}

fn unknown_key(path: &Path, line: usize, key: &str) -> ConfigError {
    let keys: Vec<String> = ALL.iter().map(|spec| spec.key()).collect();
    let hint = if key == "config" {
        "; a configuration file cannot name another one".to_owned()
    } else if let Some(meant) =
        nearest(&key.replace('-', "_").to_lowercase(), keys.iter().map(String::as_str))
    {
        format!("; did you mean {meant}?")
    } else {
        format!("; known are {}", keys.join(", "))
    };
    ConfigError::UnknownKey { path: path.to_owned(), line, key: key.to_owned(), hint }
}

/// The texts of a value, as they would stand on the command line; `None` where it is of the wrong kind.
fn values_of(spec: &OptionSpec, value: &DeValue<'_>) -> Option<Vec<String>> {
    match (spec.arity, value) {
        (Arity::Switch, DeValue::Boolean(on)) => Some(vec![on.to_string()]),
        (Arity::Many, DeValue::Array(items)) => {
            items.iter().map(|item| item.get_ref().as_str().map(str::to_owned)).collect()
        }
        (Arity::One | Arity::Many, DeValue::String(text)) => Some(vec![text.clone().into_owned()]),
        (Arity::One, DeValue::Integer(number)) => {
            let number = i64::from_str_radix(number.as_str(), number.radix()).ok()?;
            Some(vec![number.to_string()])
        }
        _ => None,
    }
}

fn kind_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}

/// The line, counted from 1, that holds the byte at `offset`.
fn line_of(text: &str, offset: usize) -> usize {
    let before = text.as_bytes().get(..offset).unwrap_or(text.as_bytes());
    1 + memchr::memchr_iter(b'\n', before).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_text(text: &str) -> Result<Layer, ConfigError> {
        parse(Path::new("downpour.toml"), text)
    }

    #[test]
    fn strings_numbers_switches_and_arrays_become_texts_with_their_line() {
        let layer = parse_text(
            "# a comment\nlisten = [\"127.0.0.1:1\", '[::1]:2']\nhost = 'a.example'\nkeepalive = \"5s\"\n\
             history_events = 5_000\nmax_body = 0x400\ninsecure = true\n",
        )
        .unwrap();
        assert_eq!(layer["listen"].values, ["127.0.0.1:1", "[::1]:2"]);
        assert_eq!(layer["host"].values, ["a.example"]);
        assert_eq!(layer["keepalive"].values, ["5s"]);
        assert_eq!(layer["history-events"].values, ["5000"]);
        assert_eq!(layer["max-body"].values, ["1024"]);
        assert_eq!(layer["insecure"].values, ["true"]);
        assert_eq!(layer["keepalive"].origin.to_string(), "file, line 4");
    }

    #[test]
    fn an_unknown_key_is_told_with_its_line_and_the_nearest_known_one() {
        let told = |text| parse_text(text).unwrap_err().to_string();
        assert_eq!(
            told("retry = '1s'\n\nkeep_alive = '5s'\n"),
            "unknown key keep_alive in downpour.toml, line 3; did you mean keepalive?"
        );
        assert!(told("max-body = '1MiB'").ends_with("did you mean max_body?"));
        assert!(told("config = 'x'").ends_with("cannot name another one"));
        assert!(
            told("[serve]\nretry = '1s'")
                .contains("unknown key serve in downpour.toml, line 1; known are listen,")
        );
    }

    #[test]
    fn a_value_of_the_wrong_kind_is_told_with_what_was_found() {
        let told = |text| parse_text(text).unwrap_err().to_string();
        assert_eq!(
            told("keepalive = true"),
            "keepalive in downpour.toml, line 1 must be a string or a whole number; found true or false"
        );
        assert!(told("insecure = 'yes'").contains("must be true or false; found a string"));
        assert!(told("host = [1]").contains("must be an array of strings; found an array"));
        assert!(told("retry = ['1s']").contains("found an array"));
        assert!(told("retry = 1.5").contains("found a number with a fraction"));
    }

    #[test]
    fn a_file_that_is_not_toml_is_told_with_the_place() {
        let error = parse_text("retry = \n").unwrap_err();
        assert!(error.to_string().contains("downpour.toml is not valid TOML"));
        assert!(std::error::Error::source(&error).unwrap().to_string().contains("line 1"));
    }
}
