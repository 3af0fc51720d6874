//! What the driver knows about each connection, in 12 bytes.

use crate::base::id::ConnId;

/// The open connections, by the slot that their owner gave them.
#[derive(Default)]
pub(super) struct Table {
    slots: Vec<Slot>,
}

#[derive(Default)]
struct Slot {
    generation: u32,
    connection: Option<Connection>,
}

const _: () = assert!(size_of::<Slot>() <= 12, "an idle connection costs no more");

/// One open connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Connection {
    /// Its place in the ring's table of direct descriptors.
    pub(super) file: u32,
    pub(super) receiving: Receiving,
    pub(super) room: Room,
    /// The end of our side is under way.
    pub(super) is_ending: bool,
    /// `Failed` was told, or will be: nothing follows.
    pub(super) has_failed: bool,
}

/// How far a receive is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Receiving {
    /// None is outstanding.
    No,
    /// The kernel waits for something to receive, in the cheapest way.
    Polled,
    /// The kernel receives, or waits for bytes in order to.
    Begun,
    /// It found no buffer, and begins again when one is free.
    Starved,
    /// Its outcome waits to be handed over.
    Ended,
}

/// Whether a short send waits for its `Writable`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    /// No.
    Enough,
    /// Yes: the kernel polls for room.
    Awaited,
    /// Not any more, though the kernel still polls.
    Forgotten,
}

impl Table {
    pub(super) fn insert(&mut self, conn: ConnId, file: u32) {
        let index = conn.index as usize;
        if index >= self.slots.len() {
            self.slots.resize_with(index + 1, Slot::default);
        }
        let slot = &mut self.slots[index];
        debug_assert!(slot.connection.is_none(), "{conn:?} takes the slot of an open connection");
        *slot = Slot {
            generation: conn.generation,
            connection: Some(Connection {
                file,
                receiving: Receiving::No,
                room: Room::Enough,
                is_ending: false,
                has_failed: false,
            }),
        };
    }

    #[inline]
    pub(super) fn get_mut(&mut self, conn: ConnId) -> Option<&mut Connection> {
        let slot = self.slots.get_mut(conn.index as usize)?;
        if slot.generation == conn.generation { slot.connection.as_mut() } else { None }
    }

    pub(super) fn remove(&mut self, conn: ConnId) -> Option<Connection> {
        let slot = self.slots.get_mut(conn.index as usize)?;
        if slot.generation == conn.generation { slot.connection.take() } else { None }
    }

    /// Takes all connections out.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Connection> + use<> {
        std::mem::take(&mut self.slots).into_iter().filter_map(|slot| slot.connection)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_id_names_nobody() {
        let [old, new] = [1, 2].map(|generation| ConnId { index: 5, generation });
        let mut table = Table::default();
        table.insert(old, 7);
        assert_eq!(table.remove(old).map(|connection| connection.file), Some(7));
        table.insert(new, 8);
        assert!(table.get_mut(old).is_none() && table.remove(old).is_none());
        assert_eq!(table.get_mut(new).map(|connection| connection.file), Some(8));
        assert_eq!(table.drain().count(), 1);
    }
}
