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
//! * [`Migration`]: MIGRATING is set, so pins are refused (one that is under way may still arrive, until the freeze), and waiters keyed on
//!   migration wait. The migrator takes down the page's
//!   mappings (each entry replaced by a migration entry under its page-table lock).
//! * [`Frozen`]: the counts were as the rule demands, at one instant, and since then nobody can get or pin the page. The
//!   migrator copies, puts up the new entries, and commits.
//! * Each stage can be aborted, and dropping one aborts it: counts thawed, MIGRATING cleared, page unlocked, all who wait for it told.
//!   A panic in the copy does just that while it unwinds. Entries are the migrator's to put back, before it drops the stage.
//!
//! Waiters cannot tell a commit from an abort, and need not: they look again.
//!
//! # A migrator that must win
//!
//! Pins stop a migration, and most migrators give up at once. One that may not ([`Migration::wait_unpinned`]) waits for the last
//! unpin. There is no flag to ask for that and no room for one: FROZEN, set while there are pins, *is* the flag. The counts can then only
//! fall, and the unpin that leaves none finds FROZEN in the value that it subtracted from, so it costs nothing to look.
//!
//! ```text
//!  migrator, MIGRATING set                 last unpin
//!  ──────────────────────────────────      ────────────────────────────────────────
//!  (1) s = load sequence of the slot       (A) subtract a pin → what was there
//!  (2) set FROZEN → the pins there are     (B) if that had FROZEN and no pin is left:
//!  (3) none: done                                bump the slot's sequence
//!  (4) sleep while the sequence is s       (C)   wake the slot
//! ```
//!
//! As for any [wait](crate::wait): (2) and (A) are steps of one word, so either (2) finds no pin, or (A) finds FROZEN, and then (B) comes
//! after (1). There is no moment in which a pin could slip in between the last unpin and the freeze: the page *is* frozen.
//!
//! # Orderings
//!
//! | access | ordering | pairs with |
//! |---|---|---|
//! | begin, cancel: or, and | Relaxed | nothing: a hint for pins and waiters; the freeze decides |
//! | freeze: compare-exchange | Acquire | put and unpin (Release): the copy sees all that holders wrote |
//! | wait for unpin (2): or; looks in between: load | Relaxed | nothing: what is decided by is read once more, with Acquire |
//! | end of that: load if it is the freeze, and if not | Acquire, AcqRel | unpin (Release): as for the freeze; and as for thaw |
//! | thaw: and, subtraction | Release | get and pin (Acquire): a new holder sees the page where it is now |

use crate::futex::{Futex, FutexTimed, OsFutex};
use crate::lock::{PageGuard, Released};
use crate::page::PageLock;
use crate::refs::Put;
use crate::stats::{self, Counter};
use crate::sync::Ordering::{AcqRel, Acquire, Relaxed, Release};
use crate::wait::{Limits, Wake};
use crate::word::state::MIGRATING;
use crate::word::{Count, State};
use core::fmt;

