//! What the table holds for each channel beside its name: its subscribers and the ledger of its events.
//!
//! A server with very many channels has mostly users' channels, each with one stream and no event. Four
//! bytes are enough for such a channel. A channel with events, or with streams of several shards, needs
//! a detail, and its four bytes point to the detail.

use crate::base::parts::Parts;
use crate::hub::channel_id::ChannelId;
use crate::hub::channels::audience::Audience;
use crate::hub::channels::ledger::Ledger;
use crate::hub::shards::ShardSet;

/// The number of details that lie together, as a power of two.
const DETAILS_LOG2: u32 = 10;

/// The entries of all channels.
#[derive(Debug)]
pub(in crate::hub) struct Entries {
    /// Indexed by channel number.
    entries: Vec<Packed>,
    /// The details, in no particular order and without holes.
    details: Parts<Detail, DETAILS_LOG2>,
    /// The bytes that the details hold on the heap.
    heap_bytes: usize,
}

/// The state of a channel that does not fit in four bytes.
#[derive(Debug)]
struct Detail {
    /// The channel it belongs to.
    channel: ChannelId,
    audience: Audience,
    ledger: Ledger,
}

/// An [`Entry`] in four bytes. The highest bit says whether the channel has a detail. If it has, the
/// other bits are the place of the detail; otherwise they are a shard and its number of streams.
#[derive(Clone, Copy, Debug)]
struct Packed(u32);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Entry {
    /// The channel never had an event, and all its streams belong to one shard.
    Plain {
        shard: usize,
        streams: u32,
    },
    Detailed(usize),
}

const DETAILED: u32 = 1 << 31;
const STREAMS_BITS: u32 = 25;
const STREAMS_MAX: u32 = (1 << STREAMS_BITS) - 1;

const _: () =
    assert!(crate::hub::SHARDS_MAX <= 1 << (31 - STREAMS_BITS), "every shard has a number in an entry");

static BLANK: Ledger = Ledger::BLANK;

impl Packed {
    const NOBODY: Packed = Packed(0);

    #[inline]
    fn entry(self) -> Entry {
        let Packed(bits) = self;
        if bits & DETAILED != 0 {
            return Entry::Detailed((bits & !DETAILED) as usize);
        }
        Entry::Plain { shard: (bits >> STREAMS_BITS) as usize, streams: bits & STREAMS_MAX }
    }

    fn detailed(place: usize) -> Packed {
        let place = u32::try_from(place).ok().filter(|place| place & DETAILED == 0);
        Packed(DETAILED | place.expect("channels are bounded far below 2^31"))
    }

    /// Returns `None` if the number of streams does not fit in four bytes.
    fn plain(shard: usize, streams: u32) -> Option<Packed> {
        let shard = u32::try_from(shard).ok()?;
        (streams <= STREAMS_MAX).then_some(Packed(shard << STREAMS_BITS | streams))
    }
}

impl Entries {
    /// Creates an empty table with address space for `room` channels.
    pub(in crate::hub) fn with_room_for(room: usize) -> Entries {
        let mut entries = Vec::new();
        let _ = entries.try_reserve_exact(room);
        Entries { entries, details: Parts::default(), heap_bytes: 0 }
    }

    /// Adds a channel without streams or events.
    pub(in crate::hub) fn insert(&mut self, id: ChannelId) {
        let index = id.0 as usize;
        if index >= self.entries.len() {
            self.entries.resize(index + 1, Packed::NOBODY);
        }
        self.entries[index] = Packed::NOBODY;
    }

    /// Removes a channel that leaves the table, and returns the ledger of its events.
    pub(in crate::hub) fn remove(&mut self, id: ChannelId) -> Ledger {
        match self.entry(id) {
            Entry::Plain { .. } => Ledger::BLANK,
            Entry::Detailed(place) => {
                self.entries[id.0 as usize] = Packed::NOBODY;
                self.take_detail(place).ledger
            }
        }
    }

    /// The ledger of a channel's events.
    #[inline]
    pub(in crate::hub) fn ledger(&self, id: ChannelId) -> &Ledger {
        match self.entry(id) {
            Entry::Plain { .. } => &BLANK,
            Entry::Detailed(place) => &self.details[place].ledger,
        }
    }

    /// Changes the ledger of a channel's events. The channel gets a detail if it has none.
    pub(in crate::hub) fn change<T>(&mut self, id: ChannelId, change: impl FnOnce(&mut Ledger) -> T) -> T {
        let place = self.make_detail(id);
        self.change_detail(place, change)
    }

    /// Changes the ledger of a channel's events, if the channel has a detail. The others have no event.
    pub(in crate::hub) fn change_if_detailed<T>(
        &mut self,
        id: ChannelId,
        change: impl FnOnce(&mut Ledger) -> T,
    ) -> Option<T> {
        match self.entry(id) {
            Entry::Plain { .. } => None,
            Entry::Detailed(place) => Some(self.change_detail(place, change)),
        }
    }

