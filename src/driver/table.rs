//! A driver's table of connections, by the slot that their owner chose.

use crate::base::id::ConnId;

/// The open connections. The id of a former connection in a slot finds nothing.
#[derive(Debug)]
pub(super) struct Table<T> {
    slots: Vec<Slot<T>>,
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    connection: Option<T>,
}

/// Bytes of the table per connection.
pub(super) const fn slot_bytes<T>() -> usize {
    size_of::<Slot<T>>()
}

impl<T> Default for Table<T> {
    fn default() -> Table<T> {
        Table { slots: Vec::new() }
    }
}

impl<T> Table<T> {
    /// A table that grows to `count` slots without being moved. The process pays for memory as slots are
    /// taken, as in [`Slots::with_room_for`](crate::base::slots::Slots::with_room_for).
    pub(super) fn with_room_for(count: usize) -> Table<T> {
        let mut table = Table::default();
        let _ = table.slots.try_reserve_exact(count);
        table
    }

    /// Inserts a connection. No other open connection may have its slot.
    pub(super) fn insert(&mut self, conn: ConnId, connection: T) {
        let index = conn.index as usize;
        if index >= self.slots.len() {
            self.slots.resize_with(index + 1, || Slot { generation: 0, connection: None });
        }
        let slot = &mut self.slots[index];
        debug_assert!(slot.connection.is_none(), "{conn:?} takes the slot of an open connection");
        *slot = Slot { generation: conn.generation, connection: Some(connection) };
    }

    /// The connection with this id. `None` if it is not open.
    #[inline]
    pub(super) fn get_mut(&mut self, conn: ConnId) -> Option<&mut T> {
        let slot = self.slots.get_mut(conn.index as usize)?;
        if slot.generation == conn.generation { slot.connection.as_mut() } else { None }
    }

    /// Removes and returns the connection with this id. `None` if it is not open.
    pub(super) fn remove(&mut self, conn: ConnId) -> Option<T> {
        let slot = self.slots.get_mut(conn.index as usize)?;
        if slot.generation == conn.generation { slot.connection.take() } else { None }
    }

    /// Removes and returns all connections.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = T> + use<T> {
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
        assert_eq!(table.remove(old), Some(7));
        table.insert(new, 8);
        assert!(table.get_mut(old).is_none() && table.remove(old).is_none());
        assert_eq!(table.get_mut(new), Some(&mut 8));
        assert_eq!(table.drain().count(), 1);
    }
}