/// What may be counted on a page that is to be frozen. Pins never may.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FreezeRule {
    /// Exactly so many references: the kernel's rule. One more, whoever has it and whatever for, and the page stays.
    ExactRefs(u32),
    /// Any references, as long as there are no pins. A reference then stands for the header, not for where the page's bytes are.
    ///
    /// References can be put while the page is frozen, also the last: a migrator that needs the page to live on has one too.
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
    /// Announces that the page is about to move: [`PageLock::wait_migration`] waits from now on, and whoever calls
    /// [`PageLock::try_pin`] is refused. A `try_pin` that has begun already may still succeed: that there are no pins, and that there will
    /// be none, is what [`freeze`](Migration::freeze) and [`freeze_unpinned`](Migration::freeze_unpinned) decide.
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

    /// Freezes the counts, if they are as `rule` demands: one compare-exchange.
    ///
    /// Acquire: the caller sees all that those did who have dropped their references and pins.
    ///
    /// # Errors
    ///
    /// [`Busy`], with nothing changed: it says what was counted and hands the migration back, to be tried again or aborted. Do
    /// not try again for ever while somebody who holds a reference may be waiting for this very page: abort, and start over.
    pub fn freeze(self, rule: FreezeRule) -> Result<Frozen<'a, F>, Busy<'a, F>> {
        let mut seen = self.page.counts();
        while rule.allows(seen) {
            // Acquire: pairs with the Release of put and unpin.
            match self.page.count.compare_exchange_weak(seen.0, seen.frozen().0, Acquire, Relaxed) {
                Ok(_) => return Ok(self.into_frozen(rule)),
                Err(now) => seen = Count(now),
            }
        }
        let poisoned = self.page.is_poisoned();
        let frozen = seen.is_frozen() && !poisoned;
        let busy = Busy { refs: seen.refs(), pins: seen.pins(), frozen, poisoned, rule, migration: self };
        stats::count(if busy.pins > 0 {
            Counter::FreezeRefusedPins
        } else if busy.frozen || busy.poisoned {
            Counter::FreezeRefusedOther
        } else {
            Counter::FreezeRefusedRefs
        });
        Err(busy)
    }

    /// [`freeze`](Self::freeze), and then the freeze of a reference count of the caller's own, `own`. For kernels that count
    /// references elsewhere; the rule is then usually [`FreezeRule::Unpinned`].
    ///
    /// # Errors
    ///
    /// [`FreezeError`], with nothing changed: the page is busy, or `own` refused. If `own` panics, the migration is aborted.
    pub fn freeze_with<E>(
        self,
        rule: FreezeRule,
        own: impl FnOnce(&PageLock<F>) -> Result<(), E>,
    ) -> Result<Frozen<'a, F>, FreezeError<'a, E, F>> {
        let frozen = self.freeze(rule).map_err(FreezeError::Busy)?;
        match own(frozen.page) {
            Ok(()) => Ok(frozen),
            Err(error) => {
                stats::count(Counter::FreezeRefusedOther);
                Err(FreezeError::Refused { error, migration: frozen.thaw() })
            }
        }
    }

    /// Waits until the page has no pins. There will be no new ones, as long as this lasts. Afterwards [`PageLock::try_pin`] is refused because
    /// the page is migrating, but one that had begun before that may still arrive; only [`freeze_unpinned`](Self::freeze_unpinned) and
    /// [`freeze`](Self::freeze) leave no room for it.
    ///
    /// Meanwhile no references are given either (`try_get` says [`Frozen`](crate::GetError::Frozen)); afterwards they are given again. Entries
    /// may be up, and then accesses go on; only whoever makes another entry has to [wait](PageLock::wait_migration). With the entries down
    /// whoever accesses the page waits, and if that is who has pinned it, it waits for itself until the limits are reached.
    ///
    /// # Errors
    ///
    /// [`StillPinned`], within `limits`, with nothing changed.
    pub fn wait_unpinned(&self, limits: Limits<'_, F>) -> Result<(), StillPinned>
    where
        F: FutexTimed,
    {
        if self.page.is_poisoned() {
            // Its counts are frozen for good.
            let pins = self.page.pins();
            return if pins == 0 { Ok(()) } else { Err(StillPinned { pins, wake: Wake::Poisoned }) };
        }
        let (drained, wake) = Drained::wait(self.page, &limits);
        match drained.end() {
            0 => Ok(()),
            pins => Err(StillPinned { pins, wake }),
        }
    }

    /// [`freeze`](Self::freeze) that waits, within `limits`, until the page has no pins: see [`wait_unpinned`](Self::wait_unpinned). No
    /// pin comes between the last unpin and the freeze.
    ///
    /// References are not waited for.
    ///
    /// # Errors
    ///
    /// [`Busy`], with nothing changed: it has pins if the time was up or the wait cancelled.
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
    pub fn freeze_unpinned(self, rule: FreezeRule, limits: Limits<'_, F>) -> Result<Frozen<'a, F>, Busy<'a, F>>
    where
        F: FutexTimed,
    {
        if self.page.is_poisoned() {
            return self.freeze(rule);
        }
        let (drained, _) = Drained::wait(self.page, &limits);
        // Acquire: pairs with the Release of unpin, and of put.
        let seen = Count(self.page.count.load(Acquire));
        if seen.pins() == 0 && rule.allows(seen.thawed()) {
            // The references that were counted can have become fewer since, as while any page is frozen.
            core::mem::forget(drained);
            return Ok(self.into_frozen(rule));
        }
        drained.end();
        self.freeze(rule)
    }

    fn into_frozen(self, rule: FreezeRule) -> Frozen<'a, F> {
        let moves = match rule {
            FreezeRule::ExactRefs(n) => n,
            FreezeRule::Unpinned => 0,
        };
        Frozen { page: self.forget(), moves }
    }

    /// Ends the migration without having moved anything: unlocked, and all who wait for it told.
    pub fn abort(self) -> Released {
        self.forget().abort_migration()
    }

    /// Ends the migration without having moved anything, and keeps the lock. Those who wait for the migration are told now;
    /// those who wait for the lock are told too, find it taken, and wait again.
    pub fn cancel(self) -> PageGuard<'a, F> {
        let page = self.forget();
        stats::count(Counter::Aborts);
        // Relaxed: see the table at the top.
        let held = State(page.state.fetch_and(!MIGRATING, Relaxed));
        // The guard first: should telling panic, the page is not left locked.
        let guard = PageGuard { page };
        if held.has_event_waiters() {
            // The flag stays, for a claim that counts on the release to report it.
            page.futex.tell(page.key());
        }
        guard
    }

    /// Marks the contents lost for good and ends the migration. See [`PageGuard::poison`].
    pub fn poison(self) -> Released {
        stats::count(Counter::Aborts);
        self.forget().poison(true)
    }

    /// Forgets the stage and leaves the page locked and migrating, for [`from_raw`](Self::from_raw).
    pub fn into_raw(self) -> &'a PageLock<F> {
        self.forget()
    }

    /// The migration of a page that is migrating and has no [`Migration`].
    ///
    /// # Safety
    ///
    /// As for [`PageGuard::from_raw`]: the right to end it is the caller's, from one [`into_raw`](Self::into_raw). A debug build
    /// panics, with nothing changed, if the page is not migrating at all.
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

