//! Invalidations as guards: one of a notifier, and one by the protocol itself.

use super::Notifier;
use crate::futex::{Futex, OsFutex};
use crate::mm::{Cause, Notice, Tables};
use core::fmt;

/// An invalidation that is on. Dropping it ends it. [`Notifier::begin`] makes one.
///
/// ```
/// use pagelock::mm::range::{Invalidation, Notifier};
/// let notifier = Notifier::new();
/// let on: Invalidation<'_> = notifier.begin();
/// drop(on);
/// assert_eq!(notifier.active(), 0);
/// ```
#[must_use = "the invalidation is over when this is dropped"]
pub struct Invalidation<'n, F: Futex = OsFutex> {
    notifier: &'n Notifier<F>,
}

impl<'n, F: Futex> Invalidation<'n, F> {
    /// The guard of one that was begun.
    pub(super) fn of(notifier: &'n Notifier<F>) -> Self {
        Self { notifier }
    }
}

impl<F: Futex> Drop for Invalidation<'_, F> {
    fn drop(&mut self) {
        self.notifier.end_raw();
    }
}

impl<F: Futex> fmt::Debug for Invalidation<'_, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Invalidation").field(self.notifier).finish()
    }
}

/// Between [`Tables::invalidate`] and [`Tables::invalidated`].
#[must_use]
pub(in crate::mm) struct Invalidating<'m, M: Tables> {
    mm: &'m M,
    at: M::Address,
}

/// An entry is about to lose its page. Called without any page-table lock; keep the value until
/// that has been released again.
pub(in crate::mm) fn invalidating<M: Tables>(
    mm: &M,
    at: M::Address,
    notice: Notice,
) -> Invalidating<'_, M> {
    mm.invalidate(at, notice);
    Invalidating { mm, at }
}

/// The notice of a change on nobody's behalf.
pub(in crate::mm) fn notice(cause: Cause) -> Notice {
    Notice { cause, owner: 0 }
}

impl<M: Tables> Drop for Invalidating<'_, M> {
    fn drop(&mut self) {
        self.mm.invalidated(self.at);
    }
}
