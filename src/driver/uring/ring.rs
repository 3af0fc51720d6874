//! The ring itself: operations go in, completions come out. It knows no connections.
//!
//! One thread calls everything here, from [`Ring::enable`] on (`IORING_SETUP_SINGLE_ISSUER`). The kernel
//! does its deferred work for the ring in that thread's [`Ring::enter`] (`IORING_SETUP_DEFER_TASKRUN`).

use std::collections::VecDeque;
use std::io;
use std::os::fd::RawFd;
use std::time::Duration;

use io_uring::opcode::{
    Accept, AcceptMulti, AsyncCancel, Close, FilesUpdate, FixedFdInstall, PollAdd, Recv, Send, SendMsg,
    Shutdown,
};
use io_uring::squeue::{Entry, Flags};
use io_uring::types::{DestinationSlot, Fd, Fixed, SubmitArgs, Timespec};
use io_uring::{IoUring, Submitter, cqueue};

use super::key::Key;

/// An instance of io_uring.
pub(super) struct Ring {
    uring: IoUring,
    /// Operations for which the kernel had no room, first come first.
    backlog: VecDeque<Entry>,
}

/// Entries of the submission queue: a full lot of sends plus the other operations of a turn.
pub(super) const SUBMISSIONS: u32 = 512;

/// Entries of the completion queue, many times what one submission can complete. The kernel keeps
/// further completions itself (`IORING_FEAT_NODROP`) and moves them in when there is room.
pub(super) const COMPLETIONS: u32 = 4096;

/// Makes the kernel choose a direct descriptor (`IORING_FILE_INDEX_ALLOC`, all bits set).
const FILE_INDEX_ALLOC: i32 = -1;

/// The flags of every send. A full socket ends the send with the bytes taken (`MSG_DONTWAIT`). A short
/// send counts as a failure, which is always reported (`MSG_WAITALL`). Otherwise it would be lost among
/// the successes that are not reported.
pub(super) const SEND_FLAGS: u32 = (libc::MSG_DONTWAIT | libc::MSG_WAITALL | libc::MSG_NOSIGNAL) as u32;

impl Ring {
    /// Makes a ring. The thread that will use it enables it.
    pub(super) fn new(submissions: u32, completions: u32) -> io::Result<Ring> {
        let uring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_submit_all()
            .setup_r_disabled()
            .setup_cqsize(completions)
            .dontfork()
            .build(submissions)?;
        Ok(Ring { uring, backlog: VecDeque::new() })
    }

    /// Makes the calling thread the one that uses the ring.
    pub(super) fn enable(&self) -> io::Result<()> {
        self.uring.submitter().register_enable_rings()
    }

