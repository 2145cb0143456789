//! After a death: what a dead owner leaves, and the way back.
//!
//! Headers in shared memory outlive the processes that use them, and a thread can be killed between
//! any two instructions. No step of the crate needs more than the two words of the page, so a
//! survivor can always make a page usable again. It must know *which* pages the dead thread used.
//! So each thread notes a page before it asks for it, and removes the note after it has let go of
//! the page. The rest follows from the note and the words:
//!
//! 1. [`PageLock::take_over`], if the dead thread may have owned the page. It finds the stage and
//!    gives it to the survivor, which ends it like one of its own. For this crate, dropping it is
//!    always right; the survivor puts entries back, as after any abort.
//! 2. [`PageLock::put_raw`] and [`PageLock::unpin_raw`] for each of its references and pins.
//! 3. [`PageLock::reset_sleepers`], if it may have died in a call that sleeps for the lock.
//! 4. [`PageLock::retell`], if it may have died in a release, in an unpin, in a call that sleeps
//!    for the lock, or after a wake that was meant for it.
//!
//! # Killed after each step
//!
//! A step is one atomic operation. Steps that are not listed change nothing (looks, a failed
//! compare-exchange). Where the way back names a stage, [`PageLock::take_over`] returns it.
//!
//! ## Locking: `lock`, `try_lock`, `claim` and those like them
//!
//! | killed after | leaves | way back |
//! |---|---|---|
//! | taking the page | locked | [`Locked`](TakenOver::Locked) |
//! | registering, or asleep | a sleeper that does not exist | `reset_sleepers` |
//! | a wake | the same, and its wake used up (a) | `reset_sleepers`, `retell` |
//! | taking the page as the last sleeper | locked, the crowd not told (b) | `Locked`; `retell` |
//! | giving up | its wake not passed on, no thread told | `retell` |
//!
//! (a) Others may sleep for a page that is free. (b) The gate is open, and those outside do not
//! know.
//!
//! ## Waiting and releasing: `wait_unlocked`, `claim`, `cancel` and those like them
//!
//! | killed after | leaves | way back |
//! |---|---|---|
//! | setting the flag, or asleep | one needless wake | nothing to do |
//! | a wake from the event slot | its wake not [passed on](crate::futex) | `retell` |
//! | the add of any release | free, no thread told | `retell` |
//! | waking the locker | free, waiters not told | `retell` |
//! | the or of `Cancel::cancel` | thrown, no waiter told | `cancel` again |
//! | a step of `reset_sleepers` or `retell` | threads not told | the same call again |
//!
//! ## Migrating
//!
//! | killed after | leaves | way back |
//! |---|---|---|
//! | the or of `begin_migration` | locked, migrating | [`Migrating`](TakenOver::Migrating) |
//! | the and of `cancel`, `commit_keeping` | locked, waiters untold | `Locked`; its release tells |
//! | the compare-exchange of `freeze` | frozen | [`Frozen`](TakenOver::Frozen) |
//! | the or of `wait_unpinned`, pins left | migrating, frozen, pinned | thawed: `Migrating` |
//! | the last unpin of that wait | migrating, frozen | `Frozen` |
//! | the thaw, in any call | locked, migrating | `Migrating` (c) |
//! | the thaw of `take_over` | locked, migrating | `Migrating`: take over again |
//!
//! (c) After the thaw of a commit, the entries are up, and an abort does the rest.
//!
//! ## Committing to another header: `commit_to_moving(dst, n)`, and `commit_to`
//!
//! | killed after | leaves | way back |
//! |---|---|---|
//! | counting `n` on `dst` | source frozen, `dst` locked, `n` counted twice | (d) |
//! | taking `n` from the source | source frozen, `dst` locked | take over both; `commit_to` (e) |
//! | writing the bits on `dst` | the same | the same |
//! | the thaw | source migrating, `dst` locked | take over both; clear the source's bits |
//! | clearing the source's bits | the same | take over both |
//! | the release of `dst` | source migrating, waiters for `dst` not told | (f) |
//! | the release of the source | free, no thread told | `retell` on both |
//!
//! (d) Take over both; `n` times `put_raw` on the source; `commit_to`. (e) If the source is free,
//! only its count says so. (f) Take over the source, clear its bits, drop it; `retell` on `dst`.
//!
//! Some rows leave the same words: a migration before its freeze, beside a `dst` that is locked
//! already, looks like a commit that was killed after its thaw. The entries tell them apart. Only
//! where they lead to `dst` was there a commit; otherwise only the source's bits are valid.
//!
//! ## Counts, bits and poison
//!
//! | killed after | leaves | way back |
//! |---|---|---|
//! | counting, in `activate`, `try_get`, `try_pin` | a count too many | `put_raw`, `unpin_raw` |
//! | giving back, in `put`, `unpin` | given back; if it was the last, untold | (g) |
//! | the compare-exchange of `set_user` | written | nothing to do |
//! | freezing, in `poison` of a guard | locked, frozen | [`Poisoning`](TakenOver::Poisoning) |
//! | freezing, in `poison` of a later stage | migrating, frozen | `Frozen` or `Migrating` (h) |
//! | clearing POISONED, in `unpoison` | locked, frozen | finish the `Poisoning`; `unpoison` |
//!
//! (g) A page that was noted and is free: free its memory. `retell`, if a migrator may wait for the
//! last unpin. (h) As for `wait_unpinned`: the dead thread has told no other that the contents are
//! lost.
//!
//! Between giving a count back and removing the note, a survivor would give it back twice. So a
//! program that notes counts must compare the sum of all notes of the living with the word.

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
    /// Gives the caller the stage that a dead owner left. `None` if the page is not locked: it had
    /// no owner, or the owner had released it already.
    ///
    /// The stage is found from the page's two words, whatever step the owner died at; a wait for
    /// the last unpin ends. [These tables](crate::migration::take_over#killed-after-each-step) list
    /// all steps.
    ///
    /// # Safety
    ///
    /// * The thread that locked the page last, and has not released it, is dead or will never use
    ///   the page again: its guard or stage is gone. If it is alive, there are two owners.
    /// * Its death happened before this call: the caller has reaped the process, or learned of the
    ///   end in another way that orders memory.
    /// * No other thread takes over from the same owner. Two survivors must agree on one of them
    ///   first; the page's words cannot tell them apart.
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
    /// // SAFETY: the owner is gone, and no other thread takes over.
    /// match unsafe { page.take_over() } {
    ///     Some(TakenOver::Frozen(frozen)) => drop(frozen.abort()), // after the entries are back
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
        // Acquire: pairs with the Release of put and unpin, as in `freeze`. The caller's promise
        // orders the dead owner's own steps before this call.
        let counts = Count(self.count.load(Acquire));
        // A poisoned page stays frozen, whatever its stage.
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

    /// Wakes every thread that may be asleep because of this page, after a thread has died between
    /// a release and its wakes: lockers, waiters, and a migrator that waits for the last unpin.
    /// Calls [`Futex::tell`] as that release would have.
    ///
    /// A woken thread re-checks, so this is never wrong; it costs needless wakes where none was
    /// lost. It works whether or not the page has another owner since.
    ///
    /// # Safety
    ///
    /// Neither the calling thread owns the page, nor a thread that the platform's `tell` waits for:
    /// `tell` may lock it.
    ///
    /// # Example
    ///
    /// ```
    /// use pagelock::PageLock;
    ///
    /// static PAGE: PageLock = PageLock::new();
    /// let sleeper = std::thread::spawn(|| drop(PAGE.lock()));
    /// // ... a process may have died in a release of the page:
    /// // SAFETY: this thread does not own the page, and the platform's `tell` locks nothing.
    /// unsafe { PAGE.retell() };
    /// sleeper.join().unwrap();
    /// ```
    pub unsafe fn retell(&self) {
        // By address, as in a release: the first thread to be woken may free the page.
        let (futex, key) = (self.futex, self.key());
        futex.wake_all(core::ptr::from_ref(&self.state));
        futex.tell(key);
    }
}

