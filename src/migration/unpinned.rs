//! A migrator that waits for the last unpin. [`migration`](super) has the protocol.

use super::{Busy, FreezeRule, Frozen, Migration};
use crate::futex::Futex;
use crate::page::PageLock;
use crate::sync::Ordering::{AcqRel, Acquire, Relaxed};
use crate::wait::{Limits, Registered, Wake};
use crate::word::Count;
use crate::word::count::FROZEN;
use core::fmt;

impl<'a, F: Futex> Migration<'a, F> {
    /// Waits until the page has no pins. During the call new pins are refused. Afterwards
    /// [`PageLock::try_pin`] is refused because the page is migrating, but a call that had begun
    /// before that may still succeed; only [`freeze_unpinned`](Self::freeze_unpinned) and
    /// [`freeze`](Self::freeze) rule that out.
    ///
    /// During the call new references are refused as well (`try_get` returns
    /// [`Frozen`](crate::GetError::Frozen)), and afterwards not. If the page's entries are up,
    /// accesses go on, and only a thread that would make another entry must
    /// [wait](PageLock::wait_migration). If they are down, every access waits: a thread that
    /// accesses a page which it has pinned itself waits until the limits are reached.
    ///
    /// It takes the migration by `&mut`, because the page is frozen during the call: of two threads
    /// that wait, one would thaw it under the other.
    ///
    /// ```compile_fail,E0596
    /// # use pagelock::{Limits, Migration, PageLock};
    /// fn two_threads<'a>(migration: &'a Migration<'a>) {
    ///     std::thread::scope(|s| {
    ///         s.spawn(|| migration.wait_unpinned(Limits::none()));
    ///         s.spawn(|| migration.wait_unpinned(Limits::none()));
    ///     });
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`StillPinned`], within `limits`, with nothing changed.
    ///
    /// # Example
    ///
    /// ```
    /// use pagelock::{Limits, PageLock};
    ///
    /// static PAGE: PageLock = PageLock::new();
    /// PAGE.activate(1).unwrap();
    ///
    /// let pin = PAGE.try_pin().unwrap();
    /// let device = std::thread::spawn(move || drop(pin)); // ... when it is done.
    /// let mut migration = PAGE.lock().begin_migration();
    /// migration.wait_unpinned(Limits::none()).unwrap();
    /// assert_eq!(PAGE.pins(), 0);
    /// # device.join().unwrap();
    /// ```
    pub fn wait_unpinned(&mut self, limits: Limits<'_, F>) -> Result<(), StillPinned> {
        if self.page.is_poisoned() {
            // Its counts are frozen for good.
            let pins = self.page.pins();
            return if pins == 0 {
                Ok(())
            } else {
                Err(StillPinned { pins, wake: Wake::Poisoned })
            };
        }
        let (drained, wake) = Drained::wait(self.page, |ready| ready.sleep(&limits));
        match drained.end() {
            0 => Ok(()),
            pins => Err(StillPinned { pins, wake }),
        }
    }

    /// [`freeze`](Self::freeze) that waits, within `limits`, until the page has no pins: see
    /// [`wait_unpinned`](Self::wait_unpinned). No pin comes between the last unpin and the freeze.
    ///
    /// It does not wait for references.
    ///
    /// # Errors
    ///
    /// [`Busy`], with nothing changed. Pins are left if the limits were reached.
    ///
    /// # Example
    ///
    /// ```
    /// use pagelock::{FreezeRule, Limits, PageLock};
    ///
    /// static PAGE: PageLock = PageLock::new();
    /// PAGE.activate(1).unwrap();
    ///
    /// let pin = PAGE.try_pin().unwrap();
    /// let device = std::thread::spawn(move || drop(pin)); // ... when it is done.
    /// let migration = PAGE.lock().begin_migration();
    /// let frozen = migration.freeze_unpinned(FreezeRule::Unpinned, Limits::none()).unwrap();
    /// frozen.commit_in_place();
    /// # device.join().unwrap();
    /// ```
    pub fn freeze_unpinned(
        self,
        rule: FreezeRule,
        limits: Limits<'_, F>,
    ) -> Result<Frozen<'a, F>, Busy<'a, F>> {
        if self.page.is_poisoned() {
            return self.freeze(rule);
        }
        let (drained, _) = Drained::wait(self.page, |ready| ready.sleep(&limits));
        // Acquire: pairs with the Release of unpin, and of put.
        let seen = Count(self.page.count.load(Acquire));
        if seen.pins() == 0 && rule.allows(seen.thawed()) {
            // References may have been put since the count, as on any frozen page.
            core::mem::forget(drained);
            return Ok(self.into_frozen());
        }
        drained.end();
        self.freeze(rule)
    }
}

/// A page that refuses references and pins while the migrator waits for the last unpin. Dropping it
/// thaws the counts, also when a sleep panics.
struct Drained<'a, F: Futex> {
    page: &'a PageLock<F>,
}

impl<'a, F: Futex> Drained<'a, F> {
    /// Steps (1) to (4), until there are no pins or `sleep` reports that a limit is reached. The
    /// page's owner calls this, and the page is not frozen.
    fn wait(page: &'a PageLock<F>, sleep: impl Fn(Registered<F>) -> Wake) -> (Self, Wake) {
        debug_assert!(!page.is_frozen(), "{page:?}");
        let mut ready = Registered::read(page.futex, page.key());
        // Relaxed, here and below: the deciding value is re-read, with Acquire.
        let mut seen = Count(page.count.fetch_or(FROZEN, Relaxed));
        let drained = Self { page };
        while seen.pins() > 0 {
            let wake = sleep(ready);
            // The sequence first, as in (1): a last unpin after this look bumps it.
            ready = Registered::read(page.futex, page.key());
            seen = Count(page.count.load(Relaxed));
            if wake != Wake::Released {
                return (drained, wake);
            }
        }
        (drained, Wake::Released)
    }
}

impl<F: Futex> Drained<'_, F> {
    /// Thaws the counts, and returns how many pins were left then.
    fn end(self) -> u32 {
        let page = self.page;
        core::mem::forget(self);
        // Acquire: a caller that learns here that the last pin is gone sees what its holder did.
        // Release: as for any thaw.
        Count(page.count.fetch_and(!FROZEN, AcqRel)).pins()
    }
}

impl<F: Futex> Drop for Drained<'_, F> {
    fn drop(&mut self) {
        self.page.thaw();
    }
}

/// Why [`Migration::wait_unpinned`] failed: the page still has pins.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub struct StillPinned {
    /// How many are left.
    pub pins: u32,
    /// Why the wait ended: [`Wake::TimedOut`], [`Wake::Cancelled`] or [`Wake::Poisoned`].
    pub wake: Wake,
}

impl fmt::Display for StillPinned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the page still has {} pins, and the wait for them has ended: {:?}",
            self.pins, self.wake
        )
    }
}

impl core::error::Error for StillPinned {}
