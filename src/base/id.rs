//! Identifiers of connections, clients and epochs, and places in the sequence.
//!
//! Nothing here draws randomness: the caller passes the random bits.

use std::fmt;

/// Names one connection of one shard: a slot of its slab, and how many connections used that slot
/// before.
///
/// The id of a closed connection never names the connection that took its slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId {
    /// The slot in the shard's slab.
    pub index: u32,
    /// How many connections held this slot before.
    pub generation: u32,
}

/// Names one server process among those that a broker joins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct NodeId(pub u32);

impl NodeId {
    /// The node of a server that no broker joins to others.
    pub const ALONE: NodeId = NodeId(0);
}

/// Names one stream, secretly: 128 random bits, and the stream's place (its node, shard and slot).
///
/// The random part makes the id a secret that only its client knows. The place only makes the stream
/// quick to find. The text form is `<32 hex digits>-<node>-<shard>-<slot>`, the last three in hex. It
/// leaves out the node [`NodeId::ALONE`] with its hyphen.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClientId {
    /// 128 random bits.
    pub secret: u128,
    /// The node that holds the stream. It is the same for all streams of a process, so no stream keeps
    /// it.
    pub node: NodeId,
    /// The shard that holds the stream.
    pub shard: u16,
    /// The slot of the stream's connection in that shard.
    pub slot: u32,
}

impl ClientId {
    /// Parses the text form. Returns `None` if [`fmt::Display`] never writes `text`.
    #[must_use]
    pub fn parse(text: &str) -> Option<ClientId> {
        let (secret, place) = text.split_once('-')?;
        if secret.len() != SECRET_DIGITS {
            return None;
        }
        let mut numbers = place.rsplitn(3, '-');
        let (slot, shard, node) = (numbers.next()?, numbers.next()?, numbers.next().unwrap_or("0"));
        let id = ClientId {
            secret: u128::from_str_radix(secret, 16).ok()?,
            node: NodeId(u32::from_str_radix(node, 16).ok()?),
            shard: u16::from_str_radix(shard, 16).ok()?,
            slot: u32::from_str_radix(slot, 16).ok()?,
        };
        (id.to_string() == text).then_some(id)
    }
}

impl ClientId {
    /// Most bytes of an id's text.
    pub const TEXT_BYTES_MAX: usize = SECRET_DIGITS + 1 + 8 + 1 + 4 + 1 + 8;

    /// Writes the id's text to `room` and returns it. Every stream gets its id as it opens, so this
    /// avoids the cost of `fmt`.
    pub fn write<'r>(&self, room: &'r mut [u8; ClientId::TEXT_BYTES_MAX]) -> &'r [u8] {
        for (digits, byte) in room.as_chunks_mut().0.iter_mut().zip(self.secret.to_be_bytes()) {
            *digits = [hex(u32::from(byte >> 4)), hex(u32::from(byte))];
        }
        let len = self.write_place(room, SECRET_DIGITS);
        &room[..len]
    }

    /// Writes what follows the secret, from `len` on. Returns where it ends.
    fn write_place(&self, room: &mut [u8; ClientId::TEXT_BYTES_MAX], mut len: usize) -> usize {
        let mut push = |byte| {
            room[len] = byte;
            len += 1;
        };
        let mut push_number = |number: u32| {
            push(b'-');
            let digits = (32 - number.leading_zeros()).div_ceil(4).max(1);
            (0..digits).rev().for_each(|place| push(hex(number >> (4 * place))));
        };
        if self.node != NodeId::ALONE {
            push_number(self.node.0);
        }
        push_number(u32::from(self.shard));
        push_number(self.slot);
        len
    }
}

/// Digits of a client id's secret.
const SECRET_DIGITS: usize = 32;

