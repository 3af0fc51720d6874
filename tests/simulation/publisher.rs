//! A client that publishes: pipelined, in pieces, in every form, sometimes badly, and not always to the end.

use std::collections::VecDeque;

use downpour::driver::sim::SimPeer;
use downpour::frame::batch::Batch;
use downpour::log::{Log, Ticket};
use downpour::sse::event::Event;
use serde_json::Value;

use crate::draft::{Written, write_draft};
use crate::model::{Draft, Fate, Model, target_name};
use crate::rules::pick;
use crate::subscriber::{Ghost, Scene, Subscriber};
use crate::wire::{Body, take_response};

/// A publisher, with or without a connection.
#[derive(Debug, Default)]
pub(crate) struct Publisher {
    connection: Option<Connection>,
}

struct Connection {
    peer: SimPeer,
    /// Its place among all connections of publishers.
    number: usize,
    /// What is yet to be written, and how much was.
    out: VecDeque<u8>,
    written: u64,
    received: Vec<u8>,
    /// What is not answered, oldest first.
    requests: VecDeque<Request>,
    /// The last request asks for the connection's end.
    is_last: bool,
}

/// A request that is written or waits to be.
#[derive(Debug)]
struct Request {
    kind: Kind,
    /// Its first byte, and behind its last, counted from the connection's begin.
    from: u64,
    to: u64,
    /// The serial numbers of its events that may be committed.
    serials: std::ops::Range<usize>,
    /// In which step its first byte was written.
    begun_at: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// One event, as a body or as an envelope.
    Single,
    Array,
    /// A body of lines, and whether its last line is bad.
    Lines {
        is_bad: bool,
    },
    /// An array with a bad item.
    BadArray,
}

impl Publisher {
    /// Has its turn.
    pub(crate) fn act(&mut self, scene: &mut Scene<'_>, subscribers: &[Subscriber]) {
        let Some(connection) = &mut self.connection else {
            let number = scene.model.written.len();
            scene.model.written.push(0);
            self.connection = Some(Connection {
                peer: pick(scene.random, scene.nets).connect(),
                number,
                out: VecDeque::new(),
                written: 0,
                received: Vec::new(),
                requests: VecDeque::new(),
                is_last: false,
            });
            return;
        };
        if scene.random.chance(0.003) {
            self.connection = None; // Whatever it was about.
            return;
        }
        if connection.requests.len() < 4 && !connection.is_last && scene.random.chance(0.3) {
            connection.begin_request(scene);
        }
        let most = *pick(scene.random, &[1, 30, 1000, 100_000]);
        connection.write(scene, most);
        connection.read(scene, subscribers);
        if connection.is_over() {
            self.connection = None;
        }
    }

    /// Writes and reads all it can; returns whether that was anything.
    pub(crate) fn settle(&mut self, scene: &mut Scene<'_>, subscribers: &[Subscriber]) -> bool {
        let Some(connection) = &mut self.connection else { return false };
        let has_written = connection.write(scene, usize::MAX);
        let has_read = connection.read(scene, subscribers);
        if connection.is_over() {
            self.connection = None;
        }
        has_written || has_read
    }

    /// Checks that everything was answered.
    pub(crate) fn check_settled(&self) {
        if let Some(connection) = &self.connection {
            assert!(connection.out.is_empty(), "the server does not read: {connection:?}");
            assert!(connection.requests.is_empty(), "the server does not answer: {connection:?}");
        }
    }

    /// Returns true if and only if it has a connection.
    pub(crate) fn is_connected(&self) -> bool {
        self.connection.is_some()
    }

    pub(crate) fn give_up(&mut self) {
        self.connection = None;
    }
}

impl Connection {
    fn is_over(&self) -> bool {
        self.peer.was_reset() || self.peer.is_ended()
    }

