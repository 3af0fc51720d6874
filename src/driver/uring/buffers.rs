//! The buffers that the kernel receives into. All connections of a ring share a bounded number.
//!
//! The kernel looks for a buffer each time it tries to receive: when the receive begins, and when bytes
//! have come. If there is nothing to receive, it puts the buffer back, so a waiting receive holds none.
//! A receive that begins while none is free fails at once (`ENOBUFS`), even if nothing has come. So does
//! a receive whose bytes come while none is free. A completion lends a buffer out. The buffer is given
//! back after the completion was handed over.

use std::cell::UnsafeCell;
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::Submitter;
use io_uring::types::BufRingEntry;

/// Names the missing feature if a kernel refuses the buffers.
pub(super) const WHAT: &str = "rings of receive buffers";

/// Buffers for requests that arrive in one piece, as nearly all do.
pub(super) const SMALL: Group = Group { number: 0, first: 0, len: 64, bytes: 4 * 1024 };

/// Buffers for connections whose last receive filled a small one. They take everything that a publisher
/// has sent meanwhile in one piece, so that the shard does nothing else in between. Their memory is used
/// from the first such connection on.
pub(super) const LARGE: Group = Group { number: 1, first: SMALL.len, len: 4, bytes: 64 * 1024 };

/// Buffers of one size. The kernel picks one of them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Group {
    /// The number it is registered under.
    pub(super) number: u16,
    /// The number of its first buffer.
    first: u16,
    /// The number of buffers, a power of two.
    len: u16,
    /// Bytes of each buffer.
    pub(super) bytes: u32,
}

const _: () = assert!(SMALL.is_sound() && LARGE.is_sound());

impl Group {
    const fn is_sound(&self) -> bool {
        // Places in the ring are computed with a mask, and all entries fit its page.
        self.len.is_power_of_two() && self.len as usize * size_of::<BufRingEntry>() <= size_of::<Page>()
    }
}

/// All receive buffers. Only [`Buffers::free`] frees the memory.
pub(super) struct Buffers {
    small: GroupMemory,
    large: GroupMemory,
}

impl Buffers {
    /// Makes the buffers and offers them to the kernel.
    ///
    /// # Errors
    /// If the kernel does not support such buffers.
    pub(super) fn register(submitter: &Submitter<'_>) -> io::Result<Buffers> {
        let small = GroupMemory::register(submitter, &SMALL)?;
        match GroupMemory::register(submitter, &LARGE) {
            Ok(large) => Ok(Buffers { small, large }),
            Err(error) => {
                if submitter.unregister_buf_ring(SMALL.number).is_ok() {
                    small.free();
                }
                Err(error)
            }
        }
    }

    /// The kernel has put a completion's bytes into this buffer. From now on it is ours.
    pub(super) fn take(&mut self, buffer: u16) {
        self.of_mut(buffer).lent += 1;
    }

    /// The number of free small buffers.
    pub(super) fn free_len(&self) -> usize {
        usize::from(SMALL.len - self.small.lent)
    }

    /// The first `len` bytes of a buffer that is lent out.
    pub(super) fn bytes(&self, buffer: u16, len: usize) -> &[u8] {
        if buffer < LARGE.first { self.small.bytes(buffer, len) } else { self.large.bytes(buffer, len) }
    }

    /// Offers a buffer to the kernel again.
    pub(super) fn give_back(&mut self, buffer: u16) {
        self.of_mut(buffer).give_back(buffer);
    }

    fn of_mut(&mut self, buffer: u16) -> &mut GroupMemory {
        if buffer < LARGE.first { &mut self.small } else { &mut self.large }
    }

    /// Takes all buffers back from the kernel and frees their memory. If the kernel does not return
    /// some, they are leaked. Call this only while no receive is outstanding.
    pub(super) fn unregister(self, submitter: &Submitter<'_>) {
        for memory in [self.small, self.large] {
            if submitter.unregister_buf_ring(memory.group.number).is_ok() {
                memory.free();
            }
        }
    }

    /// Frees the memory. Call this only when the kernel cannot use it any more: the ring is gone and
    /// nothing was ever submitted to it.
    pub(super) fn free(self) {
        self.small.free();
        self.large.free();
    }
}

/// The memory of a group.
struct GroupMemory {
    group: &'static Group,
    /// The ring that offers buffers: written here, read by the kernel.
    entries: NonNull<Page>,
    /// The buffers, one after the other. The kernel writes them. They are read here while lent out.
    bytes: NonNull<[u8]>,
    /// The number of offers ever made. The kernel sees the low 16 bits.
    tail: u16,
    /// The number of buffers that are lent out.
    lent: u16,
}

