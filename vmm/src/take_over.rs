//! The pages of an owner that is gone without an end: a guard that was leaked, a thread that was
//! killed.

use crate::place::Place;
use crate::region::Region;
use crate::stats::Counter;
use std::sync::Arc;
use std::sync::atomic::{
    Ordering::{Relaxed, SeqCst},
    fence,
};

/// What came of [taking a page over](Region::take_over).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum TakenOver {
    /// Nobody owned it.
    NotOwned,
    /// It is free again, as it was before its owner came, and waiters are told.
    Released,
    /// Its owner had taken the bytes out and not said that they are safe. The contents are lost,
    /// and accesses fail, where the kernel can do that: zeroes would be worse.
    Lost,
}

impl Region {
    /// Releases a page whose owner is gone. The [report](Self::report) says what it did, and since
    /// when.
    ///
    /// # Safety
    ///
    /// As [`PageLock::take_over`](pagelock::PageLock::take_over): the owner's guard is gone and
    /// will not be used again, its end happened before this call, and nobody else takes the page
    /// over. Otherwise the page has two owners.
    ///
    /// # Example
    ///
    /// ```
    /// # use pagelock_vmm::TakenOver;
    /// # use pagelock_vmm::soft::SoftRam;
    /// let (_, region) = SoftRam::region(8)?;
    /// std::mem::forget(region.prefetch(2..3).next()); // by a mistake somewhere
    /// // SAFETY: the guard is leaked, so its end never comes, and nobody else takes the page over.
    /// assert_eq!(unsafe { region.take_over(2) }, TakenOver::Released);
    /// assert!(region.prefetch(2..3).next().is_some());
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub unsafe fn take_over(self: &Arc<Self>, page: usize) -> TakenOver {
        let Some(header) = self.headers.get(page) else { return TakenOver::NotOwned };
        // SAFETY: the caller's promise.
        let Some(stage) = (unsafe { header.take_over() }) else { return TakenOver::NotOwned };
        self.seats.strike(page);
        let mut lost = false;
        match stage {
            pagelock::TakenOver::Locked(guard) => drop(guard),
            pagelock::TakenOver::Migrating(migration) => _ = migration.abort(),
            pagelock::TakenOver::Frozen(mut frozen) => {
                // Frozen and "in": an eviction, whose page is gone, or a cleaning, whose page is
                // there. It can be poisoned only where there is none.
                let there =
                    |error: std::io::Error| error.kind() == std::io::ErrorKind::AlreadyExists;
                lost = Place::of(header.user()) == Place::In
                    && !self.layer.poison(self.at(page)).is_err_and(there);
                let _ = if lost {
                    frozen.set_user(Place::Out.bits(false));
                    self.resident.0.fetch_sub(1, Relaxed);
                    frozen.poison()
                } else {
                    frozen.commit_in_place()
                };
            }
            pagelock::TakenOver::Poisoning(poisoning) => {
                lost = true;
                let _ = poisoning.finish();
            }
            _ => {}
        }
        if lost {
            self.counters.count(Counter::Poisoned);
        }
        self.wake(page);
        // SeqCst: as after any release of an owner.
        fence(SeqCst);
        self.settle_released(page);
        if lost { TakenOver::Lost } else { TakenOver::Released }
    }
}
