//! Moving a page: the protocol as types.
//!
//! ```text
//!              begin_migration           freeze(rule)
//!  PageGuard ───────────────────▶ Migration ───────────────▶ Frozen ──▶ commit_in_place
//!   locked                         MIGRATING        │           │       commit_to(dst)
//!     ▲                            no new pins      │ Busy      │
//!     └── cancel                                    ▼           ▼
//!                                              Migration      abort
//! ```
//!
//! * [`Migration`]: MIGRATING is set, so pins are refused (one that is under way may still arrive,
//!   until the freeze), and waits for migration wait. The migrator takes down the page's mappings:
//!   it replaces each entry by a migration entry, under the page-table lock.
//! * [`Frozen`]: the counts were as the rule demands, at one instant, and since then no thread can
//!   get or pin the page. The migrator copies, puts up the new entries, and commits.
//! * Each stage can be aborted, and dropping one aborts it: the counts thaw, MIGRATING is cleared,
//!   the page is unlocked, and all waiters are told. A panic in the copy does the same while it
//!   unwinds. The migrator must put the entries back before it drops the stage.
//!
//! [`PageGuard::migrate`] goes through all of them around a closure. Waiters cannot tell a commit
//! from an abort, and need not: they re-check.
//!
//! # A migrator that must win
//!
//! Pins stop a migration, and most migrators give up at once. One that may not give up
//! ([`Migration::wait_unpinned`]) waits for the last unpin. There is no flag for that request and
//! no room for one: FROZEN, set while there are pins, *is* the flag. The counts can then only fall,
//! and the unpin that leaves none finds FROZEN in the value that it replaces, so the look costs
//! nothing.
//!
//! ```text
//!  migrator, MIGRATING set                 last unpin
//!  ──────────────────────────────────      ────────────────────────────────────────
//!  (1) s = load sequence of the slot       (A) one pin fewer → what is left
//!  (2) set FROZEN → the pins there are     (B) if that has FROZEN and no pin:
//!  (3) none: done                                bump the slot's sequence
//!  (4) sleep while the sequence is s       (C)   wake the slot
//! ```
//!
//! As for any [wait](crate::wait): (2) and (A) are steps of one word, so either (2) finds no pin,
//! or (A) finds FROZEN, and then (B) comes after (1). A pin cannot slip in between the last unpin
//! and the freeze: the page *is* frozen.
//!
//! **A pin is like a lock.** A thread that has pinned a page must not wait for that page, for its
//! migration or its lock, before it drops the pin: a migrator that waits for the last unpin waits
//! for this very pin. The crate cannot know whose pin it is. A migrator that cannot rule this out
//! sets [limits](crate::Limits): when they are reached, nothing has changed, and all threads can go
//! on.
//!
//! # After a death
//!
//! [`PageLock::take_over`] gives a survivor the stage that a dead owner was in; [`take_over`] lists
//! what a kill leaves behind after each step of each call, and the way back.
//!
//! # Orderings
//!
//! | access | ordering | pairs with |
//! |---|---|---|
//! | begin, cancel: or, and | Relaxed | nothing |
//! | freeze: compare-exchange | Acquire | put and unpin (Release) |
//! | wait for unpin (2): or; looks in between: load | Relaxed | nothing |
//! | end of that wait, in a freeze: load | Acquire | unpin (Release) |
//! | end of that wait, otherwise: and | AcqRel | unpin (Release); get and pin (Acquire) |
//! | thaw: and | Release | get and pin (Acquire) |
//! | move references, to the destination: compare-exchange | Release | get and pin (Acquire) |
//! | move references, from the source: compare-exchange | AcqRel | put and unpin, of both kinds |
//! | take over: load of the counts | Acquire | put and unpin (Release) |
//!
//! The copy sees all that earlier holders wrote; a new holder sees the page where it is now.
//! MIGRATING is a hint for pins and waiters, and the freeze decides. While a migrator waits for the
//! last unpin, the deciding value is re-read with Acquire.

mod closure;
mod commit;
mod errors;
mod frozen;
pub mod take_over;
mod unpinned;

pub use commit::Committed;
pub use errors::{Busy, CommitError, CommitRefused, FreezeError, FreezeRefused, NotMigrated};
pub use frozen::Frozen;
pub use take_over::{Poisoning, TakenOver};
pub use unpinned::StillPinned;

use crate::futex::{Futex, OsFutex};
use crate::lock::{PageGuard, Released};
use crate::page::PageLock;
use crate::stats::{self, Counter};
use crate::sync::Ordering::{Acquire, Relaxed};
use crate::word::state::MIGRATING;
use crate::word::{Count, State, UserBits};

/// Which counts a freeze accepts. It never accepts pins.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum FreezeRule {
    /// Exactly this many references, the kernel's rule (Linux: `folio_ref_freeze`). Any other
    /// reference, for whatever purpose, keeps the page in place.
    ExactRefs(u32),
    /// Any number of references. A reference then keeps the header, not the place of the page's
    /// bytes.
    ///
    /// References can be put while the page is frozen, also the last: a migrator that needs the
    /// page to live on must have one too.
    Unpinned,
}

