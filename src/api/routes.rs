//! The only table of paths. It determines 404, 405, `Allow` and the answer to `OPTIONS`.

use super::ReportForm;
use super::clients::{Change, ClientForm};
use super::error::{ApiError, quoted};
use super::fixed::FixedForm;
use crate::http::{Method, Problem};

/// The meaning of a path with a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Endpoint<'p> {
    /// A stream of the channel in the path, or of the channels in the query.
    Subscribe(Option<&'p str>),
    /// A publish.
    Publish(PublishForm<'p>),
    /// The list of channels.
    ListChannels,
    /// Drops the history of the channel in the path.
    DropHistory(&'p str),
    /// The counters of all shards.
    Report(ReportForm),
    /// A request about a live stream.
    Client(ClientForm<'p>),
    /// Whether the process is alive.
    Healthz,
    /// Whether the server accepts requests.
    Readyz,
    /// The methods of the path.
    Options(&'static [Method]),
}

impl Endpoint<'_> {
    /// Returns true if and only if the endpoint publishes or manages, which not every client may do. A
    /// client's changes to its own stream are neither: only that client knows the stream's name.
    pub(super) fn publishes_or_manages(&self) -> bool {
        match self {
            Endpoint::Publish(_)
            | Endpoint::ListChannels
            | Endpoint::DropHistory(_)
            | Endpoint::Report(_)
            | Endpoint::Client(ClientForm::Describe(_) | ClientForm::End(_)) => true,
            Endpoint::Subscribe(_)
            | Endpoint::Client(ClientForm::Body(_) | ClientForm::Query(_))
            | Endpoint::Healthz
            | Endpoint::Readyz
            | Endpoint::Options(_) => false,
        }
    }
}

/// The kind of body of a publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PublishForm<'p> {
    /// Envelopes.
    Envelopes,
    /// The data for the channel in the path.
    Verbatim(&'p str),
    /// The form that the path determines.
    Fixed(FixedForm),
}

/// Finds the endpoint of a decoded path and a method.
///
/// # Errors
/// 404 for a path that is not in the contract, 501 for a path that this version lacks, and 405 with
/// `Allow` for a path with other methods.
pub(super) fn find(path: &str, method: Method) -> Result<Endpoint<'_>, Problem> {
    if method == Method::Connect {
        return Err(Problem::method_not_allowed(method, EVERY_METHOD)); // No path is a tunnel.
    }
    if path == "*" {
        return Ok(Endpoint::Options(EVERY_METHOD)); // The whole server. Only OPTIONS may have `*`.
    }
    let route = |route: &'static Route| route.path.matches(path).map(|name| (route, name));
    let Some((route, name)) = ROUTES.iter().find_map(route) else {
        return Err(Problem::not_found(format!("there is nothing at {}", quoted(path))));
    };
    let allow: &[Method] = match (route.read, route.write, route.delete) {
        (None, None, None) => return Err(ApiError::NotBuilt { what: route.path.pattern() }.into()),
        (Some(_), None, None) => &[Method::Get, Method::Head, Method::Options],
        (None, Some(_), None) => &[Method::Post, Method::Options],
        (None, None, Some(_)) => &[Method::Delete, Method::Options],
        (Some(_), Some(_), None) => &[Method::Get, Method::Head, Method::Post, Method::Options],
        (Some(_), None, Some(_)) => &[Method::Get, Method::Head, Method::Delete, Method::Options],
        (None, Some(_), Some(_)) => &[Method::Post, Method::Delete, Method::Options],
        (Some(_), Some(_), Some(_)) => EVERY_METHOD,
    };
    let handler = match method {
        Method::Get | Method::Head => route.read,
        Method::Post => route.write,
        Method::Delete => route.delete,
        Method::Options => return Ok(Endpoint::Options(allow)),
        Method::Put | Method::Patch | Method::Connect | Method::Other => None,
    };
    match handler {
        Some(Handler::Subscribe) => Ok(Endpoint::Subscribe(name)),
        Some(Handler::Publish) => {
            Ok(Endpoint::Publish(name.map_or(PublishForm::Envelopes, PublishForm::Verbatim)))
        }
        Some(Handler::Fixed(form)) => Ok(Endpoint::Publish(PublishForm::Fixed(form))),
        Some(Handler::ListChannels) => Ok(Endpoint::ListChannels),
        Some(Handler::DropHistory) => Ok(Endpoint::DropHistory(name.unwrap_or(""))),
        Some(Handler::Report(form)) => Ok(Endpoint::Report(form)),
        Some(Handler::ChangeByBody(change)) => Ok(Endpoint::Client(ClientForm::Body(change))),
        Some(Handler::ChangeByQuery(change)) => Ok(Endpoint::Client(ClientForm::Query(change))),
        Some(Handler::Describe) => Ok(Endpoint::Client(ClientForm::Describe(name.unwrap_or("")))),
        Some(Handler::End) => Ok(Endpoint::Client(ClientForm::End(name.unwrap_or("")))),
        Some(Handler::Healthz) => Ok(Endpoint::Healthz),
        Some(Handler::Readyz) => Ok(Endpoint::Readyz),
        None => Err(Problem::method_not_allowed(method, allow)),
    }
}

const EVERY_METHOD: &[Method] = &[Method::Get, Method::Head, Method::Post, Method::Delete, Method::Options];

/// A path and the endpoints of its methods: `read` for GET and HEAD, `write` for POST, `delete` for
/// DELETE. A path with none of them is in the contract, but this version lacks it.
struct Route {
    path: Path,
    read: Option<Handler>,
    write: Option<Handler>,
    delete: Option<Handler>,
}

enum Path {
    Is(&'static str),
    /// Every path with this prefix. A name follows, which may itself contain slashes.
    Below {
        prefix: &'static str,
        pattern: &'static str,
    },
    /// Every path with this prefix and this suffix, and a name between them.
    Between {
        prefix: &'static str,
        suffix: &'static str,
        pattern: &'static str,
    },
}

#[derive(Clone, Copy)]
enum Handler {
    Subscribe,
    Publish,
    Fixed(FixedForm),
    ListChannels,
    DropHistory,
    Report(ReportForm),
    ChangeByBody(Change),
    ChangeByQuery(Change),
    Describe,
    End,
    Healthz,
    Readyz,
}

impl Path {
    /// `Some` if and only if the route has this path, with the name in the path, if there is one.
    fn matches<'p>(&self, path: &'p str) -> Option<Option<&'p str>> {
        match *self {
            Path::Is(text) => (path == text).then_some(None),
            Path::Below { prefix, .. } => path.strip_prefix(prefix).map(Some),
            Path::Between { prefix, suffix, .. } => path.strip_prefix(prefix)?.strip_suffix(suffix).map(Some),
        }
    }

    fn pattern(&self) -> &'static str {
        match *self {
            Path::Is(text) => text,
            Path::Below { pattern, .. } | Path::Between { pattern, .. } => pattern,
        }
    }
}

