//! What the client commands share: the server's address, the HTTP client, and the errors of both.
//!
//! Plain HTTP/1.1 without TLS and proxies. Each command defines its own requests and output.

use std::io;
use std::str::FromStr;
use std::time::Duration;

use serde::Deserialize;
use ureq::http::{StatusCode, Uri};
use ureq::{Agent, Body};

/// The address of a server, such as `http://127.0.0.1:8080`, optionally with the path of a proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerUrl(String);

impl ServerUrl {
    /// The URL of an endpoint; `path` begins with a slash.
    #[must_use]
    pub fn endpoint(&self, path: &str) -> String {
        format!("{}{path}", self.0)
    }
}

impl FromStr for ServerUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<ServerUrl, String> {
        const ALLOWED: &str = "a URL such as http://127.0.0.1:8080 is expected";
        let url = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let uri: Uri = url.parse().map_err(|_| ALLOWED.to_owned())?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => return Err("TLS is not spoken here, only plain http://".to_owned()),
            _ => return Err(ALLOWED.to_owned()),
        }
        if uri.host().is_none_or(str::is_empty) || uri.query().is_some() || url.contains('#') {
            return Err(format!("{ALLOWED}, without query or fragment"));
        }
        Ok(ServerUrl(url.trim_end_matches('/').to_owned()))
    }
}

/// Why a client command failed. The process exits with code 1.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No answer came.
    #[error("no answer from {url}")]
    NoAnswer {
        /// The URL of the request.
        url: String,
        /// The cause.
        source: io::Error,
    },
    /// The server refused the request.
    #[error("the server answered {status}{detail}")]
    Refused {
        /// The status.
        status: StatusCode,
        /// The server's explanation after a colon; may be empty.
        detail: String,
    },
    /// The answer is not an event stream.
    #[error("{url} is no event stream: its content type is {content_type}")]
    NotAStream {
        /// The URL of the request.
        url: String,
        /// The content type of the answer.
        content_type: String,
    },
    /// An event is longer than the client takes.
    #[error("the stream cannot be read on")]
    Undecodable(#[from] crate::sse::decode::DecodeError),
    /// Standard output could not be written.
    #[error("cannot write to standard output")]
    Output(#[source] io::Error),
}

impl ClientError {
    /// The error for a request to `url` that got no answer.
    pub(super) fn no_answer(url: &str, error: ureq::Error) -> ClientError {
        ClientError::NoAnswer { url: url.to_owned(), source: error.into_io() }
    }

    /// The error for an unexpected status. Reads the server's explanation.
    pub(super) fn refused(status: StatusCode, body: &mut Body) -> ClientError {
        let text =
            body.with_config().limit(REFUSAL_BYTES_MAX).lossy_utf8(true).read_to_string().unwrap_or_default();
        ClientError::refused_saying(status, &text, None)
    }

    /// As [`ClientError::refused`], for a body that was read; `published` is the number of events that
    /// were published before the refusal.
    pub(super) fn refused_saying(status: StatusCode, text: &str, published: Option<u64>) -> ClientError {
        let detail = match serde_json::from_str::<Problem>(text) {
            Ok(Problem { detail: Some(detail), .. }) => detail,
            Ok(Problem { title: Some(title), .. }) => title,
            Ok(Problem { .. }) => String::new(),
            Err(_) => text.lines().next().unwrap_or_default().to_owned(),
        };
        let mut detail = if detail.is_empty() { detail } else { format!(": {detail}") };
        if let Some(published) = published {
            detail.push_str(&format!(" (published before that: {published})"));
        }
        ClientError::Refused { status, detail }
    }
}

/// The two members of a problem (RFC 9457) that are shown.
#[derive(Deserialize)]
struct Problem {
    detail: Option<String>,
    title: Option<String>,
}

/// An HTTP client that follows up to `redirects_max` redirects and returns answers of every status.
pub(super) fn agent(redirects_max: u32) -> Agent {
    Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(redirects_max)
        .max_redirects_will_error(false)
        .proxy(None)
        .timeout_connect(Some(CONNECT_TIMEOUT))
        .user_agent(concat!("downpour/", env!("CARGO_PKG_VERSION")))
        .build()
        .into()
}

/// Longer than a handshake on a working network takes, with one lost packet.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The explanation of a refusal is shown to a person: a page is more than enough.
const REFUSAL_BYTES_MAX: u64 = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_joined_with_one_slash() {
        for (text, url) in [
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080/sse"),
            ("http://example.org/", "http://example.org/sse"),
            ("http://example.org/events/", "http://example.org/events/sse"),
            ("localhost:8080", "http://localhost:8080/sse"),
            ("http://[::1]:80", "http://[::1]:80/sse"),
        ] {
            assert_eq!(text.parse::<ServerUrl>().unwrap().endpoint("/sse"), url);
        }
    }

    #[test]
    fn what_is_no_plain_http_url_is_refused() {
        assert!("https://example.org".parse::<ServerUrl>().unwrap_err().contains("TLS"));
        for text in ["", "http://", "ftp://example.org", "http://a b", "http://a/?q=1", "http://a/#f"] {
            assert!(text.parse::<ServerUrl>().unwrap_err().contains("http://127.0.0.1:8080"), "{text}");
        }
    }
}
