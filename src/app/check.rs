//! `downpour check`: shows what `serve` would run with the same options, and which options conflict.

use std::io::{self, Write};

use super::options::Resolved;
use crate::driver::uring::{self, UringError};
use crate::server::{Io, ServerBuilder};

/// Writes every option with its value and origin, then the warnings.
///
/// # Errors
/// If `out` cannot be written.
pub fn run(resolved: &Resolved, out: &mut impl Write) -> io::Result<()> {
    report(resolved, open_files_max(), || uring::prove().map(|_| ()), out)
}

fn report(
    resolved: &Resolved,
    open_files_max: Option<usize>,
    io_uring: impl FnOnce() -> Result<(), UringError>,
    out: &mut impl Write,
) -> io::Result<()> {
    for setting in &resolved.settings {
        writeln!(out, "{setting}")?;
    }
    let of_io = io_warning(&resolved.config.server, open_files_max, io_uring);
    let warnings: Vec<&String> = resolved.warnings.iter().chain(&of_io).collect();
    writeln!(out)?;
    for warning in &warnings {
        writeln!(out, "warning: {warning}")?;
    }
    match warnings.len() {
        0 => writeln!(out, "the configuration is good")?,
        _ => writeln!(out, "the configuration works; see whether the warnings are meant")?,
    }
    out.flush()
}

/// The warning that io_uring is unavailable, or that more connections are asked for than the process may
/// have open files, if that matters.
fn io_warning(
    server: &ServerBuilder,
    open_files_max: Option<usize>,
    io_uring: impl FnOnce() -> Result<(), UringError>,
) -> Option<String> {
    let too_many = match (server.connections_max, open_files_max) {
        (Some(connections), Some(open_files)) if connections > open_files => Some(format!(
            "max-connections {connections} is more than the {open_files} files that a process may open here; raise \
             that limit (LimitNOFILE in systemd, or ulimit -Hn)"
        )),
        _ => None,
    };
    match server.io {
        Io::Epoll => too_many.map(|warning| format!("{warning}, or use --io uring")),
        Io::Auto => {
            let warning = too_many?;
            io_uring().err().map(|error| format!("{warning}; there is only epoll, as {error}"))
        }
        Io::Uring => io_uring().err().map(|error| format!("io uring: serve would not start, as {error}")),
    }
}

/// The hard limit on open files, if the kernel reports it (proc_pid_limits(5)).
fn open_files_max() -> Option<usize> {
    hard_limit_of_open_files(&std::fs::read_to_string("/proc/self/limits").ok()?)
}

fn hard_limit_of_open_files(limits: &str) -> Option<usize> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::options::{Environment, ServeOptions};

    fn reported(variables: &[(&str, &str)], open_files_max: Option<usize>) -> String {
        let environment = variables.iter().copied().collect::<Environment>();
        let resolved = ServeOptions::default().resolve(&environment).unwrap();
        let mut out = Vec::new();
        let lacks = || Err(UringError::Waker(io::ErrorKind::Unsupported.into()));
        report(&resolved, open_files_max, lacks, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_option_is_shown_with_its_origin() {
        let text = reported(&[("DOWNPOUR_RETRY", "5s")], None);
        assert!(
            text.starts_with("listen = 127.0.0.1:8080 (from: default)\nhost = (none) (from: default)\n"),
            "{text}"
        );
        assert!(text.contains("\nretry = 5s (from: environment)\n"));
        assert!(text.ends_with("\n\nthe configuration is good\n"));
    }

    #[test]
    fn warnings_come_last() {
        let text = reported(&[("DOWNPOUR_KEEPALIVE", "0")], None);
        assert!(text.contains("\nwarning: keepalive is off"));
        assert!(text.ends_with("the configuration works; see whether the warnings are meant\n"));
    }

    #[test]
    fn more_connections_than_open_files_are_a_warning() {
        let connections = [("DOWNPOUR_MAX_CONNECTIONS", "1001")];
        assert!(
            reported(&connections, Some(1000))
                .contains("warning: max-connections 1001 is more than the 1000")
        );
        assert!(!reported(&connections, Some(1001)).contains("warning"));
        assert!(!reported(&connections, None).contains("warning"));
    }

    #[test]
    fn io_uring_that_cannot_be_had_is_a_warning_where_it_is_wanted() {
        let text = reported(&[("DOWNPOUR_IO", "uring")], None);
        assert!(text.contains("warning: io uring: serve would not start, as io_uring cannot be used here"));
        let many = ("DOWNPOUR_MAX_CONNECTIONS", "1001");
        assert!(reported(&[many], Some(1000)).contains("there is only epoll, as io_uring cannot be used"));
        assert!(reported(&[many, ("DOWNPOUR_IO", "epoll")], Some(1000)).contains("or use --io uring"));
        assert!(!reported(&[("DOWNPOUR_IO", "epoll")], Some(1000)).contains("warning"));
    }

    #[test]
    fn the_hard_limit_is_the_second_number() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
                      Max open files            1024                 524288               files     \n";
        assert_eq!(hard_limit_of_open_files(limits), Some(524_288));
        assert_eq!(hard_limit_of_open_files("Max open files  unlimited unlimited files"), None);
        assert_eq!(hard_limit_of_open_files(""), None);
    }
}