const ROUTES: &[Route] = &[
    write_only("/publish", Handler::Publish),
    read_only("/channels", Handler::ListChannels),
    Route {
        path: Path::Below { prefix: "/channels/", pattern: "/channels/{channel}" },
        read: Some(Handler::Subscribe),
        write: Some(Handler::Publish),
        delete: Some(Handler::DropHistory),
    },
    read_only("/sse", Handler::Subscribe),
    read_only("/events", Handler::Subscribe),
    read_only("/healthz", Handler::Healthz),
    read_only("/readyz", Handler::Readyz),
    fixed("/events/send", FixedForm::Send),
    fixed("/sse/broadcast", FixedForm::Broadcast),
    fixed("/sse/broadcast-all", FixedForm::BroadcastAll),
    fixed("/sse/notify-user", FixedForm::NotifyUser),
    fixed("/notify", FixedForm::Notify),
    fixed("/progress", FixedForm::Progress),
    fixed("/data-update", FixedForm::DataUpdate),
    read_only("/metrics", Handler::Report(ReportForm::Metrics)),
    read_only("/sse/stats", Handler::Report(ReportForm::Stats)),
    not_built(Path::Between { prefix: "/clients/", suffix: "/token", pattern: "/clients/{clientId}/token" }),
    Route {
        path: Path::Below { prefix: "/clients/", pattern: "/clients/{clientId}" },
        read: Some(Handler::Describe),
        write: None,
        delete: Some(Handler::End),
    },
    write_only("/events/subscribe", Handler::ChangeByBody(Change::Subscribe)),
    write_only("/events/unsubscribe", Handler::ChangeByBody(Change::Unsubscribe)),
    write_only("/sse/subscribe", Handler::ChangeByQuery(Change::Subscribe)),
    write_only("/sse/unsubscribe", Handler::ChangeByQuery(Change::Unsubscribe)),
    not_built(Path::Below { prefix: "/users/", pattern: "/users/{userId}" }),
    not_built(Path::Is("/stop")),
    not_built(Path::Is("/dashboard")),
];

const fn read_only(path: &'static str, handler: Handler) -> Route {
    Route { path: Path::Is(path), read: Some(handler), write: None, delete: None }
}

const fn write_only(path: &'static str, handler: Handler) -> Route {
    Route { path: Path::Is(path), read: None, write: Some(handler), delete: None }
}

const fn fixed(path: &'static str, form: FixedForm) -> Route {
    write_only(path, Handler::Fixed(form))
}

