//! Floor 1: `text/event-stream` (WHATWG HTML 9.2) as text, without HTTP, sockets or time. Imports `base`.

pub mod decode;
pub mod encode;
pub mod event;
