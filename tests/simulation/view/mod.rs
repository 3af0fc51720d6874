//! Checks one connection of a subscriber against the committed sequence, event by event.
//!
//! A gap must report missing events at the right place. For a stream of one channel the gap is between
//! the event before the missing ones and the event behind them. For several channels the same holds in
//! the order of each channel of a missing event. Events that came through another channel of the stream
//! do not count there.
//!
//! A channel that was added later begins at a place that only the server knows. It is at or behind the
//! last event when the client asked, and before `subscribed`. See [`super::changes`].

mod gaps;

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::changes::Changes;
use crate::model::{ALL, ChannelSet, Event, Model, SELF, channels_of, user_name};
use crate::rules::Rules;
use crate::stats::Stats;

/// Where a stream asked to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Begin {
    Head,
    After(u64),
    /// After an event with a publisher's id, which may be unknown now.
    AfterOwn,
    AfterUnknown,
    /// With the last retained events of its channels, or all of them.
    Retained(Option<usize>),
}

/// The circumstances in which an event is checked.
pub(crate) struct Now<'a> {
    pub(crate) model: &'a mut Model,
    pub(crate) rules: &'a Rules,
    pub(crate) stats: &'a mut Stats,
    pub(crate) step: u64,
    pub(crate) is_draining: bool,
}

/// A gap on the stream.
#[derive(Debug)]
struct Gap {
    /// The number of events on the connection before it.
    position: u64,
    missed: Option<u64>,
    /// A missing event that explains it was found.
    is_accounted: bool,
}

/// How much later than due a keepalive may come.
const KEEPALIVE_LATE_MAX: Duration = Duration::from_millis(100);

/// What one connection has shown.
#[derive(Debug)]
pub(crate) struct View {
    /// The stream's client id.
    pub(crate) client: Option<String>,
    /// Its targets besides its channels and its client id.
    others: ChannelSet,
    names: Vec<&'static str>,
    pub(super) changes: Changes,
    /// A gap may have nothing missing, since the server may have forgotten what a channel has lost.
    may_overstate: bool,
    /// Events are given up only by their number in a channel.
    is_retained_by_number: bool,
    events_max: usize,
    /// The last number when `connected` came.
    head_at_connected: u64,
    /// The meaning of a gap is less clear: events may also reach the stream by its client id.
    has_other_ways: bool,
    /// Its client asked for its end.
    pub(crate) is_deleted: bool,
    /// The result of a change is unknown.
    pub(crate) is_uncertain: bool,
    user: Option<&'static str>,
    begin: Begin,
    /// The last event id: as seen, and as sent.
    last_id: String,
    sent_id: String,
    /// The targets that the request named, where a publisher's id is looked up.
    asked: ChannelSet,
    /// The last number when the request was begun.
    head_at_request: u64,
    requested_at: Option<Instant>,
    /// The place of the subscription, if the server named it. Later events count the stream as a
    /// receiver, earlier ones do not.
    pub(crate) subscribed_at: Option<u64>,
    /// The step in which `connected` came.
    pub(crate) connected_at: Option<u64>,
    /// Every event up to here was seen or is missing.
    pub(super) place: Option<u64>,
    /// If nothing was replayed: the stream may not have asked for events before this one.
    asked_from: u64,
    /// The number of published events so far.
    pub(super) position: u64,
    /// The position of the last event that came through this channel alone.
    pub(super) last_sole: [u64; SELF + 1],
    gaps: Vec<Gap>,
    /// The number of missing events, the events that gaps counted, and the gaps without a count.
    missing: u64,
    /// Missing events with a `ttl`. They may have lapsed, and gaps do not report lapsed events.
    perhaps_missing: u64,
    missed_counted: u64,
    gaps_uncounted: u64,
    has_gap: bool,
    replayed: u64,
    /// The replayed events that came by its channels and were committed before the request.
    replayed_before: usize,
    is_caught_up: bool,
    /// The step in which the server announced the stream's end.
    pub(crate) over_at: Option<u64>,
    /// The place that the shard had taken when a stopped reader read on. The field below counts bytes
    /// received since then of events that the history had given up by then: they were in the outbox or
    /// under way.
    resumed_at: Option<u64>,
    sent_bytes: usize,
    /// The number of published events and notices so far, and that number and the time when the world was
    /// last at rest.
    heard: u64,
    settled: Option<(Instant, u64)>,
    /// The numbers of the events seen.
    pub(crate) seen: Vec<u64>,
}

