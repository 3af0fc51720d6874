//! Events that an application publishes together, checked as in the body of a request.

use super::target::Target;
use crate::base::limits::EVENT_CHANNELS_MAX;
use crate::record::Events;
use crate::sse::event::Event;

/// Events that are published together: in order, next to one another, all or none.
///
/// [`Handle::batch`](super::Handle::batch) makes an empty batch. Its server limits its size: all events
/// together are at most as large as the body of a request, as for an array in `POST /publish`.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let server = downpour::Server::builder().listen(([127, 0, 0, 1], 0)).bind()?;
/// # let handle = server.handle();
/// use downpour::{ChannelName, Event};
///
/// let (scores, news) = (ChannelName::parse("scores")?, ChannelName::parse("news")?);
/// let mut batch = handle.batch();
/// batch.push([&scores], &Event::new("1:0").with_type("goal")?)?;
/// batch.push([&scores, &news], &Event::new("half time"))?;
/// assert_eq!(handle.publish_batch(batch)?.events, 2);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    events: Events,
    /// The sum of the events' bytes.
    bytes: usize,
    bytes_max: usize,
}

impl Batch {
    pub(super) fn new(bytes_max: usize) -> Batch {
        Batch { events: Events::new(), bytes: 0, bytes_max: bytes_max.min(BYTES_MAX) }
    }

    /// Adds an event to a target after the others.
    ///
    /// # Errors
    /// [`BatchError`] if the event is invalid or does not fit. The batch is unchanged.
    pub fn push<'a>(&mut self, target: impl Into<Target<'a>>, event: &Event<'_>) -> Result<(), BatchError> {
        let target = target.into();
        target.check()?;
        let text_bytes = |text: Option<&str>| text.map_or(0, str::len);
        let event_bytes = event.data().len() + text_bytes(event.event_type()) + text_bytes(event.id());
        // An empty event counts too, so the number of events in a batch is bounded.
        let bytes = self.bytes.saturating_add(event_bytes.max(1));
        if bytes > self.bytes_max {
            return Err(BatchError::TooLarge { bytes, limit_bytes: self.bytes_max });
        }
        self.bytes = bytes;
        target.push(&mut self.events, event);
        Ok(())
    }

    /// The number of events.
    #[must_use]
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Returns true if it holds no event.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    pub(super) fn events(&self) -> &Events {
        &self.events
    }

    pub(super) fn into_events(self) -> Events {
        self.events
    }

    /// A batch with these events, and without room for more.
    pub(super) fn returned(events: Events) -> Batch {
        Batch { events, bytes: 0, bytes_max: 0 }
    }
}

/// Most bytes of a batch, however large bodies may be. Rendering makes up to seven bytes of one, and
/// frames are below 4 GiB.
const BYTES_MAX: usize = 256 * 1024 * 1024;

/// Why an event cannot be published. Every variant is the application's doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BatchError {
    /// No channel was named.
    #[error("an event goes to one channel at least")]
    NoChannel,
    /// More channels than one event may go to.
    #[error("an event goes to at most {EVENT_CHANNELS_MAX} channels, this one to {channels}")]
    TooManyChannels {
        /// The number of channels that were named.
        channels: usize,
    },
    /// The event's own id has the form of ids that this server gives, now or before. A client that
    /// resumes with it would be misunderstood. Found when the batch is published.
    #[error("the event's id has the form of those that the server gives")]
    IdOfServer,
    /// The events have more bytes than the body of a request may have
    /// ([`body_bytes_max`](super::ServerBuilder::body_bytes_max)).
    #[error("the events of a batch have at most {limit_bytes} bytes, these have {bytes}")]
    TooLarge {
        /// The bytes that the batch would have.
        bytes: usize,
        /// The bytes that it may have.
        limit_bytes: usize,
    },
    /// A batch without events was published.
    #[error("there is no event in the batch")]
    Empty,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::name::{ChannelName, UserId};
    use crate::record::targets::{TARGET_ALL, user_target};

    #[test]
    fn what_cannot_be_published_leaves_the_batch_as_it_was() {
        let a = ChannelName::parse("a").unwrap();
        let names: Vec<ChannelName> =
            (0..=EVENT_CHANNELS_MAX).map(|n| ChannelName::parse(&n.to_string()).unwrap()).collect();
        let mut batch = Batch::new(10);
        batch.push([&a], &Event::new("12345")).unwrap();
        let before = batch.clone();
        assert_eq!(batch.push(&names[..0], &Event::new("")), Err(BatchError::NoChannel));
        assert_eq!(batch.push(&names, &Event::new("")), Err(BatchError::TooManyChannels { channels: 129 }));
        let too_large = Err(BatchError::TooLarge { bytes: 11, limit_bytes: 10 });
        assert_eq!(batch.push(&a, &Event::new("123456")), too_large);
        assert_eq!(batch.push([&a], &Event::new("123").with_type("abc").unwrap()), too_large);
        assert_eq!(batch, before);
        batch.push(&a, &Event::new("12345")).unwrap();
        assert_eq!(batch.len(), 2);
    }

    #[test]
    fn events_stand_in_a_batch_with_their_targets() {
        let (a, b) = (ChannelName::parse("a").unwrap(), ChannelName::parse("b").unwrap());
        let jane = UserId::parse("jane, doe").unwrap();
        let mut batch = Batch::new(100);
        let event = Event::new("x");
        batch.push(&a, &event).unwrap();
        batch.push([&a, &b, &a], &event).unwrap();
        batch.push(&vec![b], &event).unwrap();
        batch.push(&jane, &event).unwrap();
        batch.push(Target::All, &event).unwrap();
        let targets: Vec<Vec<&str>> = batch.events.iter().map(|draft| draft.targets().collect()).collect();
        let jane = user_target("jane, doe");
        assert_eq!(targets, [vec!["a"], vec!["a", "b"], vec!["b"], vec![&jane], vec![TARGET_ALL]]);
    }
}
