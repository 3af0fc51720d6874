//! The fixed bounds of the process, and the relations between them.
//!
//! Bounds that an operator chooses (`--max-body`, `--queue-bytes` …) belong to the configuration, not
//! here.

use super::id::EventId;
use super::name::CHANNEL_NAME_BYTES_MAX;

/// Most bytes of a request's head, from its first byte to the blank line's end. More is answered with 431.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Most header fields of a request. More is answered with 431.
pub const HEADERS_MAX: usize = 100;

/// Most bytes of a request's target (path and query). More is answered with 414.
pub const TARGET_BYTES_MAX: usize = 8 * 1024;

/// Most bytes of one chunk's size line, extensions included. More is answered with 400.
pub const CHUNK_LINE_BYTES_MAX: usize = 1024;

/// Most bytes of a chunked body's trailers. More is answered with 400.
pub const TRAILER_BYTES_MAX: usize = 8 * 1024;

/// Most bytes of an event's type. More is answered with 400.
pub const EVENT_TYPE_BYTES_MAX: usize = 256;

/// Most bytes of an event's id. More is answered with 400.
pub const EVENT_ID_BYTES_MAX: usize = 256;

/// Most bytes of a conflation key. More is answered with 400.
pub const EVENT_KEY_BYTES_MAX: usize = 256;

/// Most bytes of an idempotency key. More is answered with 400.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 255;

/// Most channels of one event. More is answered with 400. The bound matters since each channel is
/// compared with the others.
pub const EVENT_CHANNELS_MAX: usize = 128;

/// Most bytes of an id that the server makes, as its contract promises.
pub const SERVER_ID_BYTES_MAX: usize = 40;

/// Bytes of the one buffer that a driver reads into, shared by all its connections.
pub const READ_BUFFER_BYTES: usize = 64 * 1024;

/// Most completions that a driver hands over for one wait, so that timers and the mailbox get their turn.
pub const COMPLETIONS_PER_WAIT_MAX: usize = 1024;

/// Most slices of one vectored send. Adjacent frames share a slice, so more rarely wait. The kernel
/// takes at most 1024 (`sendmsg(2)`, `EMSGSIZE`).
pub const SEND_SLICES_MAX: usize = 64;

/// Most connections that a driver accepts in one wait, so that many newcomers do not starve the streams.
pub const ACCEPTS_PER_WAIT_MAX: usize = 64;

const _: () = assert!(EventId::WIDTH <= SERVER_ID_BYTES_MAX, "ids are as short as promised");
const _: () = assert!(SERVER_ID_BYTES_MAX <= EVENT_ID_BYTES_MAX, "a server's id is an id");
const _: () = assert!(TARGET_BYTES_MAX < HEAD_BYTES_MAX, "a target that is too long is told as 414, not 431");
const _: () = assert!(
    3 * (CHANNEL_NAME_BYTES_MAX + EVENT_ID_BYTES_MAX + EVENT_TYPE_BYTES_MAX + EVENT_KEY_BYTES_MAX)
        < TARGET_BYTES_MAX,
    "the longest names fit a target, percent-encoded"
);
const _: () = assert!(HEAD_BYTES_MAX <= READ_BUFFER_BYTES, "the longest head can come in one read");
const _: () = assert!(ACCEPTS_PER_WAIT_MAX < COMPLETIONS_PER_WAIT_MAX, "accepts leave room for the streams");
