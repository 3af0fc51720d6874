//! Published events as the log holds them: encoded, but neither numbered nor framed.

use std::num::NonZeroU32;
use std::ops::Range;

use super::targets::{JOINT, client_target};
use crate::base::id::{ClientId, EventId};
use crate::base::name::ChannelName;
use crate::sse::encode::{IdField, encode_event};
use crate::sse::event::Event;

/// Events that are appended, numbered and applied together, in their order.
///
/// One buffer holds all texts and one holds all names of targets, so that many events do not allocate
/// one by one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Events {
    texts: Vec<u8>,
    /// The targets of each event, joined by [`JOINT`], and its conflation key.
    names: String,
    drafts: Vec<Draft>,
}

/// An event that goes to one stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addressed {
    /// The event's index.
    pub place: usize,
    /// The stream.
    pub client: ClientId,
    /// The event's position in the publisher's request.
    pub part: u64,
}

/// Where the parts of one event are.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Draft {
    text: Range<usize>,
    id: IdPlace,
    targets: Range<usize>,
    /// The conflation key, behind the targets. Empty for none.
    key: Range<usize>,
    ttl: Option<NonZeroU32>,
    /// For an event to one stream: the stream, and the event's position in the publisher's request.
    client: Option<Box<(ClientId, u64)>>,
}

/// Where an event's id is in its text, counted from its first byte.
#[derive(Clone, Debug, PartialEq, Eq)]
enum IdPlace {
    /// Filler of [`EventId::WIDTH`] bytes begins here. The server's id replaces it once it is known.
    Server(usize),
    /// The publisher's id.
    Own(Range<usize>),
}

/// One event.
#[derive(Clone, Copy, Debug)]
pub struct EventRef<'a> {
    /// The event as `text/event-stream` (WHATWG HTML 9.2), with filler in place of the server's id.
    pub text: &'a [u8],
    /// Where the server's id goes in `text`. `None` if the publisher gave the event an id.
    pub id_at: Option<usize>,
    /// The publisher's id.
    pub own_id: Option<&'a str>,
    /// The conflation key.
    pub key: Option<&'a str>,
    /// Seconds for which it may be replayed. `None` means no bound.
    pub ttl: Option<NonZeroU32>,
    targets: &'a str,
}

impl<'a> EventRef<'a> {
    /// The targets of the event: channels, or the names made by [`user_target`](super::targets::user_target),
    /// [`client_target`] and [`TARGET_ALL`](super::targets::TARGET_ALL). There is at least one, and each comes once.
    pub fn targets(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.targets.split(JOINT)
    }
}

impl Events {
    /// An empty events.
    #[must_use]
    pub fn new() -> Events {
        Events::default()
    }

    /// One event to one channel.
    #[must_use]
    pub fn of(channel: &ChannelName, event: &Event<'_>) -> Events {
        let mut events = Events::new();
        events.push(&[channel.as_str()], event);
        events
    }

    /// Encodes `event` behind the others. `targets` are valid channel names ([`ChannelName`]), a
    /// [`user_target`](super::targets::user_target), or [`TARGET_ALL`](super::targets::TARGET_ALL), at
    /// least one. An event without an id of its own gets filler in the place of the server's.
    ///
    /// # Panics
    /// If `targets` is empty.
    pub fn push(&mut self, targets: &[&str], event: &Event<'_>) {
        assert!(!targets.is_empty(), "an event goes to one target at least");
        let from = self.texts.len();
        let field = match event.id() {
            Some(text) => IdField::Text(text),
            None => IdField::Reserved(EventId::WIDTH),
        };
        let at = encode_event(&mut self.texts, event, field).expect("there is an id field") - from;
        let id = match event.id() {
            Some(text) => IdPlace::Own(at..at + text.len()),
            None => IdPlace::Server(at),
        };
        let names_from = self.names.len();
        for (index, name) in targets.iter().enumerate() {
            if targets[..index].contains(name) {
                continue; // A repeated name is still one target.
            }
            if self.names.len() > names_from {
                self.names.push(JOINT);
            }
            self.names.push_str(name);
        }
        let names_to = self.names.len();
        self.drafts.push(Draft {
            text: from..self.texts.len(),
            id,
            targets: names_from..names_to,
            key: names_to..names_to,
            ttl: None,
            client: None,
        });
    }

