//! A client that publishes: pipelined, in pieces, in every form, sometimes badly, and not always to the
//! end. If it does not know the fate of a request with idempotency keys, it sends the request again.
//! Sometimes it does so even if it knows.

use std::collections::VecDeque;

use downpour::driver::sim::SimPeer;
use downpour::log::{Log, Ticket};
use downpour::record::{Events, Record};
use downpour::sse::event::Event;
use serde_json::Value;

use crate::draft::{Written, write_draft};
use crate::model::{Draft, target_name};
use crate::request::{Kind, Message};
use crate::rules::pick;
use crate::scene::Scene;
use crate::subscriber::Subscriber;
use crate::wire::take_response;

/// A publisher, with or without a connection.
#[derive(Debug, Default)]
pub(crate) struct Publisher {
    connection: Option<Connection>,
    /// Requests to send again.
    retries: Vec<Message>,
    /// Requests with keys whose answers say that they are published.
    published: Vec<Message>,
}

struct Connection {
    peer: SimPeer,
    /// The connection's index among all connections of publishers.
    number: usize,
    /// Bytes to write, and the number of written bytes.
    out: VecDeque<u8>,
    written: u64,
    received: Vec<u8>,
    /// Requests without an answer, oldest first.
    requests: VecDeque<Request>,
    /// The last request asks to close the connection.
    is_last: bool,
}

/// A request that is written or waits to be.
#[derive(Debug)]
struct Request {
    message: Message,
    /// Its first byte and the end of its last, counted from the start of the connection.
    from: u64,
    to: u64,
}

impl Publisher {
    /// Takes a turn.
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
            self.lose_connection(); // In the middle of anything.
            return;
        }
        if connection.requests.len() < 4 && !connection.is_last && scene.random.chance(0.3) {
            self.retries.retain(|message| message.may_retry(scene.now));
            self.published.retain(|message| message.may_retry(scene.now));
            if !self.retries.is_empty() && scene.random.chance(0.5) {
                let index = scene.random.within(0..=self.retries.len() - 1);
                connection.send_again(scene, self.retries.swap_remove(index));
            } else if !self.published.is_empty() && scene.random.chance(0.05) {
                let drawn = pick(scene.random, &self.published).clone().conflicting(scene);
                connection.send_first(scene, drawn);
            } else if scene.random.chance(0.03) {
                let drawn = Message::dropping(scene);
                connection.send_first(scene, drawn);
            } else {
                let drawn = Message::draw(scene);
                connection.send_first(scene, drawn);
            }
        }
        let most = *pick(scene.random, &[1, 30, 1000, 100_000]);
        connection.write(scene, most);
        self.read(scene, subscribers);
    }

    fn read(&mut self, scene: &mut Scene<'_>, subscribers: &[Subscriber]) -> bool {
        let Publisher { connection: Some(connection), retries, published } = self else { return false };
        let has_read = connection.read(scene, subscribers, retries, published);
        if connection.is_over() {
            self.lose_connection();
        }
        has_read
    }

    /// Gives its connection up. The fate of its unanswered requests is unknown.
    fn lose_connection(&mut self) {
        let requests = self.connection.take().into_iter().flat_map(|connection| connection.requests);
        self.retries.extend(requests.map(|request| request.message));
    }

    /// Writes and reads all it can. Returns true if it wrote or read anything.
    pub(crate) fn settle(&mut self, scene: &mut Scene<'_>, subscribers: &[Subscriber]) -> bool {
        let Some(connection) = &mut self.connection else { return false };
        let has_written = connection.write(scene, usize::MAX);
        let has_read = self.read(scene, subscribers);
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

    /// The server is gone, and with it its memory of keys.
    pub(crate) fn give_up(&mut self) {
        *self = Publisher::default();
    }
}

impl Connection {
    fn is_over(&self) -> bool {
        self.peer.was_reset() || self.peer.is_ended()
    }

