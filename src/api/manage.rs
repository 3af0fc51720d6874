//! Managing channels (section "Managing" of the contract): the channels that a request names, and the
//! answer to it.

use serde::Serialize;

use super::error::{ApiError, quoted};
use super::parameters;
use crate::auth::Permission;
use crate::base::name::{ChannelName, Selector};
use crate::http::{Pairs, Problem, Response, Status};
use crate::hub::counts::ChannelCounts;

/// One answer lists at most this many channels.
const LISTED_MAX: usize = 1000;

/// The requested page of the channels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListRequest {
    /// The prefix of the names; empty for all channels.
    pub prefix: Box<str>,
    /// The page begins after this name, in the order of bytes.
    pub after: Option<Box<str>>,
    /// The maximal length of the page.
    pub len_max: usize,
}

/// Reads which page of the channels is requested.
///
/// # Errors
/// 400 for an unknown or repeated parameter, and for a `limit` that is not a number from 1 to 1000.
pub(super) fn read_list(query: Pairs<'_>) -> Result<ListRequest, Problem> {
    let [limit, after, prefix] = parameters::read(query, ["limit", "after", "prefix"])?;
    let len_max = match limit {
        None => LISTED_MAX,
        Some(limit) => read_limit(&limit.value).ok_or_else(|| {
            let found = quoted(&limit.value);
            Problem::bad_request(format!("the parameter `limit`: found {found}, expected 1 to {LISTED_MAX}"))
        })?,
    };
    Ok(ListRequest {
        prefix: prefix.map(|prefix| prefix.value.into()).unwrap_or_default(),
        after: after.map(|after| after.value.into()),
        len_max,
    })
}

/// Reads digits only: a sign or a space is more likely a typing error.
fn read_limit(text: &str) -> Option<usize> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|limit| is_number && (1..=LISTED_MAX).contains(limit))
}

/// The answer to `GET /channels`, in the order of its members.
#[derive(Serialize)]
struct List<'a> {
    channels: Vec<Listed<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<&'a str>,
}

#[derive(Serialize)]
struct Listed<'a> {
    name: &'a str,
    subscribers: u32,
    retained: usize,
}

/// Answers a request for a page of channels. If the page `has_more` channels after it, the answer
/// contains the name to continue after.
///
/// # Panics
/// Never: names and numbers are JSON.
#[must_use]
pub fn answer_list(page: &[ChannelCounts], has_more: bool) -> Response<'static> {
    let channels = page.iter().map(|ChannelCounts { name, subscribers, retained }| Listed {
        name,
        subscribers: *subscribers,
        retained: *retained,
    });
    let next = page.last().filter(|_| has_more).map(|last| &*last.name);
    let list = List { channels: channels.collect(), next };
    Response::json(Status::OK, serde_json::to_vec(&list).expect("names and numbers are JSON"))
}

/// Reads the name of the channel whose history is dropped. Dropping needs the permission to publish.
///
/// # Errors
/// 400 for an invalid name and for a pattern; 403 without the permission.
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

/// Answers a request to drop a channel's history. `dropped` is the number of dropped events; `None` if
/// there is no such channel.
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
    use crate::http::pairs;

    #[test]
    fn a_page_is_requested_by_its_start_and_length() {
        let read = |query: &str| read_list(pairs(query)).map_err(|problem| problem.detail().to_owned());
        let request = |prefix: &str, after: Option<&str>, len_max| {
            Ok(ListRequest { prefix: prefix.into(), after: after.map(Box::from), len_max })
        };
        assert_eq!(read(""), request("", None, 1000));
        assert_eq!(read("limit=1&after=a%2Fb&prefix=a"), request("a", Some("a/b"), 1));
        assert_eq!(read("limit=1000&prefix="), request("", None, 1000));
        for limit in ["0", "1001", "", "-1", "%2B5", "5.0", "all", "99999999999999999999"] {
            let detail = read(&format!("limit={limit}")).unwrap_err();
            assert!(detail.starts_with("the parameter `limit`: found "), "{detail}");
            assert!(detail.ends_with(", expected 1 to 1000"), "{detail}");
        }
        assert_eq!(read("after=a&after=a"), Err("the parameter `after` is given twice".to_owned()));
        assert!(read("offset=5").unwrap_err().ends_with("expected `limit`, `after` and `prefix`"));
    }

    #[test]
    fn a_page_says_where_the_next_one_begins() {
        let page = ["a\"b", "c"].map(|name| ChannelCounts { name: name.into(), subscribers: 1, retained: 2 });
        let text = |page: &[ChannelCounts], has_more| {
            String::from_utf8(answer_list(page, has_more).body().to_vec()).unwrap()
        };
        assert_eq!(text(&[], false), r#"{"channels":[]}"#);
        assert_eq!(text(&page[1..], false), r#"{"channels":[{"name":"c","subscribers":1,"retained":2}]}"#);
        assert_eq!(
            text(&page[..1], true),
            r#"{"channels":[{"name":"a\"b","subscribers":1,"retained":2}],"next":"a\"b"}"#
        );
    }

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
    fn dropping_needs_the_permission_to_publish() {
        let reader = Permission::new(Rights::Only(vec![Selector::parse("mine").unwrap()]), Rights::All);
        assert!(status("mine", &reader).is_ok());
        assert_eq!(status("news", &reader), Err(Status::FORBIDDEN));
    }
}
