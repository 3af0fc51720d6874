//! Events on their way to the log: rendered, named, and not yet numbered.

use std::ops::Range;

use crate::base::id::ClientId;
use crate::base::name::ChannelName;
use crate::frame::render::{self, Rendered};
use crate::sse::event::Event;

/// Events that are appended, numbered and applied together, in their order.
///
/// One buffer holds the frames of all of them and one the names of their channels, so that a large batch costs no
/// allocation for each event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    bytes: Vec<u8>,
    /// The targets of each event, joined by [`JOINT`].
    names: String,
    drafts: Vec<Draft>,
    /// The events that go to one client, by their places, in order.
    clients: Vec<(usize, ClientId)>,
}

/// Stands between targets: a control character, which no name contains.
const JOINT: char = '\u{1f}';

/// Begins the names of targets that are no channels: a control character too.
const RESERVED: char = '\u{1}';

/// The target that is every stream.
pub const TARGET_ALL: &str = "\u{1}all";

/// The target that is every stream of a user.
#[must_use]
pub fn user_target(user: &str) -> String {
    format!("{RESERVED}user:{user}")
}

/// The target that is the one stream of this name.
#[must_use]
pub fn client_target(client: ClientId) -> String {
    format!("{CLIENT}{client}")
}

/// Begins the names of targets that are one client.
const CLIENT: &str = "\u{1}client:";

/// Returns true if and only if a target is one client.
#[must_use]
pub fn is_client(target: &str) -> bool {
    target.starts_with(CLIENT)
}

/// The user that a target is, if it is one.
#[must_use]
pub fn user_of(target: &str) -> Option<&str> {
    target.strip_prefix(RESERVED)?.strip_prefix("user:")
}

/// Returns true if and only if a target is a channel by name, and not a user, a client or all.
#[must_use]
pub fn is_channel(target: &str) -> bool {
    !target.starts_with(RESERVED)
}

/// Where the parts of one event stand in its batch.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Draft {
    frame: Rendered,
    names: Range<usize>,
}

/// One event of a batch.
#[derive(Clone, Copy, Debug)]
pub struct DraftRef<'a> {
    /// The frame, with filler where its id will stand.
    pub frame: &'a [u8],
    /// Where the id goes in `frame`; `None` where the event carries an id of its publisher's.
    pub id_at: Option<usize>,
    names: &'a str,
}

impl<'a> DraftRef<'a> {
    /// The names of the targets that the event goes to, channels or what [`user_target`], [`client_target`] and
    /// [`TARGET_ALL`] name: one or more, each once.
    pub fn targets(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.names.split(JOINT)
    }
}

impl Batch {
    /// A batch without events.
    #[must_use]
    pub fn new() -> Batch {
        Batch::default()
    }

    /// A batch of one event to one channel.
    #[must_use]
    pub fn of(channel: &ChannelName, event: &Event<'_>) -> Batch {
        let mut batch = Batch::new();
        batch.push(&[channel.as_str()], event);
        batch
    }

    /// Renders `event` behind the others. `targets` are valid channel names ([`ChannelName`]), a [`user_target`], or
    /// [`TARGET_ALL`], at least one.
    ///
    /// # Panics
    /// If `targets` is empty.
    pub fn push(&mut self, targets: &[&str], event: &Event<'_>) {
        assert!(!targets.is_empty(), "an event goes to one target at least");
        let frame = render::render(&mut self.bytes, event);
        let from = self.names.len();
        for (index, name) in targets.iter().enumerate() {
            if targets[..index].contains(name) {
                continue; // Named twice, it is one target all the same.
            }
            if self.names.len() > from {
                self.names.push(JOINT);
            }
            self.names.push_str(name);
        }
        self.drafts.push(Draft { frame, names: from..self.names.len() });
    }

    /// Renders `event` behind the others, for the one stream of this name.
    pub fn push_to_client(&mut self, client: ClientId, event: &Event<'_>) {
        self.clients.push((self.drafts.len(), client));
        self.push(&[&client_target(client)], event);
    }

    /// The events that were pushed for one stream each: their places, from 0, and the streams.
    #[must_use]
    pub fn clients(&self) -> &[(usize, ClientId)] {
        &self.clients
    }

    /// Takes the events from `len` on out again.
    pub fn truncate(&mut self, len: usize) {
        if let Some(first) = self.drafts.get(len) {
            self.bytes.truncate(first.frame.from);
            self.names.truncate(first.names.start);
            self.drafts.truncate(len);
            self.clients.retain(|&(place, _)| place < len);
        }
    }

    /// How many events it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.drafts.len()
    }

    /// Returns true if and only if it holds no event.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.drafts.is_empty()
    }

    /// Bytes of all its frames, within a few for each.
    #[must_use]
    pub fn frame_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The events, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = DraftRef<'_>> {
        self.drafts.iter().map(|draft| DraftRef {
            frame: &self.bytes[draft.frame.from..draft.frame.to],
            id_at: draft.frame.id_at,
            names: &self.names[draft.names.clone()],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_keep_their_order_and_their_channels() {
        let mut batch = Batch::new();
        batch.push(&["a"], &Event::new("1"));
        batch.push(&["b", "c", "b"], &Event::new("2"));
        let seen: Vec<(Vec<&str>, bool)> = batch
            .iter()
            .map(|draft| (draft.targets().collect(), draft.frame.ends_with(b"data: 2\n\n\r\n")))
            .collect();
        assert_eq!(seen, [(vec!["a"], false), (vec!["b", "c"], true)]);
    }

    #[test]
    fn what_is_taken_out_again_leaves_the_rest_as_it_was() {
        let client = ClientId { secret: 7, shard: 0, slot: 1 };
        let mut whole = Batch::new();
        whole.push(&["a"], &Event::new("1"));
        whole.push_to_client(client, &Event::new("2"));
        let expected = whole.clone();
        whole.push_to_client(client, &Event::new("3"));
        whole.push(&["b"], &Event::new("4"));
        assert_eq!(whole.clients(), [(1, client), (2, client)]);
        whole.truncate(7);
        assert_eq!(whole.len(), 4);
        whole.truncate(2);
        assert_eq!((whole.len(), whole.clients()), (2, &[(1, client)][..]));
        let seen = |batch: &Batch| {
            batch
                .iter()
                .map(|draft| (draft.frame.to_vec(), draft.targets().collect::<String>()))
                .collect::<Vec<_>>()
        };
        assert_eq!(seen(&whole), seen(&expected));
        whole.push(&["c"], &Event::new("5"));
        assert_eq!(whole.iter().nth(2).map(|draft| draft.targets().collect()), Some(vec!["c"]));
    }

    #[test]
    fn targets_that_are_no_channels_are_known_by_their_names() {
        let client = client_target(ClientId { secret: 1, shard: 2, slot: 3 });
        let user = user_target("client:x");
        assert!(is_client(&client) && !is_channel(&client) && user_of(&client).is_none());
        assert!(!is_client(&user) && !is_channel(&user) && user_of(&user) == Some("client:x"));
        assert!(!is_client("client:x") && user_of("user:x").is_none() && user_of(TARGET_ALL).is_none());
    }
}
