//! Who may do what (section "Who may do what" of the contract). It checks the `Host` of a request, the
//! proxy that forwarded it, and the web page that sent it, if any.

use std::net::IpAddr;

use super::error::quoted;
use super::{ApiOptions, Reach};
use crate::auth::{Permission, Right};
use crate::http::{Known, Problem, ProxyHeader, RequestHead, Status};

/// Decides whether a request has the right that its route needs, by its head, its listener and the
/// configuration. Returns what the request may do.
///
/// # Errors
/// 403 for a foreign `Host`, for a request that publishes or manages through a proxy, and for one that
/// publishes, manages or changes a stream for a web page of a foreign origin.
pub(super) fn permit(right: Right, head: &RequestHead, options: &ApiOptions) -> Result<Permission, Problem> {
    check_host(head, options)?;
    match right {
        Right::Public | Right::Subscribe => {}
        Right::OwnStream => check_origin(head, options)?, // No page of a foreign origin has a stream.
        Right::Publish | Right::Manage => {
            check_proxy(head, options)?;
            check_origin(head, options)?;
        }
    }
    Ok(Permission::everything())
}

/// Refuses a request to a loopback listener whose `Host` is neither a loopback name nor given by
/// `--host`. Otherwise a web page whose name resolves to this machine could read and publish through its
/// visitor's browser (DNS rebinding). A request without `Host` comes from no browser. An empty one names
/// no host (RFC 9110 4.2.1).
fn check_host(head: &RequestHead, options: &ApiOptions) -> Result<(), Problem> {
    let Some(host) = head.header(Known::Host)? else { return Ok(()) };
    match options.reach {
        Reach::Unix => return Ok(()),
        Reach::Loopback if !options.hosts.any => {}
        Reach::Loopback | Reach::Network if host.is_empty() => {
            return Err(Problem::bad_request("Host: found nothing, expected a name or an address"));
        }
        Reach::Loopback | Reach::Network => return Ok(()),
    }
    let (name, _) = split_port(host);
    if is_loopback(name) || options.hosts.contain(name) {
        return Ok(());
    }
    let detail = format!(
        "this listener is reached by loopback names and addresses alone, not by {}; allow a name with --host NAME",
        quoted(host)
    );
    Err(Problem::new(Status::FORBIDDEN, detail))
}

/// Refuses a request that publishes or manages and was forwarded by a proxy: on a loopback listener,
/// every client of the proxy would count as a client on this machine.
fn check_proxy(head: &RequestHead, options: &ApiOptions) -> Result<(), Problem> {
    match head.proxy_header() {
        Some(header) if !options.is_insecure => Err(through_proxy(header)),
        Some(_) | None => Ok(()),
    }
}

/// Refuses a stream that names its user on a listener where anyone could name any user.
pub(super) fn check_user(
    head: &RequestHead,
    options: &ApiOptions,
    parameter: &'static str,
) -> Result<(), Problem> {
    if options.trusts_user_parameter {
        return Ok(());
    }
    if options.reach == Reach::Network {
        let detail = format!(
            "`{parameter}`: on a listener that other machines reach nobody may name a user, unless \
             --trust-user-parameter is given"
        );
        return Err(Problem::new(Status::FORBIDDEN, detail));
    }
    check_proxy(head, options)
}

fn through_proxy(header: ProxyHeader) -> Problem {
    let detail = format!(
        "the request came through a proxy, as its {} says, and so may come from anybody: publishing and managing need \
         --publish-key, and naming a user --trust-user-parameter",
        header.name()
    );
    Problem::new(Status::FORBIDDEN, detail)
}

/// Refuses a request that publishes or manages for a web page of a foreign origin. The server's own
/// origins are that of the request's `Host`, and each name of `--host` on the usual port of its scheme
/// (RFC 6454 7, Fetch 3.1).
fn check_origin(head: &RequestHead, options: &ApiOptions) -> Result<(), Problem> {
    match head.header(Known::Origin)? {
        Some(origin) if !is_own(origin, head.header(Known::Host)?.unwrap_or(""), options) => {
            let detail = format!(
                "web pages of the origin {} may not publish or manage; only the server's own may, and those whose host is \
                 named with --host NAME",
                quoted(origin)
            );
            Err(Problem::new(Status::FORBIDDEN, detail))
        }
        Some(_) | None => Ok(()),
    }
}

fn is_own(origin: &str, host: &str, options: &ApiOptions) -> bool {
    let Some((scheme, authority)) = origin.split_once("://") else {
        return false; // `null`, the origin of every sandboxed page.
    };
    let usual_port = if scheme.eq_ignore_ascii_case("http") {
        80
    } else if scheme.eq_ignore_ascii_case("https") {
        443
    } else {
        return false;
    };
    let (name, port) = split_port(authority);
    let port = port.unwrap_or(usual_port);
    let (host_name, host_port) = split_port(host);
    let is_hosts = same_host(name, host_name) && port == host_port.unwrap_or(usual_port);
    !name.is_empty() && (is_hosts || (port == usual_port && options.hosts.contain(name)))
}

