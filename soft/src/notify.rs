//! Invalidations: whoever keeps copies of entries is told before they change.

use super::{At, Soft, SpaceId};
use alloc::boxed::Box;
use core::sync::atomic::Ordering::{Acquire, Release};
use pagelock::futex::Futex;
use pagelock::mm::Notice;
use pagelock::mm::drain::Cpus;
use pagelock::mm::range::{Log, Notifier};

/// An invalidation that is on.
pub(super) struct Invalidating<'m, F: Futex, C: Cpus> {
    mm: &'m Soft<F, C>,
    at: At,
}

impl<F: Futex, C: Cpus> Soft<F, C> {
    /// The notifier of an address space: unmap, discard, protect, remap, fork, copy on write,
    /// migration and exclusive access invalidate through it. `None` if there can be no such space.
    #[must_use]
    pub fn notifier(&self, space: SpaceId) -> Option<&Notifier<F>> {
        self.notifiers.get(usize::try_from(space.0).ok()?)
    }

    /// The log of that notifier, in numbers of pages.
    #[must_use]
    pub fn log(&self, space: SpaceId) -> Option<&Log> {
        self.logs.get(usize::try_from(space.0).ok()?)
    }

    /// Who is told, when an invalidation has begun, of the first page, how many there are: the
    /// place where a device forgets its copies.
    ///
    /// Called without page-table locks, one call at a time, and sometimes with page locks; it may
    /// not access pages itself.
    pub fn on_invalidate(&self, mut tell: impl FnMut(At, usize) + Send + 'static) {
        self.on_notice(move |at, count, _| tell(at, count));
    }

    /// The same, with why: `None` for what the space does by itself.
    pub fn on_notice(&self, tell: impl FnMut(At, usize, Option<Notice>) + Send + 'static) {
        *self.on_invalidate.lock() = Some(Box::new(tell));
        // Release: pairs with the look in `begin_invalidation`.
        self.is_watched.store(true, Release);
    }

    /// `count` pages are about to change. To be called without page-table locks, and kept until
    /// they are let go of again.
    pub(super) fn invalidating(&self, at: At, count: usize) -> Invalidating<'_, F, C> {
        // The space's own doing: nobody has to be told why.
        self.begin_invalidation(at, count, None);
        Invalidating { mm: self, at }
    }

    pub(super) fn begin_invalidation(&self, at: At, count: usize, notice: Option<Notice>) {
        self.count(|counts| &counts.invalidations);
        if let (Some(notifier), Some(log)) = (self.notifier(at.space), self.log(at.space)) {
            log.begin_raw(notifier, at.page..at.page.saturating_add(count));
        }
        // Acquire: pairs with `on_invalidate`. So that those who have no devices do not meet at one
        // lock.
        if self.is_watched.load(Acquire) {
            if let Some(tell) = &mut *self.on_invalidate.lock() {
                tell(at, count, notice);
            }
        }
    }

    pub(super) fn end_invalidation(&self, at: At) {
        if let Some(notifier) = self.notifier(at.space) {
            notifier.end_raw();
        }
    }
}

impl<F: Futex, C: Cpus> Drop for Invalidating<'_, F, C> {
    fn drop(&mut self) {
        self.mm.end_invalidation(self.at);
    }
}
