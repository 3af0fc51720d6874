//! A body of lines, of any length: whole lines are handed over as they arrive.

use super::LINES_BYTES_MAX;
use super::reading::decode_while;
use crate::auth::Permission;
use crate::conn::state::Lines;
use crate::http::{BodyDecoder, Problem, Status};

/// How far a body of lines is read and handed over.
#[derive(Debug)]
pub(super) struct LinesProgress {
    /// Handed over with the first lines.
    permission: Option<Permission>,
    decoder: BodyDecoder,
    /// Data that is not handed over yet.
    lines: Vec<u8>,
    /// Bytes of `lines` up to the last line feed, inclusive.
    whole: usize,
    /// The number of the first line in `lines`, counted from 1.
    first_line: u64,
    /// Lines were handed over, and the shard is still processing them.
    pub(super) is_handed_over: bool,
    /// The end of the body was handed over too.
    pub(super) is_end_handed_over: bool,
    /// Why the body ends after `lines`, if it breaks off.
    pub(super) failure: Option<Problem>,
}

impl LinesProgress {
    pub(super) fn new(permission: Permission, decoder: BodyDecoder) -> LinesProgress {
        LinesProgress {
            permission: Some(permission),
            decoder,
            lines: Vec::new(),
            whole: 0,
            first_line: 1,
            is_handed_over: false,
            is_end_handed_over: false,
            failure: None,
        }
    }

    /// Reads the part of `input` that belongs to the body, as far as there is room. Returns how many
    /// bytes it read.
    pub(super) fn read(&mut self, input: &[u8], line_bytes_max: usize) -> usize {
        if self.failure.is_some() {
            return 0;
        }
        let LinesProgress { decoder, lines, whole, .. } = self;
        let checked = *whole;
        let read = decode_while(decoder, input, |data| {
            let before = lines.len();
            lines.extend_from_slice(data);
            if let Some(last) = memchr::memrchr(b'\n', data) {
                *whole = before + last + 1;
            }
            lines.len() < LINES_BYTES_MAX || *whole == 0
        });
        let consumed = read.unwrap_or_else(|error| {
            self.failure = Some(Problem::from(error));
            0
        });
        self.check_lengths(checked, line_bytes_max);
        consumed
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.lines.len()
    }

    /// Returns true if nothing follows after `lines`.
    pub(super) fn is_at_end(&self) -> bool {
        self.decoder.is_done() || self.failure.is_some()
    }

    /// Returns true if there are lines to hand over, or the end.
    pub(super) fn is_due(&self) -> bool {
        !self.is_handed_over && !self.is_end_handed_over && (self.whole > 0 || self.is_at_end())
    }

    /// Breaks the body off at the first line that is too long. Lines that begin before `from` are
    /// already checked.
    fn check_lengths(&mut self, from: usize, line_bytes_max: usize) {
        if self.lines.len() - from <= line_bytes_max {
            return;
        }
        let line_ends = memchr::memchr_iter(b'\n', &self.lines[from..]).map(|offset| from + offset);
        let mut line = from;
        let too_long = line_ends.chain([self.lines.len()]).find_map(|end| {
            let start = std::mem::replace(&mut line, end + 1);
            (end - start > line_bytes_max).then_some(start)
        });
        if let Some(start) = too_long {
            let ahead = memchr::memchr_iter(b'\n', &self.lines[..start]).count() as u64;
            let line = self.first_line + ahead;
            let detail = format!("line {line} is longer than {line_bytes_max} bytes");
            self.failure = Some(Problem::new(Status::CONTENT_TOO_LARGE, detail));
            self.lines.truncate(start); // Nothing after it is handed over.
            self.whole = start;
        }
    }

    pub(super) fn take(&mut self) -> Lines {
        let is_end = self.is_at_end();
        // The last line may lack its line feed if the body is complete. A line in which the body broke
        // off is dropped.
        let upto = if self.failure.is_none() && is_end { self.lines.len() } else { self.whole };
        let rest = self.lines.split_off(upto);
        let bytes = std::mem::replace(&mut self.lines, rest);
        let first_line = self.first_line;
        self.first_line += memchr::memchr_iter(b'\n', &bytes).count() as u64;
        self.whole = 0;
        self.is_handed_over = true;
        self.is_end_handed_over = is_end;
        Lines { permission: self.permission.take(), bytes, first_line, is_end, failure: self.failure.clone() }
    }
}
