//! Requests about one live stream by its client id (sections "Publishing" and "Managing" of the
//! contract): to change its channels, to describe it, to end it. The shards know which stream that is,
//! and whether it is alive.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::error::{ApiError, NO_CLIENT, quoted};
use super::object::read_body;
use super::parameters;
use super::publish::json_text;
use crate::auth::Permission;
use crate::base::id::ClientId;
use crate::base::name::Selector;
use crate::http::{Problem, RequestHead, Response, Status};

/// A request about one live stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientRequest {
    /// The stream.
    pub client: ClientId,
    /// What to do with it.
    pub command: ClientCommand,
}

/// What to do with a live stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientCommand {
    /// Add a channel or pattern.
    Subscribe(Selector),
    /// Remove a channel or pattern.
    Unsubscribe(Selector),
    /// Describe its state.
    Describe,
    /// End it.
    End,
}

/// The result of a request about a live stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientAnswer {
    /// The channels of the stream now, in the order in which they were named.
    Channels(Vec<Arc<str>>),
    /// The state of the stream.
    Described(ClientReport),
    /// The stream has ended.
    Ended,
}

/// The state of a live stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientReport {
    /// The user of the stream.
    pub user: Option<Arc<str>>,
    /// Its channels, in the order in which they were named.
    pub channels: Vec<Arc<str>>,
    /// Whole seconds since the stream began.
    pub connected_seconds: u32,
    /// The stream has caught up with the newest events of its shard.
    pub is_live: bool,
    /// Retained events that the stream has not been given yet.
    pub lag_events: usize,
    /// Bytes that wait for the client to read.
    pub queued_bytes: usize,
}

/// Why a request about a live stream failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// No live stream has this name, or the secret in the name is wrong. Answered with 404.
    #[error("{NO_CLIENT}")]
    Unknown,
    /// The stream already has the maximal number of channels. Answered with 400.
    #[error("a stream has at most {channels_max} channels")]
    StreamFull {
        /// The maximum.
        channels_max: usize,
    },
    /// The server already has the maximal number of channels. Answered with 429.
    #[error("the server has as many channels as it keeps; subscribe to one that exists, or later")]
    ServerFull,
    /// The stream's outbox is full until its client reads. Answered with 503.
    #[error("the stream has as much queued as it may; try again when its client has read some of it")]
    Slow,
    /// The shard of the stream drains. Answered with 503.
    #[error("the server is draining")]
    Draining,
    /// The shard of the stream is too busy. Answered with 503.
    #[error("the server is too busy to reach the stream")]
    Busy,
    /// The shard of the stream failed and restarted. Answered with 503.
    #[error("the part of the server that has the stream did not answer")]
    Lost,
}

impl ClientError {
    /// The error as the client gets it. `retry` is the time to wait if a retry may help.
    #[must_use]
    pub fn problem(self, retry: Duration) -> Problem {
        let detail = self.to_string();
        match self {
            ClientError::Unknown => Problem::not_found(detail),
            ClientError::StreamFull { .. } => Problem::bad_request(detail),
            ClientError::ServerFull => Problem::too_many(detail, retry),
            ClientError::Slow | ClientError::Draining | ClientError::Busy | ClientError::Lost => {
                Problem::unavailable(detail, retry)
            }
        }
    }
}

/// Answers a request about a live stream. `retry` is the time to wait after a temporary failure.
#[must_use]
pub fn answer_client(
    client: ClientId,
    answer: Result<ClientAnswer, ClientError>,
    retry: Duration,
) -> Response<'static> {
    let body = match &answer {
        Ok(ClientAnswer::Channels(channels)) => {
            to_json(&Changed { success: true, channels: &texts(channels) })
        }
        Ok(ClientAnswer::Ended) => br#"{"success":true}"#.to_vec(),
        Ok(ClientAnswer::Described(report)) => {
            let id = client.to_string();
            to_json(&Described {
                client_id: &id,
                same_client_id: &id,
                user_id: report.user.as_deref(),
                channels: &texts(&report.channels),
                state: if report.is_live { "live" } else { "catching-up" },
                connected_seconds: report.connected_seconds,
                lag_events: report.lag_events,
                queued_bytes: report.queued_bytes,
            })
        }
        Err(error) => return error.problem(retry).into_response(),
    };
    Response::json(Status::OK, body)
}

#[derive(Serialize)]
struct Changed<'a> {
    success: bool,
    channels: &'a [&'a str],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Described<'a> {
    client_id: &'a str,
    #[serde(rename = "client_id")]
    same_client_id: &'a str,
    user_id: Option<&'a str>,
    channels: &'a [&'a str],
    state: &'a str,
    connected_seconds: u32,
    lag_events: usize,
    queued_bytes: usize,
}

