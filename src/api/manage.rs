//! Managing channels (section "Managing" of the contract): which one a request names, and what came of it.

use super::error::{ApiError, quoted};
use crate::auth::Permission;
use crate::base::name::{ChannelName, Selector};
use crate::http::{Problem, Response, Status};

/// Reads the name of the channel whose history is to be dropped. Who may not publish to it may not do that either.
///
/// # Errors
/// 400 for what is no name, and for a pattern; 403 where it is not allowed.
pub(super) fn read_channel(name: &str, permission: &Permission) -> Result<ChannelName, Problem> {
    let bad = |error| Problem::bad_request(format!("the path: {error}"));
    if Selector::parse(name).map_err(bad)?.prefix().is_some() {
        let detail = format!(
            "the path: {} is a pattern; the history of one channel is dropped at a time",
            quoted(name)
        );
        return Err(Problem::bad_request(detail));
    }
    let channel = ChannelName::parse(name).map_err(bad)?;
    if permission.may_publish(name) {
        Ok(channel)
    } else {
        Err(ApiError::PublishForbidden { channel: quoted(name) }.into())
    }
}

/// Answers a request to drop a channel's history: `dropped` are its events that went; `None` where there is no such
/// channel.
#[must_use]
pub fn answer_dropped(channel: &ChannelName, dropped: Option<usize>) -> Response<'static> {
    match dropped {
        Some(dropped) => {
            let body = format!("{{\"success\":true,\"removed\":{dropped}}}");
            Response::json(Status::OK, body.into_bytes())
        }
        None => {
            let detail = format!(
                "the channel {} has neither subscribers nor retained events",
                quoted(channel.as_str())
            );
            Problem::not_found(detail).into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Rights;

    fn status(name: &str, permission: &Permission) -> Result<ChannelName, Status> {
        read_channel(name, permission).map_err(|problem| problem.status())
    }

    #[test]
    fn one_channel_is_named_by_a_path() {
        let everything = Permission::everything();
        assert_eq!(status("chat/7", &everything), Ok(ChannelName::parse("chat/7").unwrap()));
        for name in ["", "a b", "*", "entity:*"] {
            assert_eq!(status(name, &everything), Err(Status::BAD_REQUEST), "{name:?}");
        }
    }

    #[test]
    fn who_may_not_publish_may_not_drop() {
        let reader = Permission::new(Rights::Only(vec![Selector::parse("mine").unwrap()]), Rights::All);
        assert!(status("mine", &reader).is_ok());
        assert_eq!(status("news", &reader), Err(Status::FORBIDDEN));
    }
}
