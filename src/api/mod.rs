//! Floor 4: what requests mean. A request's head and body become an answer, a batch to publish, or a
//! stream to begin. The outcome of a publish becomes an answer. This module reads no socket and never
//! waits. Of the hub's state it uses only the tags of the server's own ids.
//!
//! A request passes through [`plan_body`] as soon as its head is complete, and through [`handle`] once
//! its body is complete. For a body of lines, the request passes through [`admit`] once its head is
//! complete, its lines pass through [`read_lines`] as they arrive, and a [`LinesAccount`] answers at the
//! end.

mod access;
mod answer;
mod clients;
mod envelope;
mod error;
mod fixed;
#[cfg(test)]
mod fixed_tests;
mod found;
#[cfg(test)]
mod hostile;
mod keys;
mod lines;
mod manage;
mod object;
mod parameters;
mod places;
mod publish;
mod routes;
mod subscribe;
mod target;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub use access::{Hosts, is_loopback};
pub use answer::{
    AnswerForm, LISTED_EVENTS_MAX, LinesAccount, OWN_ID_BYTES_MAX, answer_duplicate, answer_published,
};
pub use clients::{ClientAnswer, ClientCommand, ClientError, ClientReport, ClientRequest, answer_client};
pub use keys::{Claim, Claims, EventClaim};
pub use lines::{BadLine, ReadLines, read_lines, unknown_client_in_line};
pub use manage::{ListRequest, answer_dropped, answer_list};
pub use places::Places;
pub use subscribe::{DEFAULT_CHANNEL, SubscribeRequest};

use crate::auth::Permission;
use crate::base::fingerprint::Fingerprints;
use crate::base::name::ChannelName;
use crate::conn::{BodyPlan, Plan};
use crate::frame::batch::Batch;
use crate::http::{Known, MediaType, Method, Problem, RequestHead, Response, Status};
use crate::hub::Hub;
use clients::ClientForm;
use error::ApiError;
use publish::PublishRequest;
use routes::{Endpoint, PublishForm};

/// The rules for the requests of one listener.
#[derive(Clone, Debug)]
pub struct ApiOptions {
    /// The names of the server.
    pub hosts: Hosts,
    /// Who can reach the listener.
    pub reach: Reach,
    /// Requests that a proxy forwarded may do what all others may.
    pub is_insecure: bool,
    /// Any subscriber may name the user of its stream.
    pub trusts_user_parameter: bool,
    /// A stream may subscribe to at most this many channels.
    pub stream_channels_max: usize,
}

impl Default for ApiOptions {
    /// A listener on a loopback address. Tests and benches set the fields that matter to them.
    fn default() -> ApiOptions {
        ApiOptions {
            hosts: Hosts::default(),
            reach: Reach::Loopback,
            is_insecure: false,
            trusts_user_parameter: false,
            stream_channels_max: 128,
        }
    }
}

/// What events are checked with. It is the same for all requests.
#[derive(Clone, Copy, Debug)]
pub struct Checks<'c> {
    /// Computes the fingerprints of idempotency keys.
    pub fingerprints: &'c Fingerprints,
    /// Knows the tags of the server's own ids.
    pub hub: &'c Hub,
}

/// Who can reach a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Processes with the permissions of a socket's file. No web page can.
    Unix,
    /// This machine, by loopback addresses.
    Loopback,
    /// Other machines.
    Network,
}

/// Whether the server accepts requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerStatus {
    /// Not yet.
    Starting,
    /// Yes.
    Ready,
    /// No longer: it finishes those that it has.
    Draining,
}

/// The result of a request.
#[derive(Clone, Debug)]
pub enum Reply {
    /// Send this answer at once.
    Respond(Response<'static>),
    /// Publish these events, at least one. [`answer_published`] answers once they are committed. If they
    /// were published before under the same idempotency keys, they are not published again and
    /// [`answer_duplicate`] answers.
    Publish {
        /// The events.
        batch: Batch,
        /// The form of the answer.
        form: AnswerForm,
        /// The idempotency keys in the request.
        claims: Claims,
    },
    /// Begin a stream, or send only its head for a `HEAD` request.
    Subscribe(SubscribeRequest),
    /// Answer with a page of the existing channels.
    ListChannels(ListRequest),
    /// Drop the history of this channel. [`answer_dropped`] answers.
    DropHistory(ChannelName),
    /// Answer with the counters of all shards.
    Report(ReportForm),
    /// Pass this request to a live stream. [`answer_client`] answers with the outcome.
    Client(ClientRequest),
}

/// The form of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReportForm {
    /// As metrics, for Prometheus.
    Metrics,
    /// As JSON, with the channels.
    Stats,
}

