//! The buffers that the kernel receives into: a bounded number, shared by all connections of a ring.
//!
//! The kernel takes one when bytes are there, not while it waits for them (`io_uring_setup_buf_ring(3)`). It is lent out
//! with a completion and given back when that was handed over.

use std::cell::UnsafeCell;
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::Submitter;
use io_uring::types::BufRingEntry;

/// Buffers of one ring; a power of two.
const BUFFERS: u16 = 64;

/// Bytes of one of them.
const BUFFER_BYTES: u32 = 8 * 1024;

/// What a kernel lacks that does not take the buffers.
pub(super) const WHAT: &str = "rings of receive buffers";

/// The number of the group that the buffers are registered as.
pub(super) const GROUP: u16 = 0;

const _: () = assert!(BUFFERS.is_power_of_two(), "places in the ring are found by a mask");
const _: () = assert!(BUFFERS as usize * size_of::<BufRingEntry>() <= size_of::<Page>(), "they fit the page");

/// What a receive can fill. The memory is given up only by [`Buffers::free`].
pub(super) struct Buffers {
    /// The ring through which buffers are offered: written here, read by the kernel.
    entries: NonNull<Page>,
    /// The buffers, one after the other: written by the kernel, and read here while lent out.
    bytes: NonNull<[u8]>,
    /// How many buffers were ever offered; the kernel sees the low 16 bits.
    tail: u16,
    /// How many are lent out.
    lent: u16,
}

/// Memory that begins where the kernel wants it to.
#[repr(C, align(4096))]
struct Page(UnsafeCell<[u8; 4096]>);

// SAFETY: `Buffers` is the only holder of its memory, and is used by one thread at a time; it is made by one thread and
// then moved to the ring's.
#[expect(unsafe_code, reason = "pointers are not sent between threads by themselves")]
unsafe impl Send for Buffers {}

impl Buffers {
    /// Makes the buffers and offers them to the kernel.
    ///
    /// # Errors
    /// Where the kernel knows no such thing.
    pub(super) fn register(submitter: &Submitter<'_>) -> io::Result<Buffers> {
        let entries = Box::leak(Box::new(Page(UnsafeCell::new([0; 4096]))));
        // Zeroes that nobody has written take no memory until the kernel uses a buffer.
        let bytes = Box::leak(vec![0_u8; usize::from(BUFFERS) * BUFFER_BYTES as usize].into_boxed_slice());
        let mut buffers =
            Buffers { entries: NonNull::from(entries), bytes: NonNull::from(bytes), tail: 0, lent: BUFFERS };
        let address = buffers.entries.as_ptr() as u64;
        #[expect(unsafe_code, reason = "the kernel reads memory that is registered here")]
        // SAFETY: the page is large enough for the entries (asserted above) and lives until `free`, which the driver
        // calls only after the group was unregistered (`io_uring_register(2)`, IORING_REGISTER_PBUF_RING).
        let registered = unsafe { submitter.register_buf_ring_with_flags(address, BUFFERS, GROUP, 0) };
        if let Err(error) = registered {
            buffers.free();
            return Err(error);
        }
        (0..BUFFERS).for_each(|buffer| buffers.give_back(buffer));
        Ok(buffers)
    }

    /// The kernel has put a completion's bytes into a buffer: it is ours now.
    pub(super) fn take(&mut self) {
        self.lent += 1;
    }

    /// How many receives would find a buffer.
    pub(super) fn free_len(&self) -> usize {
        usize::from(BUFFERS - self.lent)
    }

    /// The first `len` bytes of a buffer that is lent out.
    pub(super) fn bytes(&self, buffer: u16, len: usize) -> &[u8] {
        assert!(
            buffer < BUFFERS && len <= BUFFER_BYTES as usize,
            "the kernel names a part of a buffer that it has"
        );
        let from = usize::from(buffer) * BUFFER_BYTES as usize;
        let first = self.bytes.as_ptr().cast::<u8>().wrapping_add(from).cast_const();
        #[expect(unsafe_code, reason = "the kernel has written to this memory")]
        // SAFETY: the range lies in our memory (asserted above), which is initialised and lives until `free`. The buffer
        // is lent out: the kernel has completed the receive that took it, and writes to it again only once it is given
        // back, which takes `&mut self`.
        unsafe {
            std::slice::from_raw_parts(first, len)
        }
    }

    /// Offers a buffer to the kernel (again).
    pub(super) fn give_back(&mut self, buffer: u16) {
        assert!(buffer < BUFFERS && self.lent > 0, "what is given back was lent out");
        self.lent -= 1;
        let entries = self.entries.as_ptr().cast::<BufRingEntry>();
        let place = usize::from(self.tail & (BUFFERS - 1));
        let address =
            self.bytes.as_ptr().cast::<u8>().wrapping_add(usize::from(buffer) * BUFFER_BYTES as usize);
        #[expect(unsafe_code, reason = "the kernel reads this memory")]
        // SAFETY: `place` is below BUFFERS, so the entry lies in the page, which is aligned for it, zeroed at first, and
        // ours until `free`. The kernel does not look at this entry before it sees the tail that is stored below.
        let entry = unsafe { &mut *entries.wrapping_add(place) };
        entry.set_addr(address as u64);
        entry.set_len(BUFFER_BYTES);
        entry.set_bid(buffer);
        self.tail = self.tail.wrapping_add(1);
        #[expect(unsafe_code, reason = "the crate names the tail by a pointer")]
        // SAFETY: this is the address of the ring's first entry, in memory that is ours and initialised.
        let tail = unsafe { BufRingEntry::tail(entries) };
        #[expect(unsafe_code, reason = "the kernel reads this memory meanwhile")]
        // SAFETY: the tail is two aligned bytes of the page, which outlives this call; after its making it is only ever
        // written through this atomic, and read by the kernel (`io_uring_buf_ring_advance(3)`).
        let tail = unsafe { AtomicU16::from_ptr(tail.cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }

    /// Gives the memory up. Only for when the kernel cannot look at it any more: the group is not registered, and no
    /// receive is outstanding.
    pub(super) fn free(self) {
        #[expect(unsafe_code, reason = "the memory was held by its address")]
        // SAFETY: it was leaked from a box of this type when it was made, and `self`, its only holder, ends here.
        drop(unsafe { Box::from_raw(self.entries.as_ptr()) });
        #[expect(unsafe_code, reason = "the memory was held by its address")]
        // SAFETY: as above.
        drop(unsafe { Box::from_raw(self.bytes.as_ptr()) });
    }
}