/// A page of which nothing new is given while its pins are waited for. Dropping it thaws, also when a sleep panics.
struct Drained<'a, F: Futex> {
    page: &'a PageLock<F>,
}

impl<'a, F: FutexTimed> Drained<'a, F> {
    /// Steps (1) to (4), until there are no pins or a limit is reached; the page's owner calls this, and it is not frozen.
    fn wait(page: &'a PageLock<F>, limits: &Limits<'_, F>) -> (Self, Wake) {
        debug_assert!(!page.is_frozen(), "{page:?}");
        let mut ready = page.read_sequence();
        // Relaxed, here and below: whoever goes by what is counted looks once more.
        let mut seen = Count(page.count.fetch_or(Count::FROZEN, Relaxed));
        let drained = Self { page };
        while seen.pins() > 0 {
            let wake = ready.sleep_within(limits);
            // The sequence first, as in (1): a last unpin that comes after this look bumps it.
            ready = page.read_sequence();
            seen = Count(page.count.load(Relaxed));
            if wake != Wake::Released {
                return (drained, wake);
            }
        }
        (drained, Wake::Released)
    }
}

impl<F: Futex> Drained<'_, F> {
    /// Thaws, and says how many pins were left then.
    fn end(self) -> u32 {
        let page = self.page;
        core::mem::forget(self);
        // Acquire: whoever learns by this that the last pin is gone sees what its holder did. Release: as for any thaw.
        Count(page.count.fetch_and(!Count::FROZEN, AcqRel)).pins()
    }
}

impl<F: Futex> Drop for Drained<'_, F> {
    fn drop(&mut self) {
        self.page.thaw();
    }
}

/// A page whose pins were waited for in vain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StillPinned {
    /// How many are left.
    pub pins: u32,
    /// What has ended the wait: [`Wake::TimedOut`], [`Wake::Cancelled`] or [`Wake::Poisoned`].
    pub wake: Wake,
}

impl fmt::Display for StillPinned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the page still has {} pins, and the wait for them has ended: {:?}", self.pins, self.wake)
    }
}

impl core::error::Error for StillPinned {}

/// A page whose counts stand still: locked, MIGRATING, no pins, no new references. Dropping it aborts.
#[must_use = "the migration is aborted when this is dropped"]
pub struct Frozen<'a, F: Futex = OsFutex> {
    page: &'a PageLock<F>,
    /// How many references `commit_to` moves.
    moves: u32,
}