/// Decides by a request's head how its body is read. A request that is refused here needs no body.
#[must_use]
pub fn plan_body(head: &RequestHead) -> Plan {
    let path = match head.path() {
        Ok(path) => path,
        Err(error) => return Plan { body: BodyPlan::Refuse(error.into()), is_publish: false },
    };
    match routes::find(&path, head.method()) {
        Ok(Endpoint::Publish(PublishForm::Verbatim(_))) if is_event_stream(head) => event_stream_in(),
        // `PUT` exists only for event streams.
        Err(_) if head.method() == Method::Put && path.starts_with("/channels/") && is_event_stream(head) => {
            event_stream_in()
        }
        Ok(Endpoint::Publish(form)) => {
            let body = plan_publish(head, form).unwrap_or_else(BodyPlan::Refuse);
            Plan { body, is_publish: true }
        }
        Ok(Endpoint::Client(ClientForm::Body(_))) => {
            let refused = check_type(head, "application/json").err();
            Plan { body: refused.map_or(BodyPlan::Short, BodyPlan::Refuse), is_publish: false }
        }
        Ok(Endpoint::Client(_)) => Plan { body: BodyPlan::Short, is_publish: false },
        // These requests rarely have a body, and it is ignored.
        Ok(_) => Plan { body: BodyPlan::Whole, is_publish: false },
        Err(problem) => Plan { body: BodyPlan::Refuse(problem), is_publish: false },
    }
}

fn is_event_stream(head: &RequestHead) -> bool {
    matches!(head.header(Known::ContentType), Ok(value) if MediaType::of(value) == MediaType::EventStream)
}

/// Event streams as bodies are not implemented yet, and must not be published as data.
fn event_stream_in() -> Plan {
    let error = ApiError::NotBuilt { what: "an event stream as a body" };
    Plan { body: BodyPlan::Refuse(error.into()), is_publish: true }
}

fn plan_publish(head: &RequestHead, form: PublishForm<'_>) -> Result<BodyPlan, Problem> {
    // The accepted content types. A body that is the data may have any.
    let (takes_lines, expected) = match form {
        PublishForm::Envelopes => (true, Some("application/json or application/x-ndjson")),
        PublishForm::Fixed(_) => (false, Some("application/json")),
        PublishForm::Verbatim(_) => (false, None),
    };
    let is_lines = takes_lines && MediaType::of(head.header(Known::ContentType)?) == MediaType::NdJson;
    if keys::check_header(head)?.is_some() && is_lines {
        return Err(Problem::bad_request(
            "Idempotency-Key does not cover a body of lines; give envelopes keys of their own",
        ));
    }
    if is_lines {
        parameters::check_none(head.pairs())?;
        return Ok(BodyPlan::Lines);
    }
    expected.map_or(Ok(()), |expected| check_type(head, expected))?;
    Ok(BodyPlan::Whole)
}

/// Refuses a body that is not JSON by its content type. `expected` lists the accepted types.
fn check_type(head: &RequestHead, expected: &'static str) -> Result<(), Problem> {
    let content_type = head.header(Known::ContentType)?;
    if MediaType::of(content_type).is_read_as_json() {
        return Ok(());
    }
    let found = error::quoted(content_type.unwrap_or(""));
    let detail = format!("Content-Type: found {found}, expected {expected}");
    Err(Problem::new(Status::UNSUPPORTED_MEDIA_TYPE, detail))
}

/// Decides whether a request is answered at all, and what it may do. [`handle`] calls this itself. For a
/// body of lines, the caller calls it before the first lines.
///
/// # Errors
/// 403 for a foreign `Host`, for a request that publishes or manages through a proxy, and for a request
/// that publishes, manages or changes anything for a web page of a foreign origin; 503 for a request
/// that changes something on a server that drains.
pub fn admit(head: &RequestHead, options: &ApiOptions, status: ServerStatus) -> Result<Permission, Problem> {
    let path = head.path()?;
    admit_to(&routes::find(&path, head.method())?, head, options, status)
}

