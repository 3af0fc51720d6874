//! The options of `downpour serve`, from wherever they come: command line over environment over file over default.
//!
//! Each option has one row in `table`; its text is the same in every source and is parsed in one place (`values`,
//! `fill`), so that a value is allowed in all of them or in none, and an error names the source it came from. Texts
//! fill the builder of a server, whose settings have the bounds.
//! Not responsible for acting on any of it.

mod config;
mod environment;
mod error;
mod file;
mod fill;
mod merge;
mod nearest;
mod table;
pub(super) mod values;

use std::path::PathBuf;

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};

pub use self::config::ServeConfig;
pub use self::environment::Environment;
pub use self::error::ConfigError;
pub use self::merge::{Origin, Setting};
pub use self::values::ListenAddress;

use self::merge::{Given, Layer, Settings};
use self::table::{ALL, Arity, OptionSpec};

/// What every variable of ours begins with.
const VARIABLE_PREFIX: &str = "DOWNPOUR_";

/// The variable that names the configuration file.
const CONFIG_VARIABLE: &str = "DOWNPOUR_CONFIG";

/// The options as they were given on the command line, not yet looked at.
///
/// Part of a clap command by `#[command(flatten)]`.
#[derive(Clone, Debug, Default)]
pub struct ServeOptions {
    config: Option<PathBuf>,
    given: Layer,
}

/// A configuration, and how it came to be.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// What to run.
    pub config: ServeConfig,
    /// Every option with its text and where that came from.
    pub settings: Vec<Setting>,
    /// What is allowed but probably not meant: a sentence each.
    pub warnings: Vec<String>,
}

impl ServeOptions {
    /// Joins the command line with the environment and the file that one of the two names, and checks everything.
    ///
    /// # Errors
    /// [`ConfigError`] names the first option that is wrong, where it stands and what is allowed.
    pub fn resolve(self, environment: &Environment) -> Result<Resolved, ConfigError> {
        let from_environment = environment.layer()?;
        let path = match self.config {
            Some(path) => Some(path),
            None => environment.text(CONFIG_VARIABLE)?.map(PathBuf::from),
        };
        let from_file = path.as_deref().map(file::read).transpose()?.unwrap_or_default();
        let settings = Settings::merge([self.given, from_environment, from_file]);
        let config = ServeConfig::from_settings(&settings)?;
        let mut warnings = config.warnings();
        warnings.extend(environment.slips().into_iter().map(|(variable, meant)| {
            format!(
                "the environment variable {variable} is not known and does nothing; did you mean {meant}?"
            )
        }));
        Ok(Resolved { config, settings: settings.all(), warnings })
    }
}

impl clap::Args for ServeOptions {
    fn augment_args(command: Command) -> Command {
        let config = Arg::new(CONFIG)
            .long(CONFIG)
            .value_name("FILE")
            .value_parser(clap::value_parser!(PathBuf))
            .help_heading("Configuration")
            .help(
                "A TOML file with any of the options below, written with _ instead of -: keepalive = \"30s\", \
                 history_events = 5000, listen = [\"127.0.0.1:8080\"].",
            );
        ALL.iter().fold(command.arg(config), |command, spec| command.arg(argument(spec)))
    }

    fn augment_args_for_update(command: Command) -> Command {
        ServeOptions::augment_args(command)
    }
}

impl clap::FromArgMatches for ServeOptions {
    fn from_arg_matches(matches: &ArgMatches) -> Result<ServeOptions, clap::Error> {
        let given_here =
            |spec: &&&OptionSpec| matches.value_source(spec.name) == Some(ValueSource::CommandLine);
        let given = ALL.iter().filter(given_here).map(|spec| {
            let values = matches.get_many::<String>(spec.name).into_iter().flatten().cloned().collect();
            (spec.name, Given { values, origin: Origin::CommandLine })
        });
        Ok(ServeOptions { config: matches.get_one(CONFIG).cloned(), given: given.collect() })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = ServeOptions::from_arg_matches(matches)?;
        Ok(())
    }
}

/// The id and long name of the argument that names the file.
const CONFIG: &str = "config";

