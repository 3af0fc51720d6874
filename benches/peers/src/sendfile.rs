//! The bare loop with `sendfile()` from a memory file: the kernel refers to the file's pages instead of
//! copying them.

use std::fs::File;
use std::io::{self, Write};
use std::net::TcpStream;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// The frames as a file.
pub(crate) struct MemoryFile {
    file: File,
    len: usize,
}

impl MemoryFile {
    #[expect(unsafe_code, reason = "the standard library makes no memory files")]
    pub(crate) fn new() -> io::Result<MemoryFile> {
        // SAFETY: the name is a string that ends with NUL.
        let descriptor = unsafe { libc::memfd_create(c"frames".as_ptr(), libc::MFD_CLOEXEC) };
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just made it, and nobody else has it.
        let descriptor = unsafe { OwnedFd::from_raw_fd(descriptor) };
        Ok(MemoryFile { file: File::from(descriptor), len: 0 })
    }

    /// Sends the first bytes of the file, which are `frames`, to each of the sockets.
    pub(crate) fn send_all(&mut self, streams: &mut [TcpStream], frames: &[u8]) -> io::Result<()> {
        if self.len < frames.len() {
            self.file.write_all(&frames[self.len..])?; // All frames are the same, so shorter ones are a prefix.
            self.len = frames.len();
        }
        streams.iter().try_for_each(|stream| self.send(stream, frames.len()))
    }

    #[expect(unsafe_code, reason = "the standard library has no sendfile")]
    fn send(&self, stream: &TcpStream, len: usize) -> io::Result<()> {
        let mut offset: libc::off_t = 0;
        let mut left = len;
        while left > 0 {
            // SAFETY: both descriptors are open, and `offset` is a variable of this function.
            let sent =
                unsafe { libc::sendfile(stream.as_raw_fd(), self.file.as_raw_fd(), &raw mut offset, left) };
            match usize::try_from(sent) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(sent) => left -= sent,
                Err(_) => return Err(io::Error::last_os_error()),
            }
        }
        Ok(())
    }
}
