//! The slices offered to a driver for one send, and the runs that own their bytes.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::ops::Deref;

use crate::frame::run::Run;

/// The slices of one send, first bytes first, with their runs.
///
/// A driver that finishes with the bytes during the call uses only the slices. A driver whose kernel
/// reads them later keeps a clone of each run: a slice's bytes stay in place as long as a clone of its
/// run lives.
#[derive(Clone, Copy, Debug)]
pub struct Offer<'a> {
    slices: &'a [IoSlice<'a>],
    front: Option<&'a Run>,
    rest: Option<&'a VecDeque<Run>>,
}

impl<'a> Offer<'a> {
    /// Slice `n` lies in run `n` of `front` and `rest`. There may be more runs than slices.
    pub(super) fn new(
        slices: &'a [IoSlice<'a>],
        front: Option<&'a Run>,
        rest: Option<&'a VecDeque<Run>>,
    ) -> Offer<'a> {
        debug_assert!(slices.len() <= front.iter().len() + rest.map_or(0, VecDeque::len), "a run for each");
        Offer { slices, front, rest }
    }

    /// The bytes, in order.
    #[must_use]
    #[inline]
    pub fn slices(&self) -> &'a [IoSlice<'a>] {
        self.slices
    }

    /// The bytes of all slices together.
    #[must_use]
    #[inline]
    pub fn bytes(&self) -> usize {
        self.slices.iter().map(|slice| slice.len()).sum()
    }

    /// The slice and its run, if there is only one.
    #[must_use]
    #[inline]
    pub fn single(&self) -> Option<(&'a IoSlice<'a>, &'a Run)> {
        match (self.slices, self.front) {
            ([slice], Some(run)) => Some((slice, run)),
            _ => None,
        }
    }

    /// The run of each slice.
    #[inline]
    pub fn runs(&self) -> impl Iterator<Item = &'a Run> + use<'a> {
        self.front.into_iter().chain(self.rest.into_iter().flatten()).take(self.slices.len())
    }
}

impl<'a> Deref for Offer<'a> {
    type Target = [IoSlice<'a>];

    fn deref(&self) -> &[IoSlice<'a>] {
        self.slices
    }
}
