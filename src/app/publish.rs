//! `downpour publish`: sends one event, or a stream of envelopes from standard input, and shows the answer.

use std::io::{Read, Write};

use clap::Args;
use serde::{Deserialize, Serialize};
use ureq::http::StatusCode;

use super::client::{ClientError, ServerUrl, agent};
use super::upload;

/// The options of `downpour publish`.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct PublishOptions {
    /// The server's address: plain HTTP only, no TLS.
    #[arg(long, env = "DOWNPOUR_URL", default_value = "http://127.0.0.1:8080")]
    url: ServerUrl,
    #[command(flatten)]
    target: Target,
    /// The event's type; browsers get it with addEventListener(TYPE, …). Without one it is "message".
    #[arg(long, value_name = "TYPE")]
    event: Option<String>,
    /// An id of your own, which clients resume after. Without one the server makes one.
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// What the event is about: of several waiting events with one key, a client may be sent the newest only.
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// The event's text, sent as it is. "-" reads NDJSON from standard input instead: on each line one
    /// envelope, such as {"channel":"news","data":{"n":1}}, sent while it is read. After "--", a text
    /// may begin with a hyphen.
    data: String,
}

/// To whom the event goes.
#[derive(Args, Clone, Debug)]
#[group(multiple = false)]
struct Target {
    /// To the subscribers of this channel; "global" where nothing is said.
    #[arg(long, value_name = "CHANNEL")]
    channel: Option<String>,
    /// To every stream of this user.
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    /// To the one stream that was told this clientId.
    #[arg(long, value_name = "ID")]
    client: Option<String>,
    /// To every stream.
    #[arg(long)]
    all: bool,
}

impl PublishOptions {
    /// The conflict between options, if any: NDJSON lines carry all fields of their events.
    #[must_use]
    pub fn misuse(&self) -> Option<String> {
        let (reads_lines, target) = (self.data == "-", &self.target);
        let given = [
            ("--channel", target.channel.is_some()),
            ("--user", target.user.is_some()),
            ("--client", target.client.is_some()),
            ("--all", target.all),
            ("--event", self.event.is_some()),
            ("--id", self.id.is_some()),
            ("--key", self.key.is_some()),
        ];
        let (option, _) = given.into_iter().find(|&(_, is_given)| reads_lines && is_given)?;
        Some(format!(
            "{option} cannot be used with \"-\": each line of the NDJSON names its own target and fields"
        ))
    }

    fn envelope(&self) -> Envelope<'_> {
        let target = &self.target;
        let is_targeted = target.user.is_some() || target.client.is_some() || target.all;
        let channel = target.channel.as_deref().or((!is_targeted).then_some("global"));
        Envelope {
            channel,
            user_id: target.user.as_deref(),
            client_id: target.client.as_deref(),
            all: target.all.then_some(true),
            event: self.event.as_deref(),
            id: self.id.as_deref(),
            key: self.key.as_deref(),
            text: &self.data,
        }
    }
}

/// The body of `POST /publish` for one event.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Envelope<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    channel: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    all: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    text: &'a str,
}

/// Publishes, and writes the server's answer to `out`. Lines come from `input` if the data is `-`.
///
/// # Errors
/// [`ClientError`] if no answer came, the server refused, or `out` could not be written.
pub fn run(
    options: &PublishOptions,
    input: impl Read + Send + 'static,
    out: &mut impl Write,
) -> Result<(), ClientError> {
    let url = options.url.endpoint("/publish");
    let (status, body) = if options.data == "-" {
        let answer = upload::post(&url, "application/x-ndjson", input)
            .map_err(|source| ClientError::NoAnswer { url, source })?;
        (answer.status, answer.body)
    } else {
        let body = serde_json::to_vec(&options.envelope()).expect("an envelope is a map of strings");
        let answer = agent(0).post(&url).content_type("application/json").send(&body[..]);
        let mut answer = answer.map_err(|error| ClientError::no_answer(&url, error))?;
        if !answer.status().is_success() {
            return Err(ClientError::refused(answer.status(), answer.body_mut()));
        }
        let body = answer.body_mut().with_config().limit(u64::MAX).read_to_vec();
        (answer.status(), body.map_err(|error| ClientError::no_answer(&url, error))?)
    };
    let text = String::from_utf8_lossy(&body);
    if !status.is_success() {
        return Err(refused_lines(status, &text));
    }
    writeln!(out, "{}", text.trim_end()).and_then(|()| out.flush()).map_err(ClientError::Output)
}

/// The error for lines that were refused, of which some may have been published before.
fn refused_lines(status: StatusCode, text: &str) -> ClientError {
    #[derive(Deserialize)]
    struct Published {
        published: Option<u64>,
    }
    let published = serde_json::from_str(text).ok().and_then(|Published { published }| published);
    ClientError::refused_saying(status, text, published)
}

const EXAMPLES: &str = "\
Examples:
  downpour publish --channel news 'hello'
  downpour publish --channel scores --event goal --key match-7 '2:1'
  generate-events | downpour publish -";

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        options: PublishOptions,
    }

    fn options(arguments: &[&str]) -> PublishOptions {
        Command::try_parse_from([&["publish"], arguments].concat()).ok().unwrap().options
    }

    fn envelope(arguments: &[&str]) -> String {
        serde_json::to_string(&options(arguments).envelope()).unwrap()
    }

    #[test]
    fn each_target_becomes_its_field() {
        assert_eq!(envelope(&["hello"]), r#"{"channel":"global","text":"hello"}"#);
        assert_eq!(envelope(&["--channel", "news", "hello"]), r#"{"channel":"news","text":"hello"}"#);
        assert_eq!(envelope(&["--user", "7", "hello"]), r#"{"userId":"7","text":"hello"}"#);
        assert_eq!(envelope(&["--client", "c", "hello"]), r#"{"clientId":"c","text":"hello"}"#);
        assert_eq!(envelope(&["--all", "--", "-x"]), r#"{"all":true,"text":"-x"}"#);
    }

    #[test]
    fn fields_are_sent_where_they_are_given() {
        assert_eq!(
            envelope(&["--event", "goal", "--id", "1", "--key", "k", "2:1"]),
            r#"{"channel":"global","event":"goal","id":"1","key":"k","text":"2:1"}"#
        );
    }

    #[test]
    fn two_targets_or_none_of_the_data_are_refused() {
        assert!(Command::try_parse_from(["publish", "--all", "--user", "7", "x"]).is_err());
        assert!(Command::try_parse_from(["publish", "--all"]).is_err());
    }

    #[test]
    fn lines_from_standard_input_take_no_fields_from_options() {
        assert!(options(&["--event", "e", "-"]).misuse().unwrap().starts_with("--event cannot be used"));
        assert!(options(&["--all", "-"]).misuse().is_some());
        assert_eq!(options(&["-"]).misuse(), None);
        assert_eq!(options(&["--event", "e", "data"]).misuse(), None);
    }
}