fn texts(names: &[Arc<str>]) -> Vec<&str> {
    names.iter().map(|name| &**name).collect()
}

fn to_json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("texts and numbers are JSON")
}

/// A request about a live stream, by its path and method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClientForm<'p> {
    /// `POST /events/subscribe` and `/events/unsubscribe`: the body has all parameters.
    Body(Change),
    /// `POST /sse/subscribe` and `/sse/unsubscribe`: the query has all parameters.
    Query(Change),
    /// `GET /clients/{clientId}`.
    Describe(&'p str),
    /// `DELETE /clients/{clientId}`.
    End(&'p str),
}

/// A change of a stream's channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// One more channel.
    Subscribe,
    /// One channel less.
    Unsubscribe,
}

/// Reads a request about a live stream.
pub(super) fn read(
    form: ClientForm<'_>,
    head: &RequestHead,
    body: &[u8],
    permission: &Permission,
) -> Result<ClientRequest, Problem> {
    let (client, command) = match form {
        ClientForm::Body(change) => {
            parameters::check_none(head.pairs())?;
            let [client, channel] = read_body(json_text(body)?, ["clientId", "channel"])?;
            let (client, channel) = (client.string()?, channel.string()?);
            (client, read_change(change, "channel", &channel, permission)?)
        }
        ClientForm::Query(change) => {
            let [client, channel] = parameters::read(head.pairs(), ["client_id", "channel"])?;
            let Some(client) = client else {
                return Err(Problem::bad_request(
                    "the parameter `client_id` is missing; it names the stream",
                ));
            };
            let Some(channel) = channel else {
                return Err(Problem::bad_request("the parameter `channel` is missing"));
            };
            (client.value, read_change(change, channel.name, &channel.value, permission)?)
        }
        ClientForm::Describe(client) => {
            parameters::check_all_built(head.pairs())?;
            (client.into(), ClientCommand::Describe)
        }
        ClientForm::End(client) => {
            parameters::check_all_built(head.pairs())?;
            (client.into(), ClientCommand::End)
        }
    };
    let client = ClientId::parse(&client).ok_or_else(|| Problem::from(ApiError::UnknownClient))?;
    Ok(ClientRequest { client, command })
}

