//! What an application does with its server from its own threads: publish, count, drain.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use super::batch::{Batch, BatchError};
use super::desk::Desk;
use super::target::Target;
use super::waiting::{Closed, Waiter};
use crate::base::id::{EventId, Sequence};
use crate::base::name::{ChannelName, UserId};
use crate::record::Record;
use crate::record::targets::{TARGET_ALL, user_target};
use crate::shard::core::Core;
use crate::shard::publishing::tickets::application_ticket;
use crate::shard::{Message, PAUSE};
use crate::sse::event::Event;

/// Publishes to a server, counts what it holds, and drains it. Works from any thread, also before the
/// server runs and after it has ended.
///
/// Clones are cheap and act on the same server. A handle does not keep the server running.
///
/// Events of one thread are in the order in which it published them, and those of a batch are next to
/// one another. A stream gets earlier events only from the history. A [`Target`] says where an event
/// goes: to channels, to a user, or to all.
///
/// Its counts are current values: connections, streams, streams of a channel or of a user, and channels.
/// Counters since the start are at `GET /metrics` and `GET /sse/stats` of the server.
///
/// A server that falls behind slows publishers down instead of losing events: [`Handle::publish`] waits,
/// [`Handle::publish_with`] returns the batch. Slow clients never delay a publisher.
///
/// ```
/// use std::thread;
/// use downpour::{ChannelName, Event, Server};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let server = Server::builder().listen(([127, 0, 0, 1], 0)).bind()?;
/// let handle = server.handle();
/// let ticks = thread::spawn(move || {
///     let ticks = ChannelName::parse("ticks").expect("a channel's name has no spaces");
///     for n in 0..3 {
///         let published = handle.publish([&ticks], &Event::new(&n.to_string()))?;
///         println!("{} reached {:?} streams", published.id, published.receivers);
///     }
///     handle.drain(); // Or the server would run for ever.
///     Ok::<(), downpour::PublishError>(())
/// });
/// server.run()?; // Until it has drained.
/// ticks.join().expect("it does not panic")?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Handle {
    shared: Arc<Shared>,
}

/// The state that all handles of a server share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) core: Core,
    /// The instant from which the hub's time counts.
    pub(super) start: Instant,
    pub(super) desk: Arc<Desk>,
    pub(super) channels_max: usize,
    pub(super) body_bytes_max: usize,
    pub(super) publish_timeout: Duration,
}

impl Handle {
    pub(super) fn new(shared: Shared) -> Handle {
        Handle { shared: Arc::new(shared) }
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Publishes an event to a target, and waits until it is committed and its receivers are counted.
    /// That usually takes some microseconds, and at most the server's
    /// [`publish_timeout`](super::ServerBuilder::publish_timeout).
    ///
    /// Once this returns `Ok`, the event has its place in the order. Every stream that subscribed before
    /// gets it, and every stream that resumes from before it while it is retained. The call does not
    /// wait for writes to streams.
    ///
    /// # Errors
    /// [`PublishError`]. Except for [`PublishError::Uncertain`], the event was not published and never
    /// will be. [`PublishError::into_batch`] returns it for another try.
    pub fn publish<'a>(
        &self,
        target: impl Into<Target<'a>>,
        event: &Event<'_>,
    ) -> Result<Published, PublishError> {
        let mut batch = self.batch();
        batch.push(target, event)?;
        self.publish_batch(batch)
    }

