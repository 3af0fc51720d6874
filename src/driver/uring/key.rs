//! The key of an operation: 64 bits that the kernel returns with its completion.

use crate::base::id::ConnId;

/// An operation, as its completion names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    /// The poll of the waker's eventfd.
    Waker,
    /// The accept of a listener.
    Listener(u32),
    /// The receive of a connection.
    Receive(ConnId),
    /// The poll of a connection for bytes to receive.
    Arrival(ConnId),
    /// The poll of a connection for room.
    Room(ConnId),
    /// The end of our side of a connection.
    Shutdown(ConnId),
    /// The send with this number.
    Send(u32),
    /// The exchange of a direct descriptor for a file descriptor.
    HandOver,
    /// The exchange of a file descriptor for a direct one.
    TakeOver,
    /// An operation whose completion is ignored. It fails only if its purpose is already fulfilled.
    Nobody,
}

/// Slots of connections are below this. A slab never has more slots than a table has direct descriptors,
/// and the kernel limits those to a sixteenth of this.
pub(super) const SLOTS_MAX: u32 = 1 << 24;

/// ```text
///   63    56 55                 32 31                               0
///  ┌────────┬─────────────────────┬──────────────────────────────────┐
///  │  kind  │  slot or number     │  generation, whole: a completion │
///  └────────┴─────────────────────┴──────────────────────────────────┘  of a former connection names nobody
/// ```
impl Key {
    pub(super) fn bits(self) -> u64 {
        let bits = |kind: u64, index: u32, generation: u32| {
            debug_assert!(index < SLOTS_MAX, "24 bits hold it");
            kind << 56 | u64::from(index) << 32 | u64::from(generation)
        };
        match self {
            Key::Nobody => bits(0, 0, 0),
            Key::Waker => bits(1, 0, 0),
            Key::Listener(number) => bits(2, number, 0),
            Key::Receive(conn) => bits(3, conn.index, conn.generation),
            Key::Arrival(conn) => bits(4, conn.index, conn.generation),
            Key::Room(conn) => bits(5, conn.index, conn.generation),
            Key::Send(number) => bits(6, number, 0),
            Key::Shutdown(conn) => bits(7, conn.index, conn.generation),
            Key::HandOver => bits(8, 0, 0),
            Key::TakeOver => bits(9, 0, 0),
        }
    }

    pub(super) fn of(bits: u64) -> Key {
        let (index, generation) = ((bits >> 32) as u32 & (SLOTS_MAX - 1), (bits & 0xffff_ffff) as u32);
        let conn = ConnId { index, generation };
        match bits >> 56 {
            1 => Key::Waker,
            2 => Key::Listener(index),
            3 => Key::Receive(conn),
            4 => Key::Arrival(conn),
            5 => Key::Room(conn),
            6 => Key::Send(index),
            7 => Key::Shutdown(conn),
            8 => Key::HandOver,
            9 => Key::TakeOver,
            _ => Key::Nobody,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_back_as_they_went() {
        let conn = ConnId { index: SLOTS_MAX - 1, generation: u32::MAX };
        for key in [
            Key::Waker,
            Key::Listener(3),
            Key::Receive(conn),
            Key::Arrival(conn),
            Key::Room(conn),
            Key::Shutdown(conn),
            Key::Send(255),
            Key::HandOver,
            Key::TakeOver,
            Key::Nobody,
        ] {
            assert_eq!(Key::of(key.bits()), key);
        }
    }
}
