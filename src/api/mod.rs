//! Floor 4: what requests mean. A request's head and body become an answer, a batch to publish, or a
//! stream to begin. The outcome of a publish becomes an answer. This module reads no socket and never
//! waits. Of the hub's state it uses only the tags of the server's own ids.
//!
//! A request passes through [`decide`] as soon as its head is complete, and through [`handle`] once its
//! body is complete. The lines of a body of lines pass through [`read_lines`] as they arrive, and a
//! [`LinesAccount`] answers at the end.

mod access;
mod admission;
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

use std::borrow::Cow;
use std::time::Duration;

pub use access::{Hosts, is_loopback};
pub use admission::{check_ready, decide};
pub use answer::{
    AnswerForm, LISTED_EVENTS_MAX, LinesAccount, OWN_ID_BYTES_MAX, answer_duplicate, answer_published,
};
pub use clients::{ClientAnswer, ClientCommand, ClientError, ClientReport, ClientRequest, answer_client};
pub use keys::{Claims, EventClaim};
pub use lines::{BadLine, ReadLines, read_lines, unknown_client_in_line};
pub use manage::{ListRequest, answer_dropped, answer_list};
pub use places::Places;
pub use subscribe::{DEFAULT_CHANNEL, SubscribeRequest};

use crate::base::fingerprint::Fingerprints;
use crate::base::name::ChannelName;
use crate::conn::Request;
use crate::http::{Problem, Response, Status};
use crate::hub::Hub;
use crate::record::Events;
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
        batch: Events,
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

/// When to retry on a server that starts or drains: by then another one has taken its place.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Processes a complete request. If nothing was decided by its head, this does it. A server that drains
/// still gets requests for streams: the shard that begins such a stream informs its client.
#[must_use]
pub fn handle(request: &Request, options: &ApiOptions, status: ServerStatus, checks: Checks<'_>) -> Reply {
    match try_handle(request, options, status, checks) {
        Ok(reply) => reply,
        Err(problem) => Reply::Respond(problem.into_response()),
    }
}

fn try_handle(
    request: &Request,
    options: &ApiOptions,
    status: ServerStatus,
    checks: Checks<'_>,
) -> Result<Reply, Problem> {
    let Request { head, body, permission } = request;
    let path = head.path()?;
    let routed = routes::find(&path, head.method())?;
    let permission = match permission {
        Some(permission) => {
            admission::check_status(head.method(), status)?; // It may have changed since the head came.
            Cow::Borrowed(permission)
        }
        None => Cow::Owned(admission::admit(&routed, head, options, status)?.permission),
    };
    let respond = |response| Ok(Reply::Respond(response));
    match routed.endpoint {
        Endpoint::Subscribe(channel) => {
            let request = subscribe::read(head, channel, options, &permission)?;
            Ok(Reply::Subscribe(request))
        }
        Endpoint::Publish(form) => {
            let claim = keys::of_request(head, body, checks.fingerprints)?;
            let PublishRequest { batch, form, claims } = match form {
                PublishForm::Envelopes => publish::read_document(body, &permission, checks)?,
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
        Endpoint::Readyz => {
            check_ready(status)?;
            respond(Response::new(Status::OK, "text/plain", b"ready\n".as_slice()))
        }
        Endpoint::Options(allow) => {
            let allow = allow.iter().map(|method| method.as_str()).collect::<Vec<_>>().join(", ");
            respond(Response::empty(Status::NO_CONTENT).with_header("Allow", allow))
        }
    }
}
