//! downpour: a Server-Sent-Events server that holds very many streams, to be run by itself (the binary `downpour`) or
//! within an application:
//!
//! ```
//! use downpour::{ChannelName, Event, Server};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let any_port = [127, 0, 0, 1];
//! let server = Server::builder().listen((any_port, 0)).bind()?;
//! let handle = server.handle(); // For the application's own threads.
//! # handle.drain();
//! std::thread::spawn(move || {
//!     let news = ChannelName::parse("news").expect("it is not empty and has no spaces");
//!     while handle.publish([&news], &Event::new("hello")).is_ok() {}
//! });
//! server.run()?; // Until the handle, or a clone of it, has it drain.
//! # Ok(())
//! # }
//! ```
//!
//! [`Server`] sets one up and runs it, [`Handle`] publishes, counts and drains; `examples/embed.rs` is a whole
//! application. With `default-features = false` the crate has no command line, and about half as many dependencies.
//!
//! The modules are the floors that the server is built of. They are public for its tests and benches, and may change between
//! versions.

#[doc(hidden)]
pub mod api;
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod app;
#[doc(hidden)]
pub mod auth;
#[doc(hidden)]
pub mod base;
#[doc(hidden)]
pub mod conn;
#[doc(hidden)]
pub mod driver;
#[doc(hidden)]
pub mod frame;
#[doc(hidden)]
pub mod http;
#[doc(hidden)]
pub mod hub;
#[doc(hidden)]
pub mod log;
#[doc(hidden)]
pub mod record;
mod server;
#[doc(hidden)]
pub mod shard;
#[doc(hidden)]
pub mod sse;

pub use base::id::EventId;
pub use base::name::{ChannelName, NameError, UserId, UserIdError};
pub use frame::notice::KeepaliveStyle;
pub use server::{
    Batch, BatchError, Handle, Io, PublishError, Published, RunningServer, ServeError, Server, ServerBuilder,
    Target,
};
pub use sse::event::{Event, EventError};
