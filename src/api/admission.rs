//! What is decided about a request by its head alone, before its body is read: whether there is such an
//! endpoint, whether the request may use it, and how its body is read.

use super::clients::ClientForm;
use super::error::{ApiError, quoted};
use super::routes::{self, Endpoint, PublishForm, Routed};
use super::{ApiOptions, RETRY_AFTER, ServerStatus, access, keys, parameters, publish};
use crate::auth::{Permission, Right};
use crate::conn::{Admission, BodyPlan, Decision};
use crate::http::{Known, MediaType, Method, Problem, RequestHead, Status};

/// Decides about a request by its head alone. A request that is refused here needs no body.
#[must_use]
pub fn decide(head: &RequestHead, options: &ApiOptions, status: ServerStatus) -> Decision {
    let path = match head.path() {
        Ok(path) => path,
        Err(error) => return Decision { admission: Err(error.into()), is_publish: false },
    };
    match routes::find(&path, head.method()) {
        Ok(routed) => Decision {
            admission: admit(&routed, head, options, status),
            is_publish: routed.right == Right::Publish,
        },
        // `PUT` exists only for event streams.
        Err(_) if head.method() == Method::Put && path.starts_with("/channels/") && is_event_stream(head) => {
            Decision { admission: Err(event_stream_in()), is_publish: true }
        }
        Err(problem) => Decision { admission: Err(problem), is_publish: false },
    }
}

/// Decides about a request with this endpoint.
///
/// # Errors
/// Those of [`access::permit`] for a request without the right that its endpoint needs, then those of
/// [`check_status`], then those of what the head says about the body.
pub(super) fn admit(
    routed: &Routed<'_>,
    head: &RequestHead,
    options: &ApiOptions,
    status: ServerStatus,
) -> Result<Admission, Problem> {
    let permission = access::permit(routed.right, head, options)?;
    check_status(head.method(), status)?;
    let body = match routed.endpoint {
        Endpoint::Publish(form) => plan_publish(head, form, &permission)?,
        Endpoint::Client(ClientForm::Body(_)) => {
            check_type(head, "application/json")?;
            BodyPlan::Short
        }
        Endpoint::Client(_) => BodyPlan::Short,
        // These requests rarely have a body, and it is ignored.
        Endpoint::Subscribe(_)
        | Endpoint::ListChannels
        | Endpoint::DropHistory(_)
        | Endpoint::Report(_)
        | Endpoint::Healthz
        | Endpoint::Readyz
        | Endpoint::Options(_) => BodyPlan::Whole,
    };
    Ok(Admission { permission, body })
}

/// Refuses a request that changes something on a server that starts or drains: 503.
pub(super) fn check_status(method: Method, status: ServerStatus) -> Result<(), Problem> {
    match method {
        Method::Get | Method::Head | Method::Options => Ok(()),
        Method::Post | Method::Put | Method::Delete | Method::Patch | Method::Connect | Method::Other => {
            check_ready(status)
        }
    }
}

/// Refuses on a server that starts or drains: 503.
///
/// # Errors
/// The refusal.
pub fn check_ready(status: ServerStatus) -> Result<(), Problem> {
    match status {
        ServerStatus::Ready => Ok(()),
        ServerStatus::Starting => Err(Problem::unavailable("the server is starting", RETRY_AFTER)),
        ServerStatus::Draining => Err(Problem::unavailable("the server is draining", RETRY_AFTER)),
    }
}

fn plan_publish(
    head: &RequestHead,
    form: PublishForm<'_>,
    permission: &Permission,
) -> Result<BodyPlan, Problem> {
    let is_lines = form == PublishForm::Envelopes
        && MediaType::of(head.header(Known::ContentType)?) == MediaType::NdJson;
    if keys::check_header(head)?.is_some() && is_lines {
        return Err(Problem::bad_request(
            "Idempotency-Key does not cover a body of lines; give envelopes keys of their own",
        ));
    }
    match form {
        PublishForm::Envelopes => {
            if !is_lines {
                check_type(head, "application/json or application/x-ndjson")?;
            }
            parameters::check_none(head.pairs())?;
        }
        PublishForm::Fixed(_) => check_type(head, "application/json")?,
        // A body that is the data may have any other content type.
        PublishForm::Verbatim(_) if is_event_stream(head) => return Err(event_stream_in()),
        PublishForm::Verbatim(channel) => publish::check_path(channel, permission)?,
    }
    Ok(if is_lines { BodyPlan::Lines } else { BodyPlan::Whole })
}

/// Refuses a body that is not JSON by its content type. `expected` lists the accepted types.
fn check_type(head: &RequestHead, expected: &'static str) -> Result<(), Problem> {
    let content_type = head.header(Known::ContentType)?;
    if MediaType::of(content_type).is_read_as_json() {
        return Ok(());
    }
    let found = quoted(content_type.unwrap_or(""));
    let detail = format!("Content-Type: found {found}, expected {expected}");
    Err(Problem::new(Status::UNSUPPORTED_MEDIA_TYPE, detail))
}

fn is_event_stream(head: &RequestHead) -> bool {
    matches!(head.header(Known::ContentType), Ok(value) if MediaType::of(value) == MediaType::EventStream)
}

/// Event streams as bodies are not implemented yet, and must not be published as data.
fn event_stream_in() -> Problem {
    ApiError::NotBuilt { what: "an event stream as a body" }.into()
}
