//! Connections of a listener that one shard has for all. The shard hands them on in turn, so that
//! streams spread over the shards as the kernel spreads those of other listeners.
//!
//! The accepting shard keeps a connection when it is its own turn, when the other's mailbox is full,
//! when the driver cannot part with the socket, and once it drains. It then sends
//! [`Message::AllHandedOn`]. The others do not end before that, so no connection is left in the mailbox
//! of a shard that has ended.

use std::os::fd::OwnedFd;

use crate::api::Reach;
use crate::base::id::ConnId;
use crate::driver::Driver;
use crate::shard::{Message, Shard};

/// Most connections that wait in one mailbox. The mailbox has room for them beside the outcomes of
/// publishes.
pub(in crate::shard) const HANDED_ON_MAX: usize = 1024;

impl<D: Driver> Shard<D> {
    /// Takes a connection that a listener of this shard has accepted, or hands it on.
    pub(super) fn accept_or_hand_on(&mut self, socket: D::Socket, listener: usize) -> Option<ConnId> {
        let socket = self.hand_on(socket, listener)?;
        self.accept(socket, listener)
    }

    /// Hands a connection on if it is another shard's turn. Returns the socket if this shard keeps it.
    fn hand_on(&mut self, socket: D::Socket, listener: usize) -> Option<D::Socket> {
        let mailboxes = self.core.publishers.mailboxes();
        if !self.options.api[listener].reach.is_spread() || self.drain.is_on() || mailboxes.len() < 2 {
            return Some(socket);
        }
        let to = self.connections.next_taker % mailboxes.len();
        self.connections.next_taker = to + 1;
        let mailbox = &mailboxes[to];
        if to == self.options.number || mailbox.len() >= HANDED_ON_MAX {
            return Some(socket);
        }
        let descriptor = match self.driver.hand_over(socket) {
            Ok(descriptor) => descriptor,
            Err(socket) => return Some(socket),
        };
        match mailbox.try_send(Message::Connection { descriptor, listener }) {
            Err(Message::Connection { descriptor, .. }) => self.import_socket(descriptor),
            Ok(()) | Err(_) => None,
        }
    }

    /// Accepts a connection that another shard has handed on.
    pub(in crate::shard) fn accept_handed_on(&mut self, descriptor: OwnedFd, listener: usize) {
        if let Some(socket) = self.import_socket(descriptor)
            && let Some(conn) = self.accept(socket, listener)
        {
            self.act(conn);
        }
    }

    fn import_socket(&mut self, descriptor: OwnedFd) -> Option<D::Socket> {
        let taken = self.driver.take_over(descriptor);
        taken.inspect_err(|error| tracing::warn!(%error, "cannot take a connection")).ok()
    }

    /// Returns true if and only if another shard hands connections on to this one, according to its
    /// options.
    pub(in crate::shard) fn is_handed_connections(options: &crate::shard::ShardOptions) -> bool {
        options.number != 0 && options.api.iter().any(|api| api.reach.is_spread())
    }

    /// Notifies the others that this shard hands no more connections on.
    pub(in crate::shard) fn announce_all_handed_on(&self) {
        if self.options.number != 0 || !self.options.api.iter().any(|api| api.reach.is_spread()) {
            return;
        }
        for (number, mailbox) in self.core.publishers.mailboxes().iter().enumerate() {
            if number != self.options.number && mailbox.try_send(Message::AllHandedOn).is_err() {
                tracing::debug!(shard = number, "it has ended and waits for nothing");
            }
        }
    }
}

impl Reach {
    /// Returns true if and only if the listener belongs to the first shard alone, which spreads its
    /// connections.
    fn is_spread(self) -> bool {
        self == Reach::Unix
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::shard::drain::closing;
    use crate::shard::tests::{Servers, read};

    /// Two shards. The first has the only listener, to be spread; their drivers cannot part with a
    /// socket.
    fn servers() -> Servers {
        let mut servers = Servers::new(None);
        for shard in &mut servers.shards {
            shard.options.api[0].reach = Reach::Unix;
            shard.is_handed_connections =
                Shard::<crate::driver::sim::SimDriver>::is_handed_connections(&shard.options);
        }
        servers
    }

    #[test]
    fn a_connection_that_the_driver_cannot_part_with_is_served_where_it_was_accepted() {
        let mut servers = servers();
        let streams: Vec<_> = (0..4).map(|_| servers.subscribe(0, "a")).collect();
        servers.settle();
        let held: Vec<usize> = servers.shards.iter().map(Shard::connections_len).collect();
        assert_eq!(held, [4, 0]);
        assert!(servers.shards[0].connections.next_taker > 0, "the other shard had its turn");
        servers.publish(1, r#"{"channel":"a","text":"hello"}"#);
        assert!(streams.iter().all(|stream| read(stream).contains("data: hello\n")));
    }

    #[test]
    fn a_shard_that_is_handed_connections_ends_after_the_one_that_hands_them_on() {
        let mut servers = servers();
        servers.shards[1].begin_drain();
        servers.settle();
        assert!(!servers.shards[1].is_drained(), "a connection may be on its way");
        servers.shards[0].begin_drain();
        servers.settle();
        assert!(servers.shards.iter().all(Shard::is_drained));
    }

    #[test]
    fn a_shard_does_not_wait_for_ever_for_one_that_hands_connections_on() {
        let mut servers = servers();
        servers.shards[1].begin_drain();
        servers.turn(1);
        servers.now += closing(servers.shards[1].options.drain_timeout) - Duration::from_millis(1);
        servers.turn(1);
        assert!(!servers.shards[1].is_drained());
        servers.now += Duration::from_millis(1);
        servers.turn(1);
        assert!(servers.shards[1].is_drained());
    }
}
