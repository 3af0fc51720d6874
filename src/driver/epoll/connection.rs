//! The driver's state of each connection, in 16 bytes, and the connection's epoll token.

use mio::Token;
use socket2::Socket;

use crate::base::id::ConnId;
use crate::driver::table::slot_bytes;

const _: () = assert!(slot_bytes::<Connection>() <= 16, "an idle connection costs no more");

/// One open connection.
pub(super) struct Connection {
    pub(super) socket: Socket,
    /// A receive is outstanding.
    pub(super) is_receiving: bool,
    /// There may be bytes, an end or a failure to read. True at first and after an event. `EAGAIN`
    /// clears it.
    pub(super) is_readable: bool,
    /// An event reported the end or a failure, so there is more to read after the last bytes.
    pub(super) is_end_near: bool,
    /// epoll watches it, or it has failed and is watched no more. Until then no event comes, and nothing
    /// may wait for one.
    pub(super) is_watched: bool,
    /// A short send waits for its `Writable`.
    pub(super) awaits_room: bool,
    /// An event reported room. Meaningful only while `awaits_room`.
    pub(super) has_room: bool,
    /// epoll watches it for writability. Only if `is_watched`.
    pub(super) watches_room: bool,
    /// It is in the ready list.
    pub(super) is_queued: bool,
}

impl Connection {
    /// A connection without operations, not watched yet. Its request may have arrived already, and then
    /// an event would only repeat what a read finds. Closing its socket, as dropping does, also ends the
    /// watch over it (`epoll(7)`, Questions and answers, 6).
    pub(super) fn new(socket: Socket) -> Connection {
        Connection {
            socket,
            is_receiving: false,
            is_readable: true,
            is_end_near: false,
            is_watched: false,
            awaits_room: false,
            has_room: false,
            watches_room: false,
            is_queued: false,
        }
    }

    /// Returns true if and only if there is something that the connection's owner waits for.
    pub(super) fn has_news(&self) -> bool {
        (self.is_receiving && self.is_readable) || (self.awaits_room && self.has_room)
    }
}

/// Includes the generation. While the process forks, a copy of a closed socket may live until the
/// child's `exec`, and epoll still reports its events under its token.
pub(super) fn token_of(conn: ConnId) -> Token {
    debug_assert!(conn.index != INDEX_RESERVED, "the slab of a shard is not that large");
    token(conn.generation, conn.index)
}

/// The token of a listener. Differs from every connection's token.
pub(super) fn token_of_listener(listener: u32) -> Token {
    token(listener, INDEX_RESERVED)
}

/// The token of the waker. Differs from all others.
pub(super) const WAKER: Token = Token(usize::MAX);

/// The owner of a token.
pub(super) enum TokenOwner {
    Waker,
    Listener(usize),
    Connection(ConnId),
}

pub(super) fn owner_of(token: Token) -> TokenOwner {
    let bits = token.0 as u64;
    let (generation, index) = ((bits >> 32) as u32, (bits & 0xffff_ffff) as u32);
    if token == WAKER {
        TokenOwner::Waker
    } else if index == INDEX_RESERVED {
        TokenOwner::Listener(generation as usize)
    } else {
        TokenOwner::Connection(ConnId { index, generation })
    }
}

const INDEX_RESERVED: u32 = u32::MAX;
const _: () = assert!(usize::BITS == 64, "a token holds an index and a generation");

fn token(high: u32, low: u32) -> Token {
    Token(((high as usize) << 32) | low as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_tell_what_they_stand_for() {
        let conn = ConnId { index: u32::MAX - 1, generation: u32::MAX };
        assert!(matches!(owner_of(token_of(conn)), TokenOwner::Connection(id) if id == conn));
        assert!(matches!(owner_of(token_of_listener(3)), TokenOwner::Listener(3)));
        assert!(matches!(owner_of(WAKER), TokenOwner::Waker));
    }
}
