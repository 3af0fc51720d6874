//! Subscribing (section "Subscribing" of the contract): turns a query and a few headers into channels
//! and a place to begin.

use std::borrow::Cow;

use smallvec::SmallVec;

use super::ApiOptions;
use super::access::check_user;
use super::error::{ApiError, quoted};
use super::parameters::{Spelling, check_built, given_twice};
use crate::auth::Permission;
use crate::base::id::EventId;
use crate::base::limits::EVENT_ID_BYTES_MAX;
use crate::base::name::{Selector, UserId};
use crate::http::{Known, Problem, RequestHead, Status, accepts_event_stream};
use crate::hub::Begin;

/// The channel of a stream or an event that names none, where the channel is optional.
pub const DEFAULT_CHANNEL: &str = "global";

/// A client's request for a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscribeRequest {
    /// Its channels and patterns, at least one, each once, in the order in which they were named.
    pub channels: SmallVec<[Selector; 1]>,
    /// The user of the stream.
    pub user: Option<UserId>,
    /// Where the stream begins.
    pub begin: Begin,
    /// The id of the last event that the client saw, as the client sent it; `None` if it does not
    /// resume.
    pub last_event_id: Option<String>,
}

impl SubscribeRequest {
    /// The client's last event id, if the server may send it back as an event id: it must not contain a
    /// line end. The id need not be known to the server.
    #[must_use]
    pub fn id_to_give_back(&self) -> Option<&str> {
        self.last_event_id
            .as_deref()
            .filter(|id| id.len() <= EVENT_ID_BYTES_MAX && !id.chars().any(char::is_control))
    }
}

/// Reads a subscribe. `channel` is the channel in the path, if any. Unknown parameters are ignored: some
/// make a URL unique for a cache, some are for the application.
pub(super) fn read(
    head: &RequestHead,
    channel: Option<&str>,
    options: &ApiOptions,
    permission: &Permission,
) -> Result<SubscribeRequest, Problem> {
    let accept = head.header(Known::Accept)?;
    if !accepts_event_stream(accept) {
        let detail = format!(
            "the only answer here is text/event-stream, which Accept: {} excludes",
            quoted(accept.unwrap_or(""))
        );
        return Err(Problem::new(Status::NOT_ACCEPTABLE, detail));
    }
    let mut channels =
        Channels { names: SmallVec::new(), channels_max: options.stream_channels_max, permission };
    if let Some(channel) = channel {
        channels.add("the path", channel)?;
    }
    let mut user = None;
    let mut last_event_id = None;
    let mut replay = None;
    let mut slow = None;
    for pair in head.pairs() {
        let (name, value) = pair?;
        let spelling = Spelling::of(&name);
        match spelling.text() {
            "channel" | "channels" if channel.is_some() => {
                let name = quoted(&name);
                let detail = format!("{name}: the path names the channel already; use /sse for several");
                return Err(Problem::bad_request(detail));
            }
            "channel" => channels.add("`channel`", &value)?,
            "channels" => value.split(',').try_for_each(|part| channels.add("`channels`", part))?,
            "lasteventid" if value.is_empty() => {}
            "lasteventid" => last_event_id = Some(value), // A repeated id is no error: the last one counts.
            "userid" => set_once(&mut user, "userId", value)?,
            "replay" => set_once(&mut replay, "replay", value)?,
            "slow" => set_once(&mut slow, "slow", value)?,
            _ => check_built(&spelling)?,
        }
    }
    let user = user.map(|user| read_user(&user, head, options)).transpose()?;
    slow.map_or(Ok(()), |slow| check_slow(&slow))?;
    if channels.names.is_empty() {
        channels.add("the default", DEFAULT_CHANNEL)?;
    }
    let header = head.header(Known::LastEventId)?.filter(|id| !id.is_empty()).map(Cow::Borrowed);
    let last_event_id = header.or(last_event_id).map(Cow::into_owned);
    let begin = match &last_event_id {
        None => replay.map_or(Ok(Begin::AtHead), |replay| read_replay(&replay))?,
        Some(id) => {
            EventId::parse(id.as_bytes()).map_or_else(|| Begin::AfterOwn(id.as_str().into()), Begin::After)
        }
    };
    Ok(SubscribeRequest { channels: channels.names, user, begin, last_event_id })
}

/// The channels named so far.
struct Channels<'a> {
    names: SmallVec<[Selector; 1]>,
    channels_max: usize,
    permission: &'a Permission,
}

