//! Bodies of lines (`application/x-ndjson`): one envelope a line, taken as they come, up to the first bad one.

use super::Checks;
use super::envelope::RawEnvelope;
use super::error::ApiError;
use super::keys::{Claims, Part};
use super::places::Places;
use super::publish::{BYTE_ORDER_MARK, Publication, utf8};
use crate::auth::Permission;
use crate::conn::Lines;
use crate::frame::batch::Batch;
use crate::http::Problem;

/// What a piece of a body of lines asks for.
#[derive(Debug)]
pub struct ReadLines {
    /// The events of the lines before the first bad one; none where all were blank.
    pub batch: Batch,
    /// The lines' places in the answer, for [`super::LinesAccount::add`].
    pub places: Places,
    /// The idempotency keys of the events.
    pub claims: Claims,
    /// The first bad line. What follows it is not read; the events before it are to be published all the same.
    pub error: Option<BadLine>,
}

/// A line that is no envelope, or one that cannot be published.
#[derive(Debug)]
pub struct BadLine {
    /// Its number in the body, counted from 1, blank lines included.
    pub line: u64,
    /// What is wrong with it; the detail names the line. For [`super::LinesAccount::refuse`].
    pub problem: Problem,
}

/// Reads lines. Blank ones are skipped, but counted. `permission` is what [`super::admit`] gave the request.
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

/// The bad line that names a client which is not connected.
#[must_use]
pub fn unknown_client_in_line(line: u64) -> BadLine {
    BadLine { line, problem: ApiError::UnknownClient.within(format_args!("line {line}")) }
}

fn read_line(bytes: &[u8], line: u64, publication: &mut Publication<'_>) -> Result<(), ApiError> {
    let bytes = bytes.trim_ascii_end(); // The CR of a CRLF, and a blank line.
    if bytes.is_empty() {
        return Ok(());
    }
    let envelope: RawEnvelope<'_> =
        serde_json::from_str(utf8(bytes)?).map_err(|error| ApiError::in_line(&error))?;
    publication.add(envelope, Part::Line(line))
}