    #[inline]
    fn change_detail<T>(&mut self, place: usize, change: impl FnOnce(&mut Ledger) -> T) -> T {
        let ledger = &mut self.details[place].ledger;
        let before = ledger.heap_bytes();
        let changed = change(ledger);
        self.heap_bytes = self.heap_bytes + ledger.heap_bytes() - before;
        changed
    }

    /// Counts the streams of all shards that subscribe to a channel.
    #[inline]
    pub(in crate::hub) fn streams(&self, id: ChannelId) -> u32 {
        match self.entry(id) {
            Entry::Plain { streams, .. } => streams,
            Entry::Detailed(place) => self.details[place].audience.streams(),
        }
    }

    /// The shards with streams that subscribe to a channel.
    #[inline]
    pub(in crate::hub) fn shards(&self, id: ChannelId) -> ShardSet {
        match self.entry(id) {
            Entry::Plain { streams: 0, .. } => ShardSet::default(),
            Entry::Plain { shard, .. } => ShardSet::from_bits(1 << shard),
            Entry::Detailed(place) => self.details[place].audience.shards(),
        }
    }

    /// Counts the streams of one shard that subscribe to a channel.
    pub(super) fn streams_of(&self, id: ChannelId, shard: usize) -> u32 {
        match self.entry(id) {
            Entry::Plain { shard: of, streams } if of == shard => streams,
            Entry::Plain { .. } => 0,
            Entry::Detailed(place) => self.details[place].audience.streams_of(shard),
        }
    }

    /// Adds a stream of a shard to a channel.
    pub(super) fn add_stream(&mut self, id: ChannelId, shard: usize) {
        if let Entry::Plain { shard: of, streams } = self.entry(id)
            && (streams == 0 || of == shard)
            && let Some(more) = Packed::plain(shard, streams + 1)
        {
            self.entries[id.0 as usize] = more;
            return;
        }
        let place = self.make_detail(id);
        self.change_audience(place, |audience| audience.add(shard));
    }

    /// Removes `gone` streams of a shard from a channel.
    ///
    /// # Panics
    /// If the shard has fewer than `gone`.
    pub(super) fn remove_streams(&mut self, id: ChannelId, shard: usize, gone: u32) {
        match self.entry(id) {
            Entry::Plain { .. } => {
                let left = self.streams_of(id, shard).checked_sub(gone);
                let left = left.expect("what is left was subscribed to");
                self.entries[id.0 as usize] = Packed::plain(shard, left).expect("they were more before");
            }
            Entry::Detailed(place) => {
                self.change_audience(place, |audience| audience.remove(shard, gone));
                self.drop_needless_detail(id, place);
            }
        }
    }

    /// The bytes held for `channels` channels.
    pub(in crate::hub) fn bytes(&self, channels: usize) -> usize {
        channels * size_of::<Packed>() + self.details.len() * size_of::<Detail>() + self.heap_bytes
    }

    #[inline]
    fn entry(&self, id: ChannelId) -> Entry {
        self.entries[id.0 as usize].entry()
    }

    /// Returns the place of a channel's detail. Adds a detail if there is none.
    #[inline]
    fn make_detail(&mut self, id: ChannelId) -> usize {
        match self.entry(id) {
            Entry::Detailed(place) => place,
            Entry::Plain { shard, streams } => self.add_detail(id, shard, streams),
        }
    }

    #[cold]
    fn add_detail(&mut self, id: ChannelId, shard: usize, streams: u32) -> usize {
        let shard = u8::try_from(shard).expect("six bits are less than eight");
        let place = self.details.len();
        let audience = Audience::One { shard, streams };
        self.details.push(Detail { channel: id, audience, ledger: Ledger::BLANK });
        self.entries[id.0 as usize] = Packed::detailed(place);
        place
    }

    fn change_audience(&mut self, place: usize, change: impl FnOnce(&mut Audience)) {
        let audience = &mut self.details[place].audience;
        let before = audience.heap_bytes();
        change(audience);
        self.heap_bytes = self.heap_bytes + audience.heap_bytes() - before;
    }

    /// Removes the detail if its content fits in four bytes again.
    fn drop_needless_detail(&mut self, id: ChannelId, place: usize) {
        let Detail { audience, ledger, .. } = &self.details[place];
        if let Audience::One { shard, streams } = *audience
            && let Some(plain) = Packed::plain(usize::from(shard), streams).filter(|_| ledger.is_blank())
        {
            self.take_detail(place);
            self.entries[id.0 as usize] = plain;
        }
    }

