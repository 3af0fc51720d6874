//! Properties of what lies between a publisher and a socket: the code agrees with models too naive to be wrong, and the codec
//! with vectors.
//!
//! Everything goes through the public API.

mod changes;
mod clients;
mod coding;
mod hub;
mod outbox;
mod records;
mod reported;
mod retained;
mod sse;
mod stream;
mod vectors;
mod wire;
mod world;
