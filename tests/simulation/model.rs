//! The reference model: every published event, and the order in which the log committed them.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use downpour::base::id::{EpochTag, EventId, Sequence};
use downpour::base::random::SplitMix64;
use downpour::hub::TICK;
use downpour::log::{Acknowledgement, Committed, Origin, Refusal, Sink, Ticket};
use downpour::record::targets::{TARGET_ALL, is_client, user_target};
use downpour::record::{Events, Record};
use downpour::sse::decode::Decoder;

use crate::allocated;

/// All channels.
pub(crate) const CHANNELS: [&str; 6] = ["a", "news", "entity:42", "größe", "chat/7", "user.9"];

/// All patterns to subscribe to, besides channels.
pub(crate) const PATTERNS: [&str; 4] = ["*", "entity:*", "n*", "gr*"];

/// The indexes of the channels that a name in a subscription selects.
pub(crate) fn channels_of(name: &str) -> Vec<usize> {
    let is_meant = |channel: &str| match name.strip_suffix('*') {
        Some(prefix) => channel.starts_with(prefix),
        None => channel == name,
    };
    (0..CHANNELS.len()).filter(|&index| is_meant(CHANNELS[index])).collect()
}

/// All users.
pub(crate) const USERS: [&str; 2] = ["ann", "9"];

/// The index of the target of all streams. Targets begin with the channels.
pub(crate) const ALL: usize = CHANNELS.len();

/// The number of targets: the channels, all, the users.
pub(crate) const TARGETS: usize = ALL + 1 + USERS.len();

/// The index of the target that is one client, behind all others. The draft names the client.
pub(crate) const SELF: usize = TARGETS;

/// The name of a target in a batch.
pub(crate) fn target_name(index: usize) -> String {
    match index {
        ALL => TARGET_ALL.to_owned(),
        user if user > ALL => user_target(user_name(user)),
        channel => CHANNELS[channel].to_owned(),
    }
}

/// The user of a target.
pub(crate) fn user_name(index: usize) -> &'static str {
    USERS[index - ALL - 1]
}

/// A set of targets, by their indexes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ChannelSet(u16);

impl ChannelSet {
    pub(crate) fn of(indexes: &[usize]) -> ChannelSet {
        ChannelSet(indexes.iter().fold(0, |set, index| set | 1 << index))
    }

    fn named<'a>(names: impl Iterator<Item = &'a str>) -> ChannelSet {
        let known = |name: &str| (0..TARGETS).find(|&index| target_name(index) == name);
        let index = |name: &str| if is_client(name) { Some(SELF) } else { known(name) };
        let indexes: Vec<usize> = names.map(|name| index(name).expect("nobody uses this target")).collect();
        ChannelSet::of(&indexes)
    }

    pub(crate) fn indexes(self) -> impl Iterator<Item = usize> {
        (0..=SELF).filter(move |index| self.0 & (1 << index) != 0)
    }

    pub(crate) fn has(self, index: usize) -> bool {
        self.0 & (1 << index) != 0
    }

    pub(crate) fn with(self, index: usize) -> ChannelSet {
        ChannelSet(self.0 | 1 << index)
    }

    pub(crate) fn without(self, index: usize) -> ChannelSet {
        ChannelSet(self.0 & !(1 << index))
    }

    pub(crate) fn len(self) -> u32 {
        self.0.count_ones()
    }

    /// Returns true if and only if not all its targets are channels.
    pub(crate) fn has_other_targets(self) -> bool {
        self.0 >> ALL != 0
    }

    pub(crate) fn common(self, other: ChannelSet) -> ChannelSet {
        ChannelSet(self.0 & other.0)
    }

    pub(crate) fn meets(self, other: ChannelSet) -> bool {
        self.0 & other.0 != 0
    }
}

/// A published event. Its data begins with its serial number, which is its index.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) channels: ChannelSet,
    /// The client, for an event to one client.
    pub(crate) client: Option<String>,
    pub(crate) event_type: &'static str,
    /// As its readers must see it.
    pub(crate) data: String,
    /// The publisher's id, and the time for which it may be replayed.
    pub(crate) own_id: Option<String>,
    pub(crate) ttl: Option<Duration>,
    /// The publisher's connection, and the bytes that it must have written before the event counts.
    pub(crate) connection: usize,
    pub(crate) written_at: u64,
    /// The number of events that are committed together with it or not at all. `None` for a line, which
    /// is independent.
    pub(crate) whole: Option<usize>,
    /// It was sent more than once, or given up by the log. So it has no place in the order of its
    /// connection.
    pub(crate) is_retried: bool,
    pub(crate) fate: Fate,
}

