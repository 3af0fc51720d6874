//! Memory blocks for the subscriptions of streams with more than two, allocated many at a time.
//!
//! Such a block lives as long as its stream, and would be allocated among short-lived memory: the
//! stream's request, its first notice. One by one, the blocks left holes of that size between them,
//! which took as much memory again as the blocks. Many allocated at once lie side by side.

use smallvec::SmallVec;

use super::index::Subscription;

/// The subscriptions of a stream, in the order in which they were named. Nearly all streams have them in
/// place.
pub(in crate::shard) type Subscriptions = SmallVec<[Subscription; 2]>;

/// Bytes of the blocks allocated at once: about a page with malloc's overhead.
const ROOMS_BYTES: usize = 4096;

/// Blocks for more subscriptions than this are allocated one by one.
const LEN_MAX: usize = 64;

/// Blocks that are allocated and unused.
#[derive(Debug, Default)]
pub(super) struct Rooms {
    /// By the number of subscriptions that they have room for.
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
