//! The publishes of fixed form (section "The endpoints of the templates" of the contract). The path of
//! each endpoint determines its body, its query, and the target of its events.

use super::Checks;
use super::envelope::{Field, FieldSet, RawEnvelope};
use super::error::ApiError;
use super::keys::Part;
use super::object::{read_body, read_value};
use super::parameters::{self, Parameter};
use super::publish::{Publication, PublishRequest, Shape, json_text};
use super::subscribe::DEFAULT_CHANNEL;
use super::target::Target;
use crate::auth::Permission;
use crate::base::name::{ChannelName, NameError};
use crate::http::{Pairs, Problem};
use crate::sse::event::Event;

/// An endpoint with its own form of publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FixedForm {
    /// `POST /events/send`: an envelope with fewer fields. The target is optional.
    Send,
    /// `POST /sse/broadcast`: the data for a channel in the query, or an envelope.
    Broadcast,
    /// `POST /sse/broadcast-all`: the data for every stream.
    BroadcastAll,
    /// `POST /sse/notify-user`: the data for a user in the query.
    NotifyUser,
    /// `POST /notify`: a notification for a channel.
    Notify,
    /// `POST /progress`: the progress of a user's task.
    Progress,
    /// `POST /data-update`: a change of an entity.
    DataUpdate,
}

/// Reads the one event of a request.
pub(super) fn read(
    form: FixedForm,
    query: Pairs<'_>,
    body: &[u8],
    permission: &Permission,
    checks: Checks<'_>,
) -> Result<PublishRequest, Problem> {
    let body = json_text(body)?;
    let mut publication = Publication::new(permission, checks);
    match form {
        FixedForm::Send => {
            parameters::check_none(query)?;
            publication.add_shaped(read_envelope(body)?, &SEND, Part::Whole)?;
        }
        FixedForm::Broadcast => {
            let [channel, event_type] = parameters::read(query, ["channel", "event"])?;
            if channel.is_none() && event_type.is_none() {
                publication.add_shaped(read_envelope(body)?, &BROADCAST, Part::Whole)?;
            } else {
                let channel = channel.map_or(DEFAULT_CHANNEL.into(), |given| given.value);
                let target = Target::channel(Field::Channel.name(), channel)?;
                push_data(&mut publication, &target, event_type, body)?;
            }
        }
        FixedForm::BroadcastAll => {
            let [event_type] = parameters::read(query, ["event"])?;
            push_data(&mut publication, &Target::All, event_type, body)?;
        }
        FixedForm::NotifyUser => {
            let [user, event_type] = parameters::read(query, ["user_id", "event"])?;
            let Some(Parameter { name, value }) = user else {
                return Err(Problem::bad_request("the parameter `user_id` is missing; it names the user"));
            };
            push_data(&mut publication, &Target::user(name, &value)?, event_type, body)?;
        }
        FixedForm::Notify => {
            parameters::check_none(query)?;
            push_notification(&mut publication, body)?;
        }
        FixedForm::Progress => {
            parameters::check_none(query)?;
            push_progress(&mut publication, body)?;
        }
        FixedForm::DataUpdate => {
            parameters::check_none(query)?;
            push_data_update(&mut publication, body)?;
        }
    }
    Ok(publication.into_single())
}

const SEND: Shape = Shape {
    fields: FieldSet::of(&[
        Field::Channel,
        Field::Event,
        Field::Data,
        Field::Id,
        Field::Retry,
        Field::UserId,
        Field::ClientId,
    ]),
    default_channel: Some(DEFAULT_CHANNEL),
};

const BROADCAST: Shape = Shape {
    fields: FieldSet::of(&[Field::Channel, Field::Event, Field::Data]),
    default_channel: Some(DEFAULT_CHANNEL),
};

fn read_envelope(body: &str) -> Result<RawEnvelope<'_>, ApiError> {
    if body.trim_ascii().is_empty() {
        return Err(ApiError::EmptyBody { expected: "a JSON object" });
    }
    serde_json::from_str(body).map_err(|error| ApiError::in_body(&error))
}

/// Adds an event. The whole body is its data.
fn push_data(
    publication: &mut Publication<'_>,
    target: &Target<'_>,
    event_type: Option<Parameter<'_>>,
    body: &str,
) -> Result<(), ApiError> {
    let mut event = Event::new(read_value(body, "a JSON value, which is the data")?);
    if let Some(event_type) = &event_type {
        event = event.with_type(&event_type.value)?;
    }
    publication.push(target, &event)
}

fn push_notification(publication: &mut Publication<'_>, body: &str) -> Result<(), ApiError> {
    let [channel, notification] = read_body(body, ["channel", "notification"])?;
    let target = Target::channel("channel", channel.string()?)?;
    let [kind, title, message] =
        notification.object(["notification.type", "notification.title", "notification.message"])?;
    kind.check_word(&["info", "warning", "error"], "`info`, `warning` or `error`")?;
    title.string()?;
    message.string()?;
    publication.push(&target, &Event::new(notification.text()).with_type("notification")?)
}

fn push_progress(publication: &mut Publication<'_>, body: &str) -> Result<(), ApiError> {
    let [user, progress] = read_body(body, ["userId", "progress"])?;
    let target = Target::user("userId", &user.string()?)?;
    let [task, percentage, status] =
        progress.object(["progress.taskId", "progress.progress", "progress.status"])?;
    task.string()?;
    percentage.check_percentage()?;
    status.check_word(&["running", "completed", "failed"], "`running`, `completed` or `failed`")?;
    publication.push(&target, &Event::new(progress.text()).with_type("progress")?)
}

fn push_data_update(publication: &mut Publication<'_>, body: &str) -> Result<(), ApiError> {
    let [entity, action, data] = read_body(body, ["entity", "action", "data"])?;
    let name = entity.string()?;
    // Checks the name alone first, so that positions in errors are those in the client's text. The check
    // of the whole channel name covers the length.
    match ChannelName::check(&name) {
        Ok(()) | Err(NameError::Pattern) => {} // The check of the target refuses a pattern.
        Err(error) => return Err(ApiError::BadName { field: "entity", error }),
    }
    let target = Target::channel("entity", format!("entity:{name}").into())?;
    action.check_word(&["created", "updated", "deleted"], "`created`, `updated` or `deleted`")?;
    data.check_object()?;
    publication.push(&target, &Event::new(body.trim_ascii()).with_type("data-update")?)
}
