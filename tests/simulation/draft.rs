//! Draws the events that publishers send, in every form that the contract has.

use std::time::Duration;

use downpour::base::random::SplitMix64;
use serde_json::Value;

use crate::model::{ALL, CHANNELS, ChannelSet, Draft, Fate, SELF, TARGETS, user_name};
use crate::rules::{DATA_BYTES_MAX, Rules, pick};
use crate::scene::Scene;
use crate::wire::percent_encode;

/// A draft in the forms of the contract.
pub(crate) struct Written {
    pub(crate) draft: Draft,
    /// As an envelope of `POST /publish`.
    pub(crate) envelope: String,
    /// As the body of `POST /channels/{channel}`. Empty if its data is JSON.
    pub(crate) text: String,
    /// Where its line ends in the body of lines.
    pub(crate) line_end: usize,
}

impl Written {
    /// Returns true if and only if it can be published as a body of its own.
    pub(crate) fn is_plain(&self) -> bool {
        let is_to_channel = self.draft.channels.len() == 1 && !self.draft.channels.has_other_targets();
        is_to_channel && !self.text.is_empty() && self.draft.ttl.is_none()
    }

    /// Gives the envelope an idempotency key.
    pub(crate) fn set_key(&mut self, key: &str) {
        self.envelope.pop();
        self.envelope.push_str(&format!(r#","idempotencyKey":"{key}"}}"#));
    }

    /// The target, content type and body of a request that publishes it as such a body.
    pub(crate) fn verbatim(&self) -> (String, &'static str, String) {
        let channel = self.draft.channels.indexes().next().map_or("", |index| CHANNELS[index]);
        let mut target = format!("/channels/{}?", percent_encode(channel));
        if self.draft.event_type != "message" {
            target.push_str(&format!("event={}&", self.draft.event_type));
        }
        if let Some(own_id) = &self.draft.own_id {
            target.push_str(&format!("id={own_id}"));
        }
        (target, "text/plain", self.text.clone())
    }
}

/// Draws an event. It goes to one client only if `may_go_to_client`.
pub(crate) fn write_draft(serial: usize, scene: &mut Scene<'_>, may_go_to_client: bool) -> Written {
    let (random, rules) = (&mut *scene.random, scene.rules);
    let mut indexes = vec![random.within(0..=CHANNELS.len() - 1)];
    if random.chance(rules.several_probability) {
        (0..random.within(1..=3)).for_each(|_| indexes.push(random.within(0..=CHANNELS.len() - 1)));
    }
    if rules.plays_targets && random.chance(0.2) {
        indexes = vec![*pick(random, &[ALL, ALL, ALL + 1, TARGETS - 1])];
    }
    let mut client = None;
    if rules.plays_clients && may_go_to_client && random.chance(0.25) {
        let known = scene.model.draw_client(random).filter(|_| random.chance(0.97)).map(str::to_owned);
        client = Some(known.unwrap_or_else(|| "00000000000000000000000000000007-0-0".to_owned()));
        indexes = vec![SELF];
    }
    let channels = ChannelSet::of(&indexes);
    let event_type = *pick(random, &["message", "message", "note", "tick"]);
    // Most ids are used once.
    let own_id = random.chance(0.05).then(|| match random.within(0..=9) {
        0 => format!("own-{}", random.within(0..=serial)),
        1..=3 => format!("own-again-{}", random.within(0..=3)),
        _ => format!("own-{serial}"),
    });
    let ttl = random.chance(rules.ttl_probability).then(|| random.within(1..=20) as u64);
    let filler = filler(random, rules);
    let is_text = random.chance(0.7);
    // Text may have line ends of every kind, and readers see LF for each. JSON is sent unchanged.
    let text = if is_text { format!("{serial}:{filler}") } else { String::new() };
    let (field, said, data) = if is_text {
        ("text", Value::from(&*text).to_string(), text.replace("\r\n", "\n").replace('\r', "\n"))
    } else {
        let json = format!("{{ \"n\":{serial},\"filler\":{}}}", Value::from(filler));
        ("data", json.clone(), json)
    };
    let target = match indexes[..] {
        [ALL] => r#""all":true"#.to_owned(),
        [SELF] => format!(r#""clientId":"{}""#, client.as_deref().unwrap_or("")),
        [user] if user > ALL => format!(r#""userId":"{}""#, user_name(user)),
        [channel] => format!(r#""channel":{}"#, Value::from(CHANNELS[channel])),
        _ => {
            let names: Vec<&str> = indexes.iter().map(|&index| CHANNELS[index]).collect();
            format!(r#""channels":{}"#, Value::from(names))
        }
    };
    let mut envelope = format!(r#"{{{target},"{field}":{said}"#);
    if event_type != "message" {
        envelope.push_str(&format!(r#","event":"{event_type}""#));
    }
    if let Some(own_id) = &own_id {
        envelope.push_str(&format!(r#","id":"{own_id}""#));
    }
    if let Some(ttl) = ttl {
        envelope.push_str(&format!(r#","ttl":{ttl}"#));
    }
    envelope.push('}');
    let draft = Draft {
        channels,
        client,
        event_type,
        data,
        own_id,
        ttl: ttl.map(Duration::from_secs),
        connection: 0,
        written_at: 0,
        whole: None,
        is_retried: false,
        fate: Fate::Open,
    };
    Written { draft, envelope, text, line_end: 0 }
}

fn filler(random: &mut SplitMix64, rules: &Rules) -> String {
    let most = if random.chance(rules.large_probability) { DATA_BYTES_MAX - 200 } else { 120 };
    let len = random.within(0..=most);
    let mut text = String::new();
    while text.len() < len {
        let run = random.within(1..=60);
        text.push_str(&"x".repeat(run.min(len - text.len())));
        let special = pick(random, &["", "", "", "\n", "\r", "\r\n", "ö", " ", "data: ", "\n\n"]);
        text.push_str(special);
    }
    text
}
