//! Rooms for the subscriptions of streams that have more than two, made many at a time.
//!
//! Such a room lives as long as its stream, and is made among much that lives for a moment only: its request, its first
//! notice. Made one by one, each keeps a hole of the size of all that from being one with its neighbours, which came to as
//! much again as the rooms. Made many at once they lie side by side.

use smallvec::SmallVec;

use super::index::Subscription;

/// The subscriptions of a stream, in the order they were named: of nearly all streams in place.
pub(in crate::shard) type Subscriptions = SmallVec<[Subscription; 2]>;

/// Rooms that are made at once, with what malloc adds to them about a page.
const ROOMS_BYTES: usize = 4096;

/// Rooms for more subscriptions than so many are made one by one.
const LEN_MAX: usize = 64;

/// Rooms that wait for streams.
#[derive(Debug, Default)]
pub(super) struct Rooms {
    /// By how many subscriptions they have room for.
    spare: Vec<Vec<Subscriptions>>,
}

impl Rooms {
    /// Room for exactly `len` subscriptions.
    pub(in crate::shard) fn take(&mut self, len: usize) -> Subscriptions {
        let make = || {
            let mut room = Subscriptions::new();
            room.reserve_exact(len);
            room
        };
        if len <= Subscriptions::new().inline_size() || len > LEN_MAX {
            return make();
        }
        if self.spare.len() <= len {
            self.spare.resize_with(len + 1, Vec::new);
        }
        let spare = &mut self.spare[len];
        if spare.is_empty() {
            let count = ROOMS_BYTES / (len * size_of::<Subscription>());
            spare.reserve_exact(count);
            spare.extend(std::iter::repeat_with(make).take(count));
        }
        spare.pop().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_room_has_room_for_what_was_asked_for_and_no_more() {
        let mut rooms = Rooms::default();
        for len in [1, 2, 3, 9, 9, LEN_MAX, LEN_MAX + 1, 3] {
            let room = rooms.take(len);
            assert_eq!((room.len(), room.capacity()), (0, len.max(2)));
        }
        let spare: usize =
            rooms.spare.iter().flatten().map(|room| room.capacity() * size_of::<Subscription>()).sum();
        assert!(spare <= 3 * ROOMS_BYTES, "{spare} bytes wait");
    }
}
