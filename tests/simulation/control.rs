//! A client's requests about its own live stream. It changes the channels, asks for the stream's state,
//! and ends it. It names the stream by its client id, over a second connection.

use downpour::driver::sim::SimPeer;
use serde_json::Value;

use crate::model::{CHANNELS, PATTERNS};
use crate::rules::pick;
use crate::scene::Scene;
use crate::view::View;
use crate::wire::{percent_encode, take_response};

/// A connection for requests about a stream, one at a time.
pub(crate) struct Control {
    peer: SimPeer,
    out: Vec<u8>,
    written: usize,
    received: Vec<u8>,
    asked: Option<Asked>,
}

/// A request without an answer yet.
#[derive(Clone, Debug)]
struct Asked {
    client: String,
    wish: Wish,
    /// The step in which it was begun.
    begun_at: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    Change { is_subscribe: bool, name: &'static str },
    Describe,
    End,
}

/// What the owner of a stream knows about it when an answer comes.
pub(crate) struct Known<'a> {
    pub(crate) view: &'a mut View,
    /// If the request was begun in this step or later, the server cannot answer that the stream is gone.
    pub(crate) must_live_since: Option<u64>,
}

impl Control {
    pub(crate) fn connect(scene: &mut Scene<'_>) -> Control {
        let peer = pick(scene.random, scene.nets).connect();
        Control { peer, out: Vec::new(), written: 0, received: Vec::new(), asked: None }
    }

    /// Returns true if and only if no answer can come any more.
    pub(crate) fn is_over(&self) -> bool {
        self.peer.was_reset() || self.peer.is_ended()
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.asked.is_none()
    }

    /// Begins a request about the stream.
    pub(crate) fn ask(&mut self, scene: &mut Scene<'_>, view: &mut View) {
        let Some(client) = view.client.clone() else { return };
        let is_pattern = scene.rules.plays_targets && scene.random.chance(0.25);
        let name = *if is_pattern { pick(scene.random, &PATTERNS) } else { pick(scene.random, &CHANNELS) };
        let wish = match scene.random.within(0..=99) {
            0 => Wish::End,
            1..=4 => Wish::Describe,
            other => Wish::Change { is_subscribe: other % 2 == 0, name },
        };
        let (head, body) = match wish {
            Wish::Describe => (format!("GET /clients/{client}"), String::new()),
            Wish::End => (format!("DELETE /clients/{client}"), String::new()),
            Wish::Change { is_subscribe, name } => {
                let verb = if is_subscribe { "subscribe" } else { "unsubscribe" };
                if scene.random.chance(0.5) {
                    let body = format!(r#"{{"clientId":"{client}","channel":{}}}"#, Value::from(name));
                    (format!("POST /events/{verb}"), body)
                } else {
                    let parameter = pick(scene.random, &["clientId", "client_id"]);
                    let name = percent_encode(name);
                    (format!("POST /sse/{verb}?channel={name}&{parameter}={client}"), String::new())
                }
            }
        };
        self.out = format!(
            "{head} HTTP/1.1\r\nHost: localhost:8080\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .into_bytes();
        self.written = 0;
        match wish {
            Wish::Change { is_subscribe, name } => view.ask(is_subscribe, name, scene.model.head()),
            Wish::End => view.is_deleted = true,
            Wish::Describe => {}
        }
        self.asked = Some(Asked { client, wish, begun_at: scene.step });
    }

    /// Writes and reads what it can. Returns true if it wrote or read anything.
    pub(crate) fn go_on(&mut self, scene: &mut Scene<'_>, known: Option<Known<'_>>) -> bool {
        let taken =
            if self.written < self.out.len() { self.peer.write(&self.out[self.written..]) } else { 0 };
        self.written += taken;
        let bytes = self.peer.read(usize::MAX);
        self.received.extend_from_slice(&bytes);
        if let Some((head, body)) = take_response(&mut self.received)
            && let Some(asked) = self.asked.take()
        {
            let body: Value = serde_json::from_str(&body).expect("an answer is JSON");
            asked.check_answer(scene, known, head.status, &body);
        }
        taken > 0 || !bytes.is_empty()
    }

    /// Gives the connection up. The result of its request stays unknown.
    pub(crate) fn give_up(self, view: Option<&mut View>) {
        if let (Some(asked), Some(view)) = (self.asked, view)
            && view.client.as_ref() == Some(&asked.client)
        {
            view.is_uncertain = true;
        }
    }

    pub(crate) fn check_settled(&self) {
        assert!(self.is_over() || self.asked.is_none(), "the server does not answer {:?}", self.asked);
    }
}

impl Asked {
    fn check_answer(&self, scene: &mut Scene<'_>, known: Option<Known<'_>>, status: u16, body: &Value) {
        let known = known.filter(|known| known.view.client.as_ref() == Some(&self.client));
        let detail = body["detail"].as_str().unwrap_or("");
        let (is_unknown, is_open) = match status {
            200 => (false, false),
            404 => {
                scene.stats.clients_unknown += 1;
                (true, false)
            }
            400 => {
                let is_full = detail.starts_with("a stream has at most");
                assert!(is_full && matches!(self.wish, Wish::Change { is_subscribe: true, .. }), "{body}");
                scene.stats.streams_full += 1;
                (false, false)
            }
            429 | 503 | 408 => {
                (false, detail.contains("may still appear") || detail.contains("did not answer"))
            }
            _ => panic!("{status} {body} for {self:?}"),
        };
        let Some(Known { view, must_live_since }) = known else { return };
        if is_unknown {
            let must_live = must_live_since.is_some_and(|since| since <= self.begun_at);
            assert!(!must_live, "{body} for {self:?}, of a stream that lives");
        }
        match self.wish {
            Wish::Change { .. } if is_open => view.is_uncertain = true,
            Wish::Change { is_subscribe, name } => {
                let channels = (status == 200).then_some(&body["channels"]);
                view.answered(is_subscribe, name, channels, scene.model.head(), scene.step);
                scene.stats.changes += u64::from(status == 200);
            }
            Wish::Describe if status == 200 => {
                assert_eq!(body["clientId"], self.client.as_str());
                view.check_names(&body["channels"]);
                scene.stats.described += 1;
            }
            Wish::Describe => {}
            Wish::End => scene.stats.deleted += u64::from(status == 200),
        }
    }
}

impl std::fmt::Debug for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Control")
            .field("peer", &self.peer)
            .field("asked", &self.asked)
            .finish_non_exhaustive()
    }
}
