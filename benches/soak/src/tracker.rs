//! What one reader has received over all its connections, and whether the next event may follow.

use std::collections::HashMap;

use serde_json::Value;

use crate::mark::{self, Mark};

/// The state of a reader that resumes: the events that it has, and those that must come next.
#[derive(Debug, Default)]
pub(crate) struct Tracker {
    scopes: HashMap<String, Seen>,
    /// The last id that the server made.
    place: String,
    client_id: String,
    /// Names and patterns that the stream is subscribed to.
    channels: Vec<String>,
    has_resumed: bool,
    /// For this connection.
    had_gap: bool,
    had_connected: bool,
}

/// The last event of a scope.
#[derive(Clone, Copy, Debug)]
struct Seen {
    number: u64,
    lasting: u64,
    /// A gap came after it: any later event may follow.
    is_behind_gap: bool,
}

/// The meaning of an event for its reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    Event,
    Connected,
    CaughtUp,
    Gap,
    /// The server ends the stream, or does not take it now.
    End,
    Other,
}

impl Tracker {
    /// A new connection begins; `has_resumed` if it sent the last event id.
    pub(crate) fn begin(&mut self, has_resumed: bool) {
        if !has_resumed {
            *self = Tracker::default();
        }
        self.has_resumed = has_resumed;
        (self.had_gap, self.had_connected) = (false, false);
    }

    pub(crate) fn client_id(&self) -> &str {
        &self.client_id
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.had_connected
    }

    /// Handles the next event of the stream.
    ///
    /// # Errors
    /// What is wrong with it, in one sentence.
    pub(crate) fn take(&mut self, event_type: &str, data: &str, last_event_id: &str) -> Result<Told, String> {
        match event_type {
            "connected" => {
                let value = json(data)?;
                value["clientId"].as_str().unwrap_or_default().clone_into(&mut self.client_id);
                self.set_channels(&value);
                // Events for one client are for its connection: they begin with the first.
                self.scopes.retain(|scope, _| !is_of_client(scope));
                self.had_connected = true;
                Ok(Told::Connected)
            }
            "subscribed" | "unsubscribed" => {
                self.set_channels(&json(data)?);
                Ok(Told::Other)
            }
            "gap" => {
                self.had_gap = true;
                self.scopes.values_mut().for_each(|seen| seen.is_behind_gap = true);
                Ok(Told::Gap)
            }
            "caught-up" => {
                let is_complete = json(data)?["complete"] == true;
                if self.has_resumed && is_complete == self.had_gap {
                    let gap = if self.had_gap { "after a gap" } else { "without a gap" };
                    return Err(format!("caught-up says complete={is_complete} {gap}"));
                }
                Ok(Told::CaughtUp)
            }
            "overloaded" | "shutdown" => Ok(Told::End),
            "ping" => Ok(Told::Other),
            _ => self.take_published(data, last_event_id).map(|()| Told::Event),
        }
    }

    fn take_published(&mut self, data: &str, id: &str) -> Result<(), String> {
        let mark = mark::read(data).ok_or_else(|| format!("data that nobody published: {}", start(data)))?;
        if !self.had_connected {
            return Err(format!("{} {} before connected", mark.scope, mark.number));
        }
        self.check_place(&mark, id)?;
        let Mark { scope, number, lasting, lapses } = mark;
        if is_of_client(scope) && scope.split(':').nth(1) != Some(&self.client_id) {
            return Err(format!("an event of another client: {scope}"));
        }
        let seen = Seen { number, lasting, is_behind_gap: false };
        let Some(before) = self.scopes.get_mut(scope) else {
            self.scopes.insert(scope.to_owned(), seen);
            let is_first = !is_of_client(scope) || number == 1 || self.had_gap;
            return if is_first { Ok(()) } else { Err(format!("{scope} begins with {number}")) };
        };
        let before = std::mem::replace(before, seen);
        if number <= before.number {
            return Err(format!("{scope} {number} again, or late, after {}", before.number));
        }
        let expected = before.lasting + u64::from(!lapses);
        if lasting != expected && !(before.is_behind_gap && lasting > expected) {
            return Err(format!("{scope} {number} after {} without a gap: lost", before.number));
        }
        Ok(())
    }

    /// Ids that the server makes have a fixed width and ascend.
    fn check_place(&mut self, mark: &Mark<'_>, id: &str) -> Result<(), String> {
        if id.is_empty() {
            return Err(format!("{} {} without an id", mark.scope, mark.number));
        }
        if id.starts_with(OWN_ID) {
            return Ok(());
        }
        if id.len() == self.place.len() && id <= self.place.as_str() {
            return Err(format!("{} {} with the id {id} behind {}", mark.scope, mark.number, self.place));
        }
        id.clone_into(&mut self.place);
        Ok(())
    }

    /// Sets the subscriptions, and forgets scopes that no longer reach the stream.
    fn set_channels(&mut self, value: &Value) {
        let names = value["channels"].as_array().into_iter().flatten().filter_map(Value::as_str);
        self.channels = names.map(str::to_owned).collect();
        let channels = &self.channels;
        self.scopes.retain(|scope, _| is_covered(scope, channels));
    }
}

/// Returns true if and only if events of `scope` reach a stream with these subscriptions. Those of users
/// and of all always do.
fn is_covered(scope: &str, channels: &[String]) -> bool {
    if scope == "all" || scope.starts_with("user:") || is_of_client(scope) {
        return true;
    }
    let matches = |name: &str, channel: &String| match channel.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None => name == channel,
    };
    scope.split('+').any(|name| channels.iter().any(|channel| matches(name, channel)))
}

