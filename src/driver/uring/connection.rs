//! What the driver knows about each connection, in 12 bytes.

use crate::driver::table::slot_bytes;

const _: () = assert!(slot_bytes::<Connection>() <= 12, "an idle connection costs no more");

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
    /// None is outstanding, and the last one brought as much as a small buffer holds: there may be much more.
    NoAfterMuch,
    /// The kernel waits for something to receive, in the cheapest way.
    Polled,
    /// The kernel receives, or waits for bytes in order to.
    Begun,
    /// It found no buffer, or others wait for one: it stands in line, and begins when one is free.
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
    /// Not any more, though the kernel still polls: our side ends, or a send was tried again before there was room.
    Forgotten,
}

impl Receiving {
    /// Returns true if and only if none is outstanding, and no outcome waits.
    pub(super) fn may_begin(self) -> bool {
        matches!(self, Receiving::No | Receiving::NoAfterMuch)
    }
}

impl Connection {
    /// A connection over the direct descriptor `file`, of which nothing is asked yet.
    pub(super) fn new(file: u32) -> Connection {
        Connection { file, receiving: Receiving::No, room: Room::Enough, is_ending: false, has_failed: false }
    }
}
