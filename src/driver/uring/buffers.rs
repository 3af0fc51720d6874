//! The buffers that the kernel receives into: a bounded number, shared by all connections of a ring.
//!
//! The kernel looks for one each time it tries to receive: when the receive is begun, and when bytes have come. Where it
//! has nothing to receive it puts the buffer back, so a receive that waits holds none. But one that is begun while none is
//! free fails at once (`ENOBUFS`), also where nothing has come, and so does one whose bytes come then. A buffer is lent out
//! with a completion and given back when that was handed over.

use std::cell::UnsafeCell;
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::Submitter;
use io_uring::types::BufRingEntry;

/// What a kernel lacks that does not take the buffers.
pub(super) const WHAT: &str = "rings of receive buffers";

/// Buffers for requests that come in one piece, as nearly all do.
pub(super) const SMALL: Group = Group { number: 0, first: 0, len: 64, bytes: 4 * 1024 };

/// Buffers for connections whose last receive filled a small one: what a publisher has sent meanwhile comes at once, and
/// not in pieces between which the shard does something else. Their memory is used from the first such connection on.
pub(super) const LARGE: Group = Group { number: 1, first: SMALL.len, len: 4, bytes: 64 * 1024 };

/// Buffers of one size, of which the kernel picks one.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Group {
    /// What it is registered as.
    pub(super) number: u16,
    /// The number of its first buffer.
    first: u16,
    /// How many there are; a power of two.
    len: u16,
    /// Bytes of each.
    pub(super) bytes: u32,
}

const _: () = assert!(SMALL.is_sound() && LARGE.is_sound());

impl Group {
    const fn is_sound(&self) -> bool {
        // Places in the ring are found by a mask, and all of them fit its page.
        self.len.is_power_of_two() && self.len as usize * size_of::<BufRingEntry>() <= size_of::<Page>()
    }
}

/// What a receive can fill. The memory is given up only by [`Buffers::free`].
pub(super) struct Buffers {
    small: GroupMemory,
    large: GroupMemory,
}

impl Buffers {
    /// Makes the buffers and offers them to the kernel.
    ///
    /// # Errors
    /// Where the kernel knows no such thing.
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

    /// The kernel has put a completion's bytes into a buffer: it is ours now.
    pub(super) fn take(&mut self, buffer: u16) {
        self.of_mut(buffer).lent += 1;
    }

    /// How many receives would find a small buffer.
    pub(super) fn free_len(&self) -> usize {
        usize::from(SMALL.len - self.small.lent)
    }

    /// The first `len` bytes of a buffer that is lent out.
    pub(super) fn bytes(&self, buffer: u16, len: usize) -> &[u8] {
        if buffer < LARGE.first { self.small.bytes(buffer, len) } else { self.large.bytes(buffer, len) }
    }

    /// Offers a buffer to the kernel (again).
    pub(super) fn give_back(&mut self, buffer: u16) {
        self.of_mut(buffer).give_back(buffer);
    }

    fn of_mut(&mut self, buffer: u16) -> &mut GroupMemory {
        if buffer < LARGE.first { &mut self.small } else { &mut self.large }
    }

    /// Takes all buffers back from the kernel and gives the memory up; what it does not give back is leaked. Only where no
    /// receive is outstanding.
    pub(super) fn unregister(self, submitter: &Submitter<'_>) {
        for memory in [self.small, self.large] {
            if submitter.unregister_buf_ring(memory.group.number).is_ok() {
                memory.free();
            }
        }
    }

    /// Gives the memory up. Only for when the kernel cannot look at it any more: the ring is gone and nothing was ever
    /// submitted to it.
    pub(super) fn free(self) {
        self.small.free();
        self.large.free();
    }
}

/// The memory of a group.
struct GroupMemory {
    group: &'static Group,
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

// SAFETY: `GroupMemory` is the only holder of its memory, and is used by one thread at a time; it is made by one thread and
// then moved to the ring's.
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
        // SAFETY: the page is large enough for the entries (asserted above) and lives until `free`, which the driver
        // calls only after the group was unregistered (`io_uring_register(2)`, IORING_REGISTER_PBUF_RING).
        let registered =
            unsafe { submitter.register_buf_ring_with_flags(address, group.len, group.number, 0) };
        if let Err(error) = registered {
            memory.free();
            return Err(error);
        }
        (group.first..group.first + group.len).for_each(|buffer| memory.give_back(buffer));
        Ok(memory)
    }

    /// Where a buffer begins, which is one of this group.
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
        // SAFETY: the range lies in our memory (asserted above), which is initialised and lives until `free`. The buffer
        // is lent out: the kernel has completed the receive that took it, and writes to it again only once it is given
        // back, which takes `&mut self`.
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
        // SAFETY: `place` is below the group's length, so the entry lies in the page, which is aligned for it, zeroed at first, and
        // ours until `free`. The kernel does not look at this entry before it sees the tail that is stored below.
        let entry = unsafe { &mut *entries.wrapping_add(place) };
        entry.set_addr(address as u64);
        entry.set_len(self.group.bytes);
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
    fn free(self) {
        #[expect(unsafe_code, reason = "the memory was held by its address")]
        // SAFETY: it was leaked from a box of this type when it was made, and `self`, its only holder, ends here.
        drop(unsafe { Box::from_raw(self.entries.as_ptr()) });
        #[expect(unsafe_code, reason = "the memory was held by its address")]
        // SAFETY: as above.
        drop(unsafe { Box::from_raw(self.bytes.as_ptr()) });
    }
}