/// The stage that a dead owner left and the survivor now has. Dropping it ends the stage: it aborts
/// a migration, finishes a poisoning, unlocks the page, and tells all waiters.
#[must_use = "the stage is ended when this is dropped"]
#[non_exhaustive]
pub enum TakenOver<'a, F: Futex = OsFutex> {
    /// The page was locked, no more.
    Locked(PageGuard<'a, F>),
    /// The page was migrating, and its counts are not frozen.
    Migrating(Migration<'a, F>),
    /// The page was frozen. Its entries tell how far the owner came.
    Frozen(Frozen<'a, F>),
    /// The owner had found the contents lost and was about to poison the page.
    Poisoning(Poisoning<'a, F>),
}

impl<'a, F: Futex> TakenOver<'a, F> {
    /// Returns the page.
    ///
    /// ```
    /// use pagelock::PageLock;
    ///
    /// let page = PageLock::new();
    /// page.lock().into_raw(); // its owner is gone
    /// // SAFETY: the owner is gone, and no other thread takes over.
    /// let taken = unsafe { page.take_over() }.unwrap();
    /// assert!(taken.page().is_locked());
    /// ```
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
/// the poisoning.
#[must_use = "the page is poisoned when this is dropped"]
pub struct Poisoning<'a, F: Futex = OsFutex> {
    page: &'a PageLock<F>,
}

impl<'a, F: Futex> Poisoning<'a, F> {
    /// Returns the page.
    ///
    /// ```
    /// use pagelock::word::{count::FROZEN, state::LOCKED};
    /// use pagelock::{PageLock, TakenOver};
    ///
    /// // A header as a process left it that was killed in the middle of `poison`:
    /// // SAFETY: a header is two words, `repr(C)`.
    /// let page: PageLock = unsafe { std::mem::transmute([LOCKED, FROZEN]) };
    /// // SAFETY: the owner is gone, and no other thread takes over.
    /// let Some(TakenOver::Poisoning(poisoning)) = (unsafe { page.take_over() }) else {
    ///     unreachable!("locked, frozen, not migrating")
    /// };
    /// assert!(std::ptr::eq(poisoning.page(), &page));
    /// ```
    #[must_use]
    pub fn page(&self) -> &'a PageLock<F> {
        self.page
    }

    /// Does what the dead owner was about to do: see [`PageGuard::poison`].
    ///
    /// ```
    /// use pagelock::word::{count::FROZEN, state::LOCKED};
    /// use pagelock::{PageLock, TakenOver};
    ///
    /// // A header as a process left it that was killed in the middle of `poison`:
    /// // SAFETY: a header is two words, `repr(C)`.
    /// let page: PageLock = unsafe { std::mem::transmute([LOCKED, FROZEN]) };
    /// // SAFETY: the owner is gone, and no other thread takes over.
    /// let Some(TakenOver::Poisoning(poisoning)) = (unsafe { page.take_over() }) else {
    ///     unreachable!("locked, frozen, not migrating")
    /// };
    /// poisoning.finish();
    /// assert!(page.is_poisoned() && !page.is_locked());
    /// ```
    pub fn finish(self) -> Released {
        let page = self.page;
        forget(self);
        page.poison(false)
    }

    /// Leaves the page unpoisoned, for a survivor that knows that the contents are good.
    ///
    /// ```
    /// use pagelock::word::{count::FROZEN, state::LOCKED};
    /// use pagelock::{PageLock, TakenOver};
    ///
    /// // A header as a process left it that was killed in the middle of `poison`:
    /// // SAFETY: a header is two words, `repr(C)`.
    /// let page: PageLock = unsafe { std::mem::transmute([LOCKED, FROZEN]) };
    /// // SAFETY: the owner is gone, and no other thread takes over.
    /// let Some(TakenOver::Poisoning(poisoning)) = (unsafe { page.take_over() }) else {
    ///     unreachable!("locked, frozen, not migrating")
    /// };
    /// let guard = poisoning.thaw(); // the bytes were read anew
    /// assert!(!guard.is_poisoned() && !page.is_frozen());
    /// ```
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
