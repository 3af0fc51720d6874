//! How a connection becomes a stream, and how a stream ends.

use std::time::{Duration, Instant};

use super::index::Subscription;
use crate::api::SubscribeRequest;
use crate::base::id::{ClientId, ConnId};
use crate::base::name::UserId;
use crate::conn::Opening;
use crate::driver::Driver;
use crate::frame::notice::{GapReason, LastEventId, Notice};
use crate::hub::{Begin, Begun, Subscribed};

use super::Streams;
use super::catch_up::notice_run;
use super::state::{Behind, Replay};
use crate::shard::Shard;
use crate::shard::connections::Connections;
use crate::shard::report::counters::StreamRefusal;

impl<D: Driver> Shard<D> {
    /// Answers a subscribe with a stream, or with a stream of one notice that refuses it.
    pub(in crate::shard) fn subscribe(&mut self, conn: ConnId, request: &SubscribeRequest) {
        let context = self.clock.context(&self.options.conn, &self.common);
        let Some(peer) = self.connections.peers.get_mut(conn) else { return };
        let Some(opening) = peer.conn.open_stream(&context, &[]) else { return };
        let user = request.user.as_ref().map(UserId::as_str);
        let subscribed = if self.drain.is_on() {
            Err(StreamRefusal::Draining)
        } else if !self.core.log.is_ready() {
            Err(StreamRefusal::Starting) // Its place may not be known yet.
        } else if peer.is_over_limit {
            Err(StreamRefusal::Connections)
        } else {
            let (number, begin) = (self.options.number, request.begin.clone());
            let subscribed = self.core.hub.subscribe(number, &request.channels, user, begin);
            subscribed.map_err(|_| StreamRefusal::Channels)
        };
        match subscribed {
            Ok(subscribed) => self.begin_stream(conn, request, opening, subscribed),
            Err(refusal) => {
                peer.conn.begin_stream(&context, opening);
                self.refuse_stream(conn, refusal);
            }
        }
    }

    /// Enters a stream into the shard's tables. It is sent its first notices.
    fn begin_stream(
        &mut self,
        conn: ConnId,
        request: &SubscribeRequest,
        mut opening: Opening,
        subscribed: Subscribed,
    ) {
        let client = ClientId {
            secret: u128::from(self.random.bits()) << 64 | u128::from(self.random.bits()),
            node: self.core.node,
            shard: u16::try_from(self.options.number).expect("there are at most 64 shards"),
            slot: conn.index,
        };
        self.add_first_notices(&mut opening, client, request, &subscribed);
        let end = self.options.stream_age_max.map(|age| self.clock.now + self.give_or_take_a_fifth(age));
        let began_s = self.seconds_since_start();

        let context = self.clock.context(&self.options.conn, &self.common);
        let Some(peer) = self.connections.peers.get_mut(conn) else { return };
        peer.conn.begin_stream(&context, opening);
        if let Some(end) = end {
            peer.conn.set_stream_end(end);
        }
        peer.is_counting = subscribed.is_counting;
        peer.set_client(client);
        peer.began_s = began_s;
        self.streams.all_count = subscribed.all_count;
        peer.subscriptions = self.streams.rooms.take(subscribed.channels.len());
        for (&channel, &count) in subscribed.channels.iter().zip(&subscribed.counts) {
            peer.subscriptions.push(self.streams.index.insert(channel, conn.index, count));
        }
        let behind = behind_at_begin(subscribed, request.last_event_id.is_some(), self.clock.now);
        peer.is_stream = true;
        self.counters.streams_begun += 1;
        self.counters.streams += 1;
        self.counters.streams_catching_up += u64::from(behind.is_some());
        self.counters.replays += u64::from(request.begin != Begin::AtHead);
        peer.behind = behind.map(Box::new);
    }

    /// Adds `connected`, and `gap` if the client's last event id is unknown.
    fn add_first_notices(
        &mut self,
        opening: &mut Opening,
        client: ClientId,
        request: &SubscribeRequest,
        subscribed: &Subscribed,
    ) {
        let connected = Notice::Connected {
            retry: self.retry(),
            id: match (&request.begin, request.id_to_give_back()) {
                (Begin::AllRetained | Begin::LastRetained(_), _) => None,
                (_, Some(given)) => Some(LastEventId::Given(given)),
                (_, None) => Some(LastEventId::Server(subscribed.id)),
            },
            client,
            user: request.user.as_ref().map(UserId::as_str),
            channels: &request.channels,
        };
        opening.push_notice(&connected);
        if let Begun::Unknown(_) = subscribed.begun {
            let reason = GapReason::UnknownId;
            let last_event_id = request.id_to_give_back();
            opening.push_notice(&Notice::Gap {
                reason,
                missed: None,
                last_event_id,
                id: Some(subscribed.id),
            });
            self.counters.note_gap(reason);
        }
    }

