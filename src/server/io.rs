//! Chooses the I/O driver of a server, and the number of connections that it allows.

use std::fmt;

use super::ServeError;
use crate::driver::uring::{self, Proven};
use crate::hub::SHARDS_MAX;
use crate::shard::CONNECTIONS_OVER_LIMIT_MAX;

/// The I/O driver of a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Io {
    /// Epoll, or io_uring if more connections are asked for than the limit on open files allows and the
    /// kernel offers what io_uring needs.
    #[default]
    Auto,
    /// Epoll, which every Linux has. Each connection is an open file.
    Epoll,
    /// io_uring, from Linux 6.1 on. No connection is an open file. Each event loop holds as many
    /// connections as the limit on open files.
    Uring,
}

impl Io {
    /// The drivers and their names.
    pub const WORDS: [(&str, Io); 3] = [("auto", Io::Auto), ("epoll", Io::Epoll), ("uring", Io::Uring)];
}

impl fmt::Display for Io {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = Io::WORDS.iter().find(|(_, io)| io == self);
        f.write_str(word.map_or("", |(word, _)| word))
    }
}

/// File descriptors not used for connections within the limit: listeners, epoll, standard streams, and
/// connections that are answered that the limit is reached. At most a quarter of all.
const DESCRIPTORS_RESERVED_MAX: usize = 64 + SHARDS_MAX * 4 + CONNECTIONS_OVER_LIMIT_MAX;

/// The driver that was chosen.
#[derive(Clone, Copy, Debug)]
pub(super) enum Choice {
    Epoll,
    Uring {
        proven: Proven,
        /// Direct descriptors of each ring.
        files: u32,
    },
}

/// A driver, and the most connections of all shards with it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chosen {
    pub(super) choice: Choice,
    pub(super) connections_max: usize,
}

/// What the choice of a driver depends on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    /// The limit on open files.
    pub(super) descriptors_max: usize,
    pub(super) shards: usize,
    /// Connections that the backlogs of one shard hold.
    pub(super) backlog: usize,
    /// The kernel spreads all connections over the shards. Connections of a unix socket come to one
    /// shard, which keeps them if the kernel cannot hand them on.
    pub(super) is_spread: bool,
}

impl Room {
    /// Most connections with epoll.
    fn epoll_max(self) -> usize {
        less_reserved(self.descriptors_max)
    }

    /// Direct descriptors that the kernel allows a ring: as many as open files, although they are no
    /// files.
    fn files_max(self) -> usize {
        self.descriptors_max.min(uring::FILES_MAX as usize)
    }

    /// Most connections with io_uring. The kernel spreads connections over shards only roughly, so each
    /// table has a reserve, which is many times the difference between shards.
    fn uring_max(self) -> usize {
        less_reserved(self.files_max()).saturating_mul(self.shards)
    }

    /// Direct descriptors of each ring for `connections_max` connections in all: twice its share (or
    /// all, if one shard may have them), those that are answered that the limit is reached, and those
    /// that the backlogs may bring at once.
    fn files(self, connections_max: usize) -> u32 {
        let share = if self.is_spread { 2 * connections_max.div_ceil(self.shards) } else { connections_max };
        let files = share + CONNECTIONS_OVER_LIMIT_MAX + 2 * self.backlog;
        u32::try_from(files.min(self.files_max())).unwrap_or(uring::FILES_MAX)
    }
}

fn less_reserved(descriptors: usize) -> usize {
    (descriptors - DESCRIPTORS_RESERVED_MAX.min(descriptors / 4)).max(1)
}