    /// For registering memory and files with the ring.
    pub(super) fn submitter(&self) -> Submitter<'_> {
        self.uring.submitter()
    }

    /// The features that the kernel reports.
    pub(super) fn parameters(&self) -> &io_uring::Parameters {
        self.uring.params()
    }

    /// Returns true if and only if there is something to submit.
    pub(super) fn has_queued(&mut self) -> bool {
        !self.backlog.is_empty() || !self.uring.submission().is_empty()
    }

    /// Accepts into direct descriptors that the kernel chooses: once, or until the accept fails.
    pub(super) fn accept(&mut self, listener: RawFd, is_multishot: bool, key: Key) {
        let entry = if is_multishot {
            AcceptMulti::new(Fd(listener)).allocate_file_index(true).build()
        } else {
            // Without room for an address, the kernel writes none.
            let accept = Accept::new(Fd(listener), std::ptr::null_mut(), std::ptr::null_mut());
            accept.file_index(Some(DestinationSlot::auto_target())).build()
        };
        self.push(entry.user_data(key.bits()));
    }

    /// Receives into a buffer of the group, which must be registered with the ring.
    pub(super) fn recv(&mut self, file: u32, group: u16, key: Key) {
        let recv = Recv::new(Fixed(file), std::ptr::null_mut(), 0).buf_group(group).build();
        self.push(recv.flags(Flags::BUFFER_SELECT).user_data(key.bits()));
    }

    /// Waits for one of `events`, or an error or the end of the connection.
    pub(super) fn poll(&mut self, file: u32, events: libc::c_int, key: Key) {
        self.push(PollAdd::new(Fixed(file), events.cast_unsigned()).build().user_data(key.bits()));
    }

    /// Completes each time that `fd` becomes readable.
    pub(super) fn poll_edges(&mut self, fd: RawFd, key: Key) {
        let events = libc::c_int::from(libc::POLLIN).cast_unsigned();
        self.push(PollAdd::new(Fd(fd), events).multi(true).build().user_data(key.bits()));
    }

    /// Ends our side of a connection. The kernel does this on another thread, and only there looks up
    /// the descriptor's connection. So the descriptor may not be closed before the completion. Otherwise
    /// the kernel would end the next connection that gets it.
    pub(super) fn shutdown(&mut self, file: u32, key: Key) {
        self.push(Shutdown::new(Fixed(file), libc::SHUT_WR).build().user_data(key.bits()));
    }

    /// Closes a direct descriptor. Outstanding operations keep the connection itself open, so cancel
    /// them first.
    pub(super) fn close(&mut self, file: u32) {
        self.push(quiet(Close::new(Fixed(file)).build()));
    }

    /// Makes a file descriptor of a direct descriptor, which stays.
    pub(super) fn install(&mut self, file: u32, key: Key) {
        self.push(FixedFdInstall::new(Fixed(file), 0).build().user_data(key.bits()));
    }

    /// Makes a direct descriptor of the file descriptor in `place`, which stays, and writes its number
    /// there.
    ///
    /// # Safety
    /// `place` must stay valid until the completion was taken.
    #[expect(unsafe_code, reason = "the kernel writes to memory that the caller names")]
    pub(super) unsafe fn register(&mut self, place: *mut RawFd, key: Key) {
        let entry = FilesUpdate::new(place, 1).offset(FILE_INDEX_ALLOC).build();
        self.push(entry.user_data(key.bits()));
    }

    /// Cancels the one operation with this key.
    pub(super) fn cancel(&mut self, key: Key) {
        self.push(quiet(AsyncCancel::new(key.bits()).build()));
    }

    /// Sends `bytes` bytes from `from`. With `is_quiet`, success is not reported.
    ///
    /// # Safety
    /// The bytes must stay valid until the operation has ended. It has ended once its completion was
    /// taken. With `is_quiet`, it has also ended once the submission queue was found empty and all
    /// completions were taken after that.
    #[expect(unsafe_code, reason = "the kernel reads memory that the caller names")]
    #[inline]
    pub(super) unsafe fn send(&mut self, file: u32, from: *const u8, bytes: u32, is_quiet: bool, key: Key) {
        let entry = Send::new(Fixed(file), from, bytes).flags(SEND_FLAGS.cast_signed()).build();
        self.push(quiet_if(entry, is_quiet).user_data(key.bits()));
    }

    /// Sends the bytes that `message` names.
    ///
    /// # Safety
    /// As [`Ring::send`], for the header, its slices and their bytes.
    #[expect(unsafe_code, reason = "the kernel reads memory that the caller names")]
    pub(super) unsafe fn send_message(
        &mut self,
        file: u32,
        message: *const libc::msghdr,
        is_quiet: bool,
        key: Key,
    ) {
        let entry = SendMsg::new(Fixed(file), message).flags(SEND_FLAGS).build();
        self.push(quiet_if(entry, is_quiet).user_data(key.bits()));
    }

    /// Submits what is queued. Then waits for `timeout` (`None`: without bound) or until there is a
    /// completion. With a `timeout` of zero it only does the work that is due.
    ///
    /// If the kernel lacks memory for the moment, it may submit only some of the operations. The caller
    /// can try again.
    ///
    /// # Errors
    /// If the ring is broken.
    pub(super) fn enter(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.move_backlog();
        let want = usize::from(timeout.is_none_or(|timeout| !timeout.is_zero()));
        let timespec = timeout.map(Timespec::from);
        let mut arguments = SubmitArgs::new();
        if let Some(timespec) = &timespec {
            arguments = arguments.timespec(timespec);
        }
        match self.uring.submitter().submit_with_args(want, &arguments) {
            Ok(_) => Ok(()),
            Err(error) => match error.raw_os_error() {
                Some(libc::ETIME | libc::EINTR) => Ok(()),
                Some(libc::EAGAIN | libc::EBUSY) => {
                    std::thread::sleep(OUT_OF_MEMORY_PAUSE);
                    Ok(())
                }
                _ => Err(error),
            },
        }
    }

    /// Moves all completions to `completions`, including those that the queue had no room for.
    ///
    /// # Errors
    /// If the ring is broken.
    pub(super) fn reap(&mut self, completions: &mut Vec<cqueue::Entry>) -> io::Result<()> {
        for _ in 0..REAPS_MAX {
            completions.extend(self.uring.completion());
            if !self.uring.submission().cq_overflow() {
                return Ok(());
            }
            self.enter(Some(Duration::ZERO))?; // The kernel moves in those that it has kept.
        }
        Err(io::Error::other("the kernel keeps completions that it never hands over"))
    }

    fn move_backlog(&mut self) {
        while let Some(entry) = self.backlog.pop_front() {
            if !self.try_push(&entry) {
                self.backlog.push_front(entry);
                return;
            }
        }
    }

    #[inline]
    fn push(&mut self, entry: Entry) {
        if !(self.backlog.is_empty() && self.try_push(&entry)) {
            self.push_to_full(entry);
        }
    }

    #[cold]
    fn push_to_full(&mut self, entry: Entry) {
        if self.backlog.is_empty() {
            // The next reap takes the completions. If this fails, the next wait reports it.
            let _ = self.uring.submit();
            if self.try_push(&entry) {
                return;
            }
        }
        self.backlog.push_back(entry);
    }

    #[inline]
    fn try_push(&mut self, entry: &Entry) -> bool {
        #[expect(unsafe_code, reason = "an operation may name memory")]
        // SAFETY: sends and `register` name memory, and their callers keep it as their contracts ask. A
        // receive writes to buffers registered with the ring, and their owner keeps them (`buffers`).
        // Descriptors belong to the kernel, or are listeners and the eventfd. A wrong one is an error
        // and nothing worse (`io_uring_enter(2)`).
        let pushed = unsafe { self.uring.submission().push(entry) };
        pushed.is_ok()
    }
}