fn admit_to(
    endpoint: &Endpoint<'_>,
    head: &RequestHead,
    options: &ApiOptions,
    status: ServerStatus,
) -> Result<Permission, Problem> {
    access::check_host(head, options)?;
    let changes_something = changes_something(head.method());
    if endpoint.publishes_or_manages() {
        access::check_proxy(head, options)?;
        access::check_origin(head, options)?;
    } else if changes_something {
        access::check_origin(head, options)?; // A client's own stream, which no page of a foreign origin has.
    }
    if changes_something {
        match status {
            ServerStatus::Ready => {}
            ServerStatus::Starting => {
                return Err(Problem::unavailable("the server is starting", RETRY_AFTER));
            }
            ServerStatus::Draining => {
                return Err(Problem::unavailable("the server is draining", RETRY_AFTER));
            }
        }
    }
    Ok(Permission::everything())
}

fn changes_something(method: Method) -> bool {
    match method {
        Method::Get | Method::Head | Method::Options => false,
        Method::Post | Method::Put | Method::Delete | Method::Patch | Method::Connect | Method::Other => true,
    }
}

/// When to retry on a server that starts or drains: by then another one has taken its place.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Processes a request with its complete body. A server that drains still gets requests for streams: the
/// shard that begins such a stream informs its client.
#[must_use]
pub fn handle(
    head: &RequestHead,
    body: &[u8],
    options: &ApiOptions,
    status: ServerStatus,
    checks: Checks<'_>,
) -> Reply {
    match try_handle(head, body, options, status, checks) {
        Ok(reply) => reply,
        Err(problem) => Reply::Respond(problem.into_response()),
    }
}

fn try_handle(
    head: &RequestHead,
    body: &[u8],
    options: &ApiOptions,
    status: ServerStatus,
    checks: Checks<'_>,
) -> Result<Reply, Problem> {
    let path = head.path()?;
    let endpoint = routes::find(&path, head.method())?;
    let permission = admit_to(&endpoint, head, options, status)?;
    let respond = |response| Ok(Reply::Respond(response));
    match endpoint {
        Endpoint::Subscribe(channel) => {
            let request = subscribe::read(head, channel, options, &permission)?;
            Ok(Reply::Subscribe(request))
        }
        Endpoint::Publish(form) => {
            let claim = keys::of_request(head, body, checks.fingerprints)?;
            let PublishRequest { batch, form, claims } = match form {
                PublishForm::Envelopes => {
                    parameters::check_none(head.pairs())?;
                    publish::read_document(body, &permission, checks)?
                }
                PublishForm::Verbatim(channel) => {
                    publish::read_verbatim(channel, head.pairs(), body, &permission, checks)?
                }
                PublishForm::Fixed(form) => fixed::read(form, head.pairs(), body, &permission, checks)?,
            };
            if batch.is_empty() {
                return respond(LinesAccount::default().answer()); // An empty array commits nothing.
            }
            let claims = claims.with_request(claim)?;
            Ok(Reply::Publish { batch, form, claims })
        }
        Endpoint::ListChannels => manage::read_list(head.pairs()).map(Reply::ListChannels),
        Endpoint::DropHistory(channel) => {
            parameters::check_all_built(head.pairs())?;
            manage::read_channel(channel, &permission).map(Reply::DropHistory)
        }
        Endpoint::Report(form) => {
            parameters::check_all_built(head.pairs())?;
            Ok(Reply::Report(form))
        }
        Endpoint::Client(form) => Ok(Reply::Client(clients::read(form, head, body, &permission)?)),
        Endpoint::Healthz => respond(Response::new(Status::OK, "text/plain", b"ok\n".as_slice())),
        Endpoint::Readyz => match status {
            ServerStatus::Ready => respond(Response::new(Status::OK, "text/plain", b"ready\n".as_slice())),
            ServerStatus::Starting => Err(Problem::unavailable("the server is starting", RETRY_AFTER)),
            ServerStatus::Draining => Err(Problem::unavailable("the server is draining", RETRY_AFTER)),
        },
        Endpoint::Options(allow) => {
            let allow = allow.iter().map(|method| method.as_str()).collect::<Vec<_>>().join(", ");
            respond(Response::empty(Status::NO_CONTENT).with_header("Allow", allow))
        }
    }
}
