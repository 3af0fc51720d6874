//! How the channels of a live stream change, as its client asked for it and as the stream tells it.
//!
//! A channel that is added comes into effect at a place between the last event of when that was asked and the last one
//! of when it was known to be done. Events before that never come, those behind it all do, and of those between them all
//! do from the first one on that does.

use serde_json::Value;

use crate::model::{CHANNELS, ChannelSet, SELF};
use crate::view::{Now, View};

/// What a stream's client knows of its channels.
#[derive(Debug)]
pub(crate) struct Changes {
    /// What was asked for and is not told, in order.
    asked: Vec<Asked>,
    /// The channels that the server has answered with last, in the order they were named.
    named: Vec<usize>,
    /// The channels as the stream has told them.
    shown: Vec<usize>,
    /// No event of a channel up to here can come.
    not_before: [u64; SELF + 1],
    /// Every event of a channel behind this must come, or be told as missing.
    all_after: [u64; SELF + 1],
    /// Since which step the server has had each channel, where it surely has.
    confirmed: [Option<u64>; CHANNELS.len()],
    /// Every channel that it may have had.
    pub(crate) touched: ChannelSet,
    pub(crate) has_changed: bool,
}

/// A change that was asked for.
#[derive(Clone, Copy, Debug)]
struct Asked {
    is_subscribe: bool,
    channel: usize,
    /// The last event when it was asked for, and when it was known to be done.
    from: u64,
    until: Option<u64>,
}

impl Changes {
    /// A stream that begins with these channels.
    pub(crate) fn new(indexes: &[usize]) -> Changes {
        let mut confirmed = [None; CHANNELS.len()];
        indexes.iter().for_each(|&channel| confirmed[channel] = Some(0));
        Changes {
            asked: Vec::new(),
            named: indexes.to_vec(),
            shown: indexes.to_vec(),
            not_before: [0; SELF + 1],
            all_after: [0; SELF + 1],
            confirmed,
            touched: ChannelSet::of(indexes),
            has_changed: false,
        }
    }

    /// Those of `ways` on which event `number` may come.
    pub(crate) fn without_earlier(&self, ways: ChannelSet, number: u64) -> ChannelSet {
        let earlier = ways.indexes().filter(|&channel| number <= self.not_before[channel]);
        earlier.fold(ways, ChannelSet::without)
    }

    /// Those of `ways` on which event `number` must come.
    pub(crate) fn certain(&self, ways: ChannelSet, number: u64) -> ChannelSet {
        let open = ways.indexes().filter(|&channel| number <= self.all_after[channel]);
        open.fold(ways, ChannelSet::without)
    }

    /// An event of a channel came through that alone: what follows must come too.
    pub(crate) fn must_go_on_after(&mut self, channel: usize, number: u64) {
        self.all_after[channel] = self.all_after[channel].min(number);
    }

    /// Returns true if and only if nothing was asked for that is not told.
    pub(crate) fn are_told(&self) -> bool {
        self.asked.is_empty() && self.named == self.shown
    }

    /// Returns true if and only if the server has had one of `channels` since before `step`, beyond doubt.
    pub(crate) fn surely_had(&self, channels: ChannelSet, step: u64) -> bool {
        let had = |channel: usize| {
            self.confirmed.get(channel).is_none_or(|since| since.is_some_and(|at| at < step))
        };
        channels.indexes().any(had)
    }
}

fn names(indexes: &[usize]) -> Value {
    indexes.iter().map(|&index| CHANNELS[index]).collect()
}

impl View {
    /// Notes a change that is being asked for, with `head` as the last event.
    pub(crate) fn ask(&mut self, is_subscribe: bool, channel: usize, head: u64) {
        self.changes.asked.push(Asked { is_subscribe, channel, from: head, until: None });
        self.changes.touched = self.changes.touched.with(channel);
        self.changes.confirmed[channel] = None;
    }

