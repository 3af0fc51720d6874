//! Changes to the channels of a live stream: as its client asked for them, and as the stream shows them.
//!
//! An added name takes effect at some place. The place is at or after the last event when the client
//! asked, and at or before the last event when the change was known to be done. No event before the
//! place comes by this name, and every event behind it does. So once one event in this range has come,
//! all later ones must come.

use serde_json::Value;

use crate::model::{CHANNELS, ChannelSet, SELF, channels_of};
use crate::view::{Now, View};

/// What a stream's client knows about its channels.
#[derive(Clone, Debug)]
pub(crate) struct Changes {
    /// Changes that were asked for and not shown yet, in order.
    asked: Vec<Asked>,
    /// The names in the server's last answer, in their order.
    named: Vec<&'static str>,
    /// The names as the stream has shown them.
    shown: Vec<Shown>,
    /// Names that the server surely has, with the step since which it has them.
    confirmed: Vec<(&'static str, u64)>,
    /// Every channel that the stream may have had.
    pub(crate) touched: ChannelSet,
    pub(crate) has_changed: bool,
}

/// A change that was asked for.
#[derive(Clone, Copy, Debug)]
struct Asked {
    is_subscribe: bool,
    name: &'static str,
    /// The last event when the change was asked for, and when it was known to be done.
    from: u64,
    until: Option<u64>,
}

/// A channel or pattern of the stream.
#[derive(Clone, Copy, Debug)]
struct Shown {
    name: &'static str,
    channels: ChannelSet,
    /// Events up to here cannot come by it.
    not_before: u64,
    /// Every event behind this must come, or a gap must report it.
    all_after: u64,
}

fn set_of(name: &str) -> ChannelSet {
    ChannelSet::of(&channels_of(name))
}

impl Changes {
    /// A stream that begins with these names.
    pub(crate) fn new(names: &[&'static str]) -> Changes {
        let shown =
            |&name: &&'static str| Shown { name, channels: set_of(name), not_before: 0, all_after: 0 };
        let all = names.iter().flat_map(|name| channels_of(name)).collect::<Vec<_>>();
        Changes {
            asked: Vec::new(),
            named: names.to_vec(),
            shown: names.iter().map(shown).collect(),
            confirmed: names.iter().map(|&name| (name, 0)).collect(),
            touched: ChannelSet::of(&all),
            has_changed: false,
        }
    }

    /// The channels that the stream has now.
    pub(crate) fn channels(&self) -> ChannelSet {
        let all = self.shown.iter().flat_map(|shown| shown.channels.indexes());
        all.fold(ChannelSet::default(), ChannelSet::with)
    }

    /// The channels in `channels` by which the event may come.
    pub(crate) fn ways(&self, channels: ChannelSet, number: u64) -> ChannelSet {
        let ways = self.shown.iter().filter(|shown| number > shown.not_before);
        let ways = ways.flat_map(|shown| shown.channels.common(channels).indexes());
        ways.fold(ChannelSet::default(), ChannelSet::with)
    }

    /// The channels in `ways` by which event `number` must come.
    pub(crate) fn certain(&self, ways: ChannelSet, number: u64) -> ChannelSet {
        let is_open = |channel: &usize| {
            *channel < CHANNELS.len()
                && self.shown.iter().all(|shown| number <= shown.all_after || !shown.channels.has(*channel))
        };
        ways.indexes().filter(is_open).fold(ways, ChannelSet::without)
    }

    /// An event came by this channel alone. If only one name covers the channel, all later events must
    /// come too.
    pub(crate) fn must_go_on_after(&mut self, channel: usize, number: u64) {
        let is_by = |shown: &&mut Shown| number > shown.not_before && shown.channels.has(channel);
        let mut by: Vec<&mut Shown> = self.shown.iter_mut().filter(is_by).collect();
        if let [only] = &mut by[..] {
            only.all_after = only.all_after.min(number);
        }
    }

    /// Returns true if and only if every change that was asked for was shown.
    pub(crate) fn are_shown(&self) -> bool {
        self.asked.is_empty() && self.named.iter().eq(self.shown.iter().map(|shown| &shown.name))
    }

    /// Returns true if and only if the server has certainly had one of `channels` since before `step`.
    pub(crate) fn surely_had(&self, channels: ChannelSet, step: u64) -> bool {
        let has_other = channels.indexes().any(|channel| (CHANNELS.len()..SELF).contains(&channel));
        has_other || self.confirmed.iter().any(|&(name, since)| since < step && set_of(name).meets(channels))
    }
}

impl View {
    /// Notes a change that the client asks for. `head` is the last event.
    pub(crate) fn ask(&mut self, is_subscribe: bool, name: &'static str, head: u64) {
        let Changes { asked, confirmed, touched, .. } = &mut self.changes;
        asked.push(Asked { is_subscribe, name, from: head, until: None });
        *touched = channels_of(name).into_iter().fold(*touched, ChannelSet::with);
        confirmed.retain(|&(known, _)| known != name);
    }