impl FreezeRule {
    fn allows(self, seen: Count) -> bool {
        let refs = match self {
            Self::ExactRefs(n) => seen.refs() == n,
            Self::Unpinned => true,
        };
        refs && seen.pins() == 0 && !seen.is_frozen()
    }
}

impl<'a, F: Futex> PageGuard<'a, F> {
    /// Announces that the page is about to move: from now on [`PageLock::wait_migration`] waits,
    /// and [`PageLock::try_pin`] is refused. A `try_pin` that has begun already may still succeed:
    /// only [`freeze`](Migration::freeze) and [`freeze_unpinned`](Migration::freeze_unpinned)
    /// decide that there are no pins, and that there will be none.
    ///
    /// ```
    /// use pagelock::{PageLock, PinError};
    ///
    /// let page = PageLock::new();
    /// page.activate(1).unwrap();
    /// let migration = page.lock().begin_migration();
    /// assert_eq!(page.try_pin().unwrap_err(), PinError::Migrating);
    /// migration.abort();
    /// assert!(page.try_pin().is_ok());
    /// ```
    pub fn begin_migration(self) -> Migration<'a, F> {
        let page = self.forget();
        // Relaxed: see the table at the top.
        page.state.fetch_or(MIGRATING, Relaxed);
        Migration { page }
    }
}

/// A page that is about to move: locked, MIGRATING. Dropping it aborts the migration.
#[must_use = "the migration is aborted when this is dropped"]
pub struct Migration<'a, F: Futex = OsFutex> {
    page: &'a PageLock<F>,
}

