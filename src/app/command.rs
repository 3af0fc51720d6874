//! The commands and their help.

use clap::{Parser, Subcommand};

use super::bench::BenchOptions;
use super::options::ServeOptions;
use super::publish::PublishOptions;
use super::subscribe::SubscribeOptions;

/// A Server-Sent-Events server for very many streams, and the commands around it.
#[derive(Clone, Debug, Parser)]
#[command(name = "downpour", version, about, after_help = QUICK_START, arg_required_else_help = true)]
#[command(max_term_width = 110)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: CliCommand,
}

/// What to do.
#[derive(Clone, Debug, Subcommand)]
pub enum CliCommand {
    /// Run the server.
    #[command(about = "Run the server", after_help = SERVE_NOTES)]
    Serve(ServeOptions),
    /// Say what `serve` would run with the same options.
    #[command(about = "Check options: say what serve would run, without running it", after_help = CHECK_NOTES)]
    Check(ServeOptions),
    /// Send an event to the subscribers of a running server.
    Publish(PublishOptions),
    /// Show the events of a running server as they come.
    Subscribe(SubscribeOptions),
    /// Put load on any server of event streams, this or another, and measure what comes of it.
    Bench(Box<BenchOptions>),
    /// Read a share of the streams of a load, as the `bench` that starts it says on standard input.
    #[command(hide = true)]
    BenchWorker,
}

const QUICK_START: &str = "\
Try it, in three terminals:
  downpour serve
  downpour subscribe --channel news
  downpour publish --channel news 'hello'

Any HTTP client does as well:
  curl -N 'http://127.0.0.1:8080/sse?channels=news'
  curl -d 'hello' http://127.0.0.1:8080/channels/news

'downpour COMMAND --help' tells all about a command.
Exit codes: 0 done, 1 it could not be done, 2 wrong options.";

/// Where options come from. Paragraphs are single lines, which clap wraps to the terminal.
macro_rules! sources {
    () => {
        "\
Values: DURATION is 0 or a number with ms, s, m or h, such as 250ms or 30s. SIZE is a number of bytes, or a number \
with KiB, MiB or GiB.

Every option can also be given by an environment variable or in the TOML file; the command line counts before the \
environment, the environment before the file:
  command line   --history-bytes 1GiB             repeated for several values
  environment    DOWNPOUR_HISTORY_BYTES=1GiB      a comma list for several values
  file           history_bytes = \"1GiB\"           an array for several values
"
    };
}

const SERVE_NOTES: &str = concat!(
    sources!(),
    "
Examples:
  downpour serve
  downpour serve --listen 127.0.0.1:9000 --history-age 1h
  downpour serve --config /etc/downpour.toml --log-format json

Once it serves it prints 'listening on ...' to standard error.
Exit codes: 0 after a drain, 1 where it could not listen or run, 2 for wrong options."
);

const CHECK_NOTES: &str = concat!(
    sources!(),
    "
Prints a line for each option: what it is and where that came from.
Exit codes: 0 where serve would accept the options (there may be warnings), 2 where it would not."
);

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_commands_are_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn serve_and_check_take_the_same_options() {
        let command = Cli::command();
        let options = |name: &str| -> Vec<String> {
            let subcommand = command.find_subcommand(name).unwrap();
            subcommand.get_arguments().map(|argument| argument.get_id().to_string()).collect()
        };
        assert_eq!(options("serve"), options("check"));
    }
}