const fn not_built(path: Path) -> Route {
    Route { path, read: None, write: None, delete: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Status;

    #[test]
    fn every_endpoint_is_found() {
        for (method, path, endpoint) in [
            (Method::Get, "/sse", Endpoint::Subscribe(None)),
            (Method::Head, "/events", Endpoint::Subscribe(None)),
            (Method::Get, "/channels/chat/7", Endpoint::Subscribe(Some("chat/7"))),
            (Method::Get, "/channels/", Endpoint::Subscribe(Some(""))),
            (Method::Post, "/channels/news", Endpoint::Publish(PublishForm::Verbatim("news"))),
            (Method::Get, "/channels", Endpoint::ListChannels),
            (Method::Delete, "/channels/chat/7", Endpoint::DropHistory("chat/7")),
            (Method::Post, "/publish", Endpoint::Publish(PublishForm::Envelopes)),
            (Method::Post, "/notify", Endpoint::Publish(PublishForm::Fixed(FixedForm::Notify))),
            (Method::Get, "/healthz", Endpoint::Healthz),
            (Method::Head, "/readyz", Endpoint::Readyz),
            (Method::Get, "/metrics", Endpoint::Report(ReportForm::Metrics)),
            (Method::Head, "/sse/stats", Endpoint::Report(ReportForm::Stats)),
            (Method::Post, "/events/subscribe", Endpoint::Client(ClientForm::Body(Change::Subscribe))),
            (Method::Post, "/sse/unsubscribe", Endpoint::Client(ClientForm::Query(Change::Unsubscribe))),
            (Method::Head, "/clients/x", Endpoint::Client(ClientForm::Describe("x"))),
            (Method::Delete, "/clients/x", Endpoint::Client(ClientForm::End("x"))),
            (
                Method::Options,
                "/clients/x",
                Endpoint::Options(&[Method::Get, Method::Head, Method::Delete, Method::Options]),
            ),
            (Method::Options, "/publish", Endpoint::Options(&[Method::Post, Method::Options])),
            (Method::Options, "/sse", Endpoint::Options(&[Method::Get, Method::Head, Method::Options])),
            (Method::Options, "/channels/a", Endpoint::Options(EVERY_METHOD)),
            (Method::Options, "*", Endpoint::Options(EVERY_METHOD)),
        ] {
            assert_eq!(find(path, method), Ok(endpoint), "{method:?} {path}");
        }
    }

    #[test]
    fn everything_else_is_refused_with_its_status() {
        for (method, path, status) in [
            (Method::Get, "/", Status::NOT_FOUND),
            (Method::Get, "/sse/", Status::NOT_FOUND),
            (Method::Get, "/SSE", Status::NOT_FOUND),
            (Method::Options, "/nothing", Status::NOT_FOUND),
            (Method::Post, "/sse", Status::METHOD_NOT_ALLOWED),
            (Method::Get, "/publish", Status::METHOD_NOT_ALLOWED),
            (Method::Get, "/notify", Status::METHOD_NOT_ALLOWED),
            (Method::Put, "/events/send", Status::METHOD_NOT_ALLOWED),
            (Method::Delete, "/channels", Status::METHOD_NOT_ALLOWED),
            (Method::Put, "/channels/a", Status::METHOD_NOT_ALLOWED),
            (Method::Other, "/healthz", Status::METHOD_NOT_ALLOWED),
            (Method::Post, "/metrics", Status::METHOD_NOT_ALLOWED),
            (Method::Delete, "/sse/stats", Status::METHOD_NOT_ALLOWED),
            (Method::Connect, "example.org:443", Status::METHOD_NOT_ALLOWED),
            (Method::Connect, "/sse", Status::METHOD_NOT_ALLOWED),
            (Method::Get, "/dashboard", Status::NOT_IMPLEMENTED),
            (Method::Post, "/stop", Status::NOT_IMPLEMENTED),
            (Method::Delete, "/users/u/streams", Status::NOT_IMPLEMENTED),
            (Method::Post, "/users/u/revoke", Status::NOT_IMPLEMENTED),
            (Method::Post, "/clients/x/token", Status::NOT_IMPLEMENTED),
            (Method::Post, "/clients/x", Status::METHOD_NOT_ALLOWED),
            (Method::Get, "/events/unsubscribe", Status::METHOD_NOT_ALLOWED),
            (Method::Delete, "/sse/subscribe", Status::METHOD_NOT_ALLOWED),
        ] {
            assert_eq!(find(path, method).unwrap_err().status(), status, "{method:?} {path}");
        }
        let problem = find("/clients/x/token", Method::Get).unwrap_err();
        assert_eq!(problem.detail(), "/clients/{clientId}/token is not part of this version of the server");
    }
}
