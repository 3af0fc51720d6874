//! Checks a publisher's answers against the committed sequence and the streams subscribed meanwhile.

use serde_json::Value;

use crate::model::{Fate, Model};
use crate::request::{Keys, Kind, Message};
use crate::scene::{Ghost, Scene};
use crate::subscriber::Subscriber;

impl Message {
    /// Checks the answer. Returns true if the request need not be sent again.
    pub(crate) fn check_answer(
        &self,
        scene: &mut Scene<'_>,
        subscribers: &[Subscriber],
        status: u16,
        body: &Value,
    ) -> bool {
        let detail = body["detail"].as_str().unwrap_or("");
        let number = |name: &str| usize::try_from(body[name].as_u64().unwrap_or(0)).expect("few events");
        let (published, duplicates) = (number("published"), number("duplicates"));
        let is_duplicate = body["duplicate"] == true;
        assert!(self.attempts > 1 || (!is_duplicate && duplicates == 0), "{body} for {self:?}");
        scene.stats.duplicates += u64::from(is_duplicate) + duplicates as u64;
        let model = &mut *scene.model;
        if self.kind == Kind::Drop {
            assert!(matches!(status, 200 | 404 | 408 | 429 | 503), "{status} {body} for {self:?}");
            assert!(status != 200 || (body["success"] == true && body["removed"].is_u64()), "{body}");
            scene.stats.drops += u64::from(status == 200);
            return true;
        }
        if status == 200 {
            let is_good =
                !matches!(self.kind, Kind::BadArray | Kind::Conflict | Kind::Lines { is_bad: true });
            assert!(is_good, "{body} for {self:?}");
            let ids: Vec<&Value> = match self.kind {
                Kind::Single | Kind::Conflict | Kind::Drop => vec![&body["id"]],
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
                Kind::Single | Kind::Conflict | Kind::Drop => self.check_receivers(scene, subscribers, body),
                Kind::Array | Kind::BadArray | Kind::Lines { .. } => {
                    assert_eq!(published + duplicates, self.serials.len());
                    assert_eq!(body["duplicates"].is_u64(), self.keys == Keys::Envelopes, "{body}");
                }
            }
            return true;
        }
        // Events of lines before the error are published. The refused event is not. The fate of the rest
        // is unknown.
        let done = published + duplicates;
        assert!(done <= self.serials.len() && (done == 0 || matches!(self.kind, Kind::Lines { .. })));
        let rest = self.serials.start + done;
        (self.serials.start..rest).for_each(|serial| drop(committed_id(model, serial)));
        let is_settled = match status {
            400 => {
                assert!(matches!(self.kind, Kind::BadArray | Kind::Lines { is_bad: true }), "{body}");
                assert!(self.kind == Kind::BadArray || done == self.serials.len(), "{body} of {self:?}");
                scene.stats.bad_requests += 1;
                true
            }
            404 => {
                let item = detail.strip_prefix("item ").and_then(|rest| rest.split(':').next()?.parse().ok());
                self.check_unknown(scene, subscribers, self.serials.start + item.unwrap_or(done), body);
                scene.stats.clients_unknown += 1;
                true
            }
            409 => {
                assert_eq!(self.kind, Kind::Conflict, "{body} for {self:?}");
                scene.stats.conflicts += 1;
                true
            }
            503 | 408 | 429 => false,
            _ => panic!("{status} {body} for {self:?}"),
        };
        if detail.contains("may still appear") {
            scene.stats.uncertain += 1;
        } else if is_settled || !self.may_retry(scene.now) {
            // An earlier attempt may still be under way, whatever this one was answered.
            if self.attempts == 1 {
                (rest..self.serials.end).for_each(|serial| scene.model.refuse(serial, detail));
            }
            scene.stats.refused += u64::from(status == 503);
        }
        is_settled
    }

    /// Checks that the client of an event refused as unknown may really be gone.
    fn check_unknown(&self, scene: &Scene<'_>, subscribers: &[Subscriber], serial: usize, body: &Value) {
        let client = scene.model.drafts[serial].client.as_deref().expect("it goes to a client");
        let begun_at = self.begun_at.expect("an answered request was written");
        let may_end = scene.is_draining || scene.rules.shard.stream_age_max.is_some();
        let must_live = |subscriber: &Subscriber| {
            subscriber.is_client(client) && subscriber.must_receive(u64::MAX, begun_at, scene.restarted_at)
        };
        assert!(may_end || !subscribers.iter().any(must_live), "{body} of a client that lives");
    }

    /// Compares the count with the streams that must and those that may have been subscribed meanwhile.
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
        let left = scene.ghosts.iter().filter(|ghost| ghost.must_receive(number, begun_at, scene)).count();
        let least = if may_end { least } else { least + left };
        scene.stats.receivers_left += left as u64;
        let may_count = |ghost: &&Ghost| {
            let is_named = client.is_some() && ghost.client.as_deref() == client;
            (ghost.channels.meets(channels) || is_named) && ghost.over_at.is_none_or(|at| at >= begun_at)
        };
        let ghosts = scene.ghosts.iter().filter(may_count).count();
        let most = concerned().filter(|subscriber| subscriber.may_receive(number, begun_at)).count() + ghosts;
        let is_duplicate = body["duplicate"] == true;
        if is_duplicate && body["receivers"].is_null() {
            return; // A shard took too long to count.
        }
        if let Some(receivers) = self.receivers.filter(|_| is_duplicate) {
            assert_eq!(body["receivers"], receivers, "as the first time: {self:?}");
        }
        let receivers = body["receivers"].as_u64().and_then(|count| usize::try_from(count).ok());
        let receivers = receivers.expect("one event is answered with its receivers");
        // Streams that ended long before a duplicate was sent are not tracked any more.
        let most = if is_duplicate { most.max(receivers) } else { most };
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
