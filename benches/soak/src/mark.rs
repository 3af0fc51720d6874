//! Marks: the beginning of each event's data, from which a reader knows which events must come next.
//!
//! A scope is a set of events that reach the same streams in the order of their numbers: a channel, a
//! pair of channels, a user, everybody, one client. Some events of a scope may lapse. The others, the
//! lasting ones, may never be missing without a gap.

use std::collections::HashMap;
use std::iter;

/// The fields of a mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark<'a> {
    pub(crate) scope: &'a str,
    /// The number of the scope's events so far, including this one.
    pub(crate) number: u64,
    /// The number of the scope's lasting events so far, including this one if it lasts.
    pub(crate) lasting: u64,
    pub(crate) lapses: bool,
}

/// The number of events of each scope.
#[derive(Debug, Default)]
pub(crate) struct Numbers {
    scopes: HashMap<String, (u64, u64)>,
}

impl Numbers {
    /// The data of the next event of `scope`, of `bytes` bytes unless the mark is longer.
    pub(crate) fn next(&mut self, scope: &str, lapses: bool, bytes: usize) -> String {
        let (number, lasting) = match self.scopes.get_mut(scope) {
            Some(counted) => counted,
            None => self.scopes.entry(scope.to_owned()).or_default(),
        };
        *number += 1;
        *lasting += u64::from(!lapses);
        let kind = if lapses { 't' } else { 's' };
        let mut text = format!("~{scope} {number} {lasting} {kind} {bytes} ");
        let filler = filler(*number);
        text.extend(iter::repeat_n(char::from(filler), bytes.saturating_sub(text.len())));
        text
    }

    /// Forgets a scope without further events.
    pub(crate) fn forget(&mut self, scope: &str) {
        self.scopes.remove(scope);
    }
}

/// Reads the mark at the beginning of `data`, and checks the rest. `None` if these are not the bytes of
/// an event of ours.
pub(crate) fn read(data: &str) -> Option<Mark<'_>> {
    // The data of an event may be JSON: a string without escapes.
    let text = data.strip_prefix('"').map_or(Some(data), |rest| rest.strip_suffix('"'))?;
    let mut parts = text.strip_prefix('~')?.splitn(6, ' ');
    let scope = parts.next()?;
    let number = parts.next()?.parse().ok()?;
    let lasting = parts.next()?.parse().ok()?;
    let lapses = match parts.next()? {
        "s" => false,
        "t" => true,
        _ => return None,
    };
    let bytes: usize = parts.next()?.parse().ok()?;
    let rest = parts.next()?;
    let is_whole = text.len() == bytes || (rest.is_empty() && text.len() > bytes);
    let is_intact = rest.bytes().all(|byte| byte == filler(number));
    (is_whole && is_intact).then_some(Mark { scope, number, lasting, lapses })
}

fn filler(number: u64) -> u8 {
    b'a' + u8::try_from(number % 26).expect("it is below 26")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_as_it_was_made_bare_or_as_json() {
        let mut numbers = Numbers::default();
        numbers.next("a", false, 64);
        let text = numbers.next("a", true, 64);
        assert_eq!(text.len(), 64);
        let expected = Mark { scope: "a", number: 2, lasting: 1, lapses: true };
        assert_eq!(read(&text), Some(expected));
        assert_eq!(read(&format!("\"{text}\"")), Some(expected));
        let short = numbers.next("a", false, 0);
        assert_eq!(read(&short), Some(Mark { number: 3, lasting: 2, lapses: false, ..expected }));
    }

    #[test]
    fn data_that_was_cut_or_changed_is_no_mark() {
        let text = Numbers::default().next("a", false, 64);
        assert_eq!(read(&text[..63]), None);
        assert_eq!(read(&format!("{text}b")), None);
        assert_eq!(read(&text.replace("bbb", "bcb")), None);
        assert_eq!(read("{}"), None);
    }

    #[test]
    fn a_scope_that_was_forgotten_begins_anew() {
        let mut numbers = Numbers::default();
        let first = numbers.next("a", false, 64);
        numbers.forget("a");
        assert_eq!(numbers.next("a", false, 64), first);
    }
}
