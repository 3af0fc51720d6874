//! Logs to standard error, for people or for machines. Responsible for which lines are written and how they look;
//! what is logged is decided where it happens.

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

/// What is logged, and how it looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogOptions {
    /// The least important lines that are still written.
    pub level: LogLevel,
    /// How a line looks.
    pub format: LogFormat,
}

/// How important a line must be to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// Nothing is written.
    Off,
    /// What the operator must mend.
    Error,
    /// What the operator should look at.
    Warn,
    /// What happens to the server as a whole.
    Info,
    /// What happens to connections.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    /// The levels by the words that name them.
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

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people; coloured on a terminal.
    Text,
    /// One JSON object a line, the message and its fields side by side.
    Json,
}

impl LogFormat {
    /// The formats by the words that name them.
    pub const WORDS: [(&str, LogFormat); 2] = [("text", LogFormat::Text), ("json", LogFormat::Json)];
}

/// Starts the log of this process on standard error. From here on nothing that is said there waits for whoever reads it,
/// panics included.
///
/// # Errors
/// Where a log was started before, or its thread cannot be.
pub fn start(options: LogOptions) -> Result<(), LogError> {
    let stderr = io::stderr();
    let is_colored =
        stderr.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    // A descriptor of the log's own, so that nobody waits for the lock of the one that may be written to for ever.
    let out: Box<dyn Write + Send> = match stderr.as_fd().try_clone_to_owned() {
        Ok(descriptor) => Box::new(File::from(descriptor)),
        Err(_) => Box::new(io::sink()),
    };
    let tell_dropped =
        |lines| tracing::warn!(lines, "the log could not be written for a while; lines were lost");
    let lines = LogLines::start(out, tell_dropped).map_err(LogError::Thread)?;
    subscriber(options, is_colored, lines.clone()).try_init()?;
    let of_panics = lines.clone();
    panic::set_hook(Box::new(move |info| of_panics.push(told_of(info, &Backtrace::capture()).as_bytes())));
    drop(LINES.set(lines)); // It is set once, as the log is started once.
    Ok(())
}

/// Writes lines to standard error that are no lines of the log: in their order among these where it was started. Where they
/// cannot be written they are lost.
pub fn tell(lines: &str) {
    match LINES.get() {
        Some(log) => log.push(lines.as_bytes()),
        None => drop(io::stderr().write_all(lines.as_bytes())),
    }
}

/// How many lines were lost because they could not be written; `None` where no log was started.
#[must_use]
pub fn lines_dropped() -> Option<Arc<AtomicU64>> {
    LINES.get().map(LogLines::dropped)
}

/// Waits until what was said is written, though not for long: the process is about to end.
pub fn finish() {
    if let Some(log) = LINES.get() {
        log.flush(FINISH_WAIT);
    }
}

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// There is one.
    #[error("the log was started before")]
    Twice(#[from] TryInitError),
    /// Its thread cannot be started.
    #[error("cannot start a thread for the log")]
    Thread(#[source] io::Error),
}

static LINES: OnceLock<LogLines> = OnceLock::new();

/// Far longer than it takes to write what waits where somebody reads it.
const FINISH_WAIT: Duration = Duration::from_millis(500);

/// What is said of a panic, as the standard library would say it.
fn told_of(info: &PanicHookInfo<'_>, backtrace: &Backtrace) -> String {
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
        .log_internal_errors(false) // They would be printed to standard error, by a macro that panics where that fails.
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
