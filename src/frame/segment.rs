//! Shared append-only bytes. Many threads read while one thread appends.
//!
//! A [`Segment`] is a block of fixed capacity. Its one [`Appender`] writes behind the published bytes,
//! then raises the published length. Every owner of the segment reads the published bytes without a
//! lock. Published bytes never change.
//!
//! This is the one place outside the drivers with `unsafe` code. Loom checks the order of its writes and
//! reads (`scripts/test` runs it). The address sanitizer checks its bounds.

use std::fmt;
use std::sync::Arc;

use cell::{AtomicUsize, Cells, Ordering};

/// A block of bytes with a growing published prefix.
pub struct Segment {
    cells: Cells,
    /// Bytes below this place are written and never change again. Only the appender moves it, and only
    /// up.
    published: AtomicUsize,
}

impl Segment {
    /// Makes an empty segment and its only appender.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Appender {
        let segment = Segment { cells: Cells::zeroed(capacity), published: AtomicUsize::new(0) };
        Appender { segment: Arc::new(segment), len: 0 }
    }

    /// Makes an empty segment and its only appender from the memory of `segment`. `None` if `segment`
    /// has another owner.
    #[must_use]
    pub fn reuse(segment: Arc<Segment>) -> Option<Appender> {
        let Segment { cells, .. } = Arc::into_inner(segment)?;
        let segment = Segment { cells, published: AtomicUsize::new(0) };
        Some(Appender { segment: Arc::new(segment), len: 0 })
    }

    /// Makes a full segment that holds exactly `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Arc<Segment> {
        let mut appender = Segment::with_capacity(bytes.len());
        appender.append(bytes, None);
        appender.segment
    }

    /// The published bytes from `from` to `to`.
    ///
    /// If `to` is beyond the published length or before `from`. Only [`Appender::append`] gives out
    /// places.
    #[must_use]
    #[inline]
    pub fn bytes(&self, from: usize, to: usize) -> &[u8] {
        let published = self.published.load(Ordering::Acquire);
        assert!(from <= to && to <= published, "bytes {from}..{to} of a segment with {published}");
        self.cells.published(from, to)
    }

    /// Bytes of the segment's block, written or not.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.cells.len()
    }
}

impl fmt::Debug for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Segment").field("capacity", &self.capacity()).finish_non_exhaustive()
    }
}

/// The only writer of a segment.
#[derive(Debug)]
pub struct Appender {
    segment: Arc<Segment>,
    /// The published length, known without an atomic load.
    len: usize,
}

/// Bytes that replace as many others while a frame is copied: an event's id, which is known only then.
#[derive(Clone, Copy, Debug)]
pub struct Patch<'a> {
    /// Where they go in the appended bytes.
    pub at: usize,
    /// The bytes that the segment gets there.
    pub bytes: &'a [u8],
}

impl Appender {
    /// The segment of this appender.
    #[must_use]
    pub fn segment(&self) -> &Arc<Segment> {
        &self.segment
    }

    /// Bytes appended so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns true if and only if nothing was appended.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes that still fit.
    #[must_use]
    pub fn room(&self) -> usize {
        self.segment.capacity() - self.len
    }

    /// Appends `bytes` with `patch` applied and publishes them. Returns where they begin.
    ///
    /// # Panics
    /// If they exceed [`Appender::room`], or the patch is not within `bytes`.
    pub fn append(&mut self, bytes: &[u8], patch: Option<Patch<'_>>) -> usize {
        self.append_parts([bytes], patch)
    }

    /// As [`Appender::append`], for bytes in several parts, such as those of a chunk. They are published
    /// together.
    ///
    /// # Panics
    /// As [`Appender::append`].
    pub fn append_parts<const N: usize>(&mut self, parts: [&[u8]; N], patch: Option<Patch<'_>>) -> usize {
        let len = parts.iter().map(|part| part.len()).sum();
        assert!(len <= self.room(), "{len} bytes where {} fit", self.room());
        let from = self.len;
        let mut at = from;
        for part in parts {
            self.segment.cells.write(at, part, self);
            at += part.len();
        }
        if let Some(Patch { at, bytes: patch }) = patch {
            assert!(at + patch.len() <= len, "the patch lies within what it patches");
            self.segment.cells.write(from + at, patch, self);
        }
        self.len = from + len;
        self.segment.published.store(self.len, Ordering::Release);
        from
    }
}

