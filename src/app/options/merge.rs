//! Layers of options and which of them counts: command line over environment over file over default.
//!
//! A layer that says anything of an option says all of it: several values are replaced, never joined.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use super::table::{ALL, OptionSpec};
use super::{ConfigError, ServeConfig};

/// What one source says: texts by the option's name.
pub(super) type Layer = BTreeMap<&'static str, Given>;

/// The texts given for one option.
#[derive(Clone, Debug)]
pub(super) struct Given {
    pub(super) values: Vec<String>,
    pub(super) origin: Origin,
}

/// Where the value of an option came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// An argument of the command.
    CommandLine,
    /// A `DOWNPOUR_…` variable.
    Environment,
    /// The configuration file.
    File {
        /// The file, as it was named.
        path: Arc<Path>,
        /// The line of its key, counted from 1.
        line: usize,
    },
    /// Nobody said anything.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::CommandLine => f.write_str("command line"),
            Origin::Environment => f.write_str("environment"),
            Origin::File { line, .. } => write!(f, "file, line {line}"),
            Origin::Default => f.write_str("default"),
        }
    }
}

/// One option with the text that counts and where that came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The option's name, as on the command line without the dashes.
    pub name: &'static str,
    /// The texts that count, as they were given.
    pub values: Vec<String>,
    /// Where they came from.
    pub origin: Origin,
}

/// Shows `name = value (from: origin)`.
impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let values = if self.values.is_empty() { "(none)".to_owned() } else { self.values.join(", ") };
        write!(f, "{} = {values} (from: {})", self.name, self.origin)
    }
}

/// All layers, merged.
#[derive(Debug)]
pub(super) struct Settings(Layer);

impl Settings {
    /// Merges `layers`, of which an earlier one counts before a later one.
    pub(super) fn merge(layers: impl IntoIterator<Item = Layer>) -> Settings {
        let mut merged = Layer::new();
        for layer in layers {
            for (name, given) in layer {
                merged.entry(name).or_insert(given);
            }
        }
        Settings(merged)
    }

    /// The texts that count for `spec`.
    pub(super) fn setting(&self, spec: &OptionSpec) -> Setting {
        match self.0.get(spec.name) {
            Some(given) => {
                Setting { name: spec.name, values: given.values.clone(), origin: given.origin.clone() }
            }
            None => Setting {
                name: spec.name,
                values: spec.default.iter().map(|&text| text.to_owned()).collect(),
                origin: Origin::Default,
            },
        }
    }

    /// Every option, in the order of the help.
    pub(super) fn all(&self) -> Vec<Setting> {
        ALL.iter().map(|spec| self.setting(spec)).collect()
    }

    /// Fills `config` with the texts that count for `spec`. Only an option without a default may have none.
    pub(super) fn fill(&self, spec: &OptionSpec, config: &mut ServeConfig) -> Result<(), ConfigError> {
        let Setting { values, origin, .. } = self.setting(spec);
        if values.is_empty() && !spec.default.is_empty() {
            return Err(ConfigError::NoValue { place: place(spec, &origin) });
        }
        for value in values {
            (spec.fill)(config, &value).map_err(|problem| ConfigError::BadValue {
                place: place(spec, &origin),
                value,
                problem,
            })?;
        }
        Ok(())
    }

    /// How to speak of an option where it was given, such as `--retry` or `retry in downpour.toml, line 3`.
    pub(super) fn place(&self, spec: &OptionSpec) -> String {
        place(spec, &self.setting(spec).origin)
    }
}

fn place(spec: &OptionSpec, origin: &Origin) -> String {
    match origin {
        Origin::CommandLine | Origin::Default => format!("--{}", spec.name),
        Origin::Environment => format!("the environment variable {}", spec.variable()),
        Origin::File { path, line } => format!("{} in {}, line {line}", spec.key(), path.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::table::{HOST, INSECURE, KEEPALIVE, LISTEN};
    use super::*;

    fn layer(name: &'static str, values: &[&str], origin: Origin) -> Layer {
        let values = values.iter().map(|&value| value.to_owned()).collect();
        Layer::from([(name, Given { values, origin })])
    }

    fn file(line: usize) -> Origin {
        Origin::File { path: Arc::from(Path::new("downpour.toml")), line }
    }

    #[test]
    fn an_earlier_layer_replaces_a_later_one_as_a_whole() {
        let settings = Settings::merge([
            layer("host", &["a"], Origin::CommandLine),
            layer("host", &["b", "c"], Origin::Environment),
            layer("keepalive", &["1s"], file(2)),
        ]);
        assert_eq!(settings.setting(&HOST).to_string(), "host = a (from: command line)");
        assert_eq!(settings.setting(&KEEPALIVE).to_string(), "keepalive = 1s (from: file, line 2)");
        assert_eq!(settings.setting(&INSECURE).to_string(), "insecure = false (from: default)");
    }

    #[test]
    fn an_option_that_has_a_value_by_default_cannot_have_none() {
        let none = |name| Settings::merge([layer(name, &[], Origin::Environment)]);
        let mut config = ServeConfig::default();
        let told = none("listen").fill(&LISTEN, &mut config).unwrap_err().to_string();
        assert_eq!(told, "the environment variable DOWNPOUR_LISTEN needs at least one value");
        none("host").fill(&HOST, &mut config).unwrap();
        assert_eq!(config, ServeConfig::default());
    }

    #[test]
    fn a_bad_value_is_told_where_it_stands() {
        for (origin, place) in [
            (Origin::CommandLine, "--keepalive"),
            (Origin::Environment, "the environment variable DOWNPOUR_KEEPALIVE"),
            (file(7), "keepalive in downpour.toml, line 7"),
        ] {
            let settings = Settings::merge([layer("keepalive", &["soon"], origin)]);
            let told = settings.fill(&KEEPALIVE, &mut ServeConfig::default()).unwrap_err().to_string();
            assert!(
                told.starts_with(&format!("invalid value \"soon\" for {place}: a duration is")),
                "{told}"
            );
        }
    }
}