impl Channels<'_> {
    fn add(&mut self, place: &str, text: &str) -> Result<(), Problem> {
        let name =
            Selector::parse(text).map_err(|error| Problem::bad_request(format!("{place}: {error}")))?;
        if self.names.contains(&name) {
            return Ok(());
        }
        if !self.permission.may_subscribe(&name) {
            return Err(ApiError::SubscribeForbidden { channel: quoted(name.as_str()) }.into());
        }
        if self.names.len() == self.channels_max {
            let detail = format!("a stream has at most {} channels", self.channels_max);
            return Err(Problem::bad_request(detail));
        }
        self.names.push(name);
        Ok(())
    }
}

/// Stores the value of a parameter that may not repeat.
fn set_once<'a>(
    slot: &mut Option<Cow<'a, str>>,
    name: &'static str,
    value: Cow<'a, str>,
) -> Result<(), Problem> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(given_twice(name)),
    }
}

/// Reads the user of the stream, if the request may name one.
fn read_user(value: &str, head: &RequestHead, options: &ApiOptions) -> Result<UserId, Problem> {
    let user = UserId::parse(value).map_err(|error| ApiError::BadUser { field: "userId", error })?;
    check_user(head, options, "userId")?;
    Ok(user)
}

/// Reads where a stream without a last event id begins.
fn read_replay(value: &str) -> Result<Begin, Problem> {
    let is_number = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    match value {
        "all" => Ok(Begin::AllRetained),
        "latest" => Err(ApiError::NotBuilt { what: "`replay=latest`" }.into()),
        // A number that is too large to parse is more than the server retains.
        _ if is_number => Ok(match value.parse().unwrap_or(usize::MAX) {
            0 => Begin::AtHead,
            count => Begin::LastRetained(count),
        }),
        _ => Err(Problem::bad_request(format!(
            "`replay`: found {}, expected a number of events, `all` or `latest`",
            quoted(value)
        ))),
    }
}