/// The last hexadecimal digit of a number.
fn hex(number: u32) -> u8 {
    b"0123456789abcdef"[(number & 15) as usize]
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut room = [0; ClientId::TEXT_BYTES_MAX];
        f.write_str(str::from_utf8(self.write(&mut room)).expect("digits and hyphens are ASCII"))
    }
}

impl fmt::Debug for ClientId {
    /// Leaves the secret out: anyone who knows a client id can change the stream.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut room = [0; ClientId::TEXT_BYTES_MAX];
        let len = self.write_place(&mut room, 0);
        let place = str::from_utf8(&room[..len]).expect("digits and hyphens are ASCII");
        write!(f, "ClientId(…{place})")
    }
}

/// A place in the one order of all events of a server: 0 before the first event, then 1, 2, 3 …
///
/// Numbers are contiguous within an epoch and never decrease across epochs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Sequence(pub u64);

impl Sequence {
    /// The place before the first event.
    pub const START: Sequence = Sequence(0);
    /// The largest number that an id of fixed width can carry.
    pub const MAX: Sequence = Sequence(999_999_999_999_999);

    /// The next place.
    #[must_use]
    pub fn next(self) -> Sequence {
        Sequence(self.0 + 1)
    }

    /// The place `count` further.
    #[must_use]
    pub fn plus(self, count: u64) -> Sequence {
        Sequence(self.0 + count)
    }
}

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The random name of an epoch: a stretch of the sequence that the log can vouch for as one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EpochTag([u8; EpochTag::WIDTH]);

const TAG_ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_~";

impl EpochTag {
    /// Bytes of a tag's text.
    pub const WIDTH: usize = 11;

    /// Makes the tag of 64 random bits.
    #[must_use]
    pub fn from_bits(bits: u64) -> EpochTag {
        let mut rest = bits;
        EpochTag(std::array::from_fn(|_| {
            let digit = TAG_ALPHABET[(rest & 63) as usize];
            rest >>= 6;
            digit
        }))
    }

    /// The tag's text, in `A-Z a-z 0-9 _ ~`.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; EpochTag::WIDTH] {
        &self.0
    }

    fn parse(text: &[u8]) -> Option<EpochTag> {
        let bytes: [u8; EpochTag::WIDTH] = text.try_into().ok()?;
        bytes.iter().all(|byte| TAG_ALPHABET.contains(byte)).then_some(EpochTag(bytes))
    }
}

impl fmt::Display for EpochTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(str::from_utf8(&self.0).expect("the alphabet is ASCII"))
    }
}

impl fmt::Debug for EpochTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EpochTag({self})")
    }
}

/// The id that the server gives an event: `<tag>.<number>`, always [`EventId::WIDTH`] bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EventId {
    /// The epoch that vouches for the number.
    pub tag: EpochTag,
    /// The event's place in the sequence.
    pub sequence: Sequence,
}

const NUMBER_WIDTH: usize = 15;

impl EventId {
    /// Bytes of an id's text: the tag, a dot, and 15 decimal digits.
    pub const WIDTH: usize = EpochTag::WIDTH + 1 + NUMBER_WIDTH;

    /// The id of the event that comes `count` events later in the same epoch.
    #[must_use]
    pub fn plus(self, count: u64) -> EventId {
        EventId { tag: self.tag, sequence: self.sequence.plus(count) }
    }