impl<'a, F: Futex> Frozen<'a, F> {
    /// The page.
    #[must_use]
    pub fn page(&self) -> &'a PageLock<F> {
        self.page
    }

    /// Ends the migration of a page whose header stays, because the header belongs to the guest's page and only the backing
    /// memory has moved: thawed, unlocked, all who wait for it told.
    ///
    /// Release: whoever gets, pins or locks the page afterwards sees it in its new place. Entries must be up before this.
    pub fn commit_in_place(self) -> Released {
        stats::count(Counter::Commits);
        let page = self.forget();
        page.thaw();
        page.release(true, false)
    }

    /// Ends the migration of a page whose identity moves to another header, `dst`.
    ///
    /// The references that [`FreezeRule::ExactRefs`] named move along: they are counted on `dst` from now on, on top of those it
    /// has. If one of them has a [`PageRef`](crate::PageRef), turn that [raw](crate::PageRef::into_raw) first. After
    /// [`FreezeRule::Unpinned`] none move, because the crate cannot know whose they are: see
    /// [`commit_to_moving`](Self::commit_to_moving). Until then `dst` does not have them: whoever comes through a new entry before
    /// this finds [`GetError::Free`](crate::GetError::Free) and a page that is locked, to be waited for. Both pages are unlocked, `dst`
    /// first, and all who wait for either are told.
    ///
    /// # Whose references move
    ///
    /// Those that the rule expected: the caller's, which it has in raw form. A freeze counts references and does not know whose they are, so
    /// a [`PageRef`](crate::PageRef) among them would put, later, what is counted elsewhere by then. Debug builds panic there if nothing is
    /// counted on the source; if it has been made live again, nobody can tell, and whoever frees pages by [`Put::Last`] frees too early. It is
    /// the same mistake as a wrong number in [`FreezeRule::ExactRefs`], and no memory of this crate's is at stake. Turn guards into
    /// raw references before they move, or move none ([`commit_to_moving`](Self::commit_to_moving) with 0).
    ///
    /// # Errors
    ///
    /// [`CommitError`], with nothing changed and both handed back.
    ///
    /// # Example
    ///
    /// ```
    /// use pagelock::{FreezeRule, PageLock, Put};
    ///
    /// let (old, new) = (PageLock::new(), PageLock::new());
    /// old.activate(2).unwrap(); // mapped twice
    /// let frozen = old.lock().begin_migration().freeze(FreezeRule::ExactRefs(2)).unwrap();
    /// // ... copy, put up the new entries ...
    /// let committed = frozen.commit_to(new.lock()).unwrap();
    /// assert_eq!((old.refs(), new.refs()), (0, 2));
    /// assert_eq!(committed.source, Put::Last); // the old page is free
    /// ```
    pub fn commit_to<'d>(self, dst: PageGuard<'d, F>) -> Result<Committed, CommitError<'a, 'd, F>> {
        let moves = self.moves;
        self.commit_to_moving(dst, moves)
    }

    /// [`commit_to`](Self::commit_to), moving `refs` references.
    ///
    /// # Errors
    ///
    /// As for `commit_to`.
    pub fn commit_to_moving<'d>(self, dst: PageGuard<'d, F>, refs: u32) -> Result<Committed, CommitError<'a, 'd, F>> {
        let why = match self.page.move_refs(dst.page, refs) {
            Ok(source) => {
                stats::count(Counter::Commits);
                let moved = Moved { page: self.forget() };
                moved.page.thaw();
                dst.unlock();
                let Released { event_waiters } = moved.release();
                return Ok(Committed { source, event_waiters });
            }
            Err(why) => why,
        };
        Err(CommitError { why, frozen: self, dst })
    }

    /// Lets the counts move again and goes back to the stage before.
    pub fn thaw(self) -> Migration<'a, F> {
        let page = self.forget();
        page.thaw();
        Migration { page }
    }

    /// Ends the migration without having moved anything: thawed, unlocked, and all who wait for it told.
    pub fn abort(self) -> Released {
        self.thaw().abort()
    }

    /// Marks the contents lost for good (the copy failed halfway, the source is unreadable) and ends the migration. See
    /// [`PageGuard::poison`]. The counts are not thawed in between, so nobody gets hold of what is left.
    pub fn poison(self) -> Released {
        stats::count(Counter::Aborts);
        self.forget().poison(true)
    }

    /// Forgets the stage and leaves the page frozen, for [`from_raw`](Self::from_raw).
    pub fn into_raw(self) -> (&'a PageLock<F>, FrozenRefs) {
        let moves = FrozenRefs(self.moves);
        (self.forget(), moves)
    }

    /// The frozen stage of a page that is frozen and has no [`Frozen`].
    ///
    /// # Safety
    ///
    /// As for [`PageGuard::from_raw`]: both values come from one [`into_raw`](Self::into_raw). A debug build panics, with nothing
    /// changed, if the page is not frozen at all.
    pub unsafe fn from_raw(page: &'a PageLock<F>, refs: FrozenRefs) -> Self {
        debug_assert!(page.is_migrating() && page.is_frozen(), "from_raw of a page that is not frozen: {page:?}");
        Self { page, moves: refs.0 }
    }

    fn forget(self) -> &'a PageLock<F> {
        let page = self.page;
        core::mem::forget(self);
        page
    }
}