fn check_slow(value: &str) -> Result<(), Problem> {
    match value {
        "catch-up" => Ok(()), // The behaviour of every stream.
        "drop-oldest" | "drop-newest" | "coalesce" | "disconnect" => {
            Err(ApiError::NotBuilt { what: "the parameter `slow`, with any policy but `catch-up`," }.into())
        }
        _ => Err(Problem::bad_request(format!(
            "`slow`: found {}, expected `catch-up`, `drop-oldest`, `drop-newest`, `coalesce` or `disconnect`",
            quoted(value)
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Reach;
    use super::super::tests::{head, options};
    use super::*;
    use crate::auth::Rights;
    use crate::base::id::{EpochTag, Sequence};

    fn ask(target: &str, headers: &str) -> Result<SubscribeRequest, Problem> {
        let head = head(&format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n"));
        read(&head, None, &options(), &Permission::everything())
    }

    fn names(request: &SubscribeRequest) -> Vec<&str> {
        request.channels.iter().map(Selector::as_str).collect()
    }

    #[test]
    fn channels_are_named_in_every_way_and_count_once() {
        for (query, expected) in [
            ("", vec!["global"]),
            ("?_=17&tokens=x", vec!["global"]),
            ("?CHANNEL=a&channels[]=b&channels%5B%5D=c&chan_nel=d", vec!["a", "b", "c", "d"]),
            ("?channel=a", vec!["a"]),
            ("?channels=a,b", vec!["a", "b"]),
            ("?channels=a%2Cb&channel=c&channels=b,d&channel=a", vec!["a", "b", "c", "d"]),
            (
                "?channel=gr%C3%B6%C3%9Fe&channel=entity:42&channel=chat/7",
                vec!["größe", "entity:42", "chat/7"],
            ),
            ("?channel=a*b", vec!["a*b"]),
            ("?channels=entity:*,*&channel=entity:*", vec!["entity:*", "*"]),
        ] {
            let request = ask(&format!("/sse{query}"), "").unwrap();
            assert_eq!(names(&request), expected, "{query}");
            assert_eq!((request.begin, request.last_event_id), (Begin::AtHead, None));
        }
    }

    #[test]
    fn the_header_wins_over_the_query_and_an_empty_id_is_none() {
        let id = EventId { tag: EpochTag::from_bits(5), sequence: Sequence(7) };
        let after = |request: SubscribeRequest| (request.begin, request.last_event_id);
        let known = (Begin::After(id), Some(id.to_string()));
        let own = |text: &str| (Begin::AfterOwn(text.into()), Some(text.to_owned()));
        for (query, header, expected) in [
            (format!("?lastEventId={id}"), String::new(), known.clone()),
            (format!("?last_event_id={id}"), String::new(), known.clone()),
            (String::new(), format!("Last-Event-ID: {id}\r\n"), known.clone()),
            ("?lastEventId=own".to_owned(), format!("last-event-id: {id}\r\n"), known.clone()),
            (format!("?lastEventId={id}"), "Last-Event-ID: own\r\n".to_owned(), own("own")),
            (format!("?lastEventId={id}"), "Last-Event-ID: \r\n".to_owned(), known.clone()),
            (format!("?lastEventId=old&lastEventId={id}&last_event_id="), String::new(), known.clone()),
            (format!("?lastEventId={id}&lastEventId={id}"), String::new(), known.clone()),
            (format!("?LASTEVENTID=old&lastEventID[]={id}&replay=x"), String::new(), known),
            ("?lastEventId=a+b".to_owned(), String::new(), own("a b")),
            ("?lastEventId=".to_owned(), "Last-Event-ID:\r\n".to_owned(), (Begin::AtHead, None)),
        ] {
            assert_eq!(after(ask(&format!("/sse{query}"), &header).unwrap()), expected, "{query} {header}");
        }
    }

    #[test]
    fn an_id_is_given_back_if_it_could_be_one() {
        let (longest, too_long) = ("x".repeat(256), "x".repeat(257));
        let back = |query: &str| {
            let request = ask(&format!("/sse?lastEventId={query}"), "").unwrap();
            request.id_to_give_back().map(str::to_owned)
        };
        for (query, id) in [("a", "a"), ("%20a+b%20", " a b "), ("%C3%BC:%20", "ü: "), (&*longest, &*longest)]
        {
            assert_eq!(back(query).as_deref(), Some(id), "{query}");
        }
        for query in ["", "%0Adata:x", "a%0D", "%00", "%7F", "%C2%85", "a%1F", &*too_long] {
            assert_eq!(back(query), None, "{query}");
        }
    }

    #[test]
    fn a_stream_has_a_bounded_number_of_channels() {
        assert_eq!(ask("/sse?channels=a,b,c,d,a,b", "").unwrap().channels.len(), 4);
        let problem = ask("/sse?channels=a,b,c,d,e", "").unwrap_err();
        assert_eq!(problem.status(), Status::BAD_REQUEST);
        assert_eq!(problem.detail(), "a stream has at most 4 channels");
    }

    #[test]
    fn errors_of_bad_subscribes_name_the_fault() {
        let too_long = format!("/sse?channel={}", "x".repeat(257));
        for (target, headers, status, expected) in [
            ("/sse?channel=", "", 400, "`channel`: a channel name must not be empty"),
            ("/sse?channels=a,,b", "", 400, "`channels`: a channel name must not be empty"),
            ("/sse?channel=a,b", "", 400, "found ',' at byte 1"),
            ("/sse?channel=a+b", "", 400, "found ' ' at byte 1"),
            ("/sse?channel=a%0Ab", "", 400, "found '\\n' at byte 1"),
            (&too_long, "", 400, "at most 256 bytes, this one has 257"),
            ("/sse?channel=%zz", "", 400, "bad percent-encoding in the query"),
            ("/sse?channel=%ff", "", 400, "the query is not UTF-8"),
            ("/sse?channels=a,b%20c*", "", 400, "found ' ' at byte 1"),
            ("/sse?userId=", "", 400, "`userId`: a user's id must not be empty"),
            (
                "/sse?user_id=a%09b",
                "",
                400,
                "`userId`: a user's id must not contain control characters; found '\\t'",
            ),
            ("/sse?user_id=a&userId=a", "", 400, "the parameter `userId` is given twice"),
            ("/sse?replay=1&replay=1", "", 400, "the parameter `replay` is given twice"),
            ("/sse?replay=1&REPLAY=2", "Last-Event-ID: x\r\n", 400, "the parameter `replay` is given twice"),
            ("/sse?slow=catch-up&slow=catch-up", "", 400, "the parameter `slow` is given twice"),
            ("/sse?token=x", "", 501, "`token`"),
            ("/sse?errors=stream", "", 501, "`errors`"),
            ("/sse?control=comments", "", 501, "`control`"),
            ("/sse?gap=end", "", 501, "`gap`"),
            ("/sse?If=active", "", 501, "`if`"),
            ("/sse?replay=latest", "", 501, "`replay=latest`"),
            ("/sse?replay=-1", "", 400, "found \"-1\", expected a number of events, `all` or `latest`"),
            ("/sse?replay=", "", 400, "`replay`: found \"\""),
            ("/sse?slow=coalesce", "", 501, "`slow`"),
            ("/sse?slow=down", "", 400, "`slow`: found \"down\""),
            ("/sse", "Accept: text/html\r\n", 406, "which Accept: \"text/html\" excludes"),
        ] {
            let problem = ask(target, headers).unwrap_err();
            assert_eq!(problem.status().code(), status, "{target}: {}", problem.detail());
            assert!(problem.detail().contains(expected), "{target}: {}", problem.detail());
        }
    }

    #[test]
    fn a_stream_may_name_its_user_on_a_local_listener() {
        let user = |query: &str| ask(&format!("/sse{query}"), "").unwrap().user;
        assert_eq!(user(""), None);
        for query in ["?userId=jane+doe", "?user_id=jane%20doe", "?USERID[]=jane+doe"] {
            assert_eq!(user(query), Some(UserId::parse("jane doe").unwrap()), "{query}");
        }
        let named = |headers: &str, options: &ApiOptions| {
            let head = head(&format!("GET /sse?userId=u HTTP/1.1\r\nHost: a\r\n{headers}\r\n"));
            read(&head, None, options, &Permission::everything()).map_err(|problem| problem.status().code())
        };
        let with = |reach, is_insecure, trusts_user_parameter| ApiOptions {
            reach,
            is_insecure,
            trusts_user_parameter,
            ..options()
        };
        let proxied = "Via: 1.1 proxy\r\n";
        for (reach, headers, insecure, trusts, is_taken) in [
            (Reach::Unix, "", false, false, true),
            (Reach::Unix, proxied, false, false, false),
            (Reach::Unix, proxied, false, true, true),
            (Reach::Unix, proxied, true, false, true),
            (Reach::Loopback, proxied, false, false, false),
            (Reach::Loopback, proxied, true, false, true),
            (Reach::Network, "", true, false, false),
            (Reach::Network, proxied, true, false, false),
            (Reach::Network, proxied, true, true, true),
        ] {
            let taken = named(headers, &with(reach, insecure, trusts));
            let expected = if is_taken { None } else { Some(403) };
            assert_eq!(taken.err(), expected, "{reach:?} {headers} {insecure} {trusts}");
        }
        let head = head("GET /sse?userId=u HTTP/1.1\r\nHost: a\r\n\r\n");
        let problem =
            read(&head, None, &with(Reach::Network, true, false), &Permission::everything()).unwrap_err();
        assert!(problem.detail().contains("--trust-user-parameter"), "{}", problem.detail());
    }

    #[test]
    fn a_stream_that_does_not_resume_may_begin_with_retained_events() {
        for (target, headers, begin) in [
            ("/sse?replay=all", "", Begin::AllRetained),
            ("/sse?replay=5", "", Begin::LastRetained(5)),
            ("/sse?replay=99999999999999999999", "", Begin::LastRetained(usize::MAX)),
            ("/sse?replay=0", "", Begin::AtHead),
            ("/sse?replay=5", "Last-Event-ID: x\r\n", Begin::AfterOwn("x".into())),
        ] {
            assert_eq!(ask(target, headers).unwrap().begin, begin, "{target} {headers}");
        }
    }

    #[test]
    fn defaults_can_be_named() {
        assert!(ask("/sse?replay=0&slow=catch-up", "Accept: text/*\r\n").is_ok());
    }

    #[test]
    fn the_path_names_its_channel_alone() {
        let head = head("GET /channels/x?channels=y HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let problem = read(&head, Some("x"), &options(), &Permission::everything()).unwrap_err();
        assert!(problem.detail().contains("the path names the channel already"));
    }

    #[test]
    fn a_channel_that_is_not_allowed_is_403() {
        let permission = Permission::new(Rights::All, Rights::Only(vec![Selector::parse("a").unwrap()]));
        let head = head("GET /sse?channels=a,b HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let problem = read(&head, None, &options(), &permission).unwrap_err();
        assert_eq!(problem.status(), Status::FORBIDDEN);
        assert_eq!(problem.detail(), "subscribing to the channel \"b\" is not allowed");
    }
}
