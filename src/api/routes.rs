//! The only table of paths. It determines 404, 405, `Allow`, the answer to `OPTIONS`, and the right that
//! a request needs.

use super::ReportForm;
use super::clients::{Change, ClientForm};
use super::error::{ApiError, quoted};
use super::fixed::FixedForm;
use crate::auth::Right;
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

/// A request's endpoint, and the right that the request needs for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Routed<'p> {
    pub(super) endpoint: Endpoint<'p>,
    pub(super) right: Right,
}

impl Routed<'_> {
    /// The answer to `OPTIONS`, which everybody may ask for.
    const fn options(allow: &'static [Method]) -> Routed<'static> {
        Routed { endpoint: Endpoint::Options(allow), right: Right::Public }
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

/// Finds the endpoint of a decoded path and a method, and the right that a request to it needs.
///
/// # Errors
/// 404 for a path that is not in the contract, 501 for a path that this version lacks, and 405 with
/// `Allow` for a path with other methods.
pub(super) fn find(path: &str, method: Method) -> Result<Routed<'_>, Problem> {
    if method == Method::Connect {
        return Err(Problem::method_not_allowed(method, EVERY_METHOD)); // No path is a tunnel.
    }
    if path == "*" {
        return Ok(Routed::options(EVERY_METHOD)); // The whole server. Only OPTIONS may have `*`.
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
    let service = match method {
        Method::Get | Method::Head => route.read,
        Method::Post => route.write,
        Method::Delete => route.delete,
        Method::Options => return Ok(Routed::options(allow)),
        Method::Put | Method::Patch | Method::Connect | Method::Other => None,
    };
    let Some(Service { handler, right }) = service else {
        return Err(Problem::method_not_allowed(method, allow));
    };
    let endpoint = match handler {
        Handler::Subscribe => Endpoint::Subscribe(name),
        Handler::Publish => Endpoint::Publish(name.map_or(PublishForm::Envelopes, PublishForm::Verbatim)),
        Handler::Fixed(form) => Endpoint::Publish(PublishForm::Fixed(form)),
        Handler::ListChannels => Endpoint::ListChannels,
        Handler::DropHistory => Endpoint::DropHistory(name.unwrap_or("")),
        Handler::Report(form) => Endpoint::Report(form),
        Handler::ChangeByBody(change) => Endpoint::Client(ClientForm::Body(change)),
        Handler::ChangeByQuery(change) => Endpoint::Client(ClientForm::Query(change)),
        Handler::Describe => Endpoint::Client(ClientForm::Describe(name.unwrap_or(""))),
        Handler::End => Endpoint::Client(ClientForm::End(name.unwrap_or(""))),
        Handler::Healthz => Endpoint::Healthz,
        Handler::Readyz => Endpoint::Readyz,
    };
    Ok(Routed { endpoint, right })
}

const EVERY_METHOD: &[Method] = &[Method::Get, Method::Head, Method::Post, Method::Delete, Method::Options];

/// A path and what its methods do: `read` for GET and HEAD, `write` for POST, `delete` for DELETE. A
/// path with none of them is in the contract, but this version lacks it.
struct Route {
    path: Path,
    read: Option<Service>,
    write: Option<Service>,
    delete: Option<Service>,
}

/// What a method of a path does, and the right that it needs.
#[derive(Clone, Copy)]
struct Service {
    handler: Handler,
    right: Right,
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
    write_only("/publish", Handler::Publish, Right::Publish),
    read_only("/channels", Handler::ListChannels, Right::Manage),
    Route {
        path: Path::Below { prefix: "/channels/", pattern: "/channels/{channel}" },
        read: service(Handler::Subscribe, Right::Subscribe),
        write: service(Handler::Publish, Right::Publish),
        delete: service(Handler::DropHistory, Right::Manage),
    },
    read_only("/sse", Handler::Subscribe, Right::Subscribe),
    read_only("/events", Handler::Subscribe, Right::Subscribe),
    read_only("/healthz", Handler::Healthz, Right::Public),
    read_only("/readyz", Handler::Readyz, Right::Public),
    fixed("/events/send", FixedForm::Send),
    fixed("/sse/broadcast", FixedForm::Broadcast),
    fixed("/sse/broadcast-all", FixedForm::BroadcastAll),
    fixed("/sse/notify-user", FixedForm::NotifyUser),
    fixed("/notify", FixedForm::Notify),
    fixed("/progress", FixedForm::Progress),
    fixed("/data-update", FixedForm::DataUpdate),
    read_only("/metrics", Handler::Report(ReportForm::Metrics), Right::Manage),
    read_only("/sse/stats", Handler::Report(ReportForm::Stats), Right::Manage),
    not_built(Path::Between { prefix: "/clients/", suffix: "/token", pattern: "/clients/{clientId}/token" }),
    Route {
        path: Path::Below { prefix: "/clients/", pattern: "/clients/{clientId}" },
        read: service(Handler::Describe, Right::Manage),
        write: None,
        delete: service(Handler::End, Right::Manage),
    },
    write_only("/events/subscribe", Handler::ChangeByBody(Change::Subscribe), Right::OwnStream),
    write_only("/events/unsubscribe", Handler::ChangeByBody(Change::Unsubscribe), Right::OwnStream),
    write_only("/sse/subscribe", Handler::ChangeByQuery(Change::Subscribe), Right::OwnStream),
    write_only("/sse/unsubscribe", Handler::ChangeByQuery(Change::Unsubscribe), Right::OwnStream),
    not_built(Path::Below { prefix: "/users/", pattern: "/users/{userId}" }),
    not_built(Path::Is("/stop")),
    not_built(Path::Is("/dashboard")),
];

const fn service(handler: Handler, right: Right) -> Option<Service> {
    Some(Service { handler, right })
}

const fn read_only(path: &'static str, handler: Handler, right: Right) -> Route {
    Route { path: Path::Is(path), read: service(handler, right), write: None, delete: None }
}

const fn write_only(path: &'static str, handler: Handler, right: Right) -> Route {
    Route { path: Path::Is(path), read: None, write: service(handler, right), delete: None }
}

const fn fixed(path: &'static str, form: FixedForm) -> Route {
    write_only(path, Handler::Fixed(form), Right::Publish)
}

const fn not_built(path: Path) -> Route {
    Route { path, read: None, write: None, delete: None }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{head, options};
    use super::super::{ServerStatus, decide};
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
            let found = find(path, method).map(|routed| routed.endpoint);
            assert_eq!(found, Ok(endpoint), "{method:?} {path}");
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

    /// The right of every method of every route, so that no route is added without one.
    const RIGHTS: &[(&str, Right)] = &[
        ("POST /publish", Right::Publish),
        ("GET /channels", Right::Manage),
        ("GET /channels/{channel}", Right::Subscribe),
        ("POST /channels/{channel}", Right::Publish),
        ("DELETE /channels/{channel}", Right::Manage),
        ("GET /sse", Right::Subscribe),
        ("GET /events", Right::Subscribe),
        ("GET /healthz", Right::Public),
        ("GET /readyz", Right::Public),
        ("POST /events/send", Right::Publish),
        ("POST /sse/broadcast", Right::Publish),
        ("POST /sse/broadcast-all", Right::Publish),
        ("POST /sse/notify-user", Right::Publish),
        ("POST /notify", Right::Publish),
        ("POST /progress", Right::Publish),
        ("POST /data-update", Right::Publish),
        ("GET /metrics", Right::Manage),
        ("GET /sse/stats", Right::Manage),
        ("GET /clients/{clientId}", Right::Manage),
        ("DELETE /clients/{clientId}", Right::Manage),
        ("POST /events/subscribe", Right::OwnStream),
        ("POST /events/unsubscribe", Right::OwnStream),
        ("POST /sse/subscribe", Right::OwnStream),
        ("POST /sse/unsubscribe", Right::OwnStream),
    ];

    /// Every method of every route in [`ROUTES`], with the pattern of its path.
    fn services() -> impl Iterator<Item = (&'static str, &'static str, Service)> {
        ROUTES.iter().flat_map(|route| {
            let methods = [("GET", route.read), ("POST", route.write), ("DELETE", route.delete)];
            methods.into_iter().filter_map(|(method, service)| Some((method, route.path.pattern(), service?)))
        })
    }

    #[test]
    fn every_route_has_its_right() {
        let found: Vec<(String, Right)> =
            services().map(|(method, path, service)| (format!("{method} {path}"), service.right)).collect();
        let found: Vec<(&str, Right)> = found.iter().map(|(line, right)| (line.as_str(), *right)).collect();
        assert_eq!(found, RIGHTS);
        for path in ["/publish", "/channels/a", "*"] {
            assert_eq!(find(path, Method::Options).map(|routed| routed.right), Ok(Right::Public), "{path}");
        }
    }

    /// What shows that a request may come from anybody.
    const SIGNS: [&str; 3] =
        ["Host: evil.example", "X-Forwarded-For: 203.0.113.9", "Origin: http://evil.example"];

    /// Whether a request with this right is refused for each of [`SIGNS`].
    fn refused_for(right: Right) -> [bool; 3] {
        match right {
            Right::Public | Right::Subscribe => [true, false, false],
            Right::OwnStream => [true, false, true],
            Right::Publish | Right::Manage => [true, true, true],
        }
    }

    /// Asks for every method of every route with every sign. Bodies are announced and never come.
    #[test]
    fn every_route_is_refused_exactly_what_its_right_forbids() {
        for ((method, pattern, _), (line, right)) in services().zip(RIGHTS) {
            let path = pattern.replace("{channel}", "a").replace("{clientId}", "x");
            for (sign, is_refused) in SIGNS.into_iter().zip(refused_for(*right)) {
                let host = if sign.starts_with("Host") { "" } else { "Host: localhost\r\n" };
                let text = format!("{method} {path} HTTP/1.1\r\n{host}{sign}\r\nContent-Length: 9\r\n\r\n");
                let decision = decide(&head(&text), &options(), ServerStatus::Ready);
                let refusal = decision.admission.err().map(|problem| problem.status());
                assert_eq!(refusal, is_refused.then_some(Status::FORBIDDEN), "{line}, {sign}");
                assert_eq!(decision.is_publish, *right == Right::Publish, "{line}");
            }
        }
    }
}
