//! The environment as a layer of options. Responsible for `DOWNPOUR_…` variables alone; other variables are none
//! of its business.

use std::collections::BTreeMap;
use std::ffi::OsString;

use super::merge::{Given, Layer, Origin};
use super::nearest::nearest;
use super::table::{ALL, Arity};
use super::{CONFIG_VARIABLE, ConfigError, VARIABLE_PREFIX};

/// The variables of a process, or of a test that plays one. An empty variable counts as one that is not set.
#[derive(Clone, Debug, Default)]
pub struct Environment(BTreeMap<OsString, OsString>);

impl Environment {
    /// The environment of this process.
    #[must_use]
    pub fn of_process() -> Environment {
        std::env::vars_os().collect()
    }

    /// The text of a variable, or `None` where it is not set or empty.
    ///
    /// # Errors
    /// [`ConfigError::VariableNotText`] where it is not UTF-8.
    pub(super) fn text(&self, variable: &str) -> Result<Option<&str>, ConfigError> {
        match self.0.get(std::ffi::OsStr::new(variable)) {
            None => Ok(None),
            Some(value) if value.is_empty() => Ok(None),
            Some(value) => match value.to_str() {
                Some(text) => Ok(Some(text)),
                None => Err(ConfigError::VariableNotText { variable: variable.to_owned() }),
            },
        }
    }

    /// What the environment says of the options.
    pub(super) fn layer(&self) -> Result<Layer, ConfigError> {
        let mut layer = Layer::new();
        for spec in ALL {
            let variable = spec.variable();
            let Some(text) = self.text(&variable)? else { continue };
            let values = match spec.arity {
                Arity::Many => text
                    .split(',')
                    .map(str::trim)
                    .filter(|item| !item.is_empty())
                    .map(str::to_owned)
                    .collect(),
                Arity::One | Arity::Switch => vec![text.to_owned()],
            };
            layer.insert(spec.name, Given { values, origin: Origin::Environment });
        }
        Ok(layer)
    }

    /// Variables that look like a mistyped option, with the one that was probably meant.
    ///
    /// They are no error: container platforms set `DOWNPOUR_…` variables of their own for a service of that name.
    pub(super) fn slips(&self) -> Vec<(String, String)> {
        let known: Vec<String> =
            ALL.iter().map(|spec| spec.variable()).chain([CONFIG_VARIABLE.to_owned()]).collect();
        self.0
            .keys()
            .filter_map(|variable| variable.to_str())
            .filter(|variable| {
                variable.starts_with(VARIABLE_PREFIX) && !known.iter().any(|name| name == variable)
            })
            .filter_map(|variable| {
                let word = variable.strip_prefix(VARIABLE_PREFIX)?;
                let words = known.iter().filter_map(|name| name.strip_prefix(VARIABLE_PREFIX));
                Some((variable.to_owned(), format!("{VARIABLE_PREFIX}{}", nearest(word, words)?)))
            })
            .collect()
    }
}

impl<K: Into<OsString>, V: Into<OsString>> FromIterator<(K, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(variables: I) -> Environment {
        Environment(variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;

    use super::*;

    #[test]
    fn a_comma_list_gives_several_values_and_an_empty_variable_none() {
        let environment = Environment::from_iter([
            ("DOWNPOUR_LISTEN", "127.0.0.1:1, 127.0.0.1:2,"),
            ("DOWNPOUR_KEEPALIVE", ""),
            ("DOWNPOUR_RETRY", "5s"),
        ]);
        let layer = environment.layer().unwrap();
        assert_eq!(layer["listen"].values, ["127.0.0.1:1", "127.0.0.1:2"]);
        assert_eq!(layer["retry"].values, ["5s"]);
        assert!(!layer.contains_key("keepalive"));
    }

    #[test]
    fn a_variable_that_is_not_text_is_an_error_that_names_it() {
        let environment = Environment::from_iter([("DOWNPOUR_RETRY", OsString::from_vec(vec![0xff]))]);
        assert!(environment.layer().unwrap_err().to_string().contains("DOWNPOUR_RETRY"));
    }

    #[test]
    fn slips_are_found_and_variables_of_container_platforms_left_alone() {
        let environment = Environment::from_iter([
            ("DOWNPOUR_KEEP_ALIVE", "1s"),
            ("DOWNPOUR_URL", "http://127.0.0.1"),
            ("DOWNPOUR_SERVICE_HOST", "10.0.0.1"),
            ("DOWNPOUR_PORT_8080_TCP", "tcp://10.0.0.1:8080"),
            ("DOWNPOUR_RETRY", "1s"),
            ("KEEPALIVE", "1s"),
        ]);
        assert_eq!(
            environment.slips(),
            [("DOWNPOUR_KEEP_ALIVE".to_owned(), "DOWNPOUR_KEEPALIVE".to_owned())]
        );
    }
}
