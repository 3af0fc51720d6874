//! downpour: a Server-Sent-Events server that holds very many streams.

pub mod base;
pub mod http;
pub mod sse;
