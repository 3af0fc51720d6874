//! The options of `scripts/bench`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use regex_lite::Regex;

use crate::cell::Contender;

/// Runs the whole matrix of load over sockets, for both drivers and for the peers that are installed: rows to a CSV, medians to
/// a Markdown table, plots as SVG.
#[derive(Parser, Debug)]
#[command(name = "scripts/bench", override_usage = "scripts/bench [--install] [OPTIONS]", after_help = NOTES)]
pub(crate) struct Options {
    /// How often everything is run. Default: 3, with --quick 1
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) repeats: Option<u32>,
    /// Run what this regular expression finds; see --list.
    #[arg(long, value_name = "REGEX")]
    pub(crate) only: Option<Regex>,
    /// A few cells, short and once, to see that it all works; the figures say little.
    #[arg(long)]
    pub(crate) quick: bool,
    /// Where everything is written. Default: target/bench, with --quick target/bench/quick
    #[arg(long, value_name = "FOLDER")]
    pub(crate) out: Option<PathBuf>,
    /// Go on with the rows that are in --out already.
    #[arg(long)]
    pub(crate) resume: bool,
    /// Run nothing, but draw what is in --out.
    #[arg(long, conflicts_with = "resume")]
    pub(crate) draw: bool,
    /// Run nothing, but say what would be.
    #[arg(long, conflicts_with = "draw")]
    pub(crate) list: bool,
    /// The servers that take part, separated by commas. Default: all that are installed
    #[arg(long, value_name = "SERVER", value_delimiter = ',')]
    pub(crate) servers: Vec<Contender>,
    /// How long a run is measured, in ms. Default: 2000, with --quick 500
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(100..=600_000))]
    pub(crate) duration: Option<u64>,
    /// The CPU that servers run on.
    #[arg(long, value_name = "CPU", default_value_t = 0)]
    pub(crate) cpu_server: usize,
    /// The CPU that the bench runs on.
    #[arg(long, value_name = "CPU", default_value_t = 1)]
    pub(crate) cpu_bench: usize,
    /// The program that is measured, and measures. Default: the release build
    #[arg(long, value_name = "FILE", required = true, overrides_with = "downpour")]
    pub(crate) downpour: PathBuf,
}

impl Options {
    pub(crate) fn repeats(&self) -> u32 {
        self.repeats.unwrap_or(if self.quick { 1 } else { 3 })
    }

    pub(crate) fn out(&self) -> PathBuf {
        let default = if self.quick { "target/bench/quick" } else { "target/bench" };
        self.out.clone().unwrap_or_else(|| default.into())
    }

    pub(crate) fn duration(&self) -> Duration {
        Duration::from_millis(self.duration.unwrap_or(if self.quick { 500 } else { 2000 }))
    }
}

const NOTES: &str = "\
--install, which must come first, installs the peers that are missing: nginx and nchan by apt-get, which needs root, and \
better-sse by npm, beside the sources.

Examples:
  scripts/bench --quick
  scripts/bench --repeats 9
  scripts/bench --only 'size=64 channels=1 variant=plain'
  scripts/bench --resume

runs.csv in --out gets a row for each run as it ends, summary.md and the plots are made of all of them in the end, also after \
Ctrl-C.
Exit codes: 0 all was run, and nothing was found wrong with downpour; 1 otherwise; 2 wrong options.";

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn defaults_depend_on_quick() {
        Options::command().debug_assert();
        let of = |arguments: &[&str]| {
            let options =
                Options::try_parse_from([&["bench", "--downpour", "d"], arguments].concat()).unwrap();
            (options.repeats(), options.out(), options.duration())
        };
        assert_eq!(of(&[]), (3, "target/bench".into(), Duration::from_secs(2)));
        assert_eq!(of(&["--quick"]), (1, "target/bench/quick".into(), Duration::from_millis(500)));
        let given = ["--quick", "--repeats", "9", "--out", "x", "--duration", "100"];
        assert_eq!(of(&given), (9, "x".into(), Duration::from_millis(100)));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let refused = |arguments: &[&str]| {
            Options::try_parse_from([&["bench", "--downpour", "d"], arguments].concat()).unwrap_err()
        };
        assert!(refused(&["--only", "("]).to_string().contains("--only"));
        assert!(refused(&["--servers", "apache"]).to_string().contains("better-sse"));
        refused(&["--draw", "--list"]);
        refused(&["--repeats", "0"]);
    }
}