impl<'a, F: Futex> Migration<'a, F> {
    /// Returns the page.
    ///
    /// ```
    /// let page = pagelock::PageLock::new();
    /// let migration = page.lock().begin_migration();
    /// assert!(migration.page().is_migrating());
    /// ```
    #[must_use]
    pub fn page(&self) -> &'a PageLock<F> {
        self.page
    }

    /// Writes the caller's bits. Release: see [`PageLock::user`].
    ///
    /// ```
    /// use pagelock::{PageLock, UserBits};
    ///
    /// let page = PageLock::new();
    /// let mut migration = page.lock().begin_migration();
    /// migration.set_user(UserBits::new(1)); // "all entries are down"
    /// assert_eq!(page.user().get(), 1);
    /// ```
    pub fn set_user(&mut self, user: UserBits) {
        self.page.write_user(user);
    }

    /// Freezes the counts, if they are as `rule` demands: one compare-exchange.
    ///
    /// Acquire: the caller sees all that earlier holders did before they dropped their references
    /// and pins.
    ///
    /// # Errors
    ///
    /// [`Busy`], with nothing changed: it says what was counted and hands the migration back, to
    /// try again or abort. Do not try again for ever, because the holder of a reference may wait
    /// for this very page: abort, and start over.
    ///
    /// # Example
    ///
    /// ```
    /// use pagelock::{FreezeRule, PageLock};
    ///
    /// let page = PageLock::new();
    /// page.activate(2).unwrap();
    /// let migration = page.lock().begin_migration();
    /// let busy = migration.freeze(FreezeRule::ExactRefs(1)).unwrap_err();
    /// assert_eq!(busy.refs(), 2);
    /// let frozen = busy.into_migration().freeze(FreezeRule::ExactRefs(2)).unwrap();
    /// frozen.commit_in_place();
    /// ```
    pub fn freeze(self, rule: FreezeRule) -> Result<Frozen<'a, F>, Busy<'a, F>> {
        let mut seen = self.page.counts();
        while rule.allows(seen) {
            // Acquire: pairs with the Release of put and unpin.
            match self.page.count.compare_exchange_weak(seen.0, seen.frozen().0, Acquire, Relaxed) {
                Ok(_) => return Ok(self.into_frozen()),
                Err(now) => seen = Count(now),
            }
        }
        let poisoned = self.page.is_poisoned();
        let (refs, pins) = (seen.refs(), seen.pins());
        let why =
            FreezeRefused { refs, pins, frozen: seen.is_frozen() && !poisoned, poisoned, rule };
        stats::count(if pins > 0 {
            Counter::FreezeRefusedPins
        } else if why.frozen || poisoned {
            Counter::FreezeRefusedOther
        } else {
            Counter::FreezeRefusedRefs
        });
        Err(Busy { why, migration: self })
    }

    /// [`freeze`](Self::freeze), and then `own`, which freezes a reference count of the caller's.
    /// For kernels that count references elsewhere; the rule is then usually
    /// [`FreezeRule::Unpinned`].
    ///
    /// # Errors
    ///
    /// [`FreezeError`], with nothing changed: the page is busy, or `own` refused. If `own` panics,
    /// the migration is aborted.
    ///
    /// # Example
    ///
    /// ```
    /// use pagelock::{FreezeError, FreezeRule, PageLock};
    ///
    /// let page = PageLock::new();
    /// let own_count = 3;
    /// let freeze = |_: &PageLock| if own_count == 1 { Ok(()) } else { Err(own_count) };
    /// match page.lock().begin_migration().freeze_with(FreezeRule::Unpinned, freeze) {
    ///     Err(FreezeError::Refused { error: 3, migration, .. }) => drop(migration.cancel()),
    ///     other => panic!("{other:?}"),
    /// }
    /// ```
    pub fn freeze_with<E>(
        self,
        rule: FreezeRule,
        own: impl FnOnce(&PageLock<F>) -> Result<(), E>,
    ) -> Result<Frozen<'a, F>, FreezeError<'a, E, F>> {
        let frozen = self.freeze(rule).map_err(FreezeError::Busy)?;
        match own(frozen.page()) {
            Ok(()) => Ok(frozen),
            Err(error) => {
                stats::count(Counter::FreezeRefusedOther);
                Err(FreezeError::Refused { error, migration: frozen.thaw() })
            }
        }
    }

    fn into_frozen(self) -> Frozen<'a, F> {
        Frozen::of(self.forget())
    }

    /// Ends the migration without a move: unlocks the page and tells all waiters.
    ///
    /// ```
    /// let page = pagelock::PageLock::new();
    /// page.lock().begin_migration().abort();
    /// assert!(!page.is_locked() && !page.is_migrating());
    /// ```
    pub fn abort(self) -> Released {
        self.forget().abort_migration()
    }

    /// Ends the migration without a move, and keeps the lock.
    ///
    /// Threads that sleep in one of the `wait_*` calls are woken now, and re-check; lockers wait
    /// on. The platform's [`tell`](Futex::tell) is not called now but by the release, when the page
    /// can be had: a fault server that is told of a page can claim it.
    ///
    /// ```
    /// let page = pagelock::PageLock::new();
    /// let guard = page.lock().begin_migration().cancel();
    /// assert!(page.is_locked() && !page.is_migrating());
    /// drop(guard);
    /// ```
    pub fn cancel(self) -> PageGuard<'a, F> {
        stats::count(Counter::Aborts);
        self.end_keeping()
    }

    fn end_keeping(self) -> PageGuard<'a, F> {
        let page = self.forget();
        // Relaxed: see the table at the top.
        let held = State(page.state.fetch_and(!MIGRATING, Relaxed));
        // The guard first: if waking panics, the page does not stay locked.
        let guard = PageGuard { page };
        if held.has_event_waiters() {
            // The flag stays, so that the release tells the platform.
            page.futex.tell_event(page.key());
        }
        guard
    }

    /// Marks the contents lost for good and ends the migration: see [`PageGuard::poison`].
    ///
    /// ```
    /// let page = pagelock::PageLock::new();
    /// page.lock().begin_migration().poison();
    /// assert!(page.is_poisoned() && !page.is_locked());
    /// ```
    pub fn poison(self) -> Released {
        stats::count(Counter::Aborts);
        self.forget().poison(true)
    }

    /// Forgets the stage and leaves the page locked and migrating, for
    /// [`from_raw`](Self::from_raw).
    ///
    /// ```
    /// use pagelock::{Migration, PageLock};
    ///
    /// let page = PageLock::new();
    /// let raw = page.lock().begin_migration().into_raw();
    /// // ... another thread goes on:
    /// // SAFETY: the right to end the migration comes from the `into_raw` above.
    /// unsafe { Migration::from_raw(raw) }.abort();
    /// ```
    pub fn into_raw(self) -> &'a PageLock<F> {
        self.forget()
    }

    /// Makes the stage of a page that is migrating and has none. After a death use
    /// [`PageLock::take_over`], which finds the stage.
    ///
    /// # Safety
    ///
    /// As for [`PageGuard::from_raw`]: the caller has the right to end the migration, from one
    /// [`into_raw`](Self::into_raw).
    ///
    /// # Panics
    ///
    /// In a debug build, with nothing changed, if the page is not migrating at all.
    ///
    /// # Example
    ///
    /// ```
    /// use pagelock::{Migration, PageLock};
    ///
    /// let page = PageLock::new();
    /// let raw = page.lock().begin_migration().into_raw();
    /// // SAFETY: the right to end the migration comes from the `into_raw` above.
    /// let migration = unsafe { Migration::from_raw(raw) };
    /// assert!(migration.page().is_migrating());
    /// ```
    pub unsafe fn from_raw(page: &'a PageLock<F>) -> Self {
        debug_assert!(page.is_migrating(), "from_raw of a page that is not migrating: {page:?}");
        Self { page }
    }

    fn forget(self) -> &'a PageLock<F> {
        let page = self.page;
        core::mem::forget(self);
        page
    }
}

impl<F: Futex> Drop for Migration<'_, F> {
    fn drop(&mut self) {
        self.page.abort_migration();
    }
}

impl<F: Futex> PageLock<F> {
    fn abort_migration(&self) -> Released {
        stats::count(Counter::Aborts);
        self.release(true, false)
    }

    /// Writes the caller's bits for an owner whose guard is another stage.
    fn write_user(&self, user: UserBits) {
        core::mem::ManuallyDrop::new(PageGuard { page: self }).set_user(user);
    }
}
