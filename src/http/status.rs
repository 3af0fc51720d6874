//! Status codes and their reason phrases (RFC 9110 15, RFC 6585).

use std::fmt;

/// The status of a response. It is one of the constants below, so that each has its reason phrase.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Status(u16);

macro_rules! statuses {
    ($($name:ident = $code:literal $reason:literal),+ $(,)?) => {
        impl Status {
            $(
                #[doc = concat!("`", stringify!($code), " ", $reason, "`")]
                pub const $name: Status = Status($code);
            )+

            /// The reason phrase, which is also the title of a problem.
            #[must_use]
            pub const fn reason(self) -> &'static str {
                match self.0 {
                    $($code => $reason,)+
                    _ => "",
                }
            }

            /// The status line with its line end. It has the server's version, whatever the request's
            /// was (RFC 9110 6.2).
            pub(super) const fn line(self) -> &'static str {
                match self.0 {
                    $($code => concat!("HTTP/1.1 ", stringify!($code), " ", $reason, "\r\n"),)+
                    _ => "",
                }
            }
        }

        #[cfg(test)]
        const ALL: &[Status] = &[$(Status::$name),+];
    };
}

statuses! {
    OK = 200 "OK",
    ACCEPTED = 202 "Accepted",
    NO_CONTENT = 204 "No Content",
    NOT_MODIFIED = 304 "Not Modified",
    BAD_REQUEST = 400 "Bad Request",
    UNAUTHORIZED = 401 "Unauthorized",
    FORBIDDEN = 403 "Forbidden",
    NOT_FOUND = 404 "Not Found",
    METHOD_NOT_ALLOWED = 405 "Method Not Allowed",
    NOT_ACCEPTABLE = 406 "Not Acceptable",
    REQUEST_TIMEOUT = 408 "Request Timeout",
    CONFLICT = 409 "Conflict",
    CONTENT_TOO_LARGE = 413 "Content Too Large",
    URI_TOO_LONG = 414 "URI Too Long",
    UNSUPPORTED_MEDIA_TYPE = 415 "Unsupported Media Type",
    EXPECTATION_FAILED = 417 "Expectation Failed",
    TOO_MANY_REQUESTS = 429 "Too Many Requests",
    REQUEST_HEADER_FIELDS_TOO_LARGE = 431 "Request Header Fields Too Large",
    INTERNAL_SERVER_ERROR = 500 "Internal Server Error",
    NOT_IMPLEMENTED = 501 "Not Implemented",
    SERVICE_UNAVAILABLE = 503 "Service Unavailable",
    VERSION_NOT_SUPPORTED = 505 "HTTP Version Not Supported",
}

impl Status {
    /// The three digits as a number.
    #[must_use]
    pub const fn code(self) -> u16 {
        self.0
    }

    /// Returns true if the status is an error (RFC 9110 15.5, 15.6).
    #[must_use]
    pub const fn is_error(self) -> bool {
        self.0 >= 400
    }

    /// Returns true if and only if a response with this status has no body and no `Content-Length` (RFC
    /// 9110 8.6).
    #[must_use]
    pub const fn is_bodiless(self) -> bool {
        self.0 == 204 || self.0 == 304
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.0, self.reason())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_a_reason_and_a_line_that_agree() {
        for status in ALL {
            assert!(!status.reason().is_empty());
            assert_eq!(status.line(), format!("HTTP/1.1 {status}\r\n"));
        }
    }
}
