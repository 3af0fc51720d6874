//! Bodies of lines (`application/x-ndjson`): one envelope per line, read as they arrive, up to the first
//! bad one.

use super::Checks;
use super::envelope::RawEnvelope;
use super::error::ApiError;
use super::keys::{Claims, Part};
use super::places::Places;
use super::publish::{BYTE_ORDER_MARK, Publication, utf8};
use crate::auth::Permission;
use crate::conn::Lines;
use crate::http::Problem;
use crate::record::Events;

/// The contents of a piece of a body of lines.
#[derive(Debug)]
pub struct ReadLines {
    /// The events of the lines before the first bad one. It is empty if all lines were blank.
    pub batch: Events,
    /// The places of the lines in the answer, for [`super::LinesAccount::add`].
    pub places: Places,
    /// The idempotency keys of the events.
    pub claims: Claims,
    /// The first bad line. The lines after it are not read. The events before it must be published all
    /// the same.
    pub error: Option<BadLine>,
}

/// A line that is not an envelope or cannot be published.
#[derive(Debug)]
pub struct BadLine {
    /// The number of the line in the body, counted from 1, blank lines included.
    pub line: u64,
    /// Why the line is bad. The detail names the line. For [`super::LinesAccount::refuse`].
    pub problem: Problem,
}

/// Reads lines. Blank ones are skipped, but counted. `permission` is the one that its head was
/// given.
#[must_use]
pub fn read_lines(lines: &Lines, permission: &Permission, checks: Checks<'_>) -> ReadLines {
    let mut publication = Publication::new(permission, checks);
    let mut error = None;
    let is_start = lines.first_line == 1;
    let bytes = lines.bytes.strip_prefix(BYTE_ORDER_MARK).filter(|_| is_start).unwrap_or(&lines.bytes);
    for (line, bytes) in (lines.first_line..).zip(bytes.split(|&byte| byte == b'\n')) {
        if let Err(bad) = read_line(bytes, line, &mut publication) {
            let problem = bad.within(format_args!("line {line}"));
            error = Some(BadLine { line, problem });
            break;
        }
    }
    let (batch, places, claims) = publication.into_parts();
    ReadLines { batch, places, claims, error }
}

/// The bad line that names an unconnected client.
#[must_use]
pub fn unknown_client_in_line(line: u64) -> BadLine {
    BadLine { line, problem: ApiError::UnknownClient.within(format_args!("line {line}")) }
}

fn read_line(bytes: &[u8], line: u64, publication: &mut Publication<'_>) -> Result<(), ApiError> {
    let bytes = bytes.trim_ascii_end(); // Removes the CR of a CRLF, and empties a blank line.
    if bytes.is_empty() {
        return Ok(());
    }
    let envelope: RawEnvelope<'_> =
        serde_json::from_str(utf8(bytes)?).map_err(|error| ApiError::in_line(&error))?;
    publication.add(envelope, Part::Line(line))
}
