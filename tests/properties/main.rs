//! Properties of what lies between a publisher and a socket: the code agrees with models too naive to be wrong, and the codec
//! with vectors.
//!
//! Everything goes through the public API.

mod changes;
mod coding;
mod hub;
mod outbox;
mod records;
mod retained;
mod sse;
mod stream;
mod told;
mod vectors;
mod wire;
mod world;
