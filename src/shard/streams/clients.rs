//! What is done with one live stream of this shard, asked for by its client id: its channels change, it is described,
//! it is ended, it is made a target of its own.
//!
//! A subscription takes effect at the head of the sequence. A live stream that has been given all up to there has the
//! channel at once. Any other reads up to there in the history first, without the new channel: what it is told there,
//! and what it is given from there on, stand in their place.

use crate::api::{ClientAnswer, ClientCommand, ClientError, ClientReport, ClientRequest};
use crate::base::id::{ClientId, ConnId};
use crate::base::name::{Selector, prefix_of};
use crate::driver::Driver;
use crate::frame::batch::Addressed;
use crate::frame::notice::Notice;
use crate::hub::{Added, ChannelId};

use super::catch_up::{own, tell_subscribed};
use super::state::Join;
use crate::shard::Shard;
use crate::shard::connections::peer::Peer;

impl<D: Driver> Shard<D> {
    /// Does what a request asks of a stream of this shard.
    pub(in crate::shard) fn carry_out(
        &mut self,
        request: &ClientRequest,
    ) -> Result<ClientAnswer, ClientError> {
        if self.drain.is_on() {
            return Err(ClientError::Draining);
        }
        let conn = self.find_client(request.client).ok_or(ClientError::Unknown)?;
        match &request.command {
            ClientCommand::Subscribe(name) => self.join(conn, name),
            ClientCommand::Unsubscribe(name) => self.part(conn, name),
            ClientCommand::Describe => self.describe(conn).map(ClientAnswer::Described),
            ClientCommand::End => {
                self.take_if_calm(); // What was acknowledged before comes before.
                let retry = self.retry();
                self.end_stream(conn, &Notice::Shutdown { retry, reason: "deleted" });
                self.mark(conn);
                Ok(ClientAnswer::Ended)
            }
        }
    }

    /// Sees to it that these events can be applied for streams of this shard; returns the place of the first one whose
    /// stream does not live.
    ///
    /// # Errors
    /// [`ClientError::Draining`].
    pub(in crate::shard) fn attach_all(
        &mut self,
        events: &[Addressed],
    ) -> Result<Option<usize>, ClientError> {
        if self.drain.is_on() {
            return Err(ClientError::Draining);
        }
        let unknown = events.iter().find(|event| !self.attach(event.client));
        Ok(unknown.map(|event| event.place))
    }

    /// Makes a stream a target of its own, once; returns false where it does not live.
    fn attach(&mut self, client: ClientId) -> bool {
        let Some(conn) = self.find_client(client) else { return false };
        if self.core.hub.has_target(client) {
            return true;
        }
        // There was nothing for it so far, so that it may begin with whatever place the stream is at.
        let added = self.core.hub.add_client(self.options.number, client);
        self.add_to_index(conn, added);
        true
    }

    /// The stream of this name.
    fn find_client(&self, client: ClientId) -> Option<ConnId> {
        if usize::from(client.shard) != self.options.number {
            return None;
        }
        let conn = self.connections.peers.id_at(client.slot)?;
        self.connections.peers.get(conn)?.is_client(client).then_some(conn)
    }

    /// Subscribes a stream to one more channel.
    fn join(&mut self, conn: ConnId, name: &Selector) -> Result<ClientAnswer, ClientError> {
        self.take_if_calm(); // And the stream needs no detour.
        let peer = self.connections.peers.get(conn).ok_or(ClientError::Unknown)?;
        let (targets, is_live) = (peer.targets(), peer.behind.is_none());
        let (names, _) = self.core.hub.names(&targets);
        if self.core.hub.find(name.as_str()).is_some_and(|id| targets.contains(&id)) {
            return Ok(ClientAnswer::Channels(names));
        }
        let channels_max = self.options.api[usize::from(peer.listener)].stream_channels_max;
        if names.len() >= channels_max {
            return Err(ClientError::StreamFull { channels_max });
        }
        self.check_queue(peer)?;
        let added = self.core.hub.add(self.options.number, name).map_err(|_| ClientError::ServerFull)?;
        if is_live && added.shard_cursor == added.at {
            self.add_to_index(conn, added);
            self.tell_joined(conn, added.channel);
        } else {
            if is_live {
                self.read_from(conn.index, added.shard_cursor);
            }
            self.add_to_index(conn, added);
            let behind = self.connections.peers.get_mut(conn).and_then(|peer| peer.behind.as_mut());
            if let Some(behind) = behind {
                behind.joins.push_back(Join { channel: added.channel, at: added.at });
                behind.set_stop();
            }
        }
        self.mark(conn);
        self.channels_changed(conn)
    }

