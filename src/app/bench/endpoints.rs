//! The endpoints of the server under load: URL templates, and the requests made from them.

use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};

use serde::{Deserialize, Serialize};

use super::template::{Placeholder, Template, Values};

/// A URL with placeholders in its path and query: plain HTTP over TCP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct UrlTemplate {
    /// As given.
    text: String,
    /// Host and port as given, for the `Host` header.
    authority: String,
    /// Path and query.
    resource: Template,
}

impl UrlTemplate {
    /// # Errors
    /// One clause that says what was expected.
    pub(super) fn parse(text: &str) -> Result<UrlTemplate, String> {
        const ALLOWED: &str = "a URL such as http://127.0.0.1:8080/sse?channel={channel} is expected, of printable ASCII without spaces";
        if text.starts_with("https://") {
            return Err("TLS is not spoken here, only plain http://".to_owned());
        }
        let rest = text.strip_prefix("http://").ok_or(ALLOWED)?;
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, resource) = rest.split_at(end);
        if authority.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') {
            return Err(ALLOWED.to_owned());
        }
        if authority.contains(['{', '@']) {
            return Err(
                "host and port must be given as they are: placeholders and passwords cannot be used in them"
                    .to_owned(),
            );
        }
        let slash = if resource.starts_with('/') { "" } else { "/" };
        let resource = Template::parse(&format!("{slash}{resource}"));
        if resource.has(Placeholder::Data) {
            return Err("{data} belongs into the body of a publish, not into a URL".to_owned());
        }
        Ok(UrlTemplate { text: text.to_owned(), authority: authority.to_owned(), resource })
    }

    /// Returns true if the URL depends on the channel.
    pub(super) fn names_channel(&self) -> bool {
        self.resource.has(Placeholder::Channel)
    }

    /// Looks the host up; prefers IPv4 addresses.
    pub(super) fn resolve(&self) -> io::Result<SocketAddr> {
        let has_port = self.authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let authority = if has_port { self.authority.clone() } else { format!("{}:80", self.authority) };
        let found: Vec<SocketAddr> = authority.to_socket_addrs()?.collect();
        let first = found.iter().find(|address| address.is_ipv4()).or(found.first());
        first.copied().ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the host has no address"))
    }
}

impl fmt::Display for UrlTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// One header that every request has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct HeaderTemplate(Template);

impl HeaderTemplate {
    /// # Errors
    /// One clause that says what was expected.
    pub(super) fn parse(text: &str) -> Result<HeaderTemplate, String> {
        const ALLOWED: &str = "a header such as 'Authorization: Bearer KEY' is expected";
        const OWN: [&str; 6] =
            ["host", "connection", "accept", "content-length", "content-type", "transfer-encoding"];
        let (name, value) = text.split_once(':').ok_or(ALLOWED)?;
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if name.is_empty() || !name.bytes().all(is_token) || value.contains(['\r', '\n', '\0']) {
            return Err(ALLOWED.to_owned());
        }
        if OWN.contains(&name.to_ascii_lowercase().as_str()) {
            return Err(format!("{name} is set by the command itself"));
        }
        Ok(HeaderTemplate(Template::parse(&format!("{name}: {}\r\n", value.trim()))))
    }
}

/// How the events of a request are joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum BatchFormat {
    /// Each on a line of its own.
    Ndjson,
    /// As the items of one JSON array.
    Array,
}

/// The parts of requests.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Endpoints {
    pub(super) subscribe_url: UrlTemplate,
    pub(super) publish_url: UrlTemplate,
    pub(super) publish_body: Template,
    pub(super) content_type: String,
    /// `None` if a request has one event.
    pub(super) batch_format: Option<BatchFormat>,
    pub(super) headers: Vec<HeaderTemplate>,
    /// Streams are requested by HTTP/1.0, so they come without chunked coding.
    pub(super) is_http10: bool,
}

impl Endpoints {
    /// Appends the request for a stream.
    pub(super) fn subscribe(&self, channel: &str, client: usize, out: &mut Vec<u8>) {
        let values = Values { channel, client, data: b"" };
        let version = if self.is_http10 { "HTTP/1.0" } else { "HTTP/1.1" };
        self.begin("GET", &self.subscribe_url, version, &values, out);
        out.extend_from_slice(b"Accept: text/event-stream\r\n\r\n");
    }

    /// Appends the head of a publish with a body of `body_bytes`. `values.data` is ignored.
    pub(super) fn publish_head(&self, values: &Values<'_>, body_bytes: usize, out: &mut Vec<u8>) {
        self.begin("POST", &self.publish_url, "HTTP/1.1", values, out);
        let head = format!("Content-Type: {}\r\nContent-Length: {body_bytes}\r\n\r\n", self.content_type);
        out.extend_from_slice(head.as_bytes());
    }

