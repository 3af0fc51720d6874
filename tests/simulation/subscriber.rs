//! A client that reads streams as `EventSource` does, at any pace.

use std::collections::HashSet;

use downpour::base::random::SplitMix64;
use downpour::sse::decode::Decoder;

use crate::control::{Control, Known};
use crate::model::{ALL, CHANNELS, ChannelSet, Model, PATTERNS, TARGETS, channels_of, user_name};
use crate::rules::{Rules, pick};
use crate::scene::{Ghost, Scene};
use crate::stream::Stream;
use crate::view::{Begin, View};
use crate::wire::{Lines, percent_encode};

/// A subscriber, with or without a connection.
#[derive(Debug)]
pub(crate) struct Subscriber {
    number: usize,
    /// The channels and patterns that it names, in their order.
    names: Vec<&'static str>,
    /// The channels that these names select.
    indexes: Vec<usize>,
    /// Its other targets: all, and its user.
    others: Vec<usize>,
    is_old: bool,
    last_event_id: String,
    /// Ids that it has seen, to go back to.
    seen_ids: Vec<String>,
    /// Serial numbers seen since it last went back.
    seen: HashSet<usize>,
    /// Bytes that it reads at once.
    pace: usize,
    /// It does nothing before this step.
    sleeps_until: u64,
    has_slept: bool,
    stream: Option<Stream>,
    control: Option<Control>,
}

impl Subscriber {
    pub(crate) fn new(number: usize, rules: &Rules, random: &mut SplitMix64) -> Subscriber {
        let mut names: Vec<&'static str> = Vec::new();
        for _ in 0..*pick(random, &[1, 1, 1, 2, 3, 4]) {
            let is_pattern = rules.plays_targets && random.chance(0.25);
            let name = *if is_pattern { pick(random, &PATTERNS) } else { pick(random, &CHANNELS) };
            if !names.contains(&name) {
                names.push(name);
            }
        }
        let mut indexes: Vec<usize> = names.iter().flat_map(|name| channels_of(name)).collect();
        indexes.sort_unstable();
        indexes.dedup();
        let mut others = Vec::new();
        if rules.plays_targets {
            others.push(ALL);
            others.extend(random.chance(0.5).then(|| random.within(ALL + 1..=TARGETS - 1)));
        }
        Subscriber {
            number,
            names,
            indexes,
            others,
            is_old: random.chance(0.2),
            last_event_id: String::new(),
            seen_ids: Vec::new(),
            seen: HashSet::new(),
            pace: *pick(random, &[1, 40, 1000, 100_000]),
            sleeps_until: 0,
            has_slept: false,
            stream: None,
            control: None,
        }
    }

    /// The targets that its stream may have.
    pub(crate) fn targets(&self) -> ChannelSet {
        let touched = self.stream.iter().flat_map(|stream| stream.view.changes.touched.indexes());
        touched.fold(ChannelSet::of(&[&self.indexes[..], &self.others].concat()), ChannelSet::with)
    }

    /// Returns true if and only if an event to `channels` that is published at `step` or later goes to
    /// its stream while the stream lives.
    pub(crate) fn surely_has(&self, channels: ChannelSet, step: u64) -> bool {
        let common = channels.common(self.targets());
        common.len() > 0
            && self.stream.as_ref().is_some_and(|stream| stream.view.changes.surely_had(common, step))
    }

    /// Returns true if and only if its stream has this client id.
    pub(crate) fn is_client(&self, client: &str) -> bool {
        self.stream.as_ref().is_some_and(|stream| stream.view.client.as_deref() == Some(client))
    }

    /// Works on its requests about the stream. Begins a new request only if `may_ask`.
    fn manage(&mut self, scene: &mut Scene<'_>, may_ask: bool) -> bool {
        if self.control.as_ref().is_some_and(Control::is_over) {
            self.drop_control();
        }
        let must_live = self.must_live(scene.rules, scene.is_draining, scene.restarted_at);
        let Subscriber { stream, control, .. } = self;
        let view = stream.as_mut().map(|stream| &mut stream.view);
        if let Some(control) = control {
            if control.is_idle()
                && may_ask
                && let Some(view) = view
            {
                if view.connected_at.is_some() && !view.is_uncertain && !view.is_deleted {
                    control.ask(scene, view);
                }
                return true;
            }
            let known = view.map(|view| {
                let must_live_since = view.connected_at.filter(|_| must_live);
                Known { view, must_live_since }
            });
            return control.go_on(scene, known);
        }
        if may_ask {
            *control = Some(Control::connect(scene));
        }
        false
    }