    /// Removes a detail and moves the last detail to its place.
    fn take_detail(&mut self, place: usize) -> Detail {
        let detail = self.details.swap_remove(place);
        if let Some(moved) = self.details.get(place) {
            self.entries[moved.channel.0 as usize] = Packed::detailed(place);
        }
        self.heap_bytes -= detail.ledger.heap_bytes() + detail.audience.heap_bytes();
        detail
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::id::Sequence;
    use crate::base::random::SplitMix64;

    /// A plain model of a channel's entry.
    #[derive(Debug, Default)]
    struct Plain {
        is_there: bool,
        streams: [u32; 4],
        retained: Vec<u64>,
        dropped_through: u64,
    }

    #[test]
    fn entries_agree_with_a_plain_model() {
        let (mut random, mut entries) = (SplitMix64::new(9), Entries::with_room_for(1000));
        let mut plain: Vec<Plain> = (0..40).map(|_| Plain::default()).collect();
        for number in 1..40_000_u64 {
            let index = random.within(0..=39);
            let (id, one) = (ChannelId(u32::try_from(index).unwrap()), &mut plain[index]);
            if !one.is_there {
                entries.insert(id);
                one.is_there = true;
            }
            let shard = random.within(0..=3);
            match random.within(0..=20) {
                0..=6 => {
                    entries.add_stream(id, shard);
                    one.streams[shard] += 1;
                }
                7..=12 if one.streams[shard] > 0 => {
                    entries.remove_streams(id, shard, 1);
                    one.streams[shard] -= 1;
                }
                13..=14 if one.streams[shard] > 0 => {
                    entries.remove_streams(id, shard, one.streams[shard]);
                    one.streams[shard] = 0;
                }
                // Some channels never have an event.
                15 if index % 2 == 0 => {
                    entries.change(id, |ledger| ledger.retained.push(Sequence(number), 10));
                    one.retained.push(number);
                }
                16 if index % 4 == 0 => {
                    entries.change(id, |ledger| ledger.dropped_through = Sequence(number));
                    one.dropped_through = number;
                }
                17..=19 => {
                    let ledger = entries.remove(id);
                    assert_eq!(ledger.dropped_through, Sequence(one.dropped_through));
                    *one = Plain::default();
                    entries.insert(id);
                    one.is_there = true;
                }
                _ => {}
            }
            let (one, ledger) = (&plain[index], entries.ledger(id));
            let shards = (0..4).filter(|&shard| one.streams[shard] > 0);
            assert_eq!(entries.shards(id).bits(), shards.clone().map(|shard| 1 << shard).sum::<u64>());
            assert_eq!(entries.streams(id), one.streams.iter().sum::<u32>());
            assert!((0..4).all(|shard| entries.streams_of(id, shard) == one.streams[shard]));
            assert_eq!(ledger.retained.from(0).map(|number| number.0).collect::<Vec<_>>(), one.retained);
            assert_eq!(ledger.dropped_through, Sequence(one.dropped_through));
            let needs_detail = shards.count() > 1 || !ledger.is_blank();
            assert_eq!(matches!(entries.entry(id), Entry::Detailed(_)), needs_detail);
        }
        for index in 0..40 {
            drop(entries.remove(ChannelId(index)));
        }
        assert_eq!(entries.bytes(0), 0, "nothing is left of them");
    }

    #[test]
    fn a_channel_of_one_shard_without_events_takes_four_bytes() {
        let (mut entries, id) = (Entries::with_room_for(1000), ChannelId(0));
        entries.insert(id);
        (0..1000).for_each(|_| entries.add_stream(id, 63));
        assert_eq!((entries.bytes(1), entries.streams_of(id, 63)), (4, 1000));
        entries.add_stream(id, 5);
        assert!(entries.bytes(1) > 4);
        entries.remove_streams(id, 63, 1000);
        assert_eq!((entries.bytes(1), entries.streams_of(id, 5)), (4, 1));
        entries.remove_streams(id, 5, 1);
        assert_eq!((entries.bytes(1), entries.shards(id).is_empty()), (4, true));
    }

    #[test]
    fn no_ledger_moves_when_others_come() {
        let (mut entries, first) = (Entries::with_room_for(10_000), ChannelId(0));
        entries.insert(first);
        entries.change(first, |ledger| ledger.last = Sequence(1));
        let place = std::ptr::from_ref(entries.ledger(first));
        for id in (1..10_000).map(ChannelId) {
            entries.insert(id);
            entries.change(id, |ledger| ledger.last = Sequence(1));
            assert_eq!(std::ptr::from_ref(entries.ledger(first)), place, "{id:?}");
        }
    }

    #[test]
    fn more_streams_than_four_bytes_can_say_are_counted_too() {
        let (mut entries, id) = (Entries::with_room_for(1000), ChannelId(0));
        entries.insert(id);
        entries.entries[0] = Packed::plain(3, STREAMS_MAX).unwrap();
        entries.add_stream(id, 3);
        assert_eq!((entries.streams(id), entries.streams_of(id, 3)), (STREAMS_MAX + 1, STREAMS_MAX + 1));
        entries.remove_streams(id, 3, 2);
        assert_eq!((entries.streams(id), entries.bytes(1)), (STREAMS_MAX - 1, 4));
    }
}