impl<F: Futex> Drop for Frozen<'_, F> {
    fn drop(&mut self) {
        self.page.thaw();
        self.page.abort_migration();
    }
}

/// The source of a commit, thawed, and not released yet. Dropping it releases it: telling of the destination may panic.
struct Moved<'a, F: Futex> {
    page: &'a PageLock<F>,
}

impl<F: Futex> Moved<'_, F> {
    fn release(self) -> Released {
        let page = self.page;
        core::mem::forget(self);
        page.release(true, false)
    }
}

impl<F: Futex> Drop for Moved<'_, F> {
    fn drop(&mut self) {
        self.page.release(true, false);
    }
}

/// What a commit to another header came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Committed {
    /// Whether the source has references left. [`Put::Last`] if the last ones have moved away: it is free, and this is the
    /// one place that says so.
    pub source: Put,
    /// Somebody had registered for the source's release and was told.
    pub event_waiters: bool,
}

/// How many references a [`Frozen`] was frozen with: what [`Frozen::into_raw`] leaves behind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FrozenRefs(u32);

impl<F: Futex> PageLock<F> {
    fn abort_migration(&self) -> Released {
        stats::count(Counter::Aborts);
        self.release(true, false)
    }

    fn thaw(&self) {
        debug_assert!(self.is_frozen(), "{self:?}");
        // Release: pairs with the Acquire of get and pin.
        self.count.fetch_and(!Count::FROZEN, Release);
    }

    /// Moves `refs` references from this page, which is frozen, to `dst`, which the caller owns; and says whether any are left.
    fn move_refs(&self, dst: &Self, refs: u32) -> Result<Put, CommitRefused> {
        if core::ptr::eq(self, dst) {
            return Err(CommitRefused::SamePage);
        }
        if dst.is_poisoned() {
            return Err(CommitRefused::Poisoned);
        }
        if refs == 0 {
            return Ok(Put::Kept);
        }
        // While the source is frozen its references only get fewer, and those that are to move are nobody's else to put. So this
        // look holds, and everything that can be refused is refused before anything changes: whoever puts a reference to either
        // page meanwhile sees a count that is right.
        let have = self.refs();
        if have < refs {
            return Err(CommitRefused::TooFew { have, move_: refs });
        }
        let mut there = dst.counts();
        loop {
            if there.is_frozen() {
                return Err(CommitRefused::Frozen);
            }
            let Some(next) = there.plus_refs(refs) else {
                return Err(CommitRefused::Overflow { have: there.refs(), move_: refs });
            };
            // Release: pairs with the Acquire of get and pin, for the destination's new holders.
            match dst.count.compare_exchange_weak(there.0, next.0, Release, Relaxed) {
                Ok(_) => break,
                Err(now) => there = Count(now),
            }
        }
        let mut seen = self.counts();
        loop {
            let Some(next) = seen.minus_refs(refs) else {
                // Somebody has put what was not theirs.
                debug_assert!(false, "unbalanced release of {self:?} during a commit");
                dst.count.fetch_sub(refs, Relaxed);
                return Err(CommitRefused::TooFew { have: seen.refs(), move_: refs });
            };
            // AcqRel: as a put.
            match self.count.compare_exchange_weak(seen.0, next.0, AcqRel, Relaxed) {
                Ok(_) => return Ok(Put::of(next)),
                Err(now) => seen = Count(now),
            }
        }
    }
}

/// A page that could not be frozen, and why.
pub struct Busy<'a, F: Futex = OsFutex> {
    /// The references that were counted.
    pub refs: u32,
    /// The pins that were counted.
    pub pins: u32,
    /// Whether it was frozen already: possible only through the raw forms.
    pub frozen: bool,
    /// Whether its contents are lost: there is nothing to move.
    pub poisoned: bool,
    /// What was asked for.
    pub rule: FreezeRule,
    /// The migration, as it was before.
    pub migration: Migration<'a, F>,
}

