//! Shared by the tests over real sockets: the built binary as a server, a raw HTTP client, and a reader
//! of event streams.
//!
//! Every wait is for a condition and bounded by [`PATIENCE`]. A server is killed by its process id, even
//! if its test fails.

#![allow(dead_code, unused_imports, unused_macros, reason = "each test file uses a part of this")]

mod client;
mod drivers;
mod server;
mod stream;

use std::time::{Duration, Instant};

use downpour::base::id::EventId;

pub(crate) use client::{Answer, Client, exchange, wire};
pub(crate) use drivers::{DriverKind, for_each_driver};
pub(crate) use server::{MIB, Memory, Server, process, serve_command};
pub(crate) use stream::{EventStream, Seen};

/// How long a test waits for anything before it fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until `probe` returns a value, and returns it.
pub(crate) fn wait_for<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Replaces the parts of a text that differ from run to run: dates become `*`, ids of events `#` and
/// their number, ids of clients `<client>`.
pub(crate) fn masked(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        if let Some(after) = rest.strip_prefix("\r\nDate: ")
            && let Some((date, behind)) = after.split_once("\r\n")
            && date.len() == 29
            && date.ends_with(" GMT")
        {
            out.push_str("\r\nDate: *\r\n");
            rest = behind;
        } else if let Some(id) = rest.get(..EventId::WIDTH).and_then(|text| EventId::parse(text.as_bytes())) {
            out.push_str(&format!("#{}", id.sequence.0));
            rest = &rest[EventId::WIDTH..];
        } else if let Some(bytes) = client_id_bytes(rest) {
            out.push_str("<client>");
            rest = &rest[bytes..];
        } else {
            out.push(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    out
}

/// The length of the client id at the start of `text`: 32 hexadecimal digits, and two numbers behind
/// hyphens.
fn client_id_bytes(text: &str) -> Option<usize> {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_hexdigit).count();
    let secret = digits(text);
    let shard = digits(text.get(secret..)?.strip_prefix('-')?);
    let slot = digits(text.get(secret + 1 + shard..)?.strip_prefix('-')?);
    (secret == 32 && shard > 0 && slot > 0).then_some(secret + shard + slot + 2)
}

/// The sequence number in an event's id.
pub(crate) fn number(id: &str) -> u64 {
    EventId::parse(id.as_bytes()).unwrap_or_else(|| panic!("{id:?} is not an id of the server's")).sequence.0
}

/// A small seeded generator (SplitMix64), so that a test's choices can be repeated.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (bits ^ (bits >> 31)) % bound
    }
}
