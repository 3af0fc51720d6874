//! The `downpour` binary: exit codes and error chains. Everything else is in the library.

use std::error::Error;
use std::process::ExitCode;

use clap::Parser;
use downpour::app::{self, command::Cli};

fn main() -> ExitCode {
    match app::run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            print_chain(&error);
            if error.is_misuse() {
                eprintln!("\nFor more information, try '--help'.");
            }
            ExitCode::from(error.exit_code())
        }
    }
}

fn print_chain(error: &dyn Error) {
    eprintln!("error: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        eprintln!("  because: {error}");
        cause = error.source();
    }
}