    fn begin_request(&mut self, scene: &mut Scene<'_>) {
        let first = scene.model.drafts.len();
        let lines = Kind::Lines { is_bad: scene.random.chance(0.1) };
        let kinds = [Kind::Single, Kind::Single, Kind::Single, Kind::Array, lines, lines, Kind::BadArray];
        let kind = *pick(scene.random, &kinds);
        let count = match kind {
            Kind::Single => 1,
            Kind::Array | Kind::BadArray => scene.random.within(1..=6),
            Kind::Lines { .. } => scene.random.within(1..=30),
        };
        let mut drafts: Vec<Written> =
            (first..first + count).map(|serial| write_draft(serial, scene, true)).collect();
        let (target, content_type, data) = match kind {
            Kind::Single if scene.random.chance(0.5) && drafts[0].is_plain() => drafts[0].verbatim(),
            Kind::Single => ("/publish".to_owned(), "application/json", drafts[0].envelope.clone()),
            Kind::Array | Kind::BadArray => {
                let mut items: Vec<&str> = drafts.iter().map(|draft| &*draft.envelope).collect();
                if kind == Kind::BadArray {
                    items.insert(scene.random.within(0..=count), r#"{"channel":"a b","data":1}"#);
                }
                ("/publish".to_owned(), "application/json", format!("[{}]", items.join(",\n")))
            }
            Kind::Lines { is_bad } => {
                let mut text = String::new();
                for draft in &mut drafts {
                    text.push_str(&draft.envelope);
                    let line_end = pick(scene.random, &["\n", "\n", "\r\n", "\n\n"]);
                    text.push_str(line_end);
                    draft.line_end = text.trim_end().len();
                }
                if is_bad {
                    text.push_str("{\"channel\":\"a\"}\n");
                }
                ("/publish".to_owned(), "application/x-ndjson", text)
            }
        };
        let is_chunked = scene.random.chance(0.3);
        let body = if is_chunked {
            Body::chunked(data.as_bytes(), scene.random)
        } else {
            Body::counted(data.as_bytes())
        };
        self.is_last = scene.random.chance(0.02);
        let connection = if self.is_last { "Connection: close\r\n" } else { "" };
        let head = format!(
            "POST {target} HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nContent-Type: {content_type}\r\n{connection}{}\r\n",
            body.fields
        );
        let from = self.written + self.out.len() as u64;
        let to = from + (head.len() + body.bytes.len()) as u64;
        for written in drafts {
            let mut draft = written.draft;
            draft.connection = self.number;
            (draft.whole, draft.written_at) = match kind {
                Kind::Single | Kind::Array => (Some(count), to),
                Kind::BadArray => (Some(0), u64::MAX),
                Kind::Lines { .. } => (None, from + (head.len() + body.bytes_for(written.line_end)) as u64),
            };
            scene.model.drafts.push(draft);
        }
        self.out.extend(head.bytes().chain(body.bytes.iter().copied()));
        self.requests.push_back(Request { kind, from, to, serials: first..first + count, begun_at: None });
    }

    fn write(&mut self, scene: &mut Scene<'_>, most: usize) -> bool {
        let len = most.min(self.out.len());
        if len == 0 {
            return false;
        }
        let taken = self.peer.write(&self.out.make_contiguous()[..len]);
        self.out.drain(..taken);
        self.written += taken as u64;
        scene.model.written[self.number] = self.written;
        for request in &mut self.requests {
            if request.begun_at.is_none() && request.from < self.written {
                request.begun_at = Some(scene.step);
            }
        }
        taken > 0
    }

    fn read(&mut self, scene: &mut Scene<'_>, subscribers: &[Subscriber]) -> bool {
        let bytes = self.peer.read(usize::MAX);
        self.received.extend_from_slice(&bytes);
        while let Some((head, body)) = take_response(&mut self.received) {
            let body: Value = serde_json::from_str(&body).expect("an answer is JSON");
            if head.status == 408 && self.requests.front().is_none_or(|request| request.to > self.written) {
                self.requests.clear();
                continue; // It took too long over its request.
            }
            let request = self.requests.pop_front().expect("an answer answers a request");
            request.check_answer(scene, subscribers, head.status, &body);
        }
        !bytes.is_empty()
    }
}

impl Request {
    fn check_answer(&self, scene: &mut Scene<'_>, subscribers: &[Subscriber], status: u16, body: &Value) {
        let detail = body["detail"].as_str().unwrap_or("");
        let model = &mut *scene.model;
        if status == 200 {
            assert!(self.kind != Kind::BadArray && self.kind != Kind::Lines { is_bad: true }, "{body}");
            let ids: Vec<&Value> = match self.kind {
                Kind::Single => vec![&body["id"]],
                Kind::Array | Kind::BadArray | Kind::Lines { .. } => {
                    let ids = body["ids"]
                        .as_array()
                        .unwrap_or_else(|| panic!("a batch has ids: {body} of {self:?}"));
                    ids.iter().collect()
                }
            };
            let committed: Vec<Value> =
                self.serials.clone().map(|serial| committed_id(model, serial)).collect();
            assert_eq!(ids, committed.iter().collect::<Vec<_>>(), "the ids of {self:?}");
            assert_eq!(body["success"], true);
            scene.stats.acknowledged += 1;
            match self.kind {
                Kind::Single => self.check_receivers(scene, subscribers, body),
                Kind::Array | Kind::BadArray | Kind::Lines { .. } => {
                    assert_eq!(body["published"], self.serials.len());
                }
            }
            return;
        }
        // What was published of lines before the error is; what was refused is not; of the rest nobody knows.
        let published = usize::try_from(body["published"].as_u64().unwrap_or(0)).expect("a number of lines");
        let (done, rest) =
            (self.serials.start..self.serials.start + published, self.serials.start + published);
        assert!(
            published <= self.serials.len() && (published == 0 || matches!(self.kind, Kind::Lines { .. }))
        );
        done.for_each(|serial| drop(committed_id(model, serial)));
        match status {
            400 => {
                assert!(matches!(self.kind, Kind::BadArray | Kind::Lines { is_bad: true }), "{body}");
                assert!(self.kind == Kind::BadArray || published == self.serials.len(), "{body} of {self:?}");
                scene.stats.bad_requests += 1;
            }
            404 => {
                let item = detail.strip_prefix("item ").and_then(|rest| rest.split(':').next()?.parse().ok());
                self.check_unknown(scene, subscribers, self.serials.start + item.unwrap_or(published), body);
            }
            503 | 408 | 429 => {}
            _ => panic!("{status} {body} for {self:?}"),
        }
        if detail.contains("may still appear") {
            scene.stats.uncertain += 1;
            return;
        }
        (rest..self.serials.end).for_each(|serial| scene.model.refuse(serial, detail));
        scene.stats.refused += u64::from(status == 503);
    }