/// Clients that are remembered.
const CLIENTS_MAX: usize = 12;

/// Bytes that an event has beside its data, in its frame and in the history.
const FRAME_BYTES: usize = 500;

/// The fate of a draft.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Not yet known.
    Open,
    /// It is committed as this event.
    Committed(u64),
    /// It was committed, and the log lost it.
    Lost,
    /// The publisher's answer says that it will not appear.
    Refused,
}

/// A committed event.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) serial: usize,
    pub(crate) channels: ChannelSet,
    /// The id that its readers see.
    pub(crate) id: String,
    /// The time for which it may be replayed, and the latest instant at which that time began.
    pub(crate) ttl: Option<Duration>,
    pub(crate) applied_at: Option<Instant>,
    /// The step in which it was committed.
    pub(crate) committed_in: u64,
}

#[derive(Clone, Copy, Debug)]
struct Epoch {
    tag: EpochTag,
    first: u64,
}

/// All events, and what the log did with them.
#[derive(Debug, Default)]
pub(crate) struct Model {
    pub(crate) drafts: Vec<Draft>,
    /// Event `n` of the sequence is at `n - 1`.
    events: Vec<Event>,
    by_channel: [Vec<u64>; TARGETS + 1],
    epochs: Vec<Epoch>,
    /// Channels whose history a request has dropped.
    dropped: ChannelSet,
    /// The step of the world.
    pub(crate) step: u64,
    /// The current time.
    pub(crate) now: Option<Instant>,
    /// Bytes written by each connection of a publisher.
    pub(crate) written: Vec<u64>,
    /// The last committed serial of each connection.
    last_committed: HashMap<usize, usize>,
    /// Ids of clients that were seen lately.
    clients: VecDeque<String>,
}

impl Model {
    /// The number of the last event.
    pub(crate) fn head(&self) -> u64 {
        self.events.len() as u64
    }

    pub(crate) fn event(&self, number: u64) -> Option<&Event> {
        self.events.get(usize::try_from(number.checked_sub(1)?).ok()?)
    }

    /// The client of an event to one client.
    pub(crate) fn client_of(&self, event: &Event) -> Option<&str> {
        self.drafts[event.serial].client.as_deref()
    }

    /// Notes a request to drop the history of a channel.
    pub(crate) fn note_drop(&mut self, channel: usize) {
        self.dropped = self.dropped.with(channel);
    }

    /// Returns true if and only if event `number` may have lapsed by now. It may lapse up to a tick
    /// early.
    pub(crate) fn may_have_lapsed(&self, number: u64) -> bool {
        let lapses = self.event(number).and_then(|event| Some(event.applied_at? + event.ttl?));
        lapses.zip(self.now).is_some_and(|(lapses, now)| now + TICK >= lapses)
    }

    /// Returns true if and only if one of `channels` retains event `number`. Such a channel was not
    /// dropped and has less than `events_max` events behind it, up to `end`. It must give up events by
    /// number.
    pub(crate) fn retains(&self, channels: ChannelSet, number: u64, end: u64, events_max: usize) -> bool {
        let common = self.event(number).map(|event| event.channels.common(channels)).unwrap_or_default();
        let retains =
            |channel| !self.dropped.has(channel) && self.of_channel(channel, number, end).len() < events_max;
        !self.may_have_lapsed(number) && common.indexes().any(retains)
    }

    /// Notes a connected client.
    pub(crate) fn note_client(&mut self, client: &str) {
        self.clients.push_back(client.to_owned());
        if self.clients.len() > CLIENTS_MAX {
            self.clients.pop_front();
        }
    }

    /// A client that was connected lately, and may still be.
    pub(crate) fn draw_client(&self, random: &mut SplitMix64) -> Option<&str> {
        let last = self.clients.len().checked_sub(1)?;
        Some(&self.clients[random.within(0..=last)])
    }

    /// The clients that were connected lately.
    pub(crate) fn clients(&self) -> impl Iterator<Item = &str> {
        self.clients.iter().map(String::as_str)
    }

    /// The most bytes of frames that a history without channels retains: the last `events_max` events to
    /// all, and to each user.
    pub(crate) fn bytes_beside_channels(&self, events_max: usize) -> usize {
        let last = (ALL..TARGETS).flat_map(|target| self.by_channel[target].iter().rev().take(events_max));
        let events = last.filter_map(|&number| self.event(number));
        events.map(|event| 2 * self.drafts[event.serial].data.len() + FRAME_BYTES).sum()
    }