#[cfg(not(loom))]
mod cell {
    #![expect(unsafe_code, reason = "bytes are read while others behind them are written")]

    use super::Appender;
    use std::cell::UnsafeCell;
    pub(super) use std::sync::atomic::{AtomicUsize, Ordering};

    pub(super) struct Cells(Box<[UnsafeCell<u8>]>);

    // SAFETY: threads share the bytes only as `Segment` allows. Bytes below `published` are never
    // written again. Only the one `Appender` touches bytes at or above it.
    unsafe impl Sync for Cells {}

    impl Cells {
        pub(super) fn zeroed(len: usize) -> Cells {
            let bytes: *mut [u8] = Box::into_raw(vec![0; len].into_boxed_slice());
            // SAFETY: `UnsafeCell<u8>` has the layout of `u8` (std: "same in-memory representation").
            // The pointer comes from a box of the same length.
            Cells(unsafe { Box::from_raw(bytes as *mut [UnsafeCell<u8>]) })
        }

        pub(super) fn len(&self) -> usize {
            self.0.len()
        }

        /// The bytes of a published range.
        pub(super) fn published(&self, from: usize, to: usize) -> &[u8] {
            let cells = &self.0[from..to];
            // SAFETY: the range is initialised memory of this box, which lives as long as `self`. The
            // caller has read `published` with Acquire and `to` is not above it, so no one writes to
            // these bytes any more.
            unsafe { std::slice::from_raw_parts(cells.as_ptr().cast::<u8>(), cells.len()) }
        }

        /// Writes to an unpublished range. The segment's only appender proves that no one else writes.
        pub(super) fn write(&self, from: usize, bytes: &[u8], appender: &Appender) {
            debug_assert!(from >= appender.len, "published bytes never change");
            let cells = &self.0[from..from + bytes.len()];
            // SAFETY: the range is in this box (the slice checks this) and at or above `published`,
            // where readers never look. `append` holds the only appender mutably, so there is no other
            // writer. `bytes` cannot overlap the range: no shared slice of unpublished bytes is ever
            // handed out.
            unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), cells.as_ptr() as *mut u8, bytes.len()) }
        }
    }
}

#[cfg(loom)]
mod cell {
    //! The same cells. Loom checks each access against those of other threads.

    #![expect(unsafe_code, reason = "loom's cells hand out pointers; it reports every use of one that races")]

    use super::Appender;
    use loom::cell::UnsafeCell;
    pub(super) use loom::sync::atomic::{AtomicUsize, Ordering};

    pub(super) struct Cells(Box<[UnsafeCell<u8>]>);

    // SAFETY: as for the cells without loom. Whether that holds is what loom checks.
    unsafe impl Sync for Cells {}

    impl Cells {
        pub(super) fn zeroed(len: usize) -> Cells {
            Cells((0..len).map(|_| UnsafeCell::new(0)).collect())
        }

        pub(super) fn len(&self) -> usize {
            self.0.len()
        }

        /// A copy of the bytes, since loom lends a cell for one access only. The copy is leaked: a few
        /// bytes per model.
        pub(super) fn published(&self, from: usize, to: usize) -> &[u8] {
            // SAFETY: the pointer is to a live cell of `self`. Loom fails the test if another thread
            // writes to it.
            let read = |byte: *const u8| unsafe { *byte };
            self.0[from..to].iter().map(|cell| cell.with(read)).collect::<Vec<u8>>().leak()
        }