/// The least time of a round through the kernel if the kernel had no memory for an operation.
const OUT_OF_MEMORY_PAUSE: Duration = Duration::from_millis(1);

/// Each reap makes room for as many completions as the queue has entries. A direct descriptor has at
/// most two outstanding operations, and there are at most 2^20 descriptors. This many reaps make room
/// several times over.
const REAPS_MAX: usize = 4096;

fn quiet(entry: Entry) -> Entry {
    entry.flags(Flags::SKIP_SUCCESS).user_data(Key::Nobody.bits())
}

fn quiet_if(entry: Entry, is_quiet: bool) -> Entry {
    if is_quiet { entry.flags(Flags::SKIP_SUCCESS) } else { entry }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::uring::tests::proven;

    #[test]
    fn completions_beyond_the_queue_are_not_lost() {
        if proven().is_none() {
            return;
        }
        let mut ring = Ring::new(8, 16).unwrap();
        ring.submitter().register_files_sparse(1).unwrap();
        ring.enable().unwrap();
        // None of these has a file, so each completes at once.
        (0..100).for_each(|number| ring.poll(0, libc::c_int::from(libc::POLLIN), Key::Send(number)));
        let mut reaped = Vec::new();
        while ring.has_queued() {
            ring.enter(Some(Duration::ZERO)).unwrap();
        }
        ring.reap(&mut reaped).unwrap();
        let keys: Vec<Key> = reaped.iter().map(|entry| Key::of(entry.user_data())).collect();
        assert_eq!(keys, (0..100).map(Key::Send).collect::<Vec<Key>>());
    }
}
