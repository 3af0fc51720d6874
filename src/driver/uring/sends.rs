//! The sends in flight, with the memory that the kernel may access until each is done.
//!
//! A send is *queued* until the kernel has consumed its entry, and *done* when its result is known. If
//! successes are not reported ([`Reporting::Failures`]), a send without a report has succeeded. It is
//! done once the kernel has consumed everything queued and all completions were taken after that.
//! Entries and runs are reused, so a send allocates nothing.

use std::io::IoSlice;

use crate::base::id::ConnId;
use crate::base::limits::SEND_SLICES_MAX;
use crate::frame::offer::Offer;
use crate::frame::run::Run;

use super::key::Key;
use super::ring::Ring;

/// Most sends in flight: a full lot, submitted together. Larger lots were measured to cost more.
pub(super) const SENDS_MAX: usize = 256;

/// Which completions of sends the kernel reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reporting {
    /// Only failed and short sends. All others have ended when their entries are consumed.
    Failures,
    /// All.
    Everything,
}

/// The sends in flight.
pub(super) struct Sends {
    reporting: Reporting,
    /// All entries, in use or not. Their number is fixed, so their contents never move.
    entries: Box<[InFlight]>,
    /// The numbers of all entries: first those in use, then the others.
    numbers: Box<[u32]>,
    /// How many are in use.
    used: usize,
}

/// One send. While it is in use, the kernel may access `message` and the bytes of the runs.
struct InFlight {
    conn: ConnId,
    offered: usize,
    /// The kernel's result: bytes, or a negative error.
    outcome: Option<i32>,
    /// Owns the bytes of a send of one slice.
    run: Option<Run>,
    /// For a send of several slices.
    message: Option<Box<Message>>,
}

/// A vectored send, as the kernel reads it. Boxed, so that it never moves.
struct Message {
    header: libc::msghdr,
    slices: Vec<libc::iovec>,
    /// Own the bytes of the slices.
    runs: Vec<Run>,
}

/// A send that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Done {
    pub(super) conn: ConnId,
    pub(super) offered: usize,
    /// Bytes, or a negative error.
    pub(super) outcome: Result<usize, i32>,
}

impl Sends {
    pub(super) fn new(reporting: Reporting) -> Sends {
        let unused = || InFlight {
            conn: ConnId { index: 0, generation: 0 },
            offered: 0,
            outcome: None,
            run: None,
            message: None,
        };
        Sends {
            reporting,
            entries: (0..SENDS_MAX).map(|_| unused()).collect(),
            numbers: (0..).take(SENDS_MAX).collect(),
            used: 0,
        }
    }

    /// Returns true if and only if no send can begin before another is done.
    pub(super) fn is_full(&self) -> bool {
        self.used == SENDS_MAX
    }

    /// Returns true if and only if none is in flight.
    pub(super) fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// Queues a send of the offer.
    ///
    /// # Panics
    /// If [`Sends::is_full`].
    #[inline]
    pub(super) fn begin(&mut self, ring: &mut Ring, file: u32, conn: ConnId, offer: Offer<'_>) {
        let number = *self.numbers.get(self.used).expect("the caller has looked whether there is room");
        self.used += 1;
        let entry = &mut self.entries[number as usize];
        (entry.conn, entry.outcome) = (conn, None);
        let is_quiet = self.reporting == Reporting::Failures;
        let single =
            offer.single().and_then(|(slice, run)| Some((slice, u32::try_from(slice.len()).ok()?, run)));
        // A slice of 4 GiB or more is sent as a message, which has room for its length.
        match single {
            Some((slice, bytes, run)) => {
                entry.offered = slice.len();
                entry.run = Some(run.clone());
                #[expect(unsafe_code, reason = "the kernel reads memory that is named here")]
                // SAFETY: the slice is in the run. `entries` holds a clone of the run until this send is
                // done (`settle`, which requires the same as `Ring::send`) or for ever (`leak`).
                unsafe {
                    ring.send(file, slice.as_ptr(), bytes, is_quiet, Key::Send(number));
                }
            }
            None => {
                entry.offered = offer.bytes();
                let message = entry.message.get_or_insert_with(Message::empty);
                message.fill(offer.slices(), offer.runs());
                let header = &raw const message.header;
                #[expect(unsafe_code, reason = "the kernel reads memory that is named here")]
                // SAFETY: header and slices are heap memory of the entry, which is not touched while it
                // is in use. The bytes are in the runs beside them. All are held as above.
                unsafe {
                    ring.send_message(file, header, is_quiet, Key::Send(number));
                }
            }
        }
    }

    /// Takes in the kernel's result of a send.
    pub(super) fn note(&mut self, number: u32, outcome: i32) {
        if let Some(entry) = self.entries.get_mut(number as usize) {
            entry.outcome = Some(outcome);
        }
    }

    /// Hands over the sends that are done. `all_consumed` says that the submission queue was found
    /// empty, and that all completions were taken after that.
    pub(super) fn settle(&mut self, all_consumed: bool, mut done: impl FnMut(Done)) {
        let silence_is_success = self.reporting == Reporting::Failures && all_consumed;
        let Sends { entries, numbers, used, .. } = self;
        let mut kept = 0;
        for at in 0..std::mem::take(used) {
            let entry = &mut entries[numbers[at] as usize];
            let outcome = match entry.outcome {
                Some(outcome) => usize::try_from(outcome).map_err(|_| outcome),
                None if silence_is_success => Ok(entry.offered),
                None => {
                    numbers.swap(kept, at);
                    kept += 1;
                    continue;
                }
            };
            // A message is accessed only if there is one, since it is elsewhere in memory.
            if entry.run.take().is_none()
                && let Some(message) = &mut entry.message
            {
                message.runs.clear();
            }
            done(Done { conn: entry.conn, offered: entry.offered, outcome });
        }
        *used = kept;
    }