    /// Notes the answer to the last change: the names, if it was done.
    pub(crate) fn answered(
        &mut self,
        is_subscribe: bool,
        name: &'static str,
        names: Option<&Value>,
        head: u64,
        step: u64,
    ) {
        let Changes { asked, named, confirmed, .. } = &mut self.changes;
        let place = named.iter().position(|&known| known == name);
        let is_change = names.is_some() && is_subscribe == place.is_none();
        match asked.last_mut().filter(|last| last.until.is_none()) {
            Some(last) if is_change => last.until = Some(head),
            Some(_) => drop(asked.pop()), // It will not be shown.
            None => assert!(is_change, "a change is shown that is none"),
        }
        let is_had = if names.is_some() { is_subscribe } else { place.is_some() };
        confirmed.extend(is_had.then_some((name, step)));
        let Some(names) = names else { return };
        match (is_subscribe, place) {
            (true, None) => named.push(name),
            (false, Some(place)) => drop(named.remove(place)),
            _ => {}
        }
        self.check_names(names);
    }

    /// Checks the channels that the server names for the stream.
    pub(crate) fn check_names(&self, names: &Value) {
        let named: Value = self.changes.named.iter().copied().collect();
        assert!(self.is_uncertain || *names == named, "{names} of {self:?}");
    }

    pub(super) fn take_subscribed(&mut self, now: &mut Now<'_>, json: &Value) -> bool {
        assert!(self.is_past_replay(), "the replay comes first");
        let Changes { asked, shown, .. } = &mut self.changes;
        let name = json["channel"].as_str().expect("a change names its channel");
        assert!(shown.iter().all(|shown| shown.name != name), "{json} is shown twice");
        let place = asked.iter().position(|asked| asked.is_subscribe && asked.name == name);
        let asked = asked.remove(place.unwrap_or_else(|| panic!("nobody asked for {json}")));
        // Everything up to the request comes before. No event seen before this lies behind the place
        // where it was done.
        let until = asked.until.unwrap_or(now.model.head());
        self.settle_place(now.model, asked.from + 1, now.rules);
        let place = self.place.expect("connected comes first");
        assert!(place <= until, "{json} is shown behind event {place}, and was done at {until}");
        self.changes.has_changed = true; // An earlier gap may reach beyond this place.
        self.account(now.model, place, asked.from + 1);
        let place = place.max(asked.from);
        self.place = Some(place);
        let before = self.changes.channels();
        let channels = set_of(asked.name);
        let shown = Shown { name: asked.name, channels, not_before: place, all_after: until };
        self.changes.shown.push(shown);
        self.check_shown(json);
        for channel in channels.indexes().filter(|&channel| !before.has(channel)) {
            self.last_sole[channel] = self.position;
        }
        now.stats.subscribed += 1;
        now.stats.subscribed_behind += u64::from(asked.from < now.model.head());
        false
    }

    pub(super) fn take_unsubscribed(&mut self, now: &mut Now<'_>, json: &Value) -> bool {
        let Changes { asked, shown, .. } = &mut self.changes;
        let name = json["channel"].as_str().expect("a change names its channel");
        let index = asked.iter().position(|asked| !asked.is_subscribe && asked.name == name);
        let index = index.unwrap_or_else(|| panic!("nobody asked for {json}"));
        // A subscription that was removed before it was shown is never shown.
        let before = asked.len();
        let mut at = 0;
        asked.retain(|asked| {
            at += 1;
            at > index + 1 || asked.name != name
        });
        let was_pending = before - asked.len() > 1;
        let was_shown = shown.iter().any(|shown| shown.name == name);
        assert!(was_shown || was_pending, "{json} is shown, and the stream did not have it");
        shown.retain(|shown| shown.name != name);
        self.check_shown(json);
        self.forget_open_gaps();
        self.changes.has_changed = true;
        now.stats.unsubscribed += 1;
        false
    }

    fn check_shown(&self, json: &Value) {
        let shown: Value = self.changes.shown.iter().map(|shown| shown.name).collect();
        assert_eq!(json["channels"], shown, "{json} of {self:?}");
    }
}