    /// As [`Handle::publish`], for all events of a batch: all are published, or none.
    ///
    /// # Errors
    /// As [`Handle::publish`]. [`PublishError::into_batch`] returns the batch.
    pub fn publish_batch(&self, mut batch: Batch) -> Result<Published, PublishError> {
        let deadline = Instant::now().checked_add(self.shared.publish_timeout);
        loop {
            match self.append(batch, || Waiter::Thread(thread::current())) {
                Ok(serial) => return self.shared.desk.wait(serial, deadline),
                Err(PublishError::Busy(returned))
                    if deadline.is_none_or(|deadline| Instant::now() < deadline) =>
                {
                    batch = returned;
                    thread::sleep(PAUSE);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Publishes all events of a batch, or none, without waiting. `callback` gets the outcome.
    ///
    /// If this returns `Ok`, `callback` is called exactly once: when the outcome is known, or at the
    /// latest when the server ends. It runs on a thread that the server keeps for callbacks, one after
    /// the other. A slow callback delays the next ones, and in the end publishers. A callback may
    /// publish. A panic in it is logged and harms nothing else.
    ///
    /// # Errors
    /// [`PublishError`]. Then `callback` is not called, and [`PublishError::into_batch`] returns the
    /// batch. [`PublishError::Busy`] means that the server is behind: try again in a millisecond or so,
    /// or slow down.
    pub fn publish_with(
        &self,
        batch: Batch,
        callback: impl FnOnce(Result<Published, PublishError>) + Send + 'static,
    ) -> Result<(), PublishError> {
        self.append(batch, || Waiter::Callback(Box::new(callback))).map(drop)
    }

    /// An empty batch.
    #[must_use]
    pub fn batch(&self) -> Batch {
        Batch::new(self.shared.body_bytes_max)
    }

    /// The number of open connections: streams, and connections that publish or are idle.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.core.open_connections.load(Ordering::Relaxed)
    }

    /// The number of open streams, including those that are catching up.
    #[must_use]
    pub fn streams(&self) -> usize {
        self.shared.core.hub.subscribers(TARGET_ALL) as usize
    }

    /// The number of open streams of this user.
    #[must_use]
    pub fn streams_of(&self, user: &UserId) -> usize {
        self.shared.core.hub.subscribers(&user_target(user.as_str())) as usize
    }

    /// The number of channels with subscribers or retained events.
    #[must_use]
    pub fn channels(&self) -> usize {
        self.shared.core.hub.channels_len()
    }

    /// The number of streams that subscribe to the channel by its name, including those that are
    /// catching up. Streams that have it by a pattern are not counted.
    #[must_use]
    pub fn subscribers(&self, channel: &ChannelName) -> usize {
        self.shared.core.hub.subscribers(channel.as_str()) as usize
    }

    /// Begins to drain the server. Every stream is sent a notice and ends, requests under way are
    /// answered, and no more is published. [`Server::run`](super::Server::run) returns when all
    /// connections are gone, or after the [`drain_timeout`](super::ServerBuilder::drain_timeout).
    ///
    /// Returns at once. Further calls do nothing.
    pub fn drain(&self) {
        if !self.shared.desk.begin_drain() {
            return;
        }
        for (number, shard) in self.shared.core.publishers.mailboxes().iter().enumerate() {
            if shard.try_send(Message::Drain).is_err() {
                tracing::debug!(shard = number, "there is nothing to drain: it has ended");
            }
        }
    }

    /// Appends a batch to the log for `waiter`; returns the serial number of its ticket.
    fn append(&self, batch: Batch, waiter: impl FnOnce() -> Waiter) -> Result<u64, PublishError> {
        let Shared { core: Core { hub, log, .. }, start, desk, channels_max, .. } = &*self.shared;
        if batch.is_empty() {
            return Err(PublishError::Invalid(BatchError::Empty));
        }
        let refuse = |closed, batch| match closed {
            Closed::Full => PublishError::Busy(batch),
            Closed::Draining => PublishError::Draining(batch),
        };
        if let Err(closed) = desk.check() {
            return Err(refuse(closed, batch));
        }
        if hub.is_behind() || log.is_behind() {
            return Err(PublishError::Busy(batch));
        }
        if batch.events().iter().filter_map(|event| event.own_id).any(|id| hub.is_of_server(id)) {
            return Err(PublishError::Invalid(BatchError::IdOfServer));
        }
        if hub.exceeds_channels_max(batch.events()) {
            return Err(PublishError::TooManyChannels { channels_max: *channels_max, batch });
        }
        match desk.enter(waiter(), batch.len()) {
            Ok(serial) => {
                // Idle shards do not move the clock. Without this an event would seem older by the time
                // they slept.
                hub.set_now(start.elapsed());
                log.append(&mut vec![(application_ticket(serial), Record::from(batch.into_events()))]);
                Ok(serial)
            }
            Err(closed) => Err(refuse(closed, batch)),
        }
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle")
            .field("connections", &self.connections())
            .field("desk", &self.shared.desk)
            .finish_non_exhaustive()
    }
}

/// The result of a publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    /// The id that the server gave the first event. If the event has an id of its own, clients see that
    /// one.
    pub id: EventId,
    /// The number of events.
    pub events: usize,
    /// The number of streams that the event went to, each counted once: those subscribed to one of its
    /// channels, the user's, or all, when the event got its place. `None` for a batch of several events,
    /// and if the shards have not counted in time.
    pub receivers: Option<u64>,
}

impl Published {
    /// The ids of all events, in order.
    pub fn ids(&self) -> impl ExactSizeIterator<Item = EventId> + use<> {
        let EventId { tag, sequence: Sequence(first) } = self.id;
        (0..self.events).map(move |index| EventId { tag, sequence: Sequence(first + index as u64) })
    }
}

/// Why a batch was not published. After [`PublishError::Uncertain`] it may have been.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// The batch is invalid.
    #[error(transparent)]
    Invalid(#[from] BatchError),
    /// A shard is too far behind, or too many batches are under way. A publish that waits returns this
    /// after the [`publish_timeout`](super::ServerBuilder::publish_timeout).
    #[error("the server is behind; publish later")]
    Busy(Batch),
    /// The server drains, or has ended.
    #[error("the server is draining, or has ended")]
    Draining(Batch),
    /// The server would have more channels than it keeps
    /// ([`channels_max`](super::ServerBuilder::channels_max)). It has room again once channels go.
    #[error("the server has as many channels as it keeps, {channels_max}")]
    TooManyChannels {
        /// The bound.
        channels_max: usize,
        /// The batch.
        batch: Batch,
    },
    /// The log refused the batch.
    #[error("the log refused the events: {reason}")]
    Refused {
        /// The reason that the log gave.
        reason: String,
        /// The batch.
        batch: Batch,
    },
    /// The log has the batch, and its outcome did not come in time. The events may still appear, so
    /// publishing them again may publish them twice. The log in memory always decides at once.
    #[error("the log did not say in time whether it took the events: they may still appear")]
    Uncertain,
}

impl PublishError {
    /// The batch that was refused, to be published again. `None` for [`PublishError::Invalid`], and for
    /// [`PublishError::Uncertain`], whose batch the log has.
    #[must_use]
    pub fn into_batch(self) -> Option<Batch> {
        match self {
            PublishError::Busy(batch)
            | PublishError::Draining(batch)
            | PublishError::TooManyChannels { batch, .. }
            | PublishError::Refused { batch, .. } => Some(batch),
            PublishError::Invalid(_) | PublishError::Uncertain => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::Server;

    #[test]
    fn an_event_is_as_old_as_its_publish_though_no_shard_has_moved_the_clock_since() {
        let bound = Server::builder().listen(([127, 0, 0, 1], 0)).history_age_max(Duration::from_secs(60));
        let server = bound.bind().unwrap();
        let shared = server.handle();
        let Shared { core, desk, .. } = shared.shared();
        let hour = Duration::from_secs(3600);
        let handle = Handle::new(Shared {
            core: core.clone(),
            start: Instant::now().checked_sub(hour).expect("the machine runs for longer"),
            desk: Arc::clone(desk),
            ..*shared.shared()
        });
        handle.publish([&ChannelName::parse("a").unwrap()], &Event::new("now")).unwrap();
        core.hub.set_now(hour); // As the first shard does that wakes.
        assert_eq!(core.hub.channels_len(), 1, "it is not an hour old");
    }
}