    /// Gives up without freeing memory that the kernel may still access.
    pub(super) fn leak(self) {
        if !self.is_empty() {
            std::mem::forget(self.entries);
        }
    }
}

impl Message {
    fn empty() -> Box<Message> {
        #[expect(unsafe_code, reason = "not every C library lets all fields of a msghdr be named")]
        // SAFETY: a `msghdr` consists of numbers and nullable pointers, so all zeros are valid
        // (`sendmsg(2)`).
        let header = unsafe { std::mem::zeroed::<libc::msghdr>() };
        let (slices, runs) = (Vec::with_capacity(SEND_SLICES_MAX), Vec::with_capacity(SEND_SLICES_MAX));
        Box::new(Message { header, slices, runs })
    }

    fn fill<'a>(&mut self, slices: &[IoSlice<'_>], runs: impl Iterator<Item = &'a Run>) {
        self.runs.clear();
        self.runs.extend(runs.cloned());
        self.slices.clear();
        self.slices.extend(slices.iter().map(|slice| libc::iovec {
            iov_base: slice.as_ptr().cast_mut().cast(), // Only read: the message is sent.
            iov_len: slice.len(),
        }));
        self.header.msg_iov = self.slices.as_mut_ptr();
        self.header.msg_iovlen = self.slices.len() as _;
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;
    use crate::frame::outbox::Outbox;
    use crate::frame::run::Source;

    const CONN: ConnId = ConnId { index: 0, generation: 0 };

    /// A ring that takes operations and never does any.
    fn ring() -> Option<Ring> {
        crate::driver::uring::tests::proven().map(|_| Ring::new(8, 16).unwrap())
    }

    /// Begins a send of three bytes in runs of one source. Returns the source, which only the sends hold
    /// too.
    fn begun(sends: &mut Sends, ring: &mut Ring, runs: u32) -> Rc<Source> {
        let source = Rc::new(Source::Own(b"abcdef".as_slice().into()));
        let mut outbox = Outbox::default();
        // Every other byte, so that the runs are not adjacent.
        (0..runs).for_each(|at| outbox.push_unbounded(Run::new(Rc::clone(&source), 2 * at, 2 * at + 1, 1)));
        outbox.offer(|offer| sends.begin(ring, 0, CONN, offer));
        source
    }

    fn settled(sends: &mut Sends, all_consumed: bool) -> Vec<Result<usize, i32>> {
        let mut done = Vec::new();
        sends.settle(all_consumed, |send| done.push(send.outcome));
        done
    }

    #[test]
    fn bytes_are_held_until_their_send_is_done_and_no_longer() {
        let Some(mut ring) = ring() else { return };
        let mut sends = Sends::new(Reporting::Failures);
        let [one, three] = [1, 3].map(|runs| begun(&mut sends, &mut ring, runs));
        assert_eq!((Rc::strong_count(&one), Rc::strong_count(&three)), (2, 4), "the outboxes are gone");
        assert_eq!(settled(&mut sends, false), []);
        assert_eq!((Rc::strong_count(&one), Rc::strong_count(&three)), (2, 4));
        assert_eq!(settled(&mut sends, true), [Ok(1), Ok(3)]);
        assert_eq!((Rc::strong_count(&one), Rc::strong_count(&three)), (1, 1));
        assert!(sends.is_empty());
    }

    #[test]
    fn what_is_told_replaces_success() {
        let Some(mut ring) = ring() else { return };
        let mut sends = Sends::new(Reporting::Failures);
        (0..3).for_each(|_| drop(begun(&mut sends, &mut ring, 3)));
        let [first, _, last] = sends.numbers[..3] else { panic!("three are in use") };
        sends.note(first, 2);
        sends.note(last, -libc::EAGAIN);
        assert_eq!(settled(&mut sends, true), [Ok(2), Ok(3), Err(-libc::EAGAIN)]);
    }

    #[test]
    fn where_everything_is_told_silence_means_that_it_is_not_done() {
        let Some(mut ring) = ring() else { return };
        let mut sends = Sends::new(Reporting::Everything);
        (0..2).for_each(|_| drop(begun(&mut sends, &mut ring, 1)));
        assert_eq!(settled(&mut sends, true), []);
        sends.note(sends.numbers[1], 1);
        assert_eq!(settled(&mut sends, true), [Ok(1)]);
        assert!(!sends.is_empty());
        let again = begun(&mut sends, &mut ring, 1);
        sends.note(sends.numbers[0], 1);
        assert_eq!(settled(&mut sends, true), [Ok(1)]);
        assert_eq!(Rc::strong_count(&again), 2, "the entry of one that is not done is not taken by another");
    }

    #[test]
    fn a_bounded_number_is_in_flight() {
        let Some(mut ring) = ring() else { return };
        let mut sends = Sends::new(Reporting::Failures);
        (0..SENDS_MAX).for_each(|_| drop(begun(&mut sends, &mut ring, 1)));
        assert!(sends.is_full());
        assert_eq!(settled(&mut sends, true).len(), SENDS_MAX);
        assert!(!sends.is_full() && sends.is_empty());
    }
}