    fn drop_control(&mut self) {
        let view = self.stream.as_mut().map(|stream| &mut stream.view);
        if let Some(control) = self.control.take() {
            control.give_up(view);
        }
    }

    /// Returns true if and only if it has a stream, and nothing can have ended the stream so far.
    fn must_live(&self, rules: &Rules, is_draining: bool, restarted_at: &[Option<u64>]) -> bool {
        let may_end = is_draining || rules.shard.stream_age_max.is_some();
        !may_end
            && self.stream.as_ref().is_some_and(|stream| {
                let is_well = !stream.peer.was_reset() && !stream.peer.is_ended();
                let is_well = is_well && restarted_at[stream.shard].is_none_or(|at| at < stream.begun_at);
                is_well && !stream.has_left && stream.view.over_at.is_none() && !stream.view.is_deleted
            })
    }

    /// Returns true if and only if the server may count its stream as a receiver of event `number`,
    /// which was published at `step` or later.
    pub(crate) fn may_receive(&self, number: u64, step: u64) -> bool {
        self.stream.as_ref().is_some_and(|stream| {
            let is_before = stream.view.subscribed_at.is_none_or(|place| place < number);
            is_before && stream.written > 0 && stream.view.over_at.is_none_or(|at| at >= step)
        })
    }

    /// Returns true if and only if the server must count its stream as a receiver of event `number`,
    /// which was published at `step` or later.
    pub(crate) fn must_receive(&self, number: u64, step: u64, restarted_at: &[Option<u64>]) -> bool {
        self.stream.as_ref().is_some_and(|stream| {
            let is_connected = stream.view.connected_at.is_some_and(|at| at < step)
                || stream.view.subscribed_at.is_some_and(|place| place < number);
            let is_well = !stream.peer.was_reset() && !stream.peer.is_ended();
            let is_well = is_well && restarted_at[stream.shard].is_none_or(|at| at < stream.begun_at);
            is_connected
                && is_well
                && !stream.has_left
                && stream.view.over_at.is_none()
                && !stream.view.is_deleted
        })
    }

    /// Returns true if and only if it has a connection that is not broken.
    pub(crate) fn is_connected(&self) -> bool {
        self.stream.as_ref().is_some_and(|stream| !stream.peer.was_reset())
    }

    /// Takes a turn.
    pub(crate) fn act(&mut self, scene: &mut Scene<'_>) {
        if self.control.is_some() || scene.rules.change_probability > 0.0 {
            let may_ask = scene.random.chance(scene.rules.change_probability);
            self.manage(scene, may_ask);
        }
        if scene.step < self.sleeps_until {
            return;
        }
        let Some(stream) = &mut self.stream else {
            if !scene.is_calm {
                self.connect(scene);
            }
            return;
        };
        if std::mem::take(&mut self.has_slept) {
            stream.view.reads_on(scene.taken);
        }
        if stream.written < stream.request.len() {
            stream.write(scene.random);
        }
        if !scene.is_calm && scene.random.chance(0.01) {
            return self.leave(scene);
        }
        if scene.random.chance(0.02) {
            self.sleeps_until = scene.step + scene.random.within(10..=600) as u64;
            self.has_slept = true;
            return;
        }
        if scene.random.chance(0.02) {
            self.pace = *pick(scene.random, &[1, 40, 1000, 100_000]);
        }
        let pace = scene.random.within(1..=self.pace);
        self.read(scene, pace);
    }

    /// Writes and reads all it can. Returns true if it wrote or read anything.
    pub(crate) fn settle(&mut self, scene: &mut Scene<'_>) -> bool {
        let has_managed = self.manage(scene, false);
        let Some(stream) = &mut self.stream else { return has_managed };
        self.sleeps_until = 0;
        if std::mem::take(&mut self.has_slept) {
            stream.view.reads_on(scene.taken);
        }
        let has_written = stream.written < stream.request.len() && stream.write(scene.random);
        self.read(scene, usize::MAX) || has_written || has_managed
    }

