//! How a page is pinned.

use super::Term;
use crate::futex::FutexTimed;
use crate::mm::Access;
use crate::wait::Limits;
use core::fmt;

/// How pages are to be pinned.
pub struct PinOrder<'c, F: FutexTimed> {
    /// What it is for.
    pub access: Access,
    /// How long it will last.
    pub term: Term,
    /// How long it may take: how long to wait for pages and their owners. [Batches](super::drain)
    /// that are drained, before a page is moved or brought in once more, are waited for as long as
    /// that takes.
    pub limits: Limits<'c, F>,
    /// How often to fault, to move, to wait before it is too often.
    pub patience: u32,
}

impl<'c, F: FutexTimed> PinOrder<'c, F> {
    /// Within `limits`, with patience for 1024 rounds.
    #[must_use]
    pub fn new(access: Access, term: Term, limits: Limits<'c, F>) -> Self {
        Self { access, term, limits, patience: 1024 }
    }

    /// The same, with so much patience; 0 is taken as 1.
    #[must_use]
    pub fn patience(mut self, rounds: u32) -> Self {
        self.patience = rounds;
        self
    }
}

impl<F: FutexTimed> Clone for PinOrder<'_, F> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<F: FutexTimed> Copy for PinOrder<'_, F> {}

impl<F: FutexTimed> fmt::Debug for PinOrder<'_, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PinOrder")
            .field("access", &self.access)
            .field("term", &self.term)
            .finish_non_exhaustive()
    }
}