    /// The events of a channel after `place`, up to `end`.
    fn of_channel(&self, channel: usize, place: u64, end: u64) -> &[u64] {
        let numbers = &self.by_channel[channel];
        let through = |place: u64| numbers.partition_point(|&number| number <= place);
        &numbers[through(place)..through(end).max(through(place))]
    }

    /// The number of a channel's events without a `ttl` after `place`, up to `end`.
    pub(crate) fn count(&self, channel: usize, place: u64, end: u64) -> usize {
        let numbers = self.of_channel(channel, place, end).iter();
        numbers.filter(|&&number| self.event(number).is_some_and(|event| event.ttl.is_none())).count()
    }

    /// The events to `channels` that have this publisher's id.
    pub(crate) fn places_of_own_id(&self, id: &str, channels: ChannelSet) -> Vec<u64> {
        let used = (1..).zip(&self.events).filter(|(_, event)| event.id == id);
        used.filter(|(_, event)| event.channels.meets(channels)).map(|(number, _)| number).collect()
    }

    /// Returns true if and only if one of `channels` has had less than `events_max` events since event
    /// `number`, so that its publisher's id is known.
    pub(crate) fn knows_own_id(&self, number: u64, channels: ChannelSet, events_max: usize) -> bool {
        let common = self.event(number).map(|event| event.channels.common(channels)).unwrap_or_default();
        common.indexes().any(|channel| self.of_channel(channel, number, u64::MAX).len() < events_max)
    }

    /// The number of ids that publishers have given.
    pub(crate) fn own_ids(&self) -> usize {
        let own = self.events.iter().filter(|event| event.id.starts_with("own-"));
        own.map(|event| event.channels.len() as usize).sum()
    }

    /// The id of a place.
    pub(crate) fn id_of(&self, place: u64) -> String {
        let epoch =
            self.epochs.iter().rev().find(|epoch| epoch.first <= place + 1).expect("an epoch is open");
        EventId { tag: epoch.tag, sequence: Sequence(place) }.to_string()
    }

    /// The place that an id names. `None` if the log does not vouch for the id.
    pub(crate) fn place_of(&self, id: &str) -> Option<u64> {
        let id = EventId::parse(id.as_bytes())?;
        let index = self.epochs.iter().position(|epoch| epoch.tag == id.tag)?;
        let last = self.epochs.get(index + 1).map_or(self.head(), |next| next.first - 1);
        (self.epochs[index].first - 1..=last).contains(&id.sequence.0).then_some(id.sequence.0)
    }

    /// The number of the published event with this id and data.
    pub(crate) fn number_of(&self, id: &str, data: &str) -> Option<u64> {
        let number = match self.drafts.get(serial_of(data))?.fate {
            Fate::Committed(number) => number,
            Fate::Open | Fate::Lost | Fate::Refused => return None,
        };
        Some(number).filter(|&number| self.event(number).is_some_and(|event| event.id == id))
    }

    /// Notes that the publisher's answer says that its event will not appear.
    pub(crate) fn refuse(&mut self, serial: usize, why: &str) {
        let draft = &mut self.drafts[serial];
        assert_eq!(draft.fate, Fate::Open, "event {serial} was refused ({why}), and appeared");
        draft.fate = Fate::Refused;
    }

    /// Notes that nobody knows whether and in which order these events will appear.
    fn give_up(&mut self, batch: &Events) {
        for part in batch.iter() {
            let serial = serial_of(&decode_event(part.text).1);
            self.drafts[serial].is_retried = true;
        }
    }

    fn begin_epoch(&mut self, tag: EpochTag, first: u64) {
        if let Some(known) = self.epochs.iter().find(|epoch| epoch.tag == tag) {
            assert_eq!(known.first, first, "an epoch keeps its beginning");
            return;
        }
        while self.head() >= first {
            let Some(lost) = self.events.pop() else { break };
            self.drafts[lost.serial].fate = Fate::Lost;
            for channel in lost.channels.indexes() {
                self.by_channel[channel].pop();
            }
        }
        assert_eq!(self.head() + 1, first, "an epoch begins behind what the log has");
        self.epochs.push(Epoch { tag, first });
    }