impl View {
    pub(crate) fn new(
        names: &[&'static str],
        others: &[usize],
        begin: Begin,
        sent_id: &str,
        model: &Model,
        rules: &Rules,
    ) -> View {
        View {
            client: None,
            changes: Changes::new(names),
            may_overstate: rules.may_overstate_losses(),
            is_retained_by_number: rules.gives_up_by_number(),
            events_max: rules.hub.retention.events_max,
            head_at_connected: 0,
            has_other_ways: rules.plays_clients,
            is_deleted: false,
            is_uncertain: false,
            asked: ChannelSet::of(
                &[&names.iter().flat_map(|name| channels_of(name)).collect::<Vec<_>>(), others].concat(),
            ),
            others: ChannelSet::of(others),
            user: others.iter().find(|&&target| target > ALL).map(|&user| user_name(user)),
            names: names.to_vec(),
            begin,
            last_id: sent_id.to_owned(),
            sent_id: sent_id.to_owned(),
            head_at_request: model.head(),
            requested_at: model.now,
            subscribed_at: None,
            connected_at: None,
            place: None,
            asked_from: 0,
            position: 0,
            last_sole: [0; SELF + 1],
            gaps: Vec::new(),
            missing: 0,
            perhaps_missing: 0,
            missed_counted: 0,
            gaps_uncounted: 0,
            has_gap: false,
            replayed: 0,
            replayed_before: 0,
            is_caught_up: false,
            over_at: None,
            resumed_at: None,
            sent_bytes: 0,
            heard: 0,
            settled: None,
            seen: Vec::new(),
        }
    }

    /// Takes in an event of the stream.
    pub(crate) fn take(&mut self, now: &mut Now<'_>, event_type: &str, data: &str, last_id: &str) {
        assert!(self.over_at.is_none(), "{event_type} after the stream's last event");
        self.heard += 1;
        let is_published = ![
            "connected",
            "gap",
            "caught-up",
            "ping",
            "shutdown",
            "overloaded",
            "subscribed",
            "unsubscribed",
        ]
        .contains(&event_type);
        if is_published {
            return self.take_published(now, event_type, data, last_id);
        }
        let json: Value = serde_json::from_str(data).expect("the server's own data is JSON");
        let has_id = match event_type {
            "connected" => self.take_connected(now, &json, last_id),
            "gap" => self.take_gap(now, &json, last_id),
            "subscribed" => self.take_subscribed(now, &json),
            "unsubscribed" => self.take_unsubscribed(now, &json),
            "caught-up" => self.take_caught_up(now, &json, last_id),
            "ping" => {
                assert!(now.rules.shard.conn.keepalive.is_some() && self.connected_at.is_some());
                assert_eq!(data, "{}");
                now.stats.pings += 1;
                false
            }
            "shutdown" => {
                let may_end = now.is_draining || now.rules.shard.stream_age_max.is_some() || self.is_deleted;
                assert!(may_end && json["reason"].is_string(), "{data}");
                assert!(now.is_draining || self.connected_at.is_some());
                self.over_at = Some(now.step);
                now.stats.shutdowns += 1;
                false
            }
            _ => {
                assert!(self.connected_at.is_none() && json["retryAfter"].is_u64(), "{data}");
                let Rules { shard, hub, .. } = now.rules;
                let is_limited = shard.connections_max < 100 || hub.channels_max < 100;
                assert!(is_limited, "overloaded without a limit");
                self.over_at = Some(now.step);
                now.stats.overloaded += 1;
                false
            }
        };
        if has_id {
            last_id.clone_into(&mut self.last_id);
        }
        assert_eq!(last_id, self.last_id, "{event_type} carries no id");
    }

    fn take_connected(&mut self, now: &mut Now<'_>, json: &Value, last_id: &str) -> bool {
        assert!(self.connected_at.is_none(), "connected comes once");
        assert_eq!(json["connected"], true);
        assert_eq!(json["userId"], Value::from(self.user));
        assert_eq!(json["channels"], Value::from(self.names.clone()));
        self.client = json["clientId"].as_str().map(str::to_owned);
        let client = self.client.as_deref().expect("a stream has a name");
        now.model.note_client(client);
        self.connected_at = Some(now.step);
        self.head_at_connected = now.model.head();
        match self.begin {
            Begin::Head => self.begin_at(now.model, last_id),
            Begin::After(place) => self.place = Some(place),
            Begin::AfterOwn | Begin::AfterUnknown | Begin::Retained(_) => {}
        }
        now.stats.connected += 1;
        self.begin == Begin::Head
    }

    /// Begins at the place of the subscription, which lies between the request and now.
    fn begin_at(&mut self, model: &Model, id: &str) {
        let place = model.place_of(id).expect("the place of a subscription is known");
        assert!((self.head_at_request..=model.head()).contains(&place), "subscribed at {place}");
        assert_eq!(id, model.id_of(place));
        self.place = Some(place);
        self.subscribed_at = Some(place);
    }

    fn take_gap(&mut self, now: &mut Now<'_>, json: &Value, last_id: &str) -> bool {
        assert!(self.connected_at.is_some(), "connected comes first");
        self.has_gap = true;
        let missed = json["missed"].as_u64();
        assert!(missed > Some(0) || json["missed"].is_null(), "a gap misses something: {json}");
        let after = json["lastEventId"].as_str().expect("a gap says after what");
        if self.begin == Begin::AfterOwn && json["reason"] == "unknown-id" {
            self.check_unknown(now);
            self.begin = Begin::AfterUnknown;
        } else if self.begin != Begin::AfterUnknown && self.place.is_none() {
            // Lapsed events may follow the event with the id. The server has read over them.
            let after = now.model.place_of(after).expect("a gap names a known place");
            self.settle_place(now.model, after + 1, now.rules);
        }
        let Some(place) = self.place else {
            assert_eq!((self.begin, json["reason"].as_str()), (Begin::AfterUnknown, Some("unknown-id")));
            assert_eq!((missed, after), (None, self.sent_id.as_str()));
            self.begin_at(now.model, last_id);
            now.stats.gaps_unknown += 1;
            return true;
        };
        let is_live = self.begin == Begin::Head || self.is_caught_up;
        let reason = if is_live { "slow-consumer" } else { "history-expired" };
        assert_eq!(json["reason"], reason, "live: {is_live}");
        if self.is_counting() {
            assert!(!is_live || missed.is_some(), "a live stream of one channel knows what it missed");
        } else {
            // With one channel again, the count may be known.
            assert!(missed.is_none() || self.changes.has_changed, "several channels do not know");
        }
        let after = now.model.place_of(after).expect("a gap names a known place");
        assert!(after >= place, "a gap after {after} behind event {place}");
        // The server has read up to there and reported what was missing. For one channel, an earlier gap
        // at the same position leaves open which of the two reports which events.
        let is_first = self.gaps.last().is_none_or(|gap| gap.position < self.position);
        if !self.is_simple() || is_first {
            self.account(now.model, place, after + 1);
            self.place = Some(after);
        }
        self.gaps.push(Gap { position: self.position, missed, is_accounted: false });
        self.missed_counted += missed.unwrap_or(0);
        self.gaps_uncounted += u64::from(missed.is_none());
        let count = if is_live { &mut now.stats.gaps_slow } else { &mut now.stats.gaps_expired };
        *count += 1;
        false
    }

    fn take_caught_up(&mut self, now: &mut Now<'_>, json: &Value, last_id: &str) -> bool {
        if self.place.is_none() && matches!(self.begin, Begin::Retained(_)) {
            self.settle_place(now.model, now.model.head() + 1, now.rules);
        }
        assert!(self.begin == Begin::AfterOwn || self.place.is_some(), "nothing was resumed");
        assert!(self.begin != Begin::Head, "nothing was resumed");
        assert!(!self.is_caught_up, "caught-up comes once");
        assert_eq!(json["replayed"], self.replayed);
        assert_eq!(json["complete"], !self.has_gap);
        self.is_caught_up = true;
        now.stats.caught_up += 1;
        now.stats.replayed += u64::from(matches!(self.begin, Begin::Retained(_)));
        now.stats.caught_up_after_own += u64::from(self.begin == Begin::AfterOwn);
        let (Begin::Retained(_), Some(place)) = (self.begin, self.place) else { return false };
        // Nothing else gives the client the place of its subscription, which the replay reaches.
        let at = now.model.place_of(last_id).expect("the place of a subscription is known");
        assert!((self.head_at_request..=self.head_at_connected).contains(&at), "subscribed at {at}");
        // A gap right before may also report events missing behind that place.
        if self.gaps.last().is_none_or(|gap| gap.position < self.position) {
            self.account(now.model, place, at + 1);
            self.place = Some(place.max(at));
        }
        self.subscribed_at = Some(at);
        true
    }

    fn take_published(&mut self, now: &mut Now<'_>, event_type: &str, data: &str, id: &str) {
        let number = now.model.number_of(id, data);
        let number = number.unwrap_or_else(|| panic!("{id} was never committed: {data}"));
        self.settle_place(now.model, number, now.rules);
        let place = self.place.expect("connected comes first, and for an unknown id its gap");
        let event = now.model.event(number).expect("its number is known");
        let draft = &now.model.drafts[event.serial];
        assert_eq!((draft.event_type, draft.data.as_str()), (event_type, data), "event {number}");
        let ways = self.ways(now.model, number, event);
        assert!(ways.len() > 0, "event {number} went elsewhere: {event:?} {self:?}");
        assert!(number > place, "event {number} after {place}");
        self.account(now.model, place, number);
        if ways.len() > 1 {
            self.explain_gaps(ways);
        }
        if self.begin != Begin::Head && !self.is_caught_up {
            self.replayed += 1;
            let by_channels = ways.indexes().any(|way| way < ALL);
            self.replayed_before += usize::from(by_channels && number <= self.head_at_request);
            let most = if let Begin::Retained(Some(count)) = self.begin { count } else { usize::MAX };
            assert!(self.replayed_before <= most, "{} of its last {most} events", self.replayed_before);
            let lapses = event.ttl.zip(event.applied_at).map(|(ttl, applied_at)| applied_at + ttl);
            let is_early = lapses.zip(self.requested_at).is_none_or(|(lapses, at)| at < lapses);
            assert!(is_early, "event {number} has lapsed and is replayed");
            now.stats.replayed_with_ttl += u64::from(lapses.is_some());
        } else {
            assert!(number > self.head_at_request, "event {number} is not new: it belongs to the replay");
        }
        self.position += 1;
        if ways.len() == 1 {
            ways.indexes().for_each(|channel| {
                self.last_sole[channel] = self.position;
                self.changes.must_go_on_after(channel, number);
            });
        }
        self.place = Some(number);
        id.clone_into(&mut self.last_id);
        self.seen.push(number);
        self.count_sent(now, number, ways, data.len());
        now.stats.delivered += 1;
        now.stats.delivered_to_clients += u64::from(ways.meets(ChannelSet::of(&[SELF])));
        let is_users = self.user.is_some() && ways.indexes().any(|target| target > ALL && target != SELF);
        now.stats.delivered_to_users += u64::from(is_users);
        now.stats.delivered_to_all += u64::from(ways.meets(ChannelSet::of(&[ALL])));
    }

    /// Its possible targets, except its client id.
    fn channels(&self) -> ChannelSet {
        self.changes.channels().indexes().fold(self.others, ChannelSet::with)
    }

    /// The ways by which an event may come to the stream.
    fn ways(&self, model: &Model, number: u64, event: &Event) -> ChannelSet {
        let others = event.channels.common(self.others);
        let ways = self.changes.ways(event.channels, number).indexes().fold(others, ChannelSet::with);
        let is_own = self.client.is_some() && model.client_of(event) == self.client.as_deref();
        if is_own { ways.with(SELF) } else { ways }
    }

    /// Returns true if and only if the stream has reached its live events, or has no replay.
    pub(super) fn is_past_replay(&self) -> bool {
        self.begin == Begin::Head || self.is_caught_up
    }

    /// Checks that the world did not rest, act and rest again for longer than a keepalive takes without
    /// anything on the stream.
    fn check_keepalive(&mut self, model: &Model, rules: &Rules) {
        let (Some(keepalive), Some(now)) = (rules.shard.conn.keepalive, model.now) else { return };
        if let Some((since, heard)) = self.settled.replace((now, self.heard)) {
            let is_late = now >= since + keepalive + KEEPALIVE_LATE_MAX;
            assert!(!is_late || self.heard > heard, "nothing for {:?}: {self:?}", now - since);
        }
    }

    /// Notes that the reader reads on after a long pause.
    pub(crate) fn reads_on(&mut self, taken: u64) {
        self.resumed_at = Some(taken);
        self.sent_bytes = 0;
    }

    /// Checks the bound of the bytes waiting for a stream: an event that comes after the history gave it
    /// up was waiting.
    fn count_sent(&mut self, now: &mut Now<'_>, number: u64, channels: ChannelSet, bytes: usize) {
        let Some(head) = self.resumed_at else { return };
        let events_max = now.rules.hub.retention.events_max;
        // Events to one client are not kept apart here.
        let is_gone = |channel| channel != SELF && now.model.count(channel, number, head) >= events_max;
        if number > head || !channels.indexes().all(is_gone) {
            return;
        }
        self.sent_bytes += bytes;
        let most = now.rules.sent_bytes_max();
        assert!(self.sent_bytes <= most, "{} bytes waited, of {most} at the most", self.sent_bytes);
        now.stats.kept_bytes_max = now.stats.kept_bytes_max.max(self.sent_bytes as u64);
    }
}
