//! Floor 1: HTTP/1.1 (RFC 9110, RFC 9112) without sockets, clock or randomness.
//!
//! The bytes of a peer become a [`RequestHead`] and body data, or a [`RequestError`] with its status. A
//! [`Response`] or [`Problem`] becomes bytes. The floors above decide what a path means, who may request
//! it, and when a peer is too slow.

mod authority;
mod body;
mod error;
mod fields;
mod head;
mod negotiate;
mod problem;
mod request;
mod response;
mod status;
mod target;
mod uri;

#[cfg(test)]
mod hostile;
#[cfg(test)]
mod properties;

pub use body::BodyDecoder;
pub use error::RequestError;
pub use head::{HeadScanner, parse};
pub use negotiate::{MediaType, accepts_event_stream};
pub use problem::Problem;
pub use request::{BodyFraming, Known, Method, ProxyHeader, RequestHead, Version};
pub use response::{CONTINUE, HttpDate, Response, ResponseContext, http_date, stream_head};
pub use status::Status;
pub use uri::{Pairs, Segments, UriError, decode_path, pairs, segments};