    /// Checks a connection after everything was delivered.
    pub(crate) fn check_settled(&mut self, model: &Model, rules: &Rules) {
        if let Some(control) = &self.control {
            control.check_settled();
        }
        let Some(stream) = &mut self.stream else { return };
        if stream.has_left || stream.peer.was_reset() || stream.peer.is_ended() {
            return;
        }
        // A stream with an error response may have been refused for its half request. A stream that is
        // over is about to end.
        if stream.view.over_at.is_some() || stream.head.as_ref().is_some_and(|head| head.status != 200) {
            return;
        }
        assert_eq!(
            stream.written,
            stream.request.len(),
            "the server does not read subscriber {}",
            self.number
        );
        let connected = stream.view.connected_at.is_some();
        assert!(connected, "subscriber {} has no answer: {:?} {rules:?}", self.number, stream.view);
        stream.view.check_settled(model, rules);
    }

    /// Checks a connection that could read everything, after its server began to drain.
    pub(crate) fn check_drained(&self) {
        if let Some(stream) = &self.stream
            && !stream.peer.was_reset()
        {
            let is_reported =
                stream.view.over_at.is_some() || stream.view.connected_at.is_none() || stream.has_left;
            assert!(is_reported, "subscriber {} does not learn that the server ends", self.number);
        }
    }

    fn connect(&mut self, scene: &mut Scene<'_>) {
        self.choose_last_event_id(scene);
        let id = self.last_event_id.clone();
        let begin = match scene.model.place_of(&id) {
            _ if id.is_empty() && scene.random.chance(0.4) => {
                self.seen.clear();
                Begin::Retained(*pick(scene.random, &[None, Some(1), Some(3), Some(20)]))
            }
            _ if id.is_empty() => Begin::Head,
            Some(place) => Begin::After(place),
            None if id.starts_with("own-") => {
                self.seen.clear(); // The earliest event with the id may lie before its last one.
                Begin::AfterOwn
            }
            None => Begin::AfterUnknown,
        };
        let others = &self.others;
        let view = View::new(&self.names, others, begin, &id, scene.model, scene.rules);
        let shard = scene.random.within(0..=scene.nets.len() - 1);
        let stream = Stream {
            peer: scene.nets[shard].connect(),
            shard,
            begun: scene.now,
            begun_at: scene.step,
            request: self.request(&id, begin, scene.random),
            written: 0,
            received: Vec::new(),
            head: None,
            body: None,
            lines: Lines::default(),
            decoder: Decoder::new(1 << 20).resuming_after(&id),
            view,
            has_left: false,
        };
        self.stream = Some(stream);
    }

    /// Most often keeps its last event id, as `EventSource` would.
    fn choose_last_event_id(&mut self, scene: &mut Scene<'_>) {
        match scene.random.within(0..=19) {
            0 => self.last_event_id.clear(),
            1 => "who-knows".clone_into(&mut self.last_event_id),
            2 | 3 if !self.seen_ids.is_empty() => {
                self.last_event_id.clone_from(pick(scene.random, &self.seen_ids));
            }
            _ => return,
        }
        self.seen.clear();
    }

    fn request(&self, id: &str, begin: Begin, random: &mut SplitMix64) -> Vec<u8> {
        let names: Vec<String> = self.names.iter().map(|name| percent_encode(name)).collect();
        let mut target = match &names[..] {
            [name] if random.chance(0.5) => format!("/channels/{name}?"),
            _ if random.chance(0.5) => format!("/events?channels={}&", names.join(",")),
            _ => format!("/sse?channel={}&", names.join("&channel=")),
        };
        if let Some(&user) = self.others.iter().find(|&&target| target > ALL) {
            let parameter = pick(random, &["userId", "user_id"]);
            target.push_str(&format!("{parameter}={}&", user_name(user)));
        }
        match begin {
            Begin::Retained(None) => target.push_str("replay=all&"),
            Begin::Retained(Some(count)) => target.push_str(&format!("replay={count}&")),
            Begin::Head | Begin::After(_) | Begin::AfterOwn | Begin::AfterUnknown => {}
        }
        let mut fields = "Host: localhost:8080\r\nAccept: text/event-stream\r\n".to_owned();
        if !id.is_empty() && random.chance(0.2) {
            target.push_str(&format!("lastEventId={id}"));
        } else if !id.is_empty() {
            fields.push_str(&format!("Last-Event-ID: {id}\r\n"));
        }
        let version = if self.is_old { "1.0" } else { "1.1" };
        format!("GET {target} HTTP/{version}\r\n{fields}\r\n").into_bytes()
    }

