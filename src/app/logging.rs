//! Logs to standard error, for people or for machines. This module decides which lines are written and
//! their form. The code that logs decides what is logged.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::panic::{self, PanicHookInfo};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use tracing::Subscriber;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

use super::log_lines::LogLines;

/// The options of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// The least important level that is written.
    pub level: LogLevel,
    /// The form of a line.
    pub format: LogFormat,
}

/// The importance of a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogLevel {
    /// Nothing is written.
    Off,
    /// Faults that the operator must repair.
    Error,
    /// Conditions that the operator should look at.
    Warn,
    /// Events of the server as a whole.
    #[default]
    Info,
    /// Events of connections.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    /// The levels and their names.
    pub const WORDS: [(&str, LogLevel); 6] = [
        ("off", LogLevel::Off),
        ("error", LogLevel::Error),
        ("warn", LogLevel::Warn),
        ("info", LogLevel::Info),
        ("debug", LogLevel::Debug),
        ("trace", LogLevel::Trace),
    ];

    fn filter(self) -> LevelFilter {
        match self {
            LogLevel::Off => LevelFilter::OFF,
            LogLevel::Error => LevelFilter::ERROR,
            LogLevel::Warn => LevelFilter::WARN,
            LogLevel::Info => LevelFilter::INFO,
            LogLevel::Debug => LevelFilter::DEBUG,
            LogLevel::Trace => LevelFilter::TRACE,
        }
    }
}

/// The form of a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people; coloured on a terminal.
    #[default]
    Text,
    /// One JSON object a line, with the message and its fields side by side.
    Json,
}

impl LogFormat {
    /// The formats and their names.
    pub const WORDS: [(&str, LogFormat); 2] = [("text", LogFormat::Text), ("json", LogFormat::Json)];
}

/// Starts the log of this process on standard error. From here on no writer waits for the reader of
/// standard error, also not in a panic.
///
/// # Errors
/// If a log was started before, or its thread cannot be started.
pub fn start(options: LogOptions) -> Result<(), LogError> {
    let stderr = io::stderr();
    let is_colored =
        stderr.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    // A descriptor of its own, so that nobody waits for the lock of `Stderr`, whose holder may be
    // blocked for ever.
    let out: Box<dyn Write + Send> = match stderr.as_fd().try_clone_to_owned() {
        Ok(descriptor) => Box::new(File::from(descriptor)),
        Err(_) => Box::new(io::sink()),
    };
    let report_dropped =
        |lines| tracing::warn!(lines, "the log could not be written for a while; lines were lost");
    let lines = LogLines::start(out, report_dropped).map_err(LogError::Thread)?;
    subscriber(options, is_colored, lines.clone()).try_init()?;
    let of_panics = lines.clone();
    panic::set_hook(Box::new(move |info| {
        of_panics.push(panic_message(info, &Backtrace::capture()).as_bytes())
    }));
    drop(LINES.set(lines)); // The log is started once, so this is too.
    Ok(())
}

/// Writes lines that are no lines of the log to standard error, in order with those of a log that was
/// started. They are lost if they cannot be written.
pub fn tell(lines: &str) {
    match LINES.get() {
        Some(log) => log.push(lines.as_bytes()),
        None => drop(io::stderr().write_all(lines.as_bytes())),
    }
}

/// The number of lines lost because they could not be written; `None` without a log.
#[must_use]
pub fn lines_dropped() -> Option<Arc<AtomicU64>> {
    LINES.get().map(LogLines::dropped)
}

/// Waits a short time until all lines are written: the process is about to end.
pub fn finish() {
    if let Some(log) = LINES.get() {
        log.flush(FINISH_WAIT);
    }
}

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// A log was started before.
    #[error("the log was started before")]
    Twice(#[from] TryInitError),
    /// The log's thread cannot be started.
    #[error("cannot start a thread for the log")]
    Thread(#[source] io::Error),
}

static LINES: OnceLock<LogLines> = OnceLock::new();

/// Far longer than writing the waiting lines takes when they are read.
const FINISH_WAIT: Duration = Duration::from_millis(500);

/// The message of a panic, as the standard library prints it.
fn panic_message(info: &PanicHookInfo<'_>, backtrace: &Backtrace) -> String {
    let thread = thread::current();
    let mut text = format!("thread '{}' {info}\n", thread.name().unwrap_or("without a name"));
    if backtrace.status() == BacktraceStatus::Captured {
        text.push_str(&format!("{backtrace}\n"));
    }
    text
}

fn subscriber<W>(options: LogOptions, is_colored: bool, writer: W) -> Box<dyn Subscriber + Send + Sync>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let builder = tracing_subscriber::fmt()
        .with_max_level(options.level.filter())
        .with_ansi(is_colored)
        .log_internal_errors(false) // They go to standard error, through a macro that panics if that fails.
        .with_writer(writer);
    match options.format {
        LogFormat::Text => Box::new(builder.with_target(false).finish()),
        LogFormat::Json => Box::new(builder.json().flatten_event(true).finish()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn logged(level: LogLevel, format: LogFormat) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let log = subscriber(LogOptions { level, format }, false, move || writer.clone());
        tracing::subscriber::with_default(log, || {
            tracing::info!(streams = 3, "serving");
            tracing::debug!("a detail");
        });
        String::from_utf8(lines.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn text_lines_carry_the_level_and_the_fields() {
        let text = logged(LogLevel::Info, LogFormat::Text);
        assert!(text.contains("INFO serving streams=3") && !text.contains("a detail"), "{text}");
    }

    #[test]
    fn json_lines_are_one_object_each() {
        let text = logged(LogLevel::Debug, LogFormat::Json);
        let objects: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(objects.len(), 2);
        assert_eq!(
            (objects[0]["message"].as_str(), objects[0]["streams"].as_u64()),
            (Some("serving"), Some(3))
        );
        assert_eq!(objects[1]["level"], "DEBUG");
    }

    #[test]
    fn off_writes_nothing() {
        assert_eq!(logged(LogLevel::Off, LogFormat::Text), "");
    }
}
