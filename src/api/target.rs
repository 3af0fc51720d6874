//! The targets of events: reads and checks them in an envelope or a parameter, and puts them into a
//! batch.

use std::borrow::Cow;

use smallvec::SmallVec;

use super::envelope::{Field, FieldSet, RawEnvelope, wrong_kind};
use super::error::{ApiError, listed, quoted};
use super::found::Found;
use crate::base::id::ClientId;
use crate::base::limits::EVENT_CHANNELS_MAX;
use crate::base::name::{ChannelName, NameError, UserId};
use crate::record::Events;
use crate::record::targets::{TARGET_ALL, user_target};
use crate::sse::event::Event;

/// The target of an event. Its names are checked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Target<'a> {
    /// One or more channels. Some may be repeated.
    Channels(SmallVec<[Cow<'a, str>; 1]>),
    /// Every stream of this user.
    User(UserId),
    /// The stream with this name.
    Client(ClientId),
    /// Every stream.
    All,
}

/// Adds an event with this target to a batch. `part` is the number of its item or line.
pub(super) fn push_target(batch: &mut Events, target: &Target<'_>, part: u64, event: &Event<'_>) {
    match target {
        Target::Channels(names) => {
            let names: SmallVec<[&str; 1]> = names.iter().map(|name| &**name).collect();
            batch.push(&names, event);
        }
        Target::User(user) => batch.push(&[&user_target(user.as_str())], event),
        Target::Client(client) => batch.push_to_client(*client, part, event),
        Target::All => batch.push(&[TARGET_ALL], event),
    }
}

impl<'a> Target<'a> {
    /// The channel with this name. `field` contains the name.
    pub(super) fn channel(field: &'static str, name: Cow<'a, str>) -> Result<Target<'a>, ApiError> {
        check_name(field, &name)?;
        Ok(Target::Channels(SmallVec::from_buf([name])))
    }

    /// The user with this id. `field` contains the id.
    pub(super) fn user(field: &'static str, id: &str) -> Result<Target<'a>, ApiError> {
        UserId::parse(id).map(Target::User).map_err(|error| ApiError::BadUser { field, error })
    }
}

const TARGETS: [Field; 5] = [Field::Channel, Field::Channels, Field::UserId, Field::ClientId, Field::All];

/// Takes the only target of an envelope; `None` if it names none. `known` are the fields that the
/// envelope may have.
pub(super) fn take_target<'a>(
    envelope: &mut RawEnvelope<'a>,
    known: FieldSet,
) -> Result<Option<Target<'a>>, ApiError> {
    let mut given = TARGETS.into_iter().filter(|field| envelope.has(*field));
    let field = match (given.next(), given.next()) {
        (None, _) => return Ok(None),
        (Some(first), Some(second)) => {
            let targets = listed(TARGETS.into_iter().filter(|field| known.contains(*field)).map(Field::name));
            return Err(ApiError::SeveralTargets { first: first.name(), second: second.name(), targets });
        }
        (Some(field), None) => field,
    };
    let found = envelope.take(field).unwrap_or(Found::Null);
    let target = match (field, found) {
        (Field::Channel, Found::Text(name)) => Target::channel(field.name(), name)?,
        (Field::Channel, found) => return Err(wrong_kind(field, &found, "a channel's name")),
        (Field::Channels, Found::List(items)) => take_channels(items).map(Target::Channels)?,
        (Field::Channels, found) => return Err(wrong_kind(field, &found, "an array of channel names")),
        (Field::All, Found::Bool(true)) => Target::All,
        (Field::All, found) => return Err(wrong_kind(field, &found, "true")),
        (Field::UserId, Found::Text(id)) => Target::user(field.name(), &id)?,
        // The shards know whether the client is connected. A malformed client id cannot be.
        (Field::ClientId, Found::Text(id)) => {
            ClientId::parse(&id).map(Target::Client).ok_or(ApiError::UnknownClient)?
        }
        (_, found) => return Err(wrong_kind(field, &found, "a string")),
    };
    Ok(Some(target))
}

fn take_channels(items: Vec<Found<'_>>) -> Result<SmallVec<[Cow<'_, str>; 1]>, ApiError> {
    let field = Field::Channels;
    if items.is_empty() {
        return Err(ApiError::NoChannels);
    }
    if items.len() > EVENT_CHANNELS_MAX {
        return Err(ApiError::TooManyChannels);
    }
    let names = items.into_iter().map(|item| {
        let Found::Text(name) = item else {
            return Err(wrong_kind(field, &item, "channel names in the array"));
        };
        check_name(field.name(), &name)?;
        Ok(name)
    });
    names.collect()
}

/// Checks the name of a channel to publish to.
pub(super) fn check_name(field: &'static str, name: &str) -> Result<(), ApiError> {
    ChannelName::check(name).map_err(|error| match error {
        NameError::Pattern => ApiError::PatternTarget { field, name: quoted(name) },
        NameError::Empty | NameError::TooLong { .. } | NameError::Forbidden { .. } => {
            ApiError::BadName { field, error }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::id::NodeId;

    fn target(envelope: &str) -> Result<Option<Target<'_>>, ApiError> {
        take_target(&mut serde_json::from_str(envelope).unwrap(), FieldSet::ALL)
    }

    #[test]
    fn an_envelope_names_one_target() {
        let channels = |names: &[&'static str]| {
            Ok(Some(Target::Channels(names.iter().map(|&name| Cow::Borrowed(name)).collect())))
        };
        assert_eq!(target(r#"{"data":1}"#), Ok(None));
        assert_eq!(target(r#"{"channel":"a","userId":null}"#), channels(&["a"]));
        assert_eq!(target(r#"{"channels":["a","b"]}"#), channels(&["a", "b"]));
        assert_eq!(target(r#"{"userId":"a b"}"#), Ok(Some(Target::User(UserId::parse("a b").unwrap()))));
        assert_eq!(target(r#"{"all":true}"#), Ok(Some(Target::All)));
        let client = ClientId { secret: 1, node: NodeId::ALONE, shard: 2, slot: 3 };
        let named = format!(r#"{{"clientId":"{client}"}}"#);
        assert_eq!(target(&named), Ok(Some(Target::Client(client))));
        assert_eq!(target(r#"{"clientId":"x"}"#), Err(ApiError::UnknownClient));
    }

    #[test]
    fn the_error_for_two_targets_lists_the_possible_ones() {
        let error = target(r#"{"all":true,"userId":"u"}"#).unwrap_err();
        assert_eq!(
            error.to_string(),
            "both `userId` and `all` are given; expected one of `channel`, `channels`, `userId`, `clientId` and `all`"
        );
    }

    #[test]
    fn users_and_all_have_a_place_of_their_own_in_a_batch() {
        let mut batch = Events::new();
        for target in [Target::user("userId", "a,b").unwrap(), Target::All] {
            push_target(&mut batch, &target, 0, &Event::new("x"));
        }
        let targets: Vec<Vec<&str>> = batch.iter().map(|draft| draft.targets().collect()).collect();
        assert_eq!(targets, [vec![user_target("a,b").as_str()], vec![TARGET_ALL]]);
    }
}
