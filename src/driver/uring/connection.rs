//! The driver's state of each connection, in 12 bytes.

use crate::driver::table::slot_bytes;

const _: () = assert!(slot_bytes::<Connection>() <= 12, "an idle connection costs no more");

/// One open connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Connection {
    /// Its index in the ring's table of direct descriptors.
    pub(super) file: u32,
    pub(super) receiving: Receiving,
    pub(super) room: Room,
    /// The end of our side is under way.
    pub(super) is_ending: bool,
    /// `Failed` was or will be handed over. Nothing follows it.
    pub(super) has_failed: bool,
}

/// The state of a receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Receiving {
    /// None is outstanding.
    No,
    /// None is outstanding, and the last one filled a small buffer, so there may be much more.
    NoAfterMuch,
    /// The kernel polls for something to receive, which is the cheapest way to wait.
    Polled,
    /// The kernel receives, or waits for bytes to receive.
    Begun,
    /// It found no buffer, or others wait for one. It waits in line and begins when a buffer is free.
    Starved,
    /// Its result waits to be handed over.
    Ended,
}

/// Whether a short send waits for its `Writable`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    /// No.
    Enough,
    /// Yes: the kernel polls for room.
    Awaited,
    /// Not any more, though the kernel still polls: our side ends, or a send was retried before there
    /// was room.
    Forgotten,
}

impl Receiving {
    /// Returns true if and only if none is outstanding and no result waits.
    pub(super) fn may_begin(self) -> bool {
        matches!(self, Receiving::No | Receiving::NoAfterMuch)
    }
}

impl Connection {
    /// A connection over the direct descriptor `file`, without operations.
    pub(super) fn new(file: u32) -> Connection {
        Connection { file, receiving: Receiving::No, room: Room::Enough, is_ending: false, has_failed: false }
    }
}