fn read_change(
    change: Change,
    field: &'static str,
    text: &str,
    permission: &Permission,
) -> Result<ClientCommand, ApiError> {
    let name = Selector::parse(text).map_err(|error| ApiError::BadName { field, error })?;
    match change {
        Change::Subscribe if !permission.may_subscribe(&name) => {
            Err(ApiError::SubscribeForbidden { channel: quoted(name.as_str()) })
        }
        Change::Subscribe => Ok(ClientCommand::Subscribe(name)),
        Change::Unsubscribe => Ok(ClientCommand::Unsubscribe(name)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::request;
    use super::*;
    use crate::auth::Rights;
    use crate::base::id::NodeId;

    const CLIENT: &str = "0000000000000000000000000000002a-1-c";

    fn asked(form: ClientForm<'_>, line: &str, body: &str) -> Result<ClientRequest, Problem> {
        read(form, &request(line, ""), body.as_bytes(), &Permission::everything())
    }

    fn client() -> ClientId {
        ClientId { secret: 42, node: NodeId::ALONE, shard: 1, slot: 12 }
    }

    fn name(text: &str) -> Selector {
        Selector::parse(text).unwrap()
    }

    #[test]
    fn a_change_is_read_from_the_body_or_from_the_query_in_either_spelling() {
        let body = format!(r#"{{"channel":"gr\u00f6\u00dfe","clientId":"{CLIENT}"}}"#);
        let expected = ClientRequest { client: client(), command: ClientCommand::Subscribe(name("größe")) };
        assert_eq!(
            asked(ClientForm::Body(Change::Subscribe), "POST /events/subscribe", &body),
            Ok(expected.clone())
        );
        for parameter in ["client_id", "clientId"] {
            let line = format!("POST /sse/subscribe?channel=gr%C3%B6%C3%9Fe&{parameter}={CLIENT}");
            assert_eq!(asked(ClientForm::Query(Change::Subscribe), &line, "ignored"), Ok(expected.clone()));
        }
        let line = format!("POST /sse/subscribe?channel=entity:*&client_id={CLIENT}");
        let pattern = asked(ClientForm::Query(Change::Subscribe), &line, "").map(|request| request.command);
        assert_eq!(pattern, Ok(ClientCommand::Subscribe(name("entity:*"))));
        let left = ClientCommand::Unsubscribe(name("größe"));
        let asked = asked(ClientForm::Body(Change::Unsubscribe), "POST /events/unsubscribe", &body);
        assert_eq!(asked.map(|request| request.command), Ok(left));
    }

    #[test]
    fn errors_of_bad_changes_name_the_fault() {
        let outcome = |form, line: &str, body: &str| {
            let problem = asked(form, line, body).unwrap_err();
            (problem.status(), problem.detail().to_owned())
        };
        let bad = |detail: &str| (Status::BAD_REQUEST, detail.to_owned());
        let body = ClientForm::Body(Change::Subscribe);
        let line = "POST /events/subscribe";
        assert_eq!(outcome(body, line, ""), bad("the body is empty; expected a JSON object"));
        assert_eq!(
            outcome(body, line, r#"{"channel":"a"}"#),
            bad("`clientId` is missing; the fields are `clientId` and `channel`")
        );
        assert_eq!(
            outcome(body, line, &format!(r#"{{"clientId":"{CLIENT}","channel":7}}"#)),
            bad("`channel`: found a number, expected a string")
        );
        assert_eq!(
            outcome(body, line, &format!(r#"{{"clientId":"{CLIENT}","channel":""}}"#)),
            bad("`channel`: a channel name must not be empty")
        );
        let unknown = (Status::NOT_FOUND, NO_CLIENT.to_owned());
        assert_eq!(outcome(body, line, r#"{"clientId":"x","channel":"a"}"#), unknown);
        let query = ClientForm::Query(Change::Unsubscribe);
        assert_eq!(
            outcome(query, "POST /sse/unsubscribe?channel=a", ""),
            bad("the parameter `client_id` is missing; it names the stream")
        );
        assert_eq!(
            outcome(query, "POST /sse/unsubscribe?client_id=x", ""),
            bad("the parameter `channel` is missing")
        );
        assert_eq!(
            outcome(query, "POST /sse/unsubscribe?client_id=x&clientId=x&channel=a", ""),
            bad("the parameter `client_id` is given twice")
        );
        assert_eq!(outcome(query, "POST /sse/unsubscribe?client_id=x&channel=a", ""), unknown);
        assert_eq!(outcome(ClientForm::End("x"), "DELETE /clients/x", ""), unknown);
    }

    #[test]
    fn a_channel_that_is_not_allowed_is_403_and_leaving_it_is_not() {
        let permission = Permission::new(Rights::All, Rights::Only(vec![Selector::parse("a").unwrap()]));
        let ask = |path: &str, change| {
            let head = request(&format!("POST {path}?client_id={CLIENT}&channel=b"), "");
            read(ClientForm::Query(change), &head, b"", &permission)
        };
        let refused = ask("/sse/subscribe", Change::Subscribe).unwrap_err();
        assert_eq!(refused.status(), Status::FORBIDDEN);
        assert!(ask("/sse/unsubscribe", Change::Unsubscribe).is_ok());
    }

    #[test]
    fn every_outcome_has_its_answer() {
        let second = Duration::from_secs(1);
        let answer = |answer| {
            let response = answer_client(client(), answer, second);
            (response.status().code(), String::from_utf8(response.body().to_vec()).unwrap())
        };
        let names: Vec<Arc<str>> = vec![Arc::from("a"), Arc::from("b\"")];
        assert_eq!(
            answer(Ok(ClientAnswer::Channels(names.clone()))),
            (200, r#"{"success":true,"channels":["a","b\""]}"#.to_owned())
        );
        assert_eq!(answer(Ok(ClientAnswer::Ended)), (200, r#"{"success":true}"#.to_owned()));
        let report = ClientReport {
            user: Some(Arc::from("ann")),
            channels: names,
            connected_seconds: 61,
            is_live: false,
            lag_events: 5,
            queued_bytes: 1000,
        };
        let described = format!(
            r#"{{"clientId":"{CLIENT}","client_id":"{CLIENT}","userId":"ann","channels":["a","b\""],"state":"catching-up","connectedSeconds":61,"lagEvents":5,"queuedBytes":1000}}"#
        );
        assert_eq!(answer(Ok(ClientAnswer::Described(report))), (200, described));
        for (error, status) in [
            (ClientError::Unknown, 404),
            (ClientError::StreamFull { channels_max: 4 }, 400),
            (ClientError::ServerFull, 429),
            (ClientError::Slow, 503),
            (ClientError::Draining, 503),
            (ClientError::Busy, 503),
            (ClientError::Lost, 503),
        ] {
            assert_eq!(answer(Err(error)).0, status, "{error}");
        }
    }
}
