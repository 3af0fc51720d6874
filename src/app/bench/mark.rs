//! The beginning of every event's data. It identifies the event and its send time to a reader.
//!
//! A mark is plain letters and digits, so it passes through JSON unchanged. A server may wrap the data
//! in text of its own: the mark is found anywhere in a line. It also names the run, so that events left
//! behind by another run are not taken for events of this one.

use memchr::memmem::Finder;
use serde::{Deserialize, Serialize};

/// The identity of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    /// The channel, counted from 0.
    pub(super) channel: u32,
    /// The event's number in its channel, counted from 0.
    pub(super) number: u64,
    /// When it was sent, in ns of the run's clock.
    pub(super) sent_ns: u64,
}

impl Mark {
    /// Bytes of every mark: the smallest data of an event.
    pub(super) const BYTES: usize = INTRO_BYTES + CHANNEL_DIGITS + NUMBER_DIGITS + TIME_DIGITS;

    /// The number of channels that marks distinguish.
    pub(super) const CHANNELS_MAX: usize = 1 << (4 * CHANNEL_DIGITS);

    /// Appends data of `bytes` bytes that begins with the mark; `bytes` is at least [`Mark::BYTES`].
    pub(super) fn write(self, intro: &Intro, bytes: usize, out: &mut Vec<u8>) {
        let end = out.len() + bytes.max(Mark::BYTES);
        out.extend_from_slice(&intro.0);
        push_hex(out, u64::from(self.channel), CHANNEL_DIGITS);
        push_hex(out, self.number, NUMBER_DIGITS);
        push_hex(out, self.sent_ns, TIME_DIGITS);
        out.resize(end, b'x');
    }
}

/// The beginning of the marks of one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Intro([u8; INTRO_BYTES]);

impl Intro {
    /// The intro of a run; `seed` should differ from run to run.
    pub(super) fn new(seed: u64) -> Intro {
        let mut text = Vec::with_capacity(INTRO_BYTES);
        text.extend_from_slice(b"dp");
        push_hex(&mut text, seed, 5);
        text.push(b'-');
        let mut intro = [0; INTRO_BYTES];
        intro.copy_from_slice(&text);
        Intro(intro)
    }
}

/// Finds the marks of one run.
#[derive(Clone, Debug)]
pub(super) struct MarkFinder {
    intro: [u8; INTRO_BYTES],
    finder: Finder<'static>,
}

impl MarkFinder {
    pub(super) fn new(intro: &Intro) -> MarkFinder {
        MarkFinder { intro: intro.0, finder: Finder::new(&intro.0).into_owned() }
    }

    /// The first mark in a line of data; `None` without a whole mark.
    pub(super) fn find(&self, line: &[u8]) -> Option<Mark> {
        // Nearly all servers pass data on unchanged; the search is for the others.
        let at = if line.starts_with(&self.intro) { 0 } else { self.finder.find(line)? };
        let fields = line.get(at + INTRO_BYTES..at + Mark::BYTES)?;
        let (channel, rest) = fields.split_at(CHANNEL_DIGITS);
        let (number, time) = rest.split_at(NUMBER_DIGITS);
        Some(Mark { channel: u32::try_from(hex(channel)?).ok()?, number: hex(number)?, sent_ns: hex(time)? })
    }
}

fn push_hex(out: &mut Vec<u8>, value: u64, digits: usize) {
    for place in (0..digits).rev() {
        let nibble = (value >> (4 * place)) & 15;
        out.push(b"0123456789abcdef"[nibble as usize]);
    }
}

/// The value of lower-case hexadecimal digits. It uses a table, since every delivery comes through here.
fn hex(digits: &[u8]) -> Option<u64> {
    let (mut value, mut seen) = (0, 0);
    for &digit in digits {
        let nibble = NIBBLES[usize::from(digit)];
        seen |= nibble;
        value = value << 4 | u64::from(nibble & 15);
    }
    (seen & NO_DIGIT == 0).then_some(value)
}

const NO_DIGIT: u8 = 0x80;

const NIBBLES: [u8; 256] = {
    let mut nibbles = [NO_DIGIT; 256];
    let mut value = 0_u8;
    while value < 16 {
        nibbles[b"0123456789abcdef"[value as usize] as usize] = value;
        value += 1;
    }
    nibbles
};

const INTRO_BYTES: usize = 8;
const CHANNEL_DIGITS: usize = 6;
/// A million million events of a channel.
const NUMBER_DIGITS: usize = 10;
/// Three days of ns.
const TIME_DIGITS: usize = 12;

#[cfg(test)]
mod tests {
    use super::*;

    const MARK: Mark = Mark { channel: 0xabcde, number: 987_654_321, sent_ns: 123_456_789_012 };

    fn written(bytes: usize) -> Vec<u8> {
        let mut out = Vec::new();
        MARK.write(&Intro::new(7), bytes, &mut out);
        out
    }

    #[test]
    fn a_mark_is_found_wherever_it_stands() {
        let finder = MarkFinder::new(&Intro::new(7));
        let data = String::from_utf8(written(64)).unwrap();
        assert_eq!(data.len(), 64);
        for line in [data.clone(), format!("\"{data}\""), format!(r#"{{"n":1,"data":"{data}"}}"#)] {
            assert_eq!(finder.find(line.as_bytes()), Some(MARK), "{line}");
        }
    }

    #[test]
    fn the_least_data_is_the_mark_alone() {
        assert_eq!(written(0).len(), Mark::BYTES);
        assert_eq!(MarkFinder::new(&Intro::new(7)).find(&written(Mark::BYTES)), Some(MARK));
    }

    #[test]
    fn another_runs_mark_and_a_broken_one_are_none() {
        let data = written(Mark::BYTES);
        assert_eq!(MarkFinder::new(&Intro::new(8)).find(&data), None);
        let finder = MarkFinder::new(&Intro::new(7));
        assert_eq!(finder.find(&data[..Mark::BYTES - 1]), None);
        for at in INTRO_BYTES..Mark::BYTES {
            let mut broken = data.clone();
            broken[at] = b'g';
            assert_eq!(finder.find(&broken), None, "at {at}");
        }
    }
}
