//! Invalidations: readers that keep copies of entries are told before they change.

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
    ///
    /// ```
    /// # let (mm, at) = pagelock_soft::example();
    /// let notifier = mm.notifier(at.space).unwrap();
    /// let ticket = notifier.try_ticket().unwrap();
    /// mm.unmap(at, 1).unwrap();
    /// assert!(!notifier.is_good(ticket));
    /// ```
    #[must_use]
    pub fn notifier(&self, space: SpaceId) -> Option<&Notifier<F>> {
        self.notifiers.get(usize::try_from(space.0).ok()?)
    }

    /// The log of that notifier, in numbers of pages.
    ///
    /// ```
    /// # let (mm, at) = pagelock_soft::example();
    /// let (notifier, log) = (mm.notifier(at.space).unwrap(), mm.log(at.space).unwrap());
    /// let mut ticket = notifier.try_ticket().unwrap();
    /// mm.unmap(at, 1).unwrap();
    /// assert!(log.keeps(notifier, &mut ticket, &(1..8)));
    /// ```
    #[must_use]
    pub fn log(&self, space: SpaceId) -> Option<&Log> {
        self.logs.get(usize::try_from(space.0).ok()?)
    }

    /// Sets the function that is told, when an invalidation has begun, of its first page and of how
    /// many pages there are: the place where a device forgets its copies.
    ///
    /// Called without page-table locks, one call at a time, and sometimes with page locks; it may
    /// not access pages itself.
    ///
    /// ```
    /// # let (mm, at) = pagelock_soft::example();
    /// let (send, told) = std::sync::mpsc::channel();
    /// mm.on_invalidate(move |at, count| send.send((at, count)).unwrap());
    /// mm.unmap(at, 2).unwrap();
    /// assert_eq!(told.try_recv(), Ok((at, 2)));
    /// ```
    pub fn on_invalidate(&self, mut tell: impl FnMut(At, usize) + Send + 'static) {
        self.on_notice(move |at, count, _| tell(at, count));
    }

    /// [`on_invalidate`](Self::on_invalidate) with the reason: `None` for what the space does by
    /// itself.
    ///
    /// ```
    /// # let (mm, at) = pagelock_soft::example();
    /// mm.on_notice(|_, _, notice| assert_eq!(notice, None));
    /// mm.unmap(at, 2).unwrap();
    /// ```
    pub fn on_notice(&self, tell: impl FnMut(At, usize, Option<Notice>) + Send + 'static) {
        *self.on_invalidate.lock() = Some(Box::new(tell));
        // Release: pairs with the look in `begin_invalidation`.
        self.is_watched.store(true, Release);
    }

    /// `count` pages are about to change. Call it without page-table locks, and keep the value
    /// until they are released again.
    pub(super) fn invalidating(&self, at: At, count: usize) -> Invalidating<'_, F, C> {
        // The space's own doing, so nobody has to be told why.
        self.begin_invalidation(at, count, None);
        Invalidating { mm: self, at }
    }

    pub(super) fn begin_invalidation(&self, at: At, count: usize, notice: Option<Notice>) {
        self.count(|counts| &counts.invalidations);
        if let (Some(notifier), Some(log)) = (self.notifier(at.space), self.log(at.space)) {
            log.begin_raw(notifier, at.page..at.page.saturating_add(count));
        }
        // Acquire: pairs with `on_invalidate`. A look first, so that threads without devices do not
        // meet at one lock.
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