    /// Gives the last pushed event a conflation key.
    pub fn set_key(&mut self, key: &str) {
        if let Some(last) = self.drafts.last_mut() {
            let from = self.names.len();
            self.names.push_str(key);
            last.key = from..self.names.len();
        }
    }

    /// Bounds the seconds for which the last pushed event may be replayed.
    pub fn set_ttl(&mut self, ttl: Option<NonZeroU32>) {
        if let Some(last) = self.drafts.last_mut() {
            last.ttl = ttl;
        }
    }

    /// Encodes `event` behind the others, for the one stream with this id. `part` is its position in the
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

    /// Bytes of all texts, of the targets and of the keys.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.texts.len() + self.names.len()
    }

    /// The number of targets of all events.
    #[must_use]
    pub fn targets(&self) -> usize {
        self.iter().map(|event| event.targets().count()).sum()
    }

    /// The event at an index.
    ///
    /// # Panics
    /// If there are not as many.
    #[must_use]
    pub fn get(&self, index: usize) -> EventRef<'_> {
        let draft = &self.drafts[index];
        let text = &self.texts[draft.text.clone()];
        let (id_at, own_id) = match &draft.id {
            IdPlace::Server(at) => (Some(*at), None),
            IdPlace::Own(range) => (None, Some(&text[range.clone()])),
        };
        EventRef {
            text,
            id_at,
            own_id: own_id.map(|id| str::from_utf8(id).expect("it was encoded from a text")),
            key: Some(&self.names[draft.key.clone()]).filter(|key| !key.is_empty()),
            ttl: draft.ttl,
            targets: &self.names[draft.targets.clone()],
        }
    }

    /// The events, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = EventRef<'_>> {
        (0..self.drafts.len()).map(|index| self.get(index))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::id::NodeId;

    #[test]
    fn events_keep_their_order_and_their_channels() {
        let mut events = Events::new();
        events.push(&["a"], &Event::new("1"));
        events.push(&["b", "c", "b"], &Event::new("2").with_id("mine").unwrap());
        events.set_ttl(NonZeroU32::new(7));
        events.set_key("k");
        let beside: Vec<_> =
            events.iter().map(|event| (event.own_id, event.ttl.map(NonZeroU32::get), event.key)).collect();
        assert_eq!(beside, [(None, None, None), (Some("mine"), Some(7), Some("k"))]);
        let seen: Vec<(Vec<&str>, bool)> = events
            .iter()
            .map(|draft| (draft.targets().collect(), draft.text.ends_with(b"data: 2\n\n")))
            .collect();
        assert_eq!(seen, [(vec!["a"], false), (vec!["b", "c"], true)]);
    }

    #[test]
    fn a_text_has_room_for_the_servers_id_or_the_publishers_own() {
        let mut events = Events::new();
        events.push(&["a"], &Event::new("hello"));
        events.push(&["a"], &Event::new("x").with_id("mine").unwrap());
        let [first, second] = [events.get(0), events.get(1)];
        let room = "0".repeat(EventId::WIDTH);
        assert_eq!(str::from_utf8(first.text).unwrap(), format!("id: {room}\ndata: hello\n\n"));
        assert_eq!((first.id_at, first.own_id), (Some("id: ".len()), None));
        assert_eq!(second.text, b"id: mine\ndata: x\n\n");
        assert_eq!((second.id_at, second.own_id), (None, Some("mine")));
    }

    #[test]
    fn events_that_are_not_kept_leave_the_others_as_they_are() {
        let client = ClientId { secret: 7, node: NodeId::ALONE, shard: 0, slot: 1 };
        let mut events = Events::new();
        events.push(&["1"], &Event::new("1"));
        events.push_to_client(client, 20, &Event::new("x"));
        events.push(&["2"], &Event::new("2"));
        events.push_to_client(client, 40, &Event::new("3"));
        events.retain(|place| place != 1);
        let seen: Vec<&str> = events.iter().flat_map(|draft| draft.targets()).collect();
        assert_eq!((events.len(), seen), (3, vec!["1", "2", &*client_target(client)]));
        assert!(events.iter().nth(2).unwrap().text.ends_with(b"data: 3\n\n"));
        assert!(events.addressed().eq([Addressed { place: 2, client, part: 40 }]));
    }
}