    /// Checks that an event which is refused for its client may have found that gone.
    fn check_unknown(&self, scene: &mut Scene<'_>, subscribers: &[Subscriber], serial: usize, body: &Value) {
        let client = scene.model.drafts[serial].client.as_deref().expect("it goes to a client");
        let begun_at = self.begun_at.expect("an answered request was written");
        let may_end = scene.is_draining || scene.rules.shard.stream_age_max.is_some();
        let must_live = |subscriber: &Subscriber| {
            subscriber.is_client(client) && subscriber.must_receive(u64::MAX, begun_at, scene.restarted_at)
        };
        assert!(may_end || !subscribers.iter().any(must_live), "{body} of a client that lives");
        scene.stats.clients_unknown += 1;
    }

    /// Compares the count with the streams that must, and those that may, have been subscribed meanwhile.
    fn check_receivers(&self, scene: &mut Scene<'_>, subscribers: &[Subscriber], body: &Value) {
        let draft = &scene.model.drafts[self.serials.start];
        let Fate::Committed(number) = draft.fate else { panic!("{self:?} was acknowledged") };
        let (channels, client) = (draft.channels, draft.client.as_deref());
        let is_named = |subscriber: &&Subscriber| client.is_some_and(|client| subscriber.is_client(client));
        let concerned = || {
            let may_concern =
                |subscriber: &&Subscriber| subscriber.targets().meets(channels) || is_named(subscriber);
            subscribers.iter().filter(may_concern)
        };
        let begun_at = self.begun_at.expect("an answered request was written");
        // Streams whose time is over have left, though their clients may not have read that far.
        let may_end = scene.is_draining || scene.rules.shard.stream_age_max.is_some();
        let least = concerned()
            .filter(|subscriber| subscriber.surely_has(channels, begun_at) || is_named(subscriber))
            .filter(|subscriber| !may_end && subscriber.must_receive(number, begun_at, scene.restarted_at))
            .count();
        let may_count = |ghost: &&Ghost| {
            let is_named = client.is_some() && ghost.client.as_deref() == client;
            (ghost.channels.meets(channels) || is_named) && ghost.over_at.is_none_or(|at| at >= begun_at)
        };
        let ghosts = scene.ghosts.iter().filter(may_count).count();
        let most = concerned().filter(|subscriber| subscriber.may_receive(number, begun_at)).count() + ghosts;
        let receivers = body["receivers"].as_u64().and_then(|count| usize::try_from(count).ok());
        let receivers = receivers.expect("one event is answered with its receivers");
        assert!((least..=most).contains(&receivers), "{receivers} receivers of {least} to {most}: {self:?}");
        let count = if least == most && least > 0 {
            &mut scene.stats.receivers_exact
        } else {
            &mut scene.stats.receivers_within
        };
        *count += 1;
    }
}

fn committed_id(model: &Model, serial: usize) -> Value {
    let Fate::Committed(number) = model.drafts[serial].fate else {
        panic!("event {serial} was acknowledged, and is {:?}", model.drafts[serial].fate)
    };
    Value::from(&*model.event(number).expect("it was committed").id)
}

/// Appends an event to a log as another part of the process, or another node, would: no shard hears what comes of it.
pub(crate) fn append_aside(scene: &mut Scene<'_>, log: &dyn Log, ticket: Ticket) {
    let serial = scene.model.drafts.len();
    let Written { draft, text, .. } = write_draft(serial, scene, false);
    let mut event = Event::new(if text.is_empty() { &draft.data } else { &text });
    if draft.event_type != "message" {
        event = event.with_type(draft.event_type).expect("a plain word");
    }
    let mut batch = Batch::new();
    let names: Vec<String> = draft.channels.indexes().map(target_name).collect();
    batch.push(&names.iter().map(String::as_str).collect::<Vec<_>>(), &event);
    let connection = scene.model.written.len();
    scene.model.written.push(0);
    scene.model.drafts.push(Draft { has_own_id: false, connection, whole: Some(1), ..draft });
    log.append(batch, ticket);
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("number", &self.number)
            .field("unwritten", &self.out.len())
            .field("written", &self.written)
            .field("requests", &self.requests)
            .finish_non_exhaustive()
    }
}