fn is_of_client(scope: &str) -> bool {
    scope.starts_with("client:")
}

fn json(data: &str) -> Result<Value, String> {
    serde_json::from_str(data).map_err(|error| format!("{}: {error}", start(data)))
}

/// The first characters of a text.
fn start(text: &str) -> String {
    text.chars().take(80).collect()
}

/// The beginning of ids that publishers give.
pub(crate) const OWN_ID: &str = "own-";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mark::Numbers;

    struct Stream {
        tracker: Tracker,
        numbers: Numbers,
        place: u64,
    }

    impl Stream {
        fn begin(channels: &str) -> Stream {
            let mut stream = Stream { tracker: Tracker::default(), numbers: Numbers::default(), place: 0 };
            stream.connect(channels, false);
            stream
        }

        fn connect(&mut self, channels: &str, has_resumed: bool) {
            self.tracker.begin(has_resumed);
            let data = format!(r#"{{"clientId":"me","channels":[{channels}]}}"#);
            assert_eq!(self.tracker.take("connected", &data, ""), Ok(Told::Connected));
        }

        fn event(&mut self, scope: &str, lapses: bool) -> String {
            self.numbers.next(scope, lapses, 64)
        }

        fn take(&mut self, data: &str) -> Result<Told, String> {
            self.place += 1;
            self.tracker.take("message", data, &format!("tag.{:04}", self.place))
        }
    }

    #[test]
    fn events_in_order_are_right_also_over_a_reconnect() {
        let mut stream = Stream::begin(r#""a""#);
        for has_ended in [false, true, false] {
            if has_ended {
                stream.connect(r#""a""#, true);
            }
            let event = stream.event("a", false);
            assert_eq!(stream.take(&event), Ok(Told::Event));
        }
    }

    #[test]
    fn a_lost_a_doubled_and_a_late_event_are_found() {
        let mut stream = Stream::begin(r#""a""#);
        let events: Vec<String> = (0..4).map(|_| stream.event("a", false)).collect();
        stream.take(&events[0]).unwrap();
        assert!(stream.take(&events[0]).unwrap_err().contains("again"));
        assert!(stream.take(&events[2]).unwrap_err().contains("lost"));
        assert!(stream.take(&events[1]).unwrap_err().contains("late"));
    }

    #[test]
    fn a_gap_says_that_later_events_follow_and_never_earlier_ones() {
        let mut stream = Stream::begin(r#""a""#);
        let events: Vec<String> = (0..4).map(|_| stream.event("a", false)).collect();
        stream.take(&events[1]).unwrap();
        assert_eq!(stream.tracker.take("gap", "{}", ""), Ok(Told::Gap));
        assert!(stream.take(&events[0]).is_err());
        stream.connect(r#""a""#, false);
        stream.take(&events[1]).unwrap();
        stream.tracker.take("gap", "{}", "").unwrap();
        assert_eq!(stream.take(&events[3]), Ok(Told::Event));
    }

    #[test]
    fn an_event_that_lapses_may_be_missing_and_none_that_lasts() {
        let mut stream = Stream::begin(r#""a""#);
        let kinds = [false, true, false, false, true];
        let events: Vec<String> = kinds.into_iter().map(|lapses| stream.event("a", lapses)).collect();
        stream.take(&events[0]).unwrap();
        stream.take(&events[2]).unwrap();
        assert!(stream.take(&events[4]).unwrap_err().contains("lost"), "the fourth lasts");
    }

    #[test]
    fn ids_ascend_but_for_those_of_publishers() {
        let mut stream = Stream::begin(r#""a""#);
        let (first, second, third) =
            (stream.event("a", false), stream.event("a", false), stream.event("a", false));
        stream.tracker.take("message", &first, "tag.0002").unwrap();
        stream.tracker.take("message", &second, "own-1").unwrap();
        assert!(stream.tracker.take("message", &third, "tag.0001").unwrap_err().contains("behind"));
    }

    #[test]
    fn events_of_a_client_are_its_own_and_whole_from_the_first() {
        let mut stream = Stream::begin(r#""a""#);
        let other = stream.event("client:you", false);
        assert!(stream.take(&other).unwrap_err().contains("another client"));
        stream.event("client:me", false);
        let second = stream.event("client:me", false);
        assert!(stream.take(&second).unwrap_err().contains("begins with 2"));
    }

    #[test]
    fn what_was_unsubscribed_may_begin_anew() {
        let mut stream = Stream::begin(r#""a","b*""#);
        let events: Vec<String> = (0..3).map(|_| stream.event("b1", false)).collect();
        stream.take(&events[0]).unwrap();
        stream.tracker.take("unsubscribed", r#"{"channels":["a"]}"#, "").unwrap();
        stream.tracker.take("subscribed", r#"{"channels":["a","b*"]}"#, "").unwrap();
        assert_eq!(stream.take(&events[2]), Ok(Told::Event));
    }

    #[test]
    fn caught_up_must_say_whether_there_was_a_gap() {
        let mut stream = Stream::begin(r#""a""#);
        stream.connect(r#""a""#, true);
        let complete = r#"{"replayed":0,"complete":true}"#;
        assert_eq!(stream.tracker.take("caught-up", complete, ""), Ok(Told::CaughtUp));
        stream.tracker.take("gap", "{}", "").unwrap();
        assert!(stream.tracker.take("caught-up", complete, "").unwrap_err().contains("after a gap"));
    }
}
