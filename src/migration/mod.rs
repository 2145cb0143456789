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
//!   until the freeze), and waiters keyed on migration wait. The migrator takes down the page's
//!   mappings (each entry replaced by a migration entry under its page-table lock).
//! * [`Frozen`]: the counts were as the rule demands, at one instant, and since then nobody can get
//!   or pin the page. The migrator copies, puts up the new entries, and commits.
//! * Each stage can be aborted, and dropping one aborts it: counts thawed, MIGRATING cleared, page
//!   unlocked, all who wait for it told. A panic in the copy does just that while it unwinds.
//!   Entries are the migrator's to put back, before it drops the stage.
//!
//! [`PageGuard::migrate`] goes through all of them around a closure. Waiters cannot tell a commit
//! from an abort, and need not: they look again.
//!
//! # A migrator that must win
//!
//! Pins stop a migration, and most migrators give up at once. One that may not
//! ([`Migration::wait_unpinned`]) waits for the last unpin. There is no flag to ask for that and no
//! room for one: FROZEN, set while there are pins, *is* the flag. The counts can then only fall,
//! and the unpin that leaves none finds FROZEN in the value that it replaces, so it costs nothing
//! to look.
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
//! or (A) finds FROZEN, and then (B) comes after (1). There is no moment in which a pin could slip
//! in between the last unpin and the freeze: the page *is* frozen.
//!
//! **A pin is like a lock.** Whoever has a pin of a page must not wait for that page, for its
//! migration or its lock, before the pin is dropped: a migrator that waits for the last unpin waits
//! for this very pin. The crate cannot know whose pin it is. A migrator that cannot rule it out
//! sets [limits](crate::Limits): when they are reached, nothing has changed, and everybody can go
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
//! | begin, cancel: or, and | Relaxed | nothing: a hint for pins and waiters; the freeze decides |
//! | freeze: compare-exchange | Acquire | put and unpin (Release): the copy sees all that holders wrote |
//! | wait for unpin (2): or; looks in between: load | Relaxed | nothing: the deciding value is re-read, with Acquire |
//! | end of that: load if it is the freeze, and if not | Acquire, AcqRel | unpin (Release): as for the freeze; and as for thaw |
//! | thaw: and | Release | get and pin (Acquire): a new holder sees the page where it is now |
//! | move references: compare-exchange | Release there, AcqRel here | get and pin of the destination; put and unpin of the source |
//! | take over: load of the counts | Acquire | put and unpin (Release): as for the freeze |

mod closure;
mod errors;
mod frozen;
pub mod take_over;
mod unpinned;

pub use errors::{Busy, CommitError, CommitRefused, FreezeError, FreezeRefused, NotMigrated};
pub use frozen::{Committed, Frozen};
pub use take_over::{Poisoning, TakenOver};
pub use unpinned::StillPinned;

use crate::futex::{Futex, OsFutex};
use crate::lock::{PageGuard, Released};
use crate::page::PageLock;
use crate::stats::{self, Counter};
use crate::sync::Ordering::{Acquire, Relaxed};
use crate::word::state::MIGRATING;
use crate::word::{Count, State, UserBits};

/// What may be counted on a page that is to be frozen. Pins never may.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FreezeRule {
    /// Exactly so many references: the kernel's rule. One more, whoever has it and whatever for,
    /// and the page stays.
    ExactRefs(u32),
    /// Any references, as long as there are no pins. A reference then stands for the header, not
    /// for where the page's bytes are.
    ///
    /// References can be put while the page is frozen, also the last: a migrator that needs the
    /// page to live on has one too.
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
    /// Announces that the page is about to move: [`PageLock::wait_migration`] waits from now on,
    /// and whoever calls [`PageLock::try_pin`] is refused. A `try_pin` that has begun already may
    /// still succeed: that there are no pins, and that there will be none, is what
    /// [`freeze`](Migration::freeze) and [`freeze_unpinned`](Migration::freeze_unpinned) decide.
    pub fn begin_migration(self) -> Migration<'a, F> {
        let page = self.forget();
        // Relaxed: see the table at the top.
        page.state.fetch_or(MIGRATING, Relaxed);
        Migration { page }
    }
}

/// A page on its way: locked, MIGRATING. Dropping it aborts.
#[must_use = "the migration is aborted when this is dropped"]
pub struct Migration<'a, F: Futex = OsFutex> {
    page: &'a PageLock<F>,
}

impl<'a, F: Futex> Migration<'a, F> {
    /// The page.
    #[must_use]
    pub fn page(&self) -> &'a PageLock<F> {
        self.page
    }

    /// Writes the caller's bits. Release: see [`PageLock::user`].
    pub fn set_user(&mut self, user: UserBits) {
        self.page.write_user(user);
    }

    /// Freezes the counts, if they are as `rule` demands: one compare-exchange.
    ///
    /// Acquire: the caller sees all that those did who have dropped their references and pins.
    ///
    /// # Errors
    ///
    /// [`Busy`], with nothing changed: it says what was counted and hands the migration back, to be
    /// tried again or aborted. Do not try again for ever while somebody who holds a reference may
    /// be waiting for this very page: abort, and start over.
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

    /// [`freeze`](Self::freeze), and then the freeze of a reference count of the caller's own,
    /// `own`. For kernels that count references elsewhere; the rule is then usually
    /// [`FreezeRule::Unpinned`].
    ///
    /// # Errors
    ///
    /// [`FreezeError`], with nothing changed: the page is busy, or `own` refused. If `own` panics,
    /// the migration is aborted.
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

    /// Ends the migration without having moved anything: unlocked, and all who wait for it told.
    pub fn abort(self) -> Released {
        self.forget().abort_migration()
    }

    /// Ends the migration without having moved anything, and keeps the lock.
    ///
    /// Those who sleep in one of the `wait_*` calls are woken now, and look again; whoever waits
    /// for the lock waits on. The platform's [`tell`](Futex::tell) is not called now but by the
    /// release, when the page can be had: a fault server that is told of a page finds that it can
    /// claim it.
    pub fn cancel(self) -> PageGuard<'a, F> {
        stats::count(Counter::Aborts);
        self.end_keeping()
    }

    fn end_keeping(self) -> PageGuard<'a, F> {
        let page = self.forget();
        // Relaxed: see the table at the top.
        let held = State(page.state.fetch_and(!MIGRATING, Relaxed));
        // The guard first: should waking panic, the page is not left locked.
        let guard = PageGuard { page };
        if held.has_event_waiters() {
            // The flag stays, so that the release tells the platform.
            page.futex.tell_event(page.key());
        }
        guard
    }

    /// Marks the contents lost for good and ends the migration. See [`PageGuard::poison`].
    pub fn poison(self) -> Released {
        stats::count(Counter::Aborts);
        self.forget().poison(true)
    }

    /// Forgets the stage and leaves the page locked and migrating, for
    /// [`from_raw`](Self::from_raw).
    pub fn into_raw(self) -> &'a PageLock<F> {
        self.forget()
    }

    /// The migration of a page that is migrating and has no [`Migration`]. After a death
    /// [`PageLock::take_over`] is the better way: it finds out which stage it was.
    ///
    /// # Safety
    ///
    /// As for [`PageGuard::from_raw`]: the right to end it is the caller's, from one
    /// [`into_raw`](Self::into_raw). A debug build panics, with nothing changed, if the page is not
    /// migrating at all.
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

    /// Writes the caller's bits; for the owner, whose guard is another stage.
    fn write_user(&self, user: UserBits) {
        core::mem::ManuallyDrop::new(PageGuard { page: self }).set_user(user);
    }
}
