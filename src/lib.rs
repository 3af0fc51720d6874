//! downpour: a Server-Sent-Events server that holds very many streams.

pub mod app;
pub mod base;
pub mod sse;
