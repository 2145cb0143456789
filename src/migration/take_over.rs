//! After a death: what an owner that is gone has left, and the way back.
//!
//! Headers in shared memory outlive the processes that use them, and a thread can be killed between
//! any two instructions. Nothing that the crate does needs more than the two words of the page, so
//! a survivor can always return a page to use. It needs to know *which* pages the dead thread used.
//! So each thread notes a page before it asks for it, and strikes it out after it has let go of it.
//! The rest follows from the note and the words:
//!
//! 1. [`PageLock::take_over`], if the dead may have owned the page. It finds the stage and gives it
//!    to the survivor, which ends it like one of its own. For this crate, dropping it is always
//!    right; the survivor puts entries back, as after any abort.
//! 2. [`PageLock::put_raw`] and [`PageLock::unpin_raw`] for each reference and pin that the dead
//!    had.
//! 3. [`PageLock::reset_sleepers`], if it may have died in a call that sleeps for the lock.
//! 4. [`PageLock::retell`], if it may have died in a release, in an unpin, in a call that sleeps
//!    for the lock, or after a wake that was meant for it.
//!
//! # Killed after each step
//!
//! A step is one atomic operation. What is not listed changes nothing (looks, a failed
//! compare-exchange).
//!
//! | call | killed after | leaves | way back |
//! |---|---|---|---|
//! | `lock`, `try_lock`, `claim`, ... | taking the page | locked | take over: [`Locked`](TakenOver::Locked) |
//! | `lock` and those like it | registering, or asleep | a sleeper that does not exist | `reset_sleepers` |
//! | | being woken | the same, and its wake used up: others sleep for a page that is free | `reset_sleepers`, `retell` |
//! | | taking the page as the last that was registered | locked, and those outside not told that the gate is open | take over; `retell` |
//! | | giving up | its wake not passed on, nobody told | `retell` |
//! | `wait_unlocked`, `claim`, ... | setting the flag, or asleep | one needless wake | nothing to do |
//! | | being woken | its wake not [passed on](crate::futex) | `retell` |
//! | every release | the add | free, nobody told | `retell` |
//! | | waking the locker | free, waiters not told | `retell` |
//! | `begin_migration` | the or | locked, migrating | take over: [`Migrating`](TakenOver::Migrating) |
//! | `cancel`, `commit_keeping` | the and | locked; who waits for the migration is not told | take over: `Locked`; its release tells |
//! | `freeze` | the compare-exchange | frozen | take over: [`Frozen`](TakenOver::Frozen) |
//! | `wait_unpinned`, `freeze_unpinned` | the or, with pins left | migrating, frozen, pinned | take over thaws it: `Migrating` |
//! | | the last unpin | migrating, frozen | take over: `Frozen` |
//! | `thaw`, or the thaw in `abort`, `commit_in_place`, ... | the and | locked, migrating | take over: `Migrating`. Of a commit too: the entries are up, and an abort does what is left to do |
//! | `commit_to_moving(dst, n)` | counting them on `dst` | source frozen, `dst` locked, `n` references counted twice | take over both; `n` times `put_raw` on the source; `commit_to` |
//! | | taking them from the source | source frozen, `dst` locked | take over both; `commit_to`. If the source is free, nobody else says so |
//! | | the bits on `dst` | the same | the same |
//! | | the thaw | source migrating, `dst` locked | take over both; clear the source's bits; drop both |
//! | | clearing the source's bits | the same | the same |
//! | | the release of `dst` | source migrating, waiters for `dst` not told | take over the source, clear its bits, drop it; `retell` on `dst` |
//! | | the release of the source | free, nobody told | `retell` on both |
//! | `poison` of a guard | freezing the counts | locked, frozen, not migrating | take over: [`Poisoning`](TakenOver::Poisoning) |
//! | `poison` of a later stage | freezing the counts | as `wait_unpinned` | as there: that the contents are lost, the dead has told nobody |
//! | `unpoison` | clearing POISONED | as `poison` of a guard | take over: `Poisoning`; finish it, and `unpoison` again |
//! | `activate`, `try_get`, `try_pin` | the compare-exchange | counted for nobody | `put_raw`, `unpin_raw` |
//! | `put`, `unpin` | the compare-exchange | given back; if it was the last, nobody heard so | a page that was noted and is free: free its memory. `retell`, if a migrator may wait for the last unpin |
//! | `set_user` | the compare-exchange | written | nothing to do |
//! | `Cancel::cancel` | the or | thrown, and nobody told | `cancel` again |
//! | `take_over` | the thaw | locked, migrating | take over again |
//! | `reset_sleepers`, `retell` | any step | somebody not told | again |
//!
//! Some rows leave the same words: a migration that has not come to its freeze, beside a `dst` that
//! is locked already, looks like a commit that was killed after its thaw. The entries tell them
//! apart. Only where they lead to `dst` was there a commit; anywhere else the source's bits are
//! still the only ones.
//!
//! Between "given back" and "struck out of the notes" a survivor would give it back twice. So
//! whoever notes counts compares them: what all notes of the living say, and what the word says.

use super::{Frozen, Migration};
use crate::futex::{Futex, OsFutex};
use crate::lock::{PageGuard, Released};
use crate::owner;
use crate::page::PageLock;
use crate::sync::Ordering::Acquire;
use crate::word::Count;
use core::fmt;
use core::mem::forget;