        pub(super) fn write(&self, from: usize, bytes: &[u8], _appender: &Appender) {
            for (cell, byte) in self.0[from..].iter().zip(bytes) {
                // SAFETY: the pointer is to a live cell of `self`. Loom fails the test if another thread
                // uses it too.
                cell.with_mut(|place| unsafe { *place = *byte });
            }
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn adjacent_appends_are_adjacent_bytes() {
        let mut appender = Segment::with_capacity(16);
        assert_eq!(appender.append(b"one ", None), 0);
        assert_eq!(appender.append(b"two", None), 4);
        assert_eq!(appender.room(), 9);
        assert_eq!(appender.segment().bytes(0, 7), b"one two");
    }

    #[test]
    fn a_patch_replaces_bytes_while_they_are_copied() {
        let mut appender = Segment::with_capacity(16);
        appender.append(b"id: ??\n", Some(Patch { at: 4, bytes: b"42" }));
        assert_eq!(appender.segment().bytes(0, 7), b"id: 42\n");
    }

    #[test]
    fn parts_become_adjacent_bytes_with_one_patch() {
        let mut appender = Segment::with_capacity(16);
        appender.append(b"-", None);
        assert_eq!(appender.append_parts([b"ab", b"", b"c??d"], Some(Patch { at: 3, bytes: b"12" })), 1);
        assert_eq!((appender.segment().bytes(0, 7), appender.len()), (b"-abc12d".as_slice(), 7));
    }

    #[test]
    #[should_panic(expected = "5 bytes where 4 fit")]
    fn parts_that_do_not_fit_together_are_not_appended() {
        Segment::with_capacity(4).append_parts([b"abc", b"de"], None);
    }

    #[test]
    #[should_panic(expected = "bytes 0..5 of a segment with 4")]
    fn what_is_not_published_cannot_be_read() {
        let mut appender = Segment::with_capacity(16);
        appender.append(b"four", None);
        let _ = appender.segment().bytes(0, 5);
    }

    #[test]
    fn only_a_segment_that_nobody_reads_is_used_again() {
        let mut appender = Segment::with_capacity(4);
        appender.append(b"four", None);
        let reader = Arc::clone(appender.segment());
        let segment = Arc::clone(appender.segment());
        drop(appender);
        assert!(Segment::reuse(segment).is_none());
        assert_eq!(reader.bytes(0, 4), b"four");
        let mut again = Segment::reuse(reader).unwrap();
        assert_eq!((again.len(), again.room()), (0, 4));
        again.append(b"new", None);
        assert_eq!(again.segment().bytes(0, 3), b"new");
    }

    #[test]
    #[should_panic(expected = "5 bytes where 4 fit")]
    fn what_does_not_fit_is_not_appended() {
        Segment::with_capacity(4).append(b"fives", None);
    }

    #[test]
    fn readers_on_other_threads_see_whole_frames_while_the_appender_goes_on() {
        let mut appender = Segment::with_capacity(64 * 1024);
        let (places, told) = std::sync::mpsc::channel::<(Arc<Segment>, usize, usize, u8)>();
        let reader = std::thread::spawn(move || {
            for (segment, from, to, byte) in told {
                assert!(segment.bytes(from, to).iter().all(|&found| found == byte));
            }
        });
        for round in 0..2000_u32 {
            let byte = (round % 251).to_le_bytes()[0];
            let frame = vec![byte; 1 + round as usize % 31];
            let from = appender.append(&frame, None);
            places.send((Arc::clone(appender.segment()), from, appender.len(), byte)).unwrap();
        }
        drop(places);
        reader.join().unwrap();
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;

    #[test]
    fn published_bytes_are_read_whole_while_more_are_appended() {
        loom::model(|| {
            let mut appender = Segment::with_capacity(4);
            let segment = Arc::clone(appender.segment());
            let reader = loom::thread::spawn(move || {
                let published = segment.published.load(Ordering::Acquire);
                let expected: &[u8] = &[1, 1, 2, 2][..published];
                assert_eq!(segment.bytes(0, published), expected);
            });
            appender.append(&[1, 0], Some(Patch { at: 1, bytes: &[1] }));
            appender.append(&[2, 2], None);
            reader.join().unwrap();
        });
    }
}