    /// Takes what lies after the shard's cursor, unless some streams have yet to be sent what was taken before: what waits
    /// for a stream is to grow by no more than an empty outbox takes. Nearly always this brings the shard to the head.
    fn take_if_calm(&mut self) {
        if self.streams.marked.is_round_over() {
            self.take();
        }
    }

    /// Ends one subscription of a stream, at once.
    fn part(&mut self, conn: ConnId, name: &Selector) -> Result<ClientAnswer, ClientError> {
        let peer = self.connections.peers.get(conn).ok_or(ClientError::Unknown)?;
        let channel = self.core.hub.find(name.as_str());
        let Some(place) = peer.subscriptions.iter().position(|kept| Some(kept.channel) == channel) else {
            return Ok(ClientAnswer::Channels(self.core.hub.names(&peer.targets()).0));
        };
        self.check_queue(peer)?;
        let peer = self.connections.peers.get_mut(conn).ok_or(ClientError::Unknown)?;
        let subscription = peer.subscriptions.remove(place);
        peer.subscriptions.shrink_to_fit();
        let staying = peer.targets();
        let had = |channel, event| peer.behind.as_ref().is_none_or(|behind| behind.had(channel, event));
        self.core.hub.remove(self.options.number, subscription.channel, &staying, had);
        if let Some(behind) = &mut peer.behind {
            behind.part(subscription.channel);
        }
        self.take_from_index(subscription);
        if let Some(peer) = self.connections.peers.get_mut(conn)
            && let Some(framing) = peer.conn.framing()
        {
            let (names, _) = self.core.hub.names(&peer.targets_now());
            let notice = Notice::Unsubscribed { channel: name.as_str(), channels: &names };
            peer.conn.tell(own(&notice, framing));
        }
        self.mark(conn);
        self.channels_changed(conn)
    }

    /// What a stream is told goes beyond the bound of its queue. Who asks for more while its client does not read is
    /// asked to wait.
    fn check_queue(&self, peer: &Peer) -> Result<(), ClientError> {
        if peer.conn.waiting_bytes() > self.options.conn.outbox.bytes_max {
            return Err(ClientError::Slow);
        }
        Ok(())
    }

    fn add_to_index(&mut self, conn: ConnId, added: Added) {
        let subscription = self.streams.index.insert(added.channel, conn.index, added.count);
        if let Some(peer) = self.connections.peers.get_mut(conn) {
            peer.subscriptions.reserve_exact(1);
            peer.subscriptions.push(subscription);
        }
    }

    fn tell_joined(&mut self, conn: ConnId, channel: ChannelId) {
        let Some(peer) = self.connections.peers.get_mut(conn) else { return };
        if let Some(framing) = peer.conn.framing() {
            tell_subscribed(peer, &self.core.hub, channel, framing);
        }
    }

    /// Answers with the channels that a stream has now, and notes whether its events can be counted.
    fn channels_changed(&mut self, conn: ConnId) -> Result<ClientAnswer, ClientError> {
        let peer = self.connections.peers.get_mut(conn).ok_or(ClientError::Unknown)?;
        let (names, _) = self.core.hub.names(&peer.targets());
        peer.is_counting = matches!(&names[..], [only] if prefix_of(only).is_none());
        Ok(ClientAnswer::Channels(names))
    }

    fn describe(&self, conn: ConnId) -> Result<ClientReport, ClientError> {
        let peer = self.connections.peers.get(conn).ok_or(ClientError::Unknown)?;
        let (channels, user) = self.core.hub.names(&peer.targets());
        let mut targets = peer.targets_now();
        targets.push(ChannelId::ALL);
        let behind = peer.behind.as_ref();
        let place =
            behind.map_or_else(|| self.core.hub.cursor(self.options.number), |behind| behind.cursor.place);
        let (_, mut lag_events) = self.core.hub.names_and_lag(&targets, place);
        for join in behind.iter().flat_map(|behind| &behind.joins) {
            lag_events += self.core.hub.names_and_lag(&[join.channel], join.at).1;
        }
        Ok(ClientReport {
            user,
            channels,
            connected_seconds: self.seconds_since_start() - peer.began_s,
            is_live: behind.is_none(),
            lag_events,
            queued_bytes: peer.conn.waiting_bytes(),
        })
    }

    /// Has a connection that has something to say be sent to in its turn.
    pub(in crate::shard) fn mark(&mut self, conn: ConnId) {
        if let Some(peer) = self.connections.peers.get_mut(conn)
            && !peer.is_marked
        {
            peer.is_marked = true;
            self.streams.marked.push(conn.index);
        }
    }
}