fn argument(spec: &'static OptionSpec) -> Arg {
    let argument = Arg::new(spec.name)
        .long(spec.name)
        .value_name(spec.placeholder)
        .help_heading(spec.heading)
        .help(spec.help)
        .allow_hyphen_values(spec.arity != Arity::Switch);
    match spec.arity {
        Arity::One => argument.action(ArgAction::Set).default_values(spec.default),
        Arity::Many => argument.action(ArgAction::Append).default_values(spec.default),
        Arity::Switch => {
            argument.action(ArgAction::Set).num_args(0..=1).require_equals(true).default_missing_value("true")
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use clap::{Args, FromArgMatches};

    use super::*;

    fn options(arguments: &[&str]) -> ServeOptions {
        let command = ServeOptions::augment_args(Command::new("serve").no_binary_name(true));
        ServeOptions::from_arg_matches(&command.try_get_matches_from(arguments).unwrap()).unwrap()
    }

    fn toml_file(text: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    }

    fn shown(resolved: &Resolved, name: &str) -> String {
        resolved.settings.iter().find(|setting| setting.name == name).unwrap().to_string()
    }

    #[test]
    fn command_line_over_environment_over_file_over_default() {
        let file = toml_file("keepalive = '1s'\nretry = '1s'\nhistory_events = 1\n");
        let path = file.path().to_str().unwrap();
        let environment = Environment::from_iter([("DOWNPOUR_KEEPALIVE", "2s"), ("DOWNPOUR_RETRY", "2s")]);
        let resolved = options(&["--config", path, "--keepalive", "3s"]).resolve(&environment).unwrap();
        assert_eq!(shown(&resolved, "keepalive"), "keepalive = 3s (from: command line)");
        assert_eq!(shown(&resolved, "retry"), "retry = 2s (from: environment)");
        assert_eq!(shown(&resolved, "history-events"), "history-events = 1 (from: file, line 3)");
        assert_eq!(shown(&resolved, "drain"), "drain = 8s (from: default)");
        assert_eq!(resolved.config.server.retry_delay.as_secs(), 2);
    }

    #[test]
    fn the_environment_may_name_the_file_and_the_command_line_counts_before_it() {
        let file = toml_file("retry = '1s'\n");
        let environment = Environment::from_iter([("DOWNPOUR_CONFIG", file.path())]);
        let resolved = options(&[]).resolve(&environment).unwrap();
        assert_eq!(shown(&resolved, "retry"), "retry = 1s (from: file, line 1)");
        let error = options(&["--config", "/nowhere.toml"]).resolve(&environment).unwrap_err();
        assert_eq!(error.to_string(), "cannot read the configuration file /nowhere.toml");
    }

    #[test]
    fn a_switch_given_alone_is_on_and_may_be_turned_off_again() {
        let environment = Environment::from_iter([("DOWNPOUR_INSECURE", "true")]);
        let insecure = |arguments: &[&str], environment: &Environment| {
            options(arguments).resolve(environment).unwrap().config.server.is_insecure
        };
        assert!(insecure(&["--insecure"], &Environment::default()));
        assert!(insecure(&[], &environment));
        assert!(!insecure(&["--insecure=false"], &environment));
    }

    #[test]
    fn repeated_addresses_are_all_taken() {
        let repeated = options(&["--listen", "127.0.0.1:1", "--listen", "[::1]:2"]);
        assert_eq!(repeated.resolve(&Environment::default()).unwrap().config.server.listen.len(), 2);
    }

    #[test]
    fn a_value_that_looks_like_an_option_is_told_as_a_bad_value() {
        let error = options(&["--retry", "-1s"]).resolve(&Environment::default()).unwrap_err();
        assert!(error.to_string().starts_with("invalid value \"-1s\" for --retry: a duration is"));
    }

    #[test]
    fn a_mistyped_variable_is_a_warning() {
        let environment = Environment::from_iter([("DOWNPOUR_RETYR", "1s")]);
        let warnings = options(&[]).resolve(&environment).unwrap().warnings;
        assert!(
            warnings[0].contains("DOWNPOUR_RETYR") && warnings[0].ends_with("did you mean DOWNPOUR_RETRY?")
        );
    }
}