/// Memory with the alignment that the kernel requires.
#[repr(C, align(4096))]
struct Page(UnsafeCell<[u8; 4096]>);

// SAFETY: `GroupMemory` is the only holder of its memory, and one thread at a time uses it. One thread
// makes it and then moves it to the ring's thread.
#[expect(unsafe_code, reason = "pointers are not sent between threads by themselves")]
unsafe impl Send for GroupMemory {}

impl GroupMemory {
    fn register(submitter: &Submitter<'_>, group: &'static Group) -> io::Result<GroupMemory> {
        let entries = Box::leak(Box::new(Page(UnsafeCell::new([0; 4096]))));
        // Zeroes that nobody has written take no memory until the kernel uses a buffer.
        let bytes = Box::leak(vec![0_u8; usize::from(group.len) * group.bytes as usize].into_boxed_slice());
        let (entries, bytes) = (NonNull::from(entries), NonNull::from(bytes));
        let mut memory = GroupMemory { group, entries, bytes, tail: 0, lent: group.len };
        let address = memory.entries.as_ptr() as u64;
        #[expect(unsafe_code, reason = "the kernel reads memory that is registered here")]
        // SAFETY: the page is large enough for the entries (asserted above) and lives until `free`. The
        // driver calls `free` only after it has unregistered the group (`io_uring_register(2)`,
        // IORING_REGISTER_PBUF_RING).
        let registered =
            unsafe { submitter.register_buf_ring_with_flags(address, group.len, group.number, 0) };
        if let Err(error) = registered {
            memory.free();
            return Err(error);
        }
        (group.first..group.first + group.len).for_each(|buffer| memory.give_back(buffer));
        Ok(memory)
    }

    /// The index of a buffer within this group.
    fn place(&self, buffer: u16) -> usize {
        let place = usize::from(buffer.wrapping_sub(self.group.first));
        assert!(place < usize::from(self.group.len), "the kernel names a buffer that it has");
        place * self.group.bytes as usize
    }

    fn bytes(&self, buffer: u16, len: usize) -> &[u8] {
        let from = self.place(buffer);
        assert!(len <= self.group.bytes as usize, "the kernel fills no more than a buffer has");
        let first = self.bytes.as_ptr().cast::<u8>().wrapping_add(from).cast_const();
        #[expect(unsafe_code, reason = "the kernel has written to this memory")]
        // SAFETY: the range is in our memory (asserted above), which is initialised and lives until
        // `free`. The buffer is lent out: the kernel has completed the receive that took it. The kernel
        // writes to it again only after it is given back, which needs `&mut self`.
        unsafe {
            std::slice::from_raw_parts(first, len)
        }
    }

    fn give_back(&mut self, buffer: u16) {
        assert!(self.lent > 0, "what is given back was lent out");
        let from = self.place(buffer);
        self.lent -= 1;
        let entries = self.entries.as_ptr().cast::<BufRingEntry>();
        let place = usize::from(self.tail & (self.group.len - 1));
        let address = self.bytes.as_ptr().cast::<u8>().wrapping_add(from);
        #[expect(unsafe_code, reason = "the kernel reads this memory")]
        // SAFETY: `place` is below the group's length, so the entry is in the page. The page is aligned
        // for it, was zeroed at first, and is ours until `free`. The kernel does not read this entry
        // before it sees the tail that is stored below.
        let entry = unsafe { &mut *entries.wrapping_add(place) };
        entry.set_addr(address as u64);
        entry.set_len(self.group.bytes);
        entry.set_bid(buffer);
        self.tail = self.tail.wrapping_add(1);
        #[expect(unsafe_code, reason = "the crate names the tail by a pointer")]
        // SAFETY: this is the address of the ring's first entry, in memory that is ours and initialised.
        let tail = unsafe { BufRingEntry::tail(entries) };
        #[expect(unsafe_code, reason = "the kernel reads this memory meanwhile")]
        // SAFETY: the tail is two aligned bytes of the page, which outlives this call. After its
        // creation it is written only through this atomic, and the kernel reads it
        // (`io_uring_buf_ring_advance(3)`).
        let tail = unsafe { AtomicU16::from_ptr(tail.cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }

    /// Frees the memory. Call this only when the kernel cannot use it any more: the group is not
    /// registered, and no receive is outstanding.
    fn free(self) {
        #[expect(unsafe_code, reason = "the memory was held by its address")]
        // SAFETY: it was leaked from a box of this type when it was made. `self`, its only holder, ends
        // here.
        drop(unsafe { Box::from_raw(self.entries.as_ptr()) });
        #[expect(unsafe_code, reason = "the memory was held by its address")]
        // SAFETY: as above.
        drop(unsafe { Box::from_raw(self.bytes.as_ptr()) });
    }
}
