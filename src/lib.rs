//! downpour: a Server-Sent-Events server that holds very many streams.

pub mod api;
pub mod app;
pub mod auth;
pub mod base;
pub mod conn;
pub mod driver;
pub mod frame;
pub mod http;
pub mod hub;
pub mod log;
pub mod shard;
pub mod sse;