    /// Sends a request for the first time.
    fn send_first(&mut self, scene: &mut Scene<'_>, (message, drafts): (Message, Vec<Written>)) {
        self.is_last = scene.random.chance(0.02);
        let (head, body) = message.write(self.is_last, scene);
        let from = self.written + self.out.len() as u64;
        let to = from + (head.len() + body.bytes.len()) as u64;
        let count = drafts.len();
        for written in drafts {
            let mut draft = written.draft;
            draft.connection = self.number;
            (draft.whole, draft.written_at) = match message.kind {
                Kind::Single | Kind::Array | Kind::Drop => (Some(count), to),
                Kind::BadArray | Kind::Conflict => (Some(0), u64::MAX),
                Kind::Lines { .. } => (None, from + (head.len() + body.bytes_for(written.line_end)) as u64),
            };
            scene.model.drafts.push(draft);
        }
        self.queue(message, &head, &body.bytes);
    }

    /// Sends a request again.
    fn send_again(&mut self, scene: &mut Scene<'_>, message: Message) {
        self.is_last = scene.random.chance(0.02);
        let (head, body) = message.write(self.is_last, scene);
        message.serials.clone().for_each(|serial| scene.model.drafts[serial].is_retried = true);
        scene.stats.retried += 1;
        self.queue(message, &head, &body.bytes);
    }

    fn queue(&mut self, mut message: Message, head: &str, body: &[u8]) {
        message.attempts += 1;
        let from = self.written + self.out.len() as u64;
        self.out.extend(head.bytes().chain(body.iter().copied()));
        let to = self.written + self.out.len() as u64;
        self.requests.push_back(Request { message, from, to });
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
            if request.message.begun_at.is_none() && request.from < self.written {
                request.message.begun_at = Some(scene.step);
            }
        }
        taken > 0
    }

    fn read(
        &mut self,
        scene: &mut Scene<'_>,
        subscribers: &[Subscriber],
        retries: &mut Vec<Message>,
        published: &mut Vec<Message>,
    ) -> bool {
        let bytes = self.peer.read(usize::MAX);
        self.received.extend_from_slice(&bytes);
        while let Some((head, body)) = take_response(&mut self.received) {
            let body: Value = serde_json::from_str(&body).expect("an answer is JSON");
            if head.status == 408 && self.requests.front().is_none_or(|request| request.to > self.written) {
                retries.extend(self.requests.drain(..).map(|request| request.message));
                continue; // It took too long over its request.
            }
            let request = self.requests.pop_front().expect("an answer answers a request");
            let mut message = request.message;
            let is_settled = message.check_answer(scene, subscribers, head.status, &body);
            if message.may_retry(scene.now) {
                message.receivers = body["receivers"].as_u64();
                if head.status == 200 && message.serials.len() < 10 {
                    published.push(message.clone());
                }
                if !is_settled || scene.random.chance(0.1) {
                    retries.push(message);
                }
            }
        }
        !bytes.is_empty()
    }
}

/// Appends an event to a log as another part of the process, or another node, would. No shard gets its
/// result.
pub(crate) fn append_aside(scene: &mut Scene<'_>, log: &dyn Log, ticket: Ticket) {
    let serial = scene.model.drafts.len();
    let Written { draft, text, .. } = write_draft(serial, scene, false);
    let mut event = Event::new(if text.is_empty() { &draft.data } else { &text });
    if draft.event_type != "message" {
        event = event.with_type(draft.event_type).expect("a plain word");
    }
    let mut batch = Events::new();
    let names: Vec<String> = draft.channels.indexes().map(target_name).collect();
    batch.push(&names.iter().map(String::as_str).collect::<Vec<_>>(), &event);
    let connection = scene.model.written.len();
    scene.model.written.push(0);
    scene.model.drafts.push(Draft { own_id: None, ttl: None, connection, whole: Some(1), ..draft });
    log.append(&mut vec![(ticket, Record::from(batch))]);
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
