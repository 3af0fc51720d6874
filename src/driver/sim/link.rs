//! One connection of the simulated network: the bytes under way in both directions, and the operations
//! that the server waits for.

use std::collections::VecDeque;

use crate::base::id::ConnId;

/// One connection, seen from both ends.
pub(super) struct Link {
    /// The connection's state on the server's side.
    pub(super) server: ServerSide,
    /// The index of its listener.
    pub(super) listener: usize,
    /// The connection is broken. Each end learns of it when it looks.
    pub(super) is_reset: bool,

    /// Written by the peer and not yet received by the server.
    pub(super) inbound: VecDeque<u8>,
    /// The peer has ended its side.
    pub(super) peer_ended: bool,
    /// The peer is gone: bytes sent to it break the connection.
    pub(super) peer_gone: bool,

    /// Sent by the server and not yet read by the peer. At most `outbound_bytes_max`.
    pub(super) outbound: VecDeque<u8>,
    pub(super) outbound_bytes_max: usize,
    /// The server has ended its side.
    pub(super) server_ended: bool,

    pub(super) is_receiving: bool,
    pub(super) sending: Sending,
    /// A failure was handed over, which is a connection's last completion.
    pub(super) has_failed: bool,
    /// A check of the receive is on the agenda. The other field says so of the send.
    pub(super) receive_scheduled: bool,
    pub(super) send_scheduled: bool,
}

/// The state of a connection on the server's side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ServerSide {
    /// In the backlog.
    Waiting,
    /// Accepted and not yet adopted.
    Accepted,
    /// Adopted under this id.
    Adopted(ConnId),
    Closed,
}

/// The send of a connection.
#[derive(Debug)]
pub(super) enum Sending {
    Idle,
    /// Its `Sent` is to come. `rest` holds the taken bytes that the peer cannot read before that.
    Pending {
        taken: usize,
        offered: usize,
        rest: Vec<u8>,
    },
    /// Its `Writable` is to come.
    Short,
}

impl Link {
    pub(super) fn new(listener: usize, outbound_bytes_max: usize) -> Link {
        Link {
            server: ServerSide::Waiting,
            listener,
            is_reset: false,
            inbound: VecDeque::new(),
            peer_ended: false,
            peer_gone: false,
            outbound: VecDeque::new(),
            outbound_bytes_max,
            server_ended: false,
            is_receiving: false,
            sending: Sending::Idle,
            has_failed: false,
            receive_scheduled: false,
            send_scheduled: false,
        }
    }

    /// How many bytes a send can take.
    pub(super) fn room(&self) -> usize {
        self.outbound_bytes_max.saturating_sub(self.outbound.len())
    }

    /// Returns true if and only if a receive would end now.
    pub(super) fn is_receivable(&self) -> bool {
        self.is_reset || self.peer_ended || !self.inbound.is_empty()
    }

    /// Returns true if and only if the outstanding send would continue now.
    pub(super) fn is_send_due(&self) -> bool {
        match self.sending {
            Sending::Idle => false,
            Sending::Pending { .. } => true,
            Sending::Short => self.is_reset || self.room() > 0,
        }
    }

    /// Returns true if and only if the server may still get completions for it.
    pub(super) fn takes_completions(&self) -> bool {
        matches!(self.server, ServerSide::Adopted(_)) && !self.has_failed
    }

    /// Sends bytes to the peer. If the peer is gone, they end the connection.
    pub(super) fn deliver(&mut self, bytes: impl IntoIterator<Item = u8>) {
        if !self.peer_gone {
            self.outbound.extend(bytes);
        }
    }

    /// Returns true if and only if the peer has read everything that it will ever get.
    pub(super) fn is_read_out(&self) -> bool {
        self.server_ended && !self.is_reset && self.outbound.is_empty()
    }
}