    fn commit(&mut self, first: u64, batch: &Events, age: Duration) {
        let began_at = self.now.map(|now| now - age);
        let is_new = first > self.head();
        let mut serials = Vec::new();
        for (number, part) in (first..).zip(batch.iter()) {
            let (event_type, data, id) = decode_event(part.text);
            let serial = serial_of(&data);
            if !is_new {
                let known = self.event(number).expect("the log has no more than it committed");
                assert_eq!(known.serial, serial, "event {number} came back as another");
                let index = usize::try_from(number - 1).expect("few events");
                self.events[index].applied_at = began_at;
                continue;
            }
            let draft = self.drafts.get(serial).expect("nobody published this");
            assert_eq!(draft.fate, Fate::Open, "event {serial} is committed");
            assert_eq!((draft.event_type, &draft.data), (&*event_type, &data), "event {serial}");
            let channels = ChannelSet::named(part.targets());
            assert_eq!(draft.channels, channels, "event {serial}");
            let client = part.targets().find_map(|name| name.strip_prefix("\u{1}client:"));
            assert_eq!(draft.client.as_deref(), client, "event {serial}");
            assert_eq!(draft.own_id.as_deref(), part.own_id, "event {serial}");
            assert_eq!(draft.ttl.map(|ttl| ttl.as_secs()), part.ttl.map(|ttl| u64::from(ttl.get())));
            let ttl = draft.ttl;
            let written = self.written[draft.connection];
            let is_retried = draft.is_retried;
            assert!(is_retried || written >= draft.written_at, "event {serial} was not yet written");
            if let Some(whole) = draft.whole {
                assert_eq!(batch.len(), whole, "event {serial} comes with those of its request");
            }
            if !is_retried {
                let before = self.last_committed.insert(draft.connection, serial);
                assert!(before < Some(serial), "event {serial} comes before one that was published earlier");
            }
            if let Some(&before) = serials.last() {
                assert_eq!(serial, before + 1_usize, "a batch holds what was published together");
            }
            serials.push(serial);
            assert_eq!(self.head() + 1, number, "the sequence has no holes");
            self.drafts[serial].fate = Fate::Committed(number);
            let id = if part.id_at.is_some() { self.id_of(number) } else { id };
            channels.indexes().for_each(|channel| self.by_channel[channel].push(number));
            let (applied_at, committed_in) = (began_at, self.step);
            self.events.push(Event { serial, channels, id, ttl, applied_at, committed_in });
        }
    }
}

/// The serial number at the start of an event's data.
pub(crate) fn serial_of(data: &str) -> usize {
    let digits = data.trim_start_matches(|letter: char| !letter.is_ascii_digit());
    let end = digits.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(digits.len());
    digits[..end].parse().expect("an event's data begins with its number")
}

/// The type, data and id of the one event in a text.
fn decode_event(text: &[u8]) -> (String, String, String) {
    let mut events = Vec::new();
    let mut sink = |event: downpour::sse::decode::Decoded<'_>| {
        events.push((event.event_type.into(), event.data.into(), event.last_event_id.into()));
    };
    let decoded = Decoder::new(usize::MAX).feed(text, &mut sink);
    decoded.expect("no event is too long");
    assert_eq!(events.len(), 1, "a text is one event");
    events.remove(0)
}

/// A sink that records the log's reports in a model, and passes them on to the server's sink.
pub(crate) struct Recorder {
    pub(crate) model: Arc<Mutex<Model>>,
    pub(crate) inner: Arc<dyn Sink>,
}

impl Sink for Recorder {
    fn epoch_began(&self, tag: EpochTag, first: Sequence) {
        lock(&self.model).begin_epoch(tag, first.0);
        allocated::for_server(|| self.inner.epoch_began(tag, first));
    }

    fn committed(&self, group: &[Committed<'_>]) {
        for Committed { first, record, origin } in group {
            let age = match origin {
                Origin::Here { .. } => Duration::ZERO,
                Origin::Elsewhere { age } => *age,
            };
            if let Record::Events { events, .. } = record {
                lock(&self.model).commit(first.0, events, age);
            }
        }
        allocated::for_server(|| self.inner.committed(group));
    }

    fn acknowledged(&self, tickets: &[Ticket], outcome: Acknowledgement) {
        allocated::for_server(|| self.inner.acknowledged(tickets, outcome));
    }

    fn refused(&self, ticket: Ticket, record: Record, refusal: Refusal) {
        if let (Refusal::Uncertain, Record::Events { events, .. }) = (&refusal, &record) {
            lock(&self.model).give_up(events);
        }
        allocated::for_server(|| self.inner.refused(ticket, record, refusal));
    }
}

/// Locks a model. After a failed check it is still good for the check's message.
pub(crate) fn lock(model: &Mutex<Model>) -> MutexGuard<'_, Model> {
    model.lock().unwrap_or_else(PoisonError::into_inner)
}