/// Chooses the driver, and logs which one and why.
///
/// # Errors
/// If io_uring is asked for and cannot be used.
pub(super) fn choose(io: Io, connections_max: Option<usize>, room: Room) -> Result<Chosen, ServeError> {
    let epoll_max = room.epoll_max();
    let epoll = || Chosen {
        choice: Choice::Epoll,
        connections_max: connections_max.unwrap_or(epoll_max).min(epoll_max),
    };
    let uring = |proven| {
        let connections_max = connections_max.unwrap_or(epoll_max).min(room.uring_max());
        Chosen { choice: Choice::Uring { proven, files: room.files(connections_max) }, connections_max }
    };
    let wanted = connections_max.unwrap_or(0);
    let (chosen, why) = match io {
        Io::Epoll => (epoll(), "it was asked for".to_owned()),
        Io::Uring => (uring(uring::prove()?), "it was asked for".to_owned()),
        Io::Auto if wanted <= epoll_max => (epoll(), "open files allow all connections".to_owned()),
        Io::Auto => match uring::prove() {
            Ok(proven) => {
                (uring(proven), format!("{wanted} connections are more than open files allow ({epoll_max})"))
            }
            Err(error) => {
                let why = format!("{wanted} connections would need io_uring, but: {error}");
                tracing::warn!(io = "epoll", connections_max = epoll_max, "{why}");
                return Ok(epoll());
            }
        },
    };
    let io = chosen.choice.io();
    if chosen.connections_max < wanted {
        let most = chosen.connections_max;
        tracing::warn!(%io, "{wanted} connections were asked for; the limit on open files allows {most} here");
    }
    tracing::info!(%io, connections_max = chosen.connections_max, "{io} serves: {why}");
    Ok(chosen)
}

impl Choice {
    pub(super) fn io(self) -> Io {
        match self {
            Choice::Epoll => Io::Epoll,
            Choice::Uring { .. } => Io::Uring,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(io: Io, connections_max: Option<usize>, shards: usize) -> (Io, usize) {
        let room = Room { descriptors_max: 20_000, shards, backlog: 4096, is_spread: true };
        let chosen = choose(io, connections_max, room).unwrap();
        (chosen.choice.io(), chosen.connections_max)
    }

    /// The connections that a limit of 20 000 open files leaves.
    const ROOM: usize = 20_000 - DESCRIPTORS_RESERVED_MAX;

    #[test]
    fn epoll_holds_what_open_files_allow() {
        assert_eq!(chosen(Io::Epoll, None, 2), (Io::Epoll, ROOM));
        assert_eq!(chosen(Io::Epoll, Some(50_000), 2), (Io::Epoll, ROOM));
        assert_eq!(chosen(Io::Auto, Some(ROOM), 2), (Io::Epoll, ROOM));
        assert_eq!(chosen(Io::Auto, None, 2), (Io::Epoll, ROOM));
    }

    #[test]
    fn io_uring_holds_more_and_is_chosen_where_more_are_asked_for() {
        if uring::prove().is_err() {
            assert_eq!(chosen(Io::Auto, Some(ROOM + 1), 2), (Io::Epoll, ROOM));
            return;
        }
        assert_eq!(chosen(Io::Auto, Some(ROOM + 1), 2), (Io::Uring, ROOM + 1));
        assert_eq!(chosen(Io::Uring, Some(50_000), 2), (Io::Uring, 2 * ROOM));
        assert_eq!(chosen(Io::Uring, Some(50_000), 3), (Io::Uring, 50_000));
        assert_eq!(chosen(Io::Uring, Some(7), 1), (Io::Uring, 7));
        assert_eq!(chosen(Io::Uring, None, 2), (Io::Uring, ROOM));
    }

    #[test]
    fn a_ring_has_room_for_more_than_its_share() {
        let room = Room { descriptors_max: 20_000, shards: 2, backlog: 4096, is_spread: true };
        assert!(room.files(1000) as usize >= 1000 + 2 * 4096);
        assert_eq!(room.files(38_000), 20_000, "no more than the kernel allows");
        let room = Room { is_spread: false, ..room };
        assert!(room.files(10_000) as usize >= 10_000 + 2 * 4096, "one shard may have all");
    }
}
