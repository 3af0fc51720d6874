//! Properties of what lies between a publisher and a socket: the code agrees with models too naive to be wrong.
//!
//! Everything goes through the public API. The codec's properties stand in `tests/properties_sse.rs`.

mod hub;
mod outbox;
mod records;
mod retained;
mod stream;
mod wire;
mod world;