    /// Notes the answer to the change that was asked for last: the channels, where it was done.
    pub(crate) fn answered(
        &mut self,
        is_subscribe: bool,
        channel: usize,
        channels: Option<&Value>,
        head: u64,
        step: u64,
    ) {
        let Changes { asked, named, confirmed, .. } = &mut self.changes;
        let is_last = |asked: &Asked| asked.until.is_none();
        let place = named.iter().position(|&known| known == channel);
        let is_change = channels.is_some() && is_subscribe == place.is_none();
        match asked.last_mut().filter(|last| is_last(last)) {
            Some(last) if is_change => last.until = Some(head),
            Some(_) => drop(asked.pop()), // It tells nothing.
            None => assert!(is_change, "a change is told that is none"),
        }
        let Some(channels) = channels else {
            confirmed[channel] = place.filter(|_| is_subscribe).map(|_| step);
            return;
        };
        match (is_subscribe, place) {
            (true, None) => named.push(channel),
            (false, Some(place)) => drop(named.remove(place)),
            _ => {}
        }
        confirmed[channel] = is_subscribe.then_some(step);
        self.check_names(channels);
    }

    /// Checks what the server says that the channels of the stream are.
    pub(crate) fn check_names(&self, channels: &Value) {
        assert!(self.is_uncertain || *channels == names(&self.changes.named), "{channels} of {self:?}");
    }

    pub(super) fn take_subscribed(&mut self, now: &mut Now<'_>, json: &Value) -> bool {
        assert!(self.is_past_replay(), "the replay comes first");
        let channel = told_channel(json);
        let Changes { asked, shown, .. } = &mut self.changes;
        assert!(!shown.contains(&channel), "{json} is told twice");
        let place = asked.iter().position(|asked| asked.is_subscribe && asked.channel == channel);
        let asked = asked.remove(place.unwrap_or_else(|| panic!("nobody asked for {json}")));
        shown.push(channel);
        self.check_shown(json);
        // Everything up to where it was asked for comes before, and nothing that was seen lies behind where it was done.
        let until = asked.until.unwrap_or(now.model.head());
        let place = self.place.expect("connected comes first");
        assert!(place <= until, "{json} is told behind event {place}, and was done at {until}");
        self.changes.has_changed = true; // A gap that was told may reach beyond this place.
        self.account(now.model, place, asked.from + 1);
        let place = place.max(asked.from);
        self.place = Some(place);
        self.channels = self.channels.with(channel);
        self.changes.not_before[channel] = place;
        self.changes.all_after[channel] = until;
        self.last_sole[channel] = self.position;
        now.stats.subscribed += 1;
        now.stats.subscribed_behind += u64::from(asked.from < now.model.head());
        false
    }

    pub(super) fn take_unsubscribed(&mut self, now: &mut Now<'_>, json: &Value) -> bool {
        let channel = told_channel(json);
        let Changes { asked, shown, .. } = &mut self.changes;
        let index = asked.iter().position(|asked| !asked.is_subscribe && asked.channel == channel);
        let index = index.unwrap_or_else(|| panic!("nobody asked for {json}"));
        // A subscription that the stream had yet to come to is never told.
        let before = asked.len();
        let mut at = 0;
        asked.retain(|asked| {
            at += 1;
            at > index + 1 || asked.channel != channel
        });
        let was_pending = before - asked.len() > 1;
        let was_shown = shown.contains(&channel);
        assert!(was_shown || was_pending, "{json} is told, and the stream did not have it");
        shown.retain(|&known| known != channel);
        self.check_shown(json);
        self.channels = self.channels.without(channel);
        self.forget_open_gaps();
        self.changes.has_changed = true;
        now.stats.unsubscribed += 1;
        false
    }

    fn check_shown(&self, json: &Value) {
        assert_eq!(json["channels"], names(&self.changes.shown), "{json} of {self:?}");
    }
}

fn told_channel(json: &Value) -> usize {
    let name = json["channel"].as_str().expect("a change names its channel");
    CHANNELS.iter().position(|&known| known == name).expect("nobody uses this channel")
}
