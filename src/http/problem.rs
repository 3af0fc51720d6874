//! Error bodies: `application/problem+json` (RFC 9457).

use std::borrow::Cow;
use std::fmt::Write;
use std::time::Duration;

use super::error::RequestError;
use super::request::Method;
use super::response::Response;
use super::status::Status;
use super::uri::UriError;

/// An error as the client gets it: its status, and a sentence about what was wrong, where, and what was
/// expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    status: Status,
    detail: Cow<'static, str>,
    retry_after: Option<Duration>,
    allow: Option<&'static [Method]>,
    counts: Vec<(&'static str, u64)>,
}

impl Problem {
    /// A problem with any status.
    #[must_use]
    pub fn new(status: Status, detail: impl Into<Cow<'static, str>>) -> Problem {
        Problem { status, detail: detail.into(), retry_after: None, allow: None, counts: Vec::new() }
    }

    /// 400, for text that is malformed above the level of HTTP.
    #[must_use]
    pub fn bad_request(detail: impl Into<Cow<'static, str>>) -> Problem {
        Problem::new(Status::BAD_REQUEST, detail)
    }

    /// 404.
    #[must_use]
    pub fn not_found(detail: impl Into<Cow<'static, str>>) -> Problem {
        Problem::new(Status::NOT_FOUND, detail)
    }

    /// 405 with `Allow`, for a path that has other methods (RFC 9110 15.5.6).
    #[must_use]
    pub fn method_not_allowed(method: Method, allow: &'static [Method]) -> Problem {
        let detail = format!("{} is not allowed here; expected {}", method.as_str(), list(allow));
        Problem { allow: Some(allow), ..Problem::new(Status::METHOD_NOT_ALLOWED, detail) }
    }

    /// 503 with `Retry-After`.
    #[must_use]
    pub fn unavailable(detail: impl Into<Cow<'static, str>>, retry_after: Duration) -> Problem {
        Problem::new(Status::SERVICE_UNAVAILABLE, detail).with_retry_after(retry_after)
    }

    /// 429 with `Retry-After`.
    #[must_use]
    pub fn too_many(detail: impl Into<Cow<'static, str>>, retry_after: Duration) -> Problem {
        Problem::new(Status::TOO_MANY_REQUESTS, detail).with_retry_after(retry_after)
    }

    /// Adds `Retry-After`, in whole seconds, rounded up and at least 1, so that no client returns too
    /// early.
    #[must_use]
    pub fn with_retry_after(mut self, retry_after: Duration) -> Problem {
        self.retry_after = Some(retry_after);
        self
    }

    /// Adds a member with a number to the body (RFC 9457 3.2), for example how many events were
    /// published before the error. `name` must need no JSON escapes.
    #[must_use]
    pub fn with_count(mut self, name: &'static str, count: u64) -> Problem {
        self.counts.push((name, count));
        self
    }

    /// The status.
    #[must_use]
    pub fn status(&self) -> Status {
        self.status
    }

    /// What was wrong, where, and what was expected.
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// The response with this problem as its body.
    #[must_use]
    pub fn into_response(self) -> Response<'static> {
        let detail = serde_json::Value::from(&*self.detail); // `Display` writes JSON with its escapes.
        let mut body = format!(
            r#"{{"type":"about:blank","title":"{}","status":{},"detail":{detail}"#,
            self.status.reason(),
            self.status.code(),
        );
        for (name, count) in &self.counts {
            // Writing to a String does not fail.
            let _ = write!(body, r#","{name}":{count}"#);
        }
        body.push('}');
        let mut response = Response::new(self.status, "application/problem+json", body.into_bytes());
        if let Some(allow) = self.allow {
            response = response.with_header("Allow", list(allow));
        }
        if let Some(retry_after) = self.retry_after {
            let seconds = retry_after.as_secs() + u64::from(retry_after.subsec_nanos() > 0);
            response = response.with_header("Retry-After", seconds.max(1).to_string());
        }
        response
    }
}

fn list(methods: &[Method]) -> String {
    methods.iter().map(|method| method.as_str()).collect::<Vec<_>>().join(", ")
}

impl From<RequestError> for Problem {
    fn from(error: RequestError) -> Problem {
        Problem::new(error.status(), error.to_string())
    }
}

impl From<UriError> for Problem {
    fn from(error: UriError) -> Problem {
        Problem::bad_request(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{ResponseContext, Version, http_date};
    use super::*;
    use std::time::SystemTime;

    fn encode(problem: Problem) -> String {
        let date = http_date(SystemTime::UNIX_EPOCH);
        let context = ResponseContext { version: Version::Http11, persistent: true, head_only: false, date };
        let mut out = Vec::new();
        problem.into_response().encode(&mut out, &context);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_problem_is_json_whatever_its_detail_quotes() {
        let problem = Problem::bad_request("bad \"x\"\n\u{1}ü").with_count("published", 3);
        let response = problem.into_response();
        let body: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
        let expected = serde_json::json!({
            "type": "about:blank", "title": "Bad Request", "status": 400,
            "detail": "bad \"x\"\n\u{1}ü", "published": 3,
        });
        assert_eq!(body, expected);
    }

    #[test]
    fn the_members_come_in_the_order_of_the_contract() {
        let text = encode(Problem::not_found("no such client"));
        assert!(text.starts_with("HTTP/1.1 404 Not Found\r\n"));
        assert!(text.contains("\r\nContent-Type: application/problem+json\r\n"));
        assert!(text.ends_with(
            r#"{"type":"about:blank","title":"Not Found","status":404,"detail":"no such client"}"#
        ));
    }

    #[test]
    fn allow_and_retry_after_are_headers() {
        let text = encode(Problem::method_not_allowed(Method::Put, &[Method::Get, Method::Head]));
        assert!(text.contains("\r\nAllow: GET, HEAD\r\n") && text.contains("PUT is not allowed here"));
        for (millis, seconds) in [(0, 1), (1, 1), (1000, 1), (1001, 2)] {
            let text = encode(Problem::unavailable("draining", Duration::from_millis(millis)));
            assert!(text.contains(&format!("\r\nRetry-After: {seconds}\r\n")));
        }
    }

    #[test]
    fn errors_of_requests_keep_their_status_and_their_words() {
        let problem = Problem::from(RequestError::HeadTooLong { limit_bytes: 16384 });
        assert_eq!(problem.status(), Status::REQUEST_HEADER_FIELDS_TOO_LARGE);
        assert_eq!(problem.detail(), "the request head is longer than 16384 bytes");
        let problem = Problem::from(UriError::BadEscape { part: "query", at: 3 });
        assert_eq!(problem.status(), Status::BAD_REQUEST);
    }
}
