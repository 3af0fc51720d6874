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
use crate::frame::batch::{TARGET_ALL, user_target};
use crate::shard::core::Core;
use crate::shard::publishing::apply::application_ticket;
use crate::shard::{Message, PAUSE};
use crate::sse::event::Event;

/// Publishes to a server, counts what it holds, and has it drain; from any thread, also before it runs and after it
/// has ended.
///
/// Cloning it is cheap, and all clones are the same server's. A handle does not keep the server running.
///
/// Events of one thread are in the order in which it published them, and those of a batch are next to one another.
/// What is published before a stream subscribes is in the history alone. A [`Target`] says where an event goes: to
/// channels, to a user, or to all.
///
/// What it counts is of the moment: connections, streams, those of a channel or of a user, and channels. Counters since
/// the start are at `GET /metrics` and `GET /sse/stats` of the server.
///
/// A server that falls behind slows publishers down instead of losing anything: [`Handle::publish`] waits,
/// [`Handle::publish_with`] gives the batch back. Slow clients never delay a publisher.
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

/// What all handles of a server share.
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

    /// Publishes an event to a target, such as channels, and waits until it is committed and its receivers are counted: as a rule
    /// some microseconds, and at most the server's [`publish_timeout`](super::ServerBuilder::publish_timeout).
    ///
    /// Once this returns `Ok`, the event has its place in the order: every stream that subscribed before gets it, and
    /// every one that resumes from before it, as long as it is retained. It waits for no stream to be written to.
    ///
    /// # Errors
    /// [`PublishError`]. Except for [`PublishError::Uncertain`], the event was not published and never will be;
    /// [`PublishError::into_batch`] has it, to be tried again.
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
    /// As [`Handle::publish`]; [`PublishError::into_batch`] has the batch.
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

    /// Publishes all events of a batch, or none, without waiting; `callback` is told what came of it.
    ///
    /// Where this returns `Ok`, `callback` is called exactly once: as soon as it is known what came of the batch, and at
    /// the latest when the server ends. That is on a thread which the server keeps for callbacks, one after the other:
    /// one that takes long delays the next, and in the end those who publish. A callback may publish. A panic in it is
    /// logged and harms nothing else.
    ///
    /// # Errors
    /// [`PublishError`]; `callback` is not called then, and [`PublishError::into_batch`] has the batch.
    /// [`PublishError::Busy`] means that the server is behind: try again in a millisecond or so, or slow down.
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

    /// How many connections are open: streams, and those that publish or are idle.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.core.open_connections.load(Ordering::Relaxed)
    }

    /// How many streams are open, those included that are catching up.
    #[must_use]
    pub fn streams(&self) -> usize {
        self.shared.core.hub.subscribers(TARGET_ALL) as usize
    }

    /// How many of them are this user's.
    #[must_use]
    pub fn streams_of(&self, user: &UserId) -> usize {
        self.shared.core.hub.subscribers(&user_target(user.as_str())) as usize
    }

    /// How many channels have subscribers or retained events.
    #[must_use]
    pub fn channels(&self) -> usize {
        self.shared.core.hub.channels_len()
    }

    /// How many streams subscribe to the channel by its name, those included that are catching up. Streams that have it
    /// by a pattern are not counted.
    #[must_use]
    pub fn subscribers(&self, channel: &ChannelName) -> usize {
        self.shared.core.hub.subscribers(channel.as_str()) as usize
    }

    /// Has the server drain: every stream is told so and ends, requests under way are answered, and nothing new is
    /// published. When all connections are gone, or after the
    /// [`drain_timeout`](super::ServerBuilder::drain_timeout), [`Server::run`](super::Server::run) returns.
    ///
    /// Returns at once; doing it again does nothing.
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
        if hub.is_behind() {
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
                // Shards that have nothing to do do not move the clock: without this an event would be as old as their sleep.
                hub.set_now(start.elapsed());
                log.append(batch.into_events(), application_ticket(serial));
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

/// What was published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    /// The id of the first event, as the server gives it. Clients see the publisher's own one where an event has one.
    pub id: EventId,
    /// How many events.
    pub events: usize,
    /// How many streams the event went to: those that subscribed to a channel of it, the user's, or all, when it got its place, each counted once. Of a batch of
    /// several events nobody counts; and where the shards have not counted in time, this is `None` too.
    pub receivers: Option<u64>,
}

impl Published {
    /// The ids of all events, in order.
    pub fn ids(&self) -> impl ExactSizeIterator<Item = EventId> + use<> {
        let EventId { tag, sequence: Sequence(first) } = self.id;
        (0..self.events).map(move |index| EventId { tag, sequence: Sequence(first + index as u64) })
    }
}

/// Why nothing was published, or why that is not known. Only [`PublishError::Uncertain`] leaves it open.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// It is nothing that can be published.
    #[error(transparent)]
    Invalid(#[from] BatchError),
    /// A shard is too far behind, or too many batches are under way: for as long as the
    /// [`publish_timeout`](super::ServerBuilder::publish_timeout) where the publisher could wait.
    #[error("the server is behind; publish later")]
    Busy(Batch),
    /// The server drains, or has ended.
    #[error("the server is draining, or has ended")]
    Draining(Batch),
    /// There would be more channels than the server keeps ([`channels_max`](super::ServerBuilder::channels_max)); this
    /// passes when others go.
    #[error("the server has as many channels as it keeps, {channels_max}")]
    TooManyChannels {
        /// The bound.
        channels_max: usize,
        /// What was to be published.
        batch: Batch,
    },
    /// The log does not take it.
    #[error("the log refused the events: {reason}")]
    Refused {
        /// What the log said.
        reason: String,
        /// What was to be published.
        batch: Batch,
    },
    /// The log has it and has not said in time what became of it: it may still appear. Whoever publishes it again may
    /// publish it twice. The log in memory always says so at once.
    #[error("the log did not say in time whether it took the events: they may still appear")]
    Uncertain,
}

impl PublishError {
    /// The batch that was refused, to be published again. `None` where there is none: for
    /// [`PublishError::Invalid`], and for [`PublishError::Uncertain`], whose batch the log has.
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
