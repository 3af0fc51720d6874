//! downpour: a Server-Sent-Events server that holds very many streams.

pub mod base;
pub mod driver;
pub mod sse;