/// The names of the server, besides those of loopback.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hosts {
    /// `Host` may have any name. This does not make any web page the server's own.
    pub any: bool,
    /// Names and addresses, without a port.
    pub names: Vec<String>,
}

impl Hosts {
    fn contain(&self, name: &str) -> bool {
        self.names.iter().any(|own| same_host(own, name))
    }
}

/// Splits an authority into host and port. An invalid port stays part of the host, which then matches
/// nothing.
fn split_port(authority: &str) -> (&str, Option<u16>) {
    // An authority is short, so a search over several bytes at once takes longer.
    let Some(colon) = authority.bytes().rposition(|byte| byte == b':') else { return (authority, None) };
    match (&authority[..colon], &authority[colon + 1..]) {
        (host, "") => (host, None),
        (host, port) if port.bytes().all(|byte| byte.is_ascii_digit()) => match port.parse() {
            Ok(port) => (host, Some(port)),
            Err(_) => (authority, None),
        },
        (_, _) => (authority, None),
    }
}

/// Compares names without regard to case and to a trailing dot, and addresses by value.
fn same_host(one: &str, other: &str) -> bool {
    match (address(one), address(other)) {
        (Some(one), Some(other)) => one == other,
        (None, None) => bare(one).eq_ignore_ascii_case(bare(other)),
        (Some(_), None) | (None, Some(_)) => false,
    }
}

/// Returns true if `host` is a loopback address, `localhost`, or a name below it (RFC 6761 6.3).
#[must_use]
pub fn is_loopback(host: &str) -> bool {
    if matches!(host, LOCALHOST | "127.0.0.1") {
        return true; // Most requests have one of these two.
    }
    if let Some(address) = address(host) {
        return address.is_loopback();
    }
    let name = bare(host);
    let below = name.len().checked_sub(LOCALHOST.len()).and_then(|at| name.split_at_checked(at));
    below.is_some_and(|(below, name)| {
        name.eq_ignore_ascii_case(LOCALHOST) && (below.is_empty() || below.ends_with('.'))
    })
}

const LOCALHOST: &str = "localhost";

fn address(host: &str) -> Option<IpAddr> {
    let inner = host.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(host);
    // Most hosts are names. An address parser rejects them only after it has tried every form.
    if !inner.starts_with(|first: char| first.is_ascii_hexdigit() || first == ':') {
        return None;
    }
    inner.parse().ok().map(|address: IpAddr| address.to_canonical())
}

