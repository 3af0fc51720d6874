//! What the driver knows about each connection, in 16 bytes, and the token by which epoll tells of it.

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
    /// There may be bytes, an end or a failure to read: so it begins, and an event sets it; taken back by `EAGAIN`.
    pub(super) is_readable: bool,
    /// An event told of the end or of a failure, so that reading all bytes is not the last of it.
    pub(super) is_end_near: bool,
    /// epoll watches it, or it has failed and is watched no more. Until then no event comes, and nothing may be waited
    /// for.
    pub(super) is_watched: bool,
    /// A short send waits for its `Writable`.
    pub(super) awaits_room: bool,
    /// An event told that there is room. Means something only while `awaits_room`.
    pub(super) has_room: bool,
    /// Events of writability are asked for, of a connection that is watched.
    pub(super) watches_room: bool,
    /// Stands in the ready list.
    pub(super) is_queued: bool,
}

impl Connection {
    /// A connection of which nothing is asked yet, and which is not watched: its request may be there already, and then
    /// an event would tell what reading finds out by itself. Closing its socket, as dropping it does, also ends the watch
    /// over it, if there is one (`epoll(7)`, Questions and answers, 6).
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

    /// Returns true if and only if there is what the connection's owner waits for.
    pub(super) fn has_news(&self) -> bool {
        (self.is_receiving && self.is_readable) || (self.awaits_room && self.has_room)
    }
}

/// The generation goes along: while a process forks, a copy of a closed socket may live until its `exec`, and epoll goes
/// on telling of it under its token.
pub(super) fn token_of(conn: ConnId) -> Token {
    debug_assert!(conn.index != INDEX_RESERVED, "the slab of a shard is not that large");
    token(conn.generation, conn.index)
}

/// The token of a listener; no connection's.
pub(super) fn token_of_listener(listener: u32) -> Token {
    token(listener, INDEX_RESERVED)
}

/// The token of the waker; no connection's or listener's.
pub(super) const WAKER: Token = Token(usize::MAX);

/// What a token stands for.
pub(super) enum Source {
    Waker,
    Listener(usize),
    Connection(ConnId),
}

pub(super) fn source_of(token: Token) -> Source {
    let bits = token.0 as u64;
    let (generation, index) = ((bits >> 32) as u32, (bits & 0xffff_ffff) as u32);
    if token == WAKER {
        Source::Waker
    } else if index == INDEX_RESERVED {
        Source::Listener(generation as usize)
    } else {
        Source::Connection(ConnId { index, generation })
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
        assert!(matches!(source_of(token_of(conn)), Source::Connection(id) if id == conn));
        assert!(matches!(source_of(token_of_listener(3)), Source::Listener(3)));
        assert!(matches!(source_of(WAKER), Source::Waker));
    }
}
