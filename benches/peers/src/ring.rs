//! The bare loop over io_uring: sends in batches of one submit.

use std::io;
use std::net::TcpStream;
use std::os::fd::AsRawFd;

use io_uring::{IoUring, opcode, types};

/// Sends of one submit.
const LOT: usize = 128;

/// A ring that sends.
pub(crate) struct Ring {
    uring: IoUring,
}

impl Ring {
    pub(crate) fn new() -> io::Result<Ring> {
        let mut builder = IoUring::builder();
        builder.setup_single_issuer().setup_defer_taskrun().setup_submit_all();
        Ok(Ring { uring: builder.build(256)? })
    }

    /// Sends the same bytes to each of the sockets. Returns when the kernel has taken all of them.
    pub(crate) fn send_all(&mut self, streams: &mut [TcpStream], frames: &[u8]) -> io::Result<()> {
        let len = u32::try_from(frames.len()).map_err(io::Error::other)?;
        for lot in streams.chunks(LOT) {
            self.push_lot(lot, frames, len)?;
            self.reap_lot(lot.len(), len)?;
        }
        Ok(())
    }

    #[expect(unsafe_code, reason = "the kernel is handed a place in memory")]
    fn push_lot(&mut self, lot: &[TcpStream], frames: &[u8], len: u32) -> io::Result<()> {
        let mut submissions = self.uring.submission();
        for stream in lot {
            let entry = opcode::Send::new(types::Fd(stream.as_raw_fd()), frames.as_ptr(), len)
                .flags(libc::MSG_WAITALL | libc::MSG_NOSIGNAL)
                .build();
            // SAFETY: `frames` and the sockets are borrowed by `send_all`, which returns only when
            // `reap_lot` has taken the completion of each of these; where that fails, the process ends.
            unsafe { submissions.push(&entry) }.map_err(io::Error::other)?;
        }
        Ok(())
    }

    /// Submits, and reaps as many completions.
    fn reap_lot(&mut self, sends: usize, len: u32) -> io::Result<()> {
        let mut left = sends;
        while left > 0 {
            self.uring.submit_and_wait(left)?;
            for completion in self.uring.completion() {
                left -= 1;
                match u32::try_from(completion.result()) {
                    Ok(bytes) if bytes == len => {}
                    Ok(bytes) => return Err(io::Error::other(format!("{bytes} of {len} bytes were sent"))),
                    Err(_) => return Err(io::Error::from_raw_os_error(-completion.result())),
                }
            }
        }
        Ok(())
    }
}