fn bare(name: &str) -> &str {
    name.strip_suffix('.').unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{head, options};
    use super::*;

    fn with_hosts(names: &[&str]) -> ApiOptions {
        let hosts = Hosts { any: false, names: names.iter().map(|&name| name.to_owned()).collect() };
        ApiOptions { hosts, ..options() }
    }

    fn host_status(host: &str, options: &ApiOptions) -> Option<Status> {
        let head = head(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        check_host(&head, options).err().map(|problem| problem.status())
    }

    #[test]
    fn loopback_is_reached_by_its_own_names() {
        for host in [
            "localhost",
            "LOCALHOST:8080",
            "localhost.",
            "app.localhost:1",
            "127.0.0.1",
            "127.9.9.9:80",
            "[::1]",
            "[::1]:8080",
            "[::ffff:127.0.0.1]:1",
            "localhost:",
        ] {
            assert_eq!(host_status(host, &options()), None, "{host:?}");
        }
        for host in
            ["", "evil.example", "localhost.evil.example", "notlocalhost", "0.0.0.0", "10.0.0.1:80", "[::]"]
        {
            assert_eq!(host_status(host, &options()), Some(Status::FORBIDDEN), "{host:?}");
        }
    }

    #[test]
    fn a_request_without_host_comes_from_no_browser() {
        assert!(check_host(&head("GET / HTTP/1.0\r\n\r\n"), &options()).is_ok());
    }

    #[test]
    fn an_empty_host_is_no_name_whatever_names_are_allowed() {
        let any = ApiOptions { hosts: Hosts { any: true, names: vec![] }, ..options() };
        let network = ApiOptions { reach: Reach::Network, ..options() };
        let unix = ApiOptions { reach: Reach::Unix, ..options() };
        assert_eq!(host_status("", &with_hosts(&["events.example"])), Some(Status::FORBIDDEN));
        assert_eq!(host_status("", &any), Some(Status::BAD_REQUEST));
        assert_eq!(host_status("", &network), Some(Status::BAD_REQUEST));
        assert_eq!(host_status("", &unix), None);
    }

    #[test]
    fn forwarded_requests_are_refused_by_any_proxy_header_whatever_its_value() {
        for field in [
            "X-Forwarded-For: 127.0.0.1",
            "x-real-ip: 10.0.0.1",
            "Forwarded:",
            "VIA: 1.1 nginx",
            "X-Forwarded-For:",
        ] {
            let head = head(&format!("POST /publish HTTP/1.1\r\nHost: localhost\r\n{field}\r\n\r\n"));
            let problem = check_proxy(&head, &options()).unwrap_err();
            assert_eq!(problem.status(), Status::FORBIDDEN, "{field}");
            for named in ["--publish-key", "--trust-user-parameter"] {
                assert!(problem.detail().contains(named), "{}", problem.detail());
            }
            let unix = ApiOptions { reach: Reach::Unix, ..options() };
            assert!(check_proxy(&head, &unix).is_err(), "{field}");
            let insecure = ApiOptions { is_insecure: true, ..options() };
            assert!(check_proxy(&head, &insecure).is_ok(), "{field}");
            let trusting = ApiOptions { trusts_user_parameter: true, ..options() };
            assert!(check_proxy(&head, &trusting).is_err(), "{field}");
            assert!(check_user(&head, &options(), "userId").is_err(), "{field}");
            assert!(check_user(&head, &insecure, "userId").is_ok(), "{field}");
            assert!(check_user(&head, &trusting, "userId").is_ok(), "{field}");
        }
        for field in ["X-Forwarded-Proto: https", "X-Forwarded-Host: a", "Forwarder: x", "Vie: x"] {
            let head = head(&format!("POST /publish HTTP/1.1\r\nHost: localhost\r\n{field}\r\n\r\n"));
            assert!(check_proxy(&head, &options()).is_ok(), "{field}");
        }
    }

    #[test]
    fn other_names_are_allowed_by_option_and_the_refusal_names_it() {
        let named = with_hosts(&["events.example", "::2"]);
        assert_eq!(host_status("Events.Example:8080", &named), None);
        assert_eq!(host_status("[0::2]:8080", &named), None);
        assert_eq!(host_status("other.example", &named), Some(Status::FORBIDDEN));
        let any = ApiOptions { hosts: Hosts { any: true, names: vec![] }, ..options() };
        assert_eq!(host_status("other.example", &any), None);
        for reach in [Reach::Network, Reach::Unix] {
            assert_eq!(host_status("other.example", &ApiOptions { reach, ..options() }), None);
        }

        let network = ApiOptions { reach: Reach::Network, ..options() };
        let unix = ApiOptions { reach: Reach::Unix, ..options() };
        for (options, expected) in
            [(&any, Some(Status::BAD_REQUEST)), (&network, Some(Status::BAD_REQUEST)), (&unix, None)]
        {
            assert_eq!(host_status("", options), expected, "an empty one, {:?}", options.reach);
        }

        let head = head("GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n");
        let problem = check_host(&head, &options()).unwrap_err();
        assert!(problem.detail().contains("--host") && problem.detail().contains("\"evil.example\""));
    }

    fn origin_status(origin: &str, host: &str, options: &ApiOptions) -> Option<Status> {
        let head = head(&format!("POST /publish HTTP/1.1\r\nHost: {host}\r\nOrigin: {origin}\r\n\r\n"));
        check_origin(&head, options).err().map(|problem| problem.status())
    }

    #[test]
    fn pages_of_the_servers_own_origin_may_publish() {
        let named = with_hosts(&["events.example"]);
        for (origin, host) in [
            ("http://localhost:8080", "localhost:8080"),
            ("http://LOCALHOST:8080", "localhost:8080"),
            ("http://a.example", "a.example"),
            ("http://a.example:80", "a.example"),
            ("https://a.example", "a.example:443"),
            ("http://[::1]:1", "[0::1]:1"),
            ("https://events.example", "127.0.0.1:8080"),
        ] {
            assert_eq!(origin_status(origin, host, &named), None, "{origin} {host}");
        }
        let head = head("POST /publish HTTP/1.1\r\nHost: a\r\n\r\n");
        assert!(check_origin(&head, &options()).is_ok());
    }

    #[test]
    fn pages_of_other_origins_may_not() {
        let named =
            ApiOptions { hosts: Hosts { any: true, names: vec!["events.example".to_owned()] }, ..options() };
        for (origin, host) in [
            ("null", "localhost"),
            ("", "localhost"),
            ("http://", ""),
            ("http://evil.example", "localhost"),
            ("http://localhost:3000", "localhost:8080"),
            ("http://localhost", "localhost:8080"),
            ("https://localhost", "localhost:80"),
            ("ftp://localhost", "localhost"),
            ("http://localhost http://evil.example", "localhost"),
            ("http://events.example:8080", "127.0.0.1:8080"),
            ("http://127.0.0.1:8080", "localhost:8080"),
        ] {
            assert_eq!(origin_status(origin, host, &named), Some(Status::FORBIDDEN), "{origin} {host}");
        }
    }
}
