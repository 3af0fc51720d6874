//! The `downpour` binary: exit codes and error chains. Everything else is in the library.

use std::error::Error;
use std::process::ExitCode;

use clap::Parser;
use downpour::app::command::Cli;
use downpour::app::{self, logging};

fn main() -> ExitCode {
    let code = match app::run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let hint = if error.is_misuse() { "\nFor more information, try '--help'.\n" } else { "" };
            logging::tell(&(chain(&error) + hint));
            ExitCode::from(error.exit_code())
        }
    };
    logging::finish();
    code
}

fn chain(error: &dyn Error) -> String {
    let mut text = format!("error: {error}\n");
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!("  because: {error}\n"));
        cause = error.source();
    }
    text
}