    /// Ends the subscriptions of a stream. Does nothing if the connection is no stream.
    pub(in crate::shard) fn leave(&mut self, conn: ConnId) {
        let Some(peer) = self.connections.peers.get_mut(conn) else { return };
        if !std::mem::take(&mut peer.is_stream) {
            return;
        }
        self.counters.streams -= 1;
        let behind = peer.behind.take();
        self.counters.streams_catching_up -= u64::from(behind.is_some());
        let subscriptions = std::mem::take(&mut peer.subscriptions);
        for &subscription in &subscriptions {
            self.remove_from_index(subscription);
        }
        let channels = subscriptions.iter().map(|subscription| subscription.channel);
        // A live stream had its channels before the events that its shard has yet to take.
        let had = |channel, event| behind.as_ref().is_none_or(|behind| behind.had(channel, event));
        self.core.hub.unsubscribe(self.options.number, channels, had);
    }

    /// Removes a subscription from the index. The stream has removed it already.
    pub(super) fn remove_from_index(&mut self, subscription: Subscription) {
        let Shard { connections: Connections { peers, .. }, streams: Streams { index, .. }, .. } = self;
        index.remove(subscription, |moved| {
            let kept = peers.get_at_mut(moved).map(|peer| &mut peer.subscriptions);
            let kept =
                kept.and_then(|kept| kept.iter_mut().find(|kept| kept.channel == subscription.channel));
            if let Some(kept) = kept {
                kept.position = subscription.position;
            }
        });
    }

    /// Whole seconds since the shard began.
    pub(super) fn seconds_since_start(&self) -> u32 {
        u32::try_from(self.clock.now.saturating_duration_since(self.start).as_secs()).unwrap_or(u32::MAX)
    }

    /// Ends a stream whose age is reached.
    pub(in crate::shard) fn end_stream_for_age(&mut self, conn: ConnId) {
        let retry = self.retry();
        self.end_stream(conn, &Notice::Shutdown { retry, reason: "age" });
    }

    /// Ends a stream that the server cannot take now.
    fn refuse_stream(&mut self, conn: ConnId, refusal: StreamRefusal) {
        self.counters.note_stream_refused(refusal);
        if refusal == StreamRefusal::Draining {
            return self.end_stream_for_drain(conn);
        }
        if let Some(peer) = self.connections.peers.get_mut(conn) {
            peer.conn.turn_away();
        }
        // Random, so that streams refused together do not reconnect together.
        let retry_after = self.options.retry + self.random_up_to(self.options.retry);
        self.end_stream(conn, &Notice::Overloaded { retry_after });
    }

    /// Queues a last notice for a stream, and ends it after what is queued.
    pub(in crate::shard) fn end_stream(&mut self, conn: ConnId, notice: &Notice<'_>) {
        self.leave(conn);
        let Some(peer) = self.connections.peers.get_mut(conn) else { return };
        if let Some(coding) = peer.conn.coding() {
            peer.conn.push_unbounded(notice_run(notice, coding));
            peer.conn.end_stream(self.clock.now);
        }
    }

    pub(in crate::shard) fn retry(&mut self) -> Duration {
        self.options.retry + self.random_up_to(self.options.retry_jitter)
    }

    pub(in crate::shard) fn random_up_to(&mut self, most: Duration) -> Duration {
        // An f64 holds 53 bits exactly.
        let unit = (self.random.bits() >> 11) as f64 / (1_u64 << 53) as f64;
        most.mul_f64(unit)
    }

    fn give_or_take_a_fifth(&mut self, span: Duration) -> Duration {
        span.mul_f64(0.8) + self.random_up_to(span.mul_f64(0.4))
    }
}

/// The place in the history at which a stream begins; `None` if it is live at once.
fn behind_at_begin(subscribed: Subscribed, has_last_event_id: bool, now: Instant) -> Option<Behind> {
    let until = subscribed.id.sequence;
    let (cursor, replay_is_complete) = match subscribed.begun {
        Begun::AtHead(cursor) if cursor.place == subscribed.shard_cursor => return None,
        Begun::AtHead(cursor) => (cursor, None),
        Begun::After(cursor) => (cursor, Some(true)),
        Begun::Unknown(cursor) => (cursor, Some(false)),
    };
    let end_id = (!has_last_event_id).then_some(subscribed.id); // A stream that resumes has an equivalent id.
    let replay = replay_is_complete.map(|is_complete| Replay { until, end_id, replayed: 0, is_complete });
    let reason = replay.map_or(GapReason::SlowConsumer, |_| GapReason::HistoryExpired);
    let mut behind = Behind { reason, replay, subscribed_at: until, ..Behind::of_live(cursor, now) };
    behind.set_stop();
    Some(behind)
}
