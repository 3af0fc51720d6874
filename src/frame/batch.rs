//! Events on their way to the log: rendered, but not yet numbered.

use std::num::NonZeroU32;
use std::ops::Range;

use crate::base::id::ClientId;
use crate::base::name::ChannelName;
use crate::frame::render::{self, Rendered};
use crate::sse::event::Event;

/// Events that are appended, numbered and applied together, in their order.
///
/// One buffer holds all frames and one holds all names of channels, so a large batch does not allocate
/// for each event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    bytes: Vec<u8>,
    /// The targets of each event, joined by [`JOINT`].
    names: String,
    drafts: Vec<Draft>,
}

/// An event of a batch that goes to one stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addressed {
    /// The event's index in the batch.
    pub place: usize,
    /// The stream.
    pub client: ClientId,
    /// The event's position in the publisher's request.
    pub part: u64,
}

/// Separates targets. It is a control character, which no name contains.
const JOINT: char = '\u{1f}';

/// Begins the names of targets that are not channels. It is a control character too.
const RESERVED: char = '\u{1}';

/// The target of all streams.
pub const TARGET_ALL: &str = "\u{1}all";

/// The target of all streams of a user.
#[must_use]
pub fn user_target(user: &str) -> String {
    format!("{RESERVED}user:{user}")
}

/// The target of the one stream with this id.
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

/// The user of a target. `None` if the target is not a user.
#[must_use]
pub fn user_of(target: &str) -> Option<&str> {
    target.strip_prefix(RESERVED)?.strip_prefix("user:")
}

/// Returns true if and only if a target is a channel, not a user, a client or all streams.
#[must_use]
pub fn is_channel(target: &str) -> bool {
    !target.starts_with(RESERVED)
}

/// Where the parts of one event are in its batch.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Draft {
    frame: Rendered,
    names: Range<usize>,
    ttl: Option<NonZeroU32>,
    /// For an event to one stream: the stream, and the event's position in the publisher's request.
    client: Option<Box<(ClientId, u64)>>,
}

/// One event of a batch.
#[derive(Clone, Copy, Debug)]
pub struct DraftRef<'a> {
    /// The frame, with filler in place of its id.
    pub frame: &'a [u8],
    /// Where the id goes in `frame`. `None` if the publisher gave the event an id.
    pub id_at: Option<usize>,
    /// The publisher's id.
    pub own_id: Option<&'a str>,
    /// Seconds for which it may be replayed. `None` means no bound.
    pub ttl: Option<NonZeroU32>,
    names: &'a str,
}

impl<'a> DraftRef<'a> {
    /// The targets of the event: channels, or the names made by [`user_target`], [`client_target`] and
    /// [`TARGET_ALL`]. There is at least one, and each comes once.
    pub fn targets(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.names.split(JOINT)
    }
}

impl Batch {
    /// An empty batch.
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

    /// Renders `event` behind the others. `targets` are valid channel names ([`ChannelName`]), a
    /// [`user_target`], or [`TARGET_ALL`], at least one.
    ///
    /// # Panics
    /// If `targets` is empty.
    pub fn push(&mut self, targets: &[&str], event: &Event<'_>) {
        assert!(!targets.is_empty(), "an event goes to one target at least");
        let frame = render::render(&mut self.bytes, event);
        let from = self.names.len();
        for (index, name) in targets.iter().enumerate() {
            if targets[..index].contains(name) {
                continue; // A repeated name is still one target.
            }
            if self.names.len() > from {
                self.names.push(JOINT);
            }
            self.names.push_str(name);
        }
        self.drafts.push(Draft { frame, names: from..self.names.len(), ttl: None, client: None });
    }

    /// Bounds the seconds for which the last pushed event may be replayed.
    pub fn set_ttl(&mut self, ttl: Option<NonZeroU32>) {
        if let Some(last) = self.drafts.last_mut() {
            last.ttl = ttl;
        }
    }