impl<F: Futex> PageLock<F> {
    /// Makes what a dead owner has left the caller's. `None` if the page is not locked: then nobody
    /// owned it, or the dead had released it already.
    ///
    /// The stage is found from the page's two words, whatever step the owner died at; a wait for
    /// the last unpin is ended. The [table](crate::migration::take_over#killed-after-each-step)
    /// lists all of them.
    ///
    /// # Safety
    ///
    /// * Whoever locked the page last, and has not released it, is dead or will never use the page
    ///   again: its guard or stage is gone. If it is alive, there are two owners.
    /// * Its death happened before this call: the caller has reaped the process, or learned of the
    ///   end in another way that orders memory.
    /// * Nobody else takes over from the same owner. Two survivors have to agree on one of them
    ///   first, by whatever means they share; the page's words cannot tell them apart.
    ///
    /// # Example
    ///
    /// ```
    /// use pagelock::{FreezeRule, PageLock, TakenOver};
    ///
    /// let page = PageLock::new();
    /// page.activate(1).unwrap();
    /// let frozen = page.lock().begin_migration().freeze(FreezeRule::Unpinned).unwrap();
    /// std::mem::forget(frozen); // its owner is gone
    ///
    /// // SAFETY: nobody has the page any more, and nobody else takes over.
    /// match unsafe { page.take_over() } {
    ///     Some(TakenOver::Frozen(frozen)) => drop(frozen.abort()), // after putting back the entries
    ///     other => panic!("{other:?}"),
    /// }
    /// assert!(page.try_pin().is_ok());
    /// ```
    #[cfg_attr(feature = "owner", track_caller)]
    pub unsafe fn take_over(&self) -> Option<TakenOver<'_, F>> {
        let state = self.state();
        if !state.is_locked() {
            return None;
        }
        owner::note(self);
        // Acquire: pairs with the Release of put and unpin, as in `freeze`. The dead owner's own
        // steps are ordered before this call by the caller's promise.
        let counts = Count(self.count.load(Acquire));
        // A poisoned page is frozen for good, whatever its stage.
        let is_frozen = counts.is_frozen() && !state.is_poisoned();
        Some(match (state.is_migrating(), is_frozen) {
            (false, false) => TakenOver::Locked(PageGuard { page: self }),
            (false, true) => TakenOver::Poisoning(Poisoning { page: self }),
            (true, false) => TakenOver::Migrating(Migration { page: self }),
            (true, true) if counts.pins() == 0 => TakenOver::Frozen(Frozen::of(self)),
            (true, true) => {
                self.thaw();
                TakenOver::Migrating(Migration { page: self })
            }
        })
    }

    /// Wakes everybody who may be asleep because of this page, after a thread has died between a
    /// release and its wakes: lockers, waiters, and a migrator that waits for the last unpin. Calls
    /// [`Futex::tell`] as that release would have.
    ///
    /// Whoever is woken looks again, so this is never wrong; it costs needless wakes where nothing
    /// was lost. It works whether or not the page has been taken by somebody else since.
    ///
    /// # Safety
    ///
    /// The calling thread does not own the page, and neither does anybody whom the platform's
    /// `tell` waits for: `tell` may lock it.
    pub unsafe fn retell(&self) {
        // By address, as a release does: the page may be freed by whoever is woken first.
        let (futex, key) = (self.futex, self.key());
        futex.wake_all(core::ptr::from_ref(&self.state));
        futex.tell(key);
    }
}

/// What a dead owner has left, and the survivor has now. Dropping it ends the stage: unlocked,
/// migrations aborted, a poisoning finished, everybody told who waits.
#[must_use = "the stage is ended when this is dropped"]
#[non_exhaustive]
pub enum TakenOver<'a, F: Futex = OsFutex> {
    /// The page was locked, no more.
    Locked(PageGuard<'a, F>),
    /// The page was migrating, and its counts move.
    Migrating(Migration<'a, F>),
    /// The page was frozen. How far its owner came with the bytes and the entries, its entries say.
    Frozen(Frozen<'a, F>),
    /// The owner had found the contents lost and was about to say so.
    Poisoning(Poisoning<'a, F>),
}

impl<'a, F: Futex> TakenOver<'a, F> {
    /// The page.
    #[must_use]
    pub fn page(&self) -> &'a PageLock<F> {
        match self {
            Self::Locked(guard) => guard.page(),
            Self::Migrating(migration) => migration.page(),
            Self::Frozen(frozen) => frozen.page(),
            Self::Poisoning(poisoning) => poisoning.page(),
        }
    }
}

impl<F: Futex> fmt::Debug for TakenOver<'_, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Locked(guard) => guard.fmt(f),
            Self::Migrating(migration) => migration.fmt(f),
            Self::Frozen(frozen) => frozen.fmt(f),
            Self::Poisoning(poisoning) => poisoning.fmt(f),
        }
    }
}

/// A page in the middle of being poisoned: locked, its counts frozen for good. Dropping it finishes
/// that.
#[must_use = "the page is poisoned when this is dropped"]
pub struct Poisoning<'a, F: Futex = OsFutex> {
    page: &'a PageLock<F>,
}

impl<'a, F: Futex> Poisoning<'a, F> {
    /// The page.
    #[must_use]
    pub fn page(&self) -> &'a PageLock<F> {
        self.page
    }

    /// Does what the dead owner was about to do: see [`PageGuard::poison`].
    pub fn finish(self) -> Released {
        let page = self.page;
        forget(self);
        page.poison(false)
    }

    /// Leaves the page unpoisoned after all, for a survivor that knows that its contents are good.
    pub fn thaw(self) -> PageGuard<'a, F> {
        let page = self.page;
        forget(self);
        page.thaw();
        PageGuard { page }
    }
}

impl<F: Futex> Drop for Poisoning<'_, F> {
    fn drop(&mut self) {
        self.page.poison(false);
    }
}
