//! Ends the ring's wait from other threads, by an eventfd that the ring polls.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use crate::base::mailbox::Wake;

/// An `eventfd(2)` that is only ever written. The ring's poll reports each write whatever the counter
/// is, so nobody reads it. At a billion writes a second the counter is full after centuries, and a full
/// one still reports.
#[derive(Debug)]
pub(super) struct EventFd(File);

impl EventFd {
    pub(super) fn new() -> io::Result<EventFd> {
        #[expect(unsafe_code, reason = "std has no call for eventfd")]
        // SAFETY: `eventfd(2)` takes two numbers and returns a new descriptor or -1.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        #[expect(unsafe_code, reason = "the kernel hands descriptors out as numbers")]
        // SAFETY: the descriptor is open, and was made above for nobody else (`eventfd(2)`).
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(EventFd(File::from(fd)))
    }

    pub(super) fn raw(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl Wake for EventFd {
    fn wake(&self) {
        // It fails only if the counter is full, after a wake-up that nobody could have missed
        // (`eventfd(2)`).
        let _ = (&self.0).write(&1_u64.to_ne_bytes());
    }
}