    /// Renders `event` behind the others, for the one stream with this id. `part` is its position in the
    /// publisher's request. It names the event in the report that the stream is gone.
    pub fn push_to_client(&mut self, client: ClientId, part: u64, event: &Event<'_>) {
        self.push(&[&client_target(client)], event);
        if let Some(draft) = self.drafts.last_mut() {
            draft.client = Some(Box::new((client, part)));
        }
    }

    /// The events that go to one stream each, in order.
    pub fn addressed(&self) -> impl Iterator<Item = Addressed> {
        let named =
            self.drafts.iter().enumerate().filter_map(|(place, draft)| Some((place, draft.client.as_ref()?)));
        named.map(|(place, named)| Addressed { place, client: named.0, part: named.1 })
    }

    /// Keeps the events at the indexes for which `keeps` returns true. The bytes of the others stay
    /// until the batch goes.
    pub fn retain(&mut self, mut keeps: impl FnMut(usize) -> bool) {
        let mut place = 0;
        self.drafts.retain(|_| {
            place += 1;
            keeps(place - 1)
        });
    }

    /// The number of events.
    #[must_use]
    pub fn len(&self) -> usize {
        self.drafts.len()
    }

    /// Returns true if and only if it has no event.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.drafts.is_empty()
    }

    /// Bytes of all frames, within a few bytes for each.
    #[must_use]
    pub fn frame_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The events, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = DraftRef<'_>> {
        self.drafts.iter().map(|draft| {
            let frame = &self.bytes[draft.frame.from..draft.frame.to];
            let own_id = draft.frame.own_id.clone().map(|range| &frame[range]);
            DraftRef {
                frame,
                id_at: draft.frame.id_at,
                own_id: own_id.map(|id| str::from_utf8(id).expect("it was rendered from a text")),
                ttl: draft.ttl,
                names: &self.names[draft.names.clone()],
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::id::NodeId;

    #[test]
    fn events_keep_their_order_and_their_channels() {
        let mut batch = Batch::new();
        batch.push(&["a"], &Event::new("1"));
        batch.push(&["b", "c", "b"], &Event::new("2").with_id("mine").unwrap());
        batch.set_ttl(NonZeroU32::new(7));
        let beside: Vec<_> =
            batch.iter().map(|draft| (draft.own_id, draft.ttl.map(NonZeroU32::get))).collect();
        assert_eq!(beside, [(None, None), (Some("mine"), Some(7))]);
        let seen: Vec<(Vec<&str>, bool)> = batch
            .iter()
            .map(|draft| (draft.targets().collect(), draft.frame.ends_with(b"data: 2\n\n\r\n")))
            .collect();
        assert_eq!(seen, [(vec!["a"], false), (vec!["b", "c"], true)]);
    }

    #[test]
    fn events_that_are_not_kept_leave_the_others_as_they_are() {
        let client = ClientId { secret: 7, node: NodeId::ALONE, shard: 0, slot: 1 };
        let mut batch = Batch::new();
        batch.push(&["1"], &Event::new("1"));
        batch.push_to_client(client, 20, &Event::new("x"));
        batch.push(&["2"], &Event::new("2"));
        batch.push_to_client(client, 40, &Event::new("3"));
        batch.retain(|place| place != 1);
        let seen: Vec<&str> = batch.iter().flat_map(|draft| draft.targets()).collect();
        assert_eq!((batch.len(), seen), (3, vec!["1", "2", &*client_target(client)]));
        assert!(batch.iter().nth(2).unwrap().frame.ends_with(b"data: 3\n\n\r\n"));
        assert!(batch.addressed().eq([Addressed { place: 2, client, part: 40 }]));
    }

    #[test]
    fn targets_that_are_no_channels_are_known_by_their_names() {
        let client = client_target(ClientId { secret: 1, node: NodeId::ALONE, shard: 2, slot: 3 });
        let user = user_target("client:x");
        assert!(is_client(&client) && !is_channel(&client) && user_of(&client).is_none());
        assert!(!is_client(&user) && !is_channel(&user) && user_of(&user) == Some("client:x"));
        assert!(!is_client("client:x") && user_of("user:x").is_none() && user_of(TARGET_ALL).is_none());
    }
}
