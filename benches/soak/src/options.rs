//! The options of `scripts/soak`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};

/// Runs a server under a steady, mixed load for some minutes, and looks whether anything grows or a stream gets what it
/// should not.
#[derive(Parser, Debug)]
#[command(name = "scripts/soak", override_usage = "scripts/soak MINUTES [OPTIONS]", after_help = NOTES)]
pub(crate) struct Options {
    /// How long it is measured, once the history and the idempotency keys are full.
    #[arg(value_name = "MINUTES", required_unless_present = "quick", value_parser = minutes)]
    pub(crate) minutes: Option<f64>,
    /// What moves the server's bytes.
    #[arg(long, value_enum, default_value_t = Driver::Epoll)]
    pub(crate) driver: Driver,
    /// A few seconds, to see that the load does what it should and is answered rightly; growth is not judged.
    #[arg(long, conflicts_with = "minutes")]
    pub(crate) quick: bool,
    /// Where the samples are written. Default: target/soak/DRIVER.csv
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// What is random in the load follows from it.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// The program. Default: the release build
    #[arg(long, value_name = "FILE", required = true, overrides_with = "downpour")]
    pub(crate) downpour: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Driver {
    Epoll,
    Uring,
}

impl Driver {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Driver::Epoll => "epoll",
            Driver::Uring => "uring",
        }
    }
}

impl Options {
    pub(crate) fn out(&self) -> PathBuf {
        let default = || format!("target/soak/{}.csv", self.driver.as_str()).into();
        self.out.clone().unwrap_or_else(default)
    }

    /// The measured time, from when the server is full.
    pub(crate) fn duration(&self) -> Duration {
        self.minutes.map_or(QUICK, |minutes| Duration::from_secs_f64(minutes * 60.0))
    }

    pub(crate) fn sample_interval(&self) -> Duration {
        Duration::from_secs(if self.quick { 1 } else { 5 })
    }

    /// The server's arguments.
    pub(crate) fn server(&self) -> Vec<String> {
        let history = if self.quick { "4MiB" } else { "32MiB" };
        let io = self.driver.as_str();
        let options = format!(
            "serve --listen 127.0.0.1:0 --io {io} --shards 2 --history-bytes {history} --history-events {HISTORY_EVENTS} \
             --idempotency-keys {} --max-channels {} --max-channels-per-stream 80 --keepalive 5s --publish-timeout 60s",
            self.keys(),
            self.channels()
        );
        options.split_whitespace().map(str::to_owned).collect()
    }

    pub(crate) fn history_bytes(&self) -> f64 {
        if self.quick { 4.0 * 1024.0 * 1024.0 } else { 32.0 * 1024.0 * 1024.0 }
    }

    /// Fewer than the new channels that come while an event is retained.
    fn channels(&self) -> u32 {
        if self.quick { 120 } else { 500 }
    }

    pub(crate) fn keys(&self) -> u32 {
        if self.quick { 200 } else { 2000 }
    }
}

fn minutes(text: &str) -> Result<f64, String> {
    let minutes: f64 = text.parse().map_err(|_| "a number of minutes was expected".to_owned())?;
    if !(0.1..=100_000.0).contains(&minutes) {
        return Err("0.1 to 100000 minutes were expected".to_owned());
    }
    Ok(minutes)
}

const QUICK: Duration = Duration::from_secs(6);

/// For each channel. The rarer ones reach it within five minutes, so that publishers' ids are forgotten
/// too.
const HISTORY_EVENTS: u32 = 1000;

const NOTES: &str = "\
Examples:
  scripts/soak 60
  scripts/soak 60 --driver uring
  scripts/soak --quick

The server listens on a free port of loopback, so that runs may go on side by side. Ctrl-C ends a run and prints its table.
Exit codes: 0 nothing grew by more than 5 % and every stream got what it should; 1 otherwise, or stopped; 2 wrong options.";

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parsed(arguments: &[&str]) -> Result<Options, clap::Error> {
        Options::try_parse_from([&["soak", "--downpour", "d"], arguments].concat())
    }

    #[test]
    fn minutes_or_quick_are_given() {
        Options::command().debug_assert();
        let hour = parsed(&["60", "--driver", "uring"]).unwrap();
        assert_eq!(
            (hour.duration(), hour.out()),
            (Duration::from_secs(3600), "target/soak/uring.csv".into())
        );
        assert!(hour.server().join(" ").contains("--io uring --shards 2 --history-bytes 32MiB"));
        assert_eq!(parsed(&["--quick"]).unwrap().duration(), QUICK);
        for wrong in [&[] as &[&str], &["x"], &["0"], &["1", "--quick"], &["1", "--driver", "select"]] {
            assert!(parsed(wrong).is_err(), "{wrong:?}");
        }
    }
}