impl<'a, F: Futex> Busy<'a, F> {
    /// The references that were counted.
    #[must_use]
    pub fn refs(&self) -> u32 {
        self.refs
    }

    /// The pins that were counted.
    #[must_use]
    pub fn pins(&self) -> u32 {
        self.pins
    }

    /// The migration, as it was before.
    pub fn into_migration(self) -> Migration<'a, F> {
        self.migration
    }
}

impl<F: Futex> fmt::Display for Busy<'_, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.rule {
            _ if self.poisoned => f.write_str("the page is poisoned"),
            _ if self.frozen => f.write_str("the page is frozen already"),
            FreezeRule::ExactRefs(n) => {
                write!(f, "the page has {} references and {} pins, where {n} and 0 were expected", self.refs, self.pins)
            }
            FreezeRule::Unpinned => write!(f, "the page has {} pins", self.pins),
        }
    }
}

/// Why [`Migration::freeze_with`] failed.
pub enum FreezeError<'a, E, F: Futex = OsFutex> {
    /// By this crate's counts.
    Busy(Busy<'a, F>),
    /// By the caller's own.
    Refused {
        /// What the caller's freeze said.
        error: E,
        /// The migration, as it was before.
        migration: Migration<'a, F>,
    },
}

impl<E: fmt::Display, F: Futex> fmt::Display for FreezeError<'_, E, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy(busy) => busy.fmt(f),
            Self::Refused { error, .. } => write!(f, "the caller's own count refused: {error}"),
        }
    }
}

/// A migration that could not be committed to another header, and why.
pub struct CommitError<'a, 'd, F: Futex = OsFutex> {
    /// The reason.
    pub why: CommitRefused,
    /// The source, as it was before.
    pub frozen: Frozen<'a, F>,
    /// The destination, as it was before.
    pub dst: PageGuard<'d, F>,
}

/// Why an identity cannot move to a header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum CommitRefused {
    /// Source and destination are one.
    SamePage,
    /// The destination is poisoned.
    Poisoned,
    /// The destination is frozen.
    Frozen,
    /// The source has fewer references by now than are to be moved.
    TooFew {
        /// What it has.
        have: u32,
        /// What was to be moved.
        move_: u32,
    },
    /// The destination cannot count so many.
    Overflow {
        /// What it has.
        have: u32,
        /// What was to be moved.
        move_: u32,
    },
}

impl fmt::Display for CommitRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SamePage => f.write_str("source and destination are the same page"),
            Self::Poisoned => f.write_str("the destination is poisoned"),
            Self::Frozen => f.write_str("the destination is frozen"),
            Self::TooFew { have, move_ } => write!(f, "{move_} references were to move, and the source has {have}"),
            Self::Overflow { have, move_ } => {
                write!(f, "{move_} references on top of the destination's {have} are more than can be counted")
            }
        }
    }
}

impl<F: Futex> fmt::Display for CommitError<'_, '_, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.why.fmt(f)
    }
}

impl<F: Futex> fmt::Debug for Migration<'_, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Migration").field(self.page).finish()
    }
}

impl<F: Futex> fmt::Debug for Frozen<'_, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Frozen").field(self.page).finish()
    }
}

impl<F: Futex> fmt::Debug for Busy<'_, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { refs, pins, frozen, poisoned, rule, migration: _ } = self;
        f.debug_struct("Busy")
            .field("refs", refs)
            .field("pins", pins)
            .field("frozen", frozen)
            .field("poisoned", poisoned)
            .field("rule", rule)
            .finish_non_exhaustive()
    }
}

impl<E: fmt::Debug, F: Futex> fmt::Debug for FreezeError<'_, E, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy(busy) => f.debug_tuple("Busy").field(busy).finish(),
            Self::Refused { error, .. } => f.debug_struct("Refused").field("error", error).finish_non_exhaustive(),
        }
    }
}

impl<F: Futex> fmt::Debug for CommitError<'_, '_, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CommitError").field("why", &self.why).finish_non_exhaustive()
    }
}

impl<F: Futex> core::error::Error for Busy<'_, F> {}
impl<E: core::error::Error, F: Futex> core::error::Error for FreezeError<'_, E, F> {}
impl<F: Futex> core::error::Error for CommitError<'_, '_, F> {}
impl core::error::Error for CommitRefused {}