    /// The id's text.
    #[must_use]
    pub fn encode(&self) -> [u8; EventId::WIDTH] {
        let mut text = [b'0'; EventId::WIDTH];
        text[..EpochTag::WIDTH].copy_from_slice(self.tag.as_bytes());
        text[EpochTag::WIDTH] = b'.';
        let mut rest = self.sequence.0;
        for digit in text[EpochTag::WIDTH + 1..].iter_mut().rev() {
            if rest == 0 {
                break; // The zeros before the number stand there already.
            }
            *digit = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        text
    }

    /// Parses an id's text. Returns `None` if `text` does not have the form of a server's id.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<EventId> {
        if text.len() != EventId::WIDTH || text[EpochTag::WIDTH] != b'.' {
            return None;
        }
        let tag = EpochTag::parse(&text[..EpochTag::WIDTH])?;
        let digits = &text[EpochTag::WIDTH + 1..];
        if !digits.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let number = digits.iter().fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0'));
        Some(EventId { tag, sequence: Sequence(number) })
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(str::from_utf8(&self.encode()).expect("the alphabet, a dot and digits are ASCII"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_ids_have_a_fixed_width_and_survive_the_round_trip() {
        for number in [0, 1, 42, 999_999_999_999_999] {
            let id = EventId { tag: EpochTag::from_bits(0x1234_5678_9abc_def0), sequence: Sequence(number) };
            let text = id.encode();
            assert_eq!(text.len(), EventId::WIDTH);
            assert_eq!(EventId::parse(&text), Some(id));
            assert_eq!(id.to_string().as_bytes(), text);
        }
    }

    #[test]
    fn texts_that_are_not_ids_are_refused() {
        let good = EventId { tag: EpochTag::from_bits(7), sequence: Sequence(3) }.to_string();
        for bad in [&good[1..], &format!("{good}0"), &good.replace('.', "-"), &good.replace('3', "x"), ""] {
            assert_eq!(EventId::parse(bad.as_bytes()), None, "{bad:?}");
        }
    }

    #[test]
    fn tags_of_different_bits_differ() {
        assert_ne!(EpochTag::from_bits(0), EpochTag::from_bits(1 << 63));
    }

    #[test]
    fn client_ids_survive_the_round_trip_and_only_their_own_form_is_accepted() {
        const SECRET: &str = "0000000000000000000000000000feed";
        for (node, place) in [(0, "3-abcd"), (1, "1-3-abcd"), (u32::MAX, "ffffffff-3-abcd")] {
            let id = ClientId { secret: 0xfeed, node: NodeId(node), shard: 3, slot: 0xabcd };
            assert_eq!(id.to_string(), format!("{SECRET}-{place}"));
            assert_eq!(ClientId::parse(&id.to_string()), Some(id));
        }
        for bad in ["", "3", "-3-abcd", "3-ABCD", "0-3-abcd", "01-3-abcd", "+1-3-abcd", "1-3-", "-1-3-4"] {
            assert_eq!(ClientId::parse(&format!("{SECRET}-{bad}")), None, "{bad:?}");
        }
        for bad in ["5-1-3-4", "1-10000-4", "100000000-3-4", "1-3-100000000", "x-3-4"] {
            assert_eq!(ClientId::parse(&format!("{SECRET}-{bad}")), None, "{bad:?}");
        }
        for bad in ["", SECRET, "feed-3-abcd", "x-1-2-3"] {
            assert_eq!(ClientId::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn client_ids_are_written_in_hexadecimal_as_short_as_their_parts() {
        for (secret, shard, slot) in [(0, 0, 0), (0xfeed, 0x1f, 0x10), (u128::MAX, u16::MAX, u32::MAX)] {
            let alone = ClientId { secret, node: NodeId::ALONE, shard, slot };
            assert_eq!(alone.to_string(), format!("{secret:032x}-{shard:x}-{slot:x}"));
            for node in [1, 0x10, u32::MAX] {
                let id = ClientId { node: NodeId(node), ..alone };
                assert_eq!(id.to_string(), format!("{secret:032x}-{node:x}-{shard:x}-{slot:x}"));
            }
        }
    }

    #[test]
    fn debug_output_of_a_client_id_hides_its_secret() {
        let id = ClientId { secret: 0xfeed, node: NodeId::ALONE, shard: 3, slot: 1 };
        assert_eq!(format!("{id:?}"), "ClientId(…-3-1)");
        assert_eq!(format!("{:?}", ClientId { node: NodeId(0x2a), ..id }), "ClientId(…-2a-3-1)");
    }
}