    fn read(&mut self, scene: &mut Scene<'_>, bytes_max: usize) -> bool {
        let Some(stream) = &mut self.stream else { return false };
        let bytes = stream.peer.read(bytes_max);
        if !bytes.is_empty() {
            stream.received.extend_from_slice(&bytes);
            let seen_before = stream.view.seen.len();
            if let Err(problem) = stream.take(scene, self.is_old) {
                panic!("subscriber {}: {problem}", self.number);
            }
            stream.decoder.last_event_id().clone_into(&mut self.last_event_id);
            for &number in &stream.view.seen[seen_before..] {
                let event = scene.model.event(number).expect("it was committed");
                assert!(self.seen.insert(event.serial), "subscriber {}: event {number} twice", self.number);
                if self.seen_ids.len() < 100 || scene.random.chance(0.05) {
                    self.seen_ids.push(event.id.clone());
                }
            }
        }
        if stream.peer.was_reset() || stream.peer.is_ended() {
            self.end(scene);
        }
        !bytes.is_empty()
    }

    /// Handles a connection that the server or the network has ended, and gives it up.
    fn end(&mut self, scene: &mut Scene<'_>) {
        let channels = self.targets();
        let Some(mut stream) = self.stream.take() else { return };
        stream.view.check_broken_off(scene.model);
        if stream.peer.was_reset() {
            scene.stats.resets += 1;
        } else if !scene.is_draining && !stream.has_left && stream.view.connected_at.is_some() {
            let is_whole = self.is_old || stream.body.is_some_and(|body| body.is_done());
            // A stream whose time is over is cut off if its client does not read its end.
            let patience = scene.rules.shard.conn.idle_timeout;
            let may_be_over = scene.rules.shard.stream_age_max.is_some() || stream.view.is_deleted;
            let is_cut = may_be_over && scene.now >= stream.begun + patience;
            let is_cut = is_cut || scene.restarted_at[stream.shard].is_some_and(|at| at >= stream.begun_at);
            let is_well = (stream.view.over_at.is_some() && is_whole) || is_cut;
            assert!(is_well, "subscriber {}: the stream just ends", self.number);
        }
        let (client, over_at) = (stream.view.client.take(), stream.view.over_at);
        scene.ghosts.push(Ghost { channels, client, over_at, left: None });
    }

    fn leave(&mut self, scene: &mut Scene<'_>) {
        let is_live = self.must_live(scene.rules, scene.is_draining, scene.restarted_at);
        let Some(stream) = &mut self.stream else { return };
        match scene.random.within(0..=2) {
            0 if !stream.has_left => {
                stream.peer.shutdown_write();
                stream.has_left = true;
                return;
            }
            1 => stream.peer.reset(),
            _ => {}
        }
        let (client, over_at) = (stream.view.client.clone(), stream.view.over_at);
        let channels = self.targets();
        let left = is_live.then(|| self.stream.as_ref().map(|stream| stream.left(scene.step))).flatten();
        scene.ghosts.push(Ghost { channels, client, over_at, left });
        self.give_up(scene.model);
        self.sleeps_until = scene.step + scene.random.within(0..=200) as u64;
    }

    /// Gives the connection up, even if bytes are unread.
    pub(crate) fn give_up(&mut self, model: &Model) {
        self.drop_control();
        if let Some(mut stream) = self.stream.take() {
            stream.view.check_broken_off(model);
        }
        self.has_slept = false;
    }
}