    /// Appends an event to the body of a publish, which [`Endpoints::end_body`] must end.
    pub(super) fn push_event(&self, values: &Values<'_>, body: &mut Vec<u8>) {
        if self.batch_format == Some(BatchFormat::Array) {
            body.push(if body.is_empty() { b'[' } else { b',' });
        }
        self.publish_body.render(values, body);
        if self.batch_format == Some(BatchFormat::Ndjson) {
            body.push(b'\n');
        }
    }

    /// Ends the body of a publish.
    pub(super) fn end_body(&self, body: &mut Vec<u8>) {
        if self.batch_format == Some(BatchFormat::Array) {
            body.push(b']');
        }
    }

    fn begin(&self, method: &str, url: &UrlTemplate, version: &str, values: &Values<'_>, out: &mut Vec<u8>) {
        out.extend_from_slice(method.as_bytes());
        out.push(b' ');
        url.resource.render(values, out);
        let line = format!(" {version}\r\nHost: {}\r\n", url.authority);
        out.extend_from_slice(line.as_bytes());
        for header in &self.headers {
            header.0.render(values, out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoints(body: &str, batch_format: Option<BatchFormat>) -> Endpoints {
        Endpoints {
            subscribe_url: UrlTemplate::parse("http://127.0.0.1:8080/sse?channel={channel}").unwrap(),
            publish_url: UrlTemplate::parse("http://localhost/p/{channel}").unwrap(),
            publish_body: Template::parse(body),
            content_type: "text/plain".to_owned(),
            batch_format,
            headers: vec![HeaderTemplate::parse("X-User:  u{client} ").unwrap()],
            is_http10: false,
        }
    }

    fn body(endpoints: &Endpoints, events: &[&str]) -> String {
        let mut body = Vec::new();
        for data in events {
            endpoints.push_event(&Values { channel: "c", client: 0, data: data.as_bytes() }, &mut body);
        }
        endpoints.end_body(&mut body);
        String::from_utf8(body).unwrap()
    }

    #[test]
    fn a_stream_is_asked_for_by_its_channel() {
        let mut out = Vec::new();
        let mut endpoints = endpoints("{data}", None);
        endpoints.subscribe("a", 3, &mut out);
        let rest = "Host: 127.0.0.1:8080\r\nX-User: u3\r\nAccept: text/event-stream\r\n\r\n";
        assert_eq!(out, format!("GET /sse?channel=a HTTP/1.1\r\n{rest}").into_bytes());
        endpoints.is_http10 = true;
        out.clear();
        endpoints.subscribe("a", 3, &mut out);
        assert_eq!(out, format!("GET /sse?channel=a HTTP/1.0\r\n{rest}").into_bytes());
    }

    #[test]
    fn a_publish_says_how_long_its_body_is() {
        let mut out = Vec::new();
        let values = Values { channel: "a", client: 1, data: b"" };
        endpoints("{data}", None).publish_head(&values, 12, &mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "POST /p/a HTTP/1.1\r\nHost: localhost\r\nX-User: u1\r\nContent-Type: text/plain\r\nContent-Length: 12\r\n\r\n"
        );
    }

    #[test]
    fn bodies_hold_one_event_or_many() {
        assert_eq!(body(&endpoints("<{data}>", None), &["a"]), "<a>");
        let item = r#"{"c":"{channel}","d":"{data}"}"#;
        assert_eq!(
            body(&endpoints(item, Some(BatchFormat::Ndjson)), &["a", "b"]),
            "{\"c\":\"c\",\"d\":\"a\"}\n{\"c\":\"c\",\"d\":\"b\"}\n"
        );
        assert_eq!(
            body(&endpoints(item, Some(BatchFormat::Array)), &["a", "b"]),
            r#"[{"c":"c","d":"a"},{"c":"c","d":"b"}]"#
        );
    }

    #[test]
    fn urls_are_plain_http_with_placeholders_behind_the_host() {
        let url = UrlTemplate::parse("http://[::1]:81?c={channel}").unwrap();
        assert_eq!((url.authority.as_str(), url.names_channel()), ("[::1]:81", true));
        assert_eq!(url.resolve().unwrap().to_string(), "[::1]:81");
        let url = UrlTemplate::parse("http://127.0.0.1").unwrap();
        assert_eq!(url.resolve().unwrap().to_string(), "127.0.0.1:80");
        for (text, problem) in [
            ("https://a/", "TLS"),
            ("127.0.0.1:8080/sse", "a URL such as"),
            ("http:///sse", "a URL such as"),
            ("http://a/b c", "without spaces"),
            ("http://a/#b", "a URL such as"),
            ("http://{channel}/", "placeholders"),
            ("http://a/{data}", "{data} belongs"),
        ] {
            let told = UrlTemplate::parse(text).unwrap_err();
            assert!(told.contains(problem), "{text}: {told}");
        }
    }

    #[test]
    fn headers_that_would_break_a_request_are_refused() {
        for text in ["X", ": v", "X Y: v", "X: a\r\nHost: b", "Content-Length: 3"] {
            assert!(HeaderTemplate::parse(text).is_err(), "{text}");
        }
    }
}
