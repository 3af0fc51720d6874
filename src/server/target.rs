//! The targets of an application's events.

use super::batch::BatchError;
use crate::base::limits::EVENT_CHANNELS_MAX;
use crate::base::name::{ChannelName, UserId};
use crate::record::Events;
use crate::record::targets::{TARGET_ALL, user_target};
use crate::sse::event::Event;

/// The target of an event.
///
/// A `&ChannelName` converts to a target; so does an array, a slice, a vector or any iterator of them,
/// and a `&UserId`.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let server = downpour::Server::builder().listen(([127, 0, 0, 1], 0)).bind()?;
/// # let handle = server.handle();
/// use downpour::{ChannelName, Event, Target, UserId};
///
/// let (news, sport) = (ChannelName::parse("news")?, ChannelName::parse("sport")?);
/// let jane = UserId::parse("jane")?;
/// handle.publish(&news, &Event::new("to a channel"))?;
/// handle.publish([&news, &sport], &Event::new("once to each stream of either"))?;
/// handle.publish(&jane, &Event::new("to every stream of a user"))?;
/// handle.publish(Target::All, &Event::new("to every stream"))?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Target<'a> {
    /// These channels, from 1 to 128. A stream of several of them gets the event once. A channel named
    /// twice counts once.
    Channels(Vec<&'a ChannelName>),
    /// Every stream of this user.
    User(&'a UserId),
    /// Every stream.
    All,
}

impl<'a, I: IntoIterator<Item = &'a ChannelName>> From<I> for Target<'a> {
    fn from(channels: I) -> Target<'a> {
        Target::Channels(channels.into_iter().collect())
    }
}

impl<'a> From<&'a ChannelName> for Target<'a> {
    fn from(channel: &'a ChannelName) -> Target<'a> {
        Target::Channels(vec![channel])
    }
}

impl<'a> From<&'a UserId> for Target<'a> {
    fn from(user: &'a UserId) -> Target<'a> {
        Target::User(user)
    }
}

impl Target<'_> {
    /// Checks that the number of channels is allowed.
    pub(super) fn check(&self) -> Result<(), BatchError> {
        let Target::Channels(channels) = self else { return Ok(()) };
        if channels.is_empty() {
            return Err(BatchError::NoChannel);
        }
        if channels.len() > EVENT_CHANNELS_MAX {
            return Err(BatchError::TooManyChannels { channels: channels.len() });
        }
        Ok(())
    }

    /// Adds an event for this target after the others.
    pub(super) fn push(&self, events: &mut Events, event: &Event<'_>) {
        match self {
            Target::Channels(channels) => {
                let names: Vec<&str> = channels.iter().map(|name| name.as_str()).collect();
                events.push(&names, event);
            }
            Target::User(user) => events.push(&[&user_target(user.as_str())], event),
            Target::All => events.push(&[TARGET_ALL], event),
        }
    }
}
