//! Floor 7: the commands of the binary, one file or folder each, and what they share. Joins the floors
//! below. `main` only parses the command line, calls [`run`], and turns the result into an exit code.

pub mod bench;
pub mod check;
pub mod client;
pub mod command;
pub mod heap;
pub mod log_lines;
pub mod logging;
pub mod options;
pub mod publish;
pub mod serve;
pub mod signals;
pub mod subscribe;
mod upload;

use std::io;
use std::thread;

use self::bench::BenchError;
use self::client::ClientError;
use self::command::{Cli, CliCommand};
use self::logging::LogError;
use self::options::{ConfigError, Environment};
use self::serve::CommandError;
use crate::driver::heap::keep_one_heap;

/// Runs the command. A reader of standard output that goes away ends a command quietly.
///
/// # Errors
/// [`AppError`], whose [`exit_code`](AppError::exit_code) is that of the process.
pub fn run(cli: Cli) -> Result<(), AppError> {
    let done = match cli.command {
        CliCommand::Serve(options) => {
            keep_one_heap(); // While there is only one thread.
            let resolved = options.resolve(&Environment::of_process())?;
            logging::start(resolved.config.log)?;
            for warning in &resolved.warnings {
                tracing::warn!("{warning}");
            }
            serve::run(resolved.config.server).map_err(AppError::Serve)
        }
        CliCommand::Check(options) => {
            let resolved = options.resolve(&Environment::of_process())?;
            check::run(&resolved, &mut io::stdout().lock()).map_err(AppError::Output)
        }
        CliCommand::Publish(options) => match options.misuse() {
            Some(misuse) => Err(AppError::Usage(misuse)),
            None => {
                let published = publish::run(&options, io::stdin(), &mut io::stdout().lock());
                published.map_err(AppError::Client)
            }
        },
        CliCommand::Subscribe(options) => {
            let mut out = io::BufWriter::new(io::stdout().lock());
            subscribe::run(&options, &mut out, &mut io::stderr(), thread::sleep).map_err(AppError::Client)
        }
        CliCommand::BenchWorker => {
            bench::work(io::stdin(), &mut io::stdout().lock()).map_err(AppError::Bench)
        }
        CliCommand::Bench(options) => {
            bench::run(&options, &mut io::stdout().lock(), &mut io::stderr()).map_err(AppError::Bench)
        }
    };
    match done {
        Err(error) if error.is_closed_pipe() => Ok(()),
        done => done,
    }
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The options make no valid configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Arguments conflict.
    #[error("{0}")]
    Usage(String),
    /// The log could not be started.
    #[error("cannot start the log")]
    Log(#[from] LogError),
    /// The server could not start or go on serving.
    #[error(transparent)]
    Serve(CommandError),
    /// A client command failed.
    #[error(transparent)]
    Client(ClientError),
    /// A load could not run as asked, or found the server at fault.
    #[error(transparent)]
    Bench(BenchError),
    /// Standard output could not be written.
    #[error("cannot write to standard output")]
    Output(#[source] io::Error),
}

impl AppError {
    /// 2 if the options are at fault, otherwise 1.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        if self.is_misuse() { 2 } else { 1 }
    }

    /// Returns true if and only if the options are at fault.
    #[must_use]
    pub fn is_misuse(&self) -> bool {
        match self {
            AppError::Config(_) | AppError::Usage(_) => true,
            AppError::Bench(error) => error.is_misuse(),
            AppError::Log(_) | AppError::Serve(_) | AppError::Client(_) | AppError::Output(_) => false,
        }
    }

    fn is_closed_pipe(&self) -> bool {
        match self {
            AppError::Output(source)
            | AppError::Client(ClientError::Output(source))
            | AppError::Bench(BenchError::Output(source)) => source.kind() == io::ErrorKind::BrokenPipe,
            AppError::Config(_)
            | AppError::Usage(_)
            | AppError::Log(_)
            | AppError::Serve(_)
            | AppError::Client(_)
            | AppError::Bench(_) => false,
        }
    }
}
