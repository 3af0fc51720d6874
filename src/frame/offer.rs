//! What is offered to a driver for one send: slices, and the runs that own their bytes.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::ops::Deref;

use crate::frame::run::Run;

/// The slices of one send, first bytes first, with the runs they lie in.
///
/// A driver that is done with the bytes when its call returns looks at the slices alone. One that has the kernel look
/// later keeps a clone of each run: the bytes of a slice stay where they are for as long as a clone of its run lives.
#[derive(Clone, Copy, Debug)]
pub struct Offer<'a> {
    slices: &'a [IoSlice<'a>],
    front: Option<&'a Run>,
    rest: Option<&'a VecDeque<Run>>,
}

impl<'a> Offer<'a> {
    /// `slices` lie in the runs at the same places of `front` and `rest`, which may have more.
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

    /// How many bytes all slices have together.
    #[must_use]
    #[inline]
    pub fn bytes(&self) -> usize {
        self.slices.iter().map(|slice| slice.len()).sum()
    }

    /// The slice and its run, where there is one alone.
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
