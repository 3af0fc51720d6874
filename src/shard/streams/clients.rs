//! Operations on one live stream of this shard, by its client id: change its channels, describe it, end
//! it, make it a target of its own.
//!
//! A subscription takes effect at the head of the sequence. A live stream that was given all events up
//! to there has the channel at once. Any other stream first reads up to there in the history, without
//! the new channel. So the notice and the events of the channel come in their place.

use crate::api::{ClientAnswer, ClientCommand, ClientError, ClientReport, ClientRequest};
use crate::base::id::{ClientId, ConnId};
use crate::base::name::{Selector, prefix_of};
use crate::driver::Driver;
use crate::frame::notice::Notice;
use crate::hub::{Added, ChannelId};
use crate::record::Addressed;

use super::catch_up::{notice_run, queue_subscribed};
use super::state::Join;
use crate::shard::Shard;
use crate::shard::connections::peer::Peer;

impl<D: Driver> Shard<D> {
    /// Carries out a request about a stream of this shard.
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
                self.take_events_if_round_over(); // Events acknowledged before come before the end.
                let retry = self.retry();
                self.end_stream(conn, &Notice::Shutdown { retry, reason: "deleted" });
                self.mark(conn);
                Ok(ClientAnswer::Ended)
            }
        }
    }

    /// Makes the streams of these events targets, so that the events can be applied. Returns the place
    /// of the first event whose stream is not open.
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

    /// Makes a stream a target of its own, if it is not one yet. Returns false if it is not open.
    fn attach(&mut self, client: ClientId) -> bool {
        let Some(conn) = self.find_client(client) else { return false };
        if self.core.hub.has_target(client) {
            return true;
        }
        // The new target has no events so far, so the stream may have it from any place.
        let added = self.core.hub.add_client(self.options.number, client);
        self.add_to_index(conn, added);
        true
    }

    /// The shard that has the stream with this client id, if it is open. `None` if the stream is one of
    /// another node, which is answered as if it were not open.
    pub(in crate::shard) fn shard_of(&self, client: ClientId) -> Option<usize> {
        (client.node == self.core.node).then_some(usize::from(client.shard))
    }

    /// The open stream with this client id.
    fn find_client(&self, client: ClientId) -> Option<ConnId> {
        if self.shard_of(client) != Some(self.options.number) {
            return None;
        }
        let conn = self.connections.peers.id_at(client.slot)?;
        self.connections.peers.get(conn)?.is_client(client).then_some(conn)
    }

    /// Subscribes a stream to one more channel.
    fn join(&mut self, conn: ConnId, name: &Selector) -> Result<ClientAnswer, ClientError> {
        self.take_events_if_round_over(); // So the stream nearly always needs no detour through the history.
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
            self.queue_joined(conn, added.channel);
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

    /// Takes the events after the shard's cursor, unless some streams have yet to be sent those taken
    /// before: the queue of a stream may grow by no more than an empty outbox takes. Nearly always this
    /// brings the shard to the head.
    fn take_events_if_round_over(&mut self) {
        if self.streams.marked.is_round_over() {
            self.take_events();
        }
    }

    /// Removes one channel of a stream, at once.
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
        self.remove_from_index(subscription);
        if let Some(peer) = self.connections.peers.get_mut(conn)
            && let Some(coding) = peer.conn.coding()
        {
            let (names, _) = self.core.hub.names(&peer.targets_now());
            let notice = Notice::Unsubscribed { channel: name.as_str(), channels: &names };
            peer.conn.push_unbounded(notice_run(&notice, coding));
        }
        self.mark(conn);
        self.channels_changed(conn)
    }

    /// Notices go beyond the bound of a stream's queue. A request that would queue more while the client
    /// does not read is refused.
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

    fn queue_joined(&mut self, conn: ConnId, channel: ChannelId) {
        let Some(peer) = self.connections.peers.get_mut(conn) else { return };
        if let Some(coding) = peer.conn.coding() {
            queue_subscribed(peer, &self.core.hub, channel, coding);
        }
    }

    /// Answers with the channels of a stream, and notes whether its events can be counted.
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

    /// Adds a connection with queued frames to the marked list.
    pub(in crate::shard) fn mark(&mut self, conn: ConnId) {
        if let Some(peer) = self.connections.peers.get_mut(conn)
            && !peer.is_marked
        {
            peer.is_marked = true;
            self.streams.marked.push(conn.index);
        }
    }
}
