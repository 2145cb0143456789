//! A page that a seat owns, at each stage of a migration: the core's stage, and the note beside it.

use super::Seat;
use super::note::{GIVING, HELD, LOCK};
use super::platform::InSegment;
use super::seat::NoteAt;
use crate::defer::defer;
use crate::lock::{PageGuard, Released};
use crate::migration::{
    CommitRefused, Committed, FreezeRefused, FreezeRule, Frozen, Migration, StillPinned,
};
use crate::sync::Ordering::Relaxed;
use crate::wait::Limits;
use crate::word::UserBits;
use core::fmt;
use core::mem::ManuallyDrop;

/// A stage of a page that a seat owns. Dropping it ends the stage as the core's does, and strikes
/// the note out: after the release, and after all have been told.
///
/// A stage that is forgotten stays noted, and the page taken, until the process ends.
#[must_use = "the page is let go of when this is dropped"]
pub struct Held<'s, S> {
    seat: &'s Seat<'s>,
    at: NoteAt,
    /// There until the drop.
    stage: ManuallyDrop<S>,
}

/// A page that a seat has locked.
pub type SeatGuard<'s> = Held<'s, PageGuard<'s, InSegment>>;
/// A page that a seat migrates.
pub type SeatMigration<'s> = Held<'s, Migration<'s, InSegment>>;
/// A page that a seat has frozen.
pub type SeatFrozen<'s> = Held<'s, Frozen<'s, InSegment>>;

/// A freeze that was refused: why, and the migration as it was.
///
/// `?` keeps the reason and drops the migration, which aborts it:
///
/// ```
/// use pagelock::{FreezeRule, shared::Seat};
/// # use pagelock::{FreezeRefused, shared::{Segment, Size}};
///
/// fn migrate(seat: &Seat<'_>) -> Result<(), Box<dyn std::error::Error>> {
///     let frozen = seat.lock(3)?.begin_migration().freeze(FreezeRule::Unpinned)?;
///     // ... copy ...
///     frozen.commit_in_place();
///     Ok(())
/// }
/// # let segment = Segment::create(c"pages", Size::of(8))?;
/// # let seat = segment.sit()?;
/// # migrate(&seat)?;
/// # let live = seat.activate(3)?;
/// # let pin = seat.pin(3)?;
/// # assert!(migrate(&seat).unwrap_err().is::<FreezeRefused>());
/// # assert!(!seat.lock(3)?.is_poisoned(), "it was aborted, and the page let go of");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct SeatBusy<'s> {
    /// What was counted.
    pub why: FreezeRefused,
    /// To be tried again, or aborted.
    pub migration: SeatMigration<'s>,
}

/// A commit that was refused: why, and both pages as they were. `?` as for [`SeatBusy`].
#[derive(Debug)]
pub struct SeatCommitError<'s> {
    /// The reason.
    pub why: CommitRefused,
    /// The source.
    pub frozen: SeatFrozen<'s>,
    /// The destination.
    pub dst: SeatGuard<'s>,
}

impl<'s, S> Held<'s, S> {
    #[inline]
    pub(super) fn new(seat: &'s Seat<'s>, at: NoteAt, stage: S) -> Self {
        Self { seat, at, stage: ManuallyDrop::new(stage) }
    }

    /// The index of the page.
    #[doc = example!("assert_eq!(seat.lock(3)?.page(), 3);")]
    #[must_use]
    pub fn page(&self) -> u32 {
        // Relaxed: this seat's own note. (It is for the caller; nothing is done by it.)
        self.seat.note(self.at).page.load(Relaxed)
    }

    /// Leaves a word for a survivor that may have to recover this page, such as where its bytes are
    /// going. It is 0 to begin with.
    #[doc = example!(
        "let frozen = seat.lock(3)?.begin_migration().freeze(FreezeRule::Unpinned).unwrap();"
        "frozen.set_tag(7); // where its bytes go: see `Left::tag`"
    )]
    #[inline]
    pub fn set_tag(&self, tag: u32) {
        // Relaxed: read after a death, of which the kernel tells.
        self.seat.note(self.at).tag.store(tag, Relaxed);
    }

    #[inline]
    fn apart(self) -> (&'s Seat<'s>, NoteAt, S) {
        let mut this = ManuallyDrop::new(self);
        // SAFETY: once, and not dropped afterwards.
        (this.seat, this.at, unsafe { ManuallyDrop::take(&mut this.stage) })
    }

    /// The next stage of the same page.
    #[inline]
    fn go<T>(self, next: impl FnOnce(S) -> T) -> Held<'s, T> {
        let (seat, at, stage) = self.apart();
        Held::new(seat, at, next(stage))
    }

    /// Lets go of the page by `end`.
    #[inline]
    fn end<R>(self, end: impl FnOnce(S) -> R) -> R {
        let (seat, at, stage) = self.apart();
        seat.note(at).write(LOCK, GIVING);
        let _strike = defer(|| seat.strike(at));
        end(stage)
    }
}

impl<S> Drop for Held<'_, S> {
    #[inline]
    fn drop(&mut self) {
        self.seat.note(self.at).write(LOCK, GIVING);
        // SAFETY: once, here; `apart` does not come here.
        unsafe { ManuallyDrop::drop(&mut self.stage) };
        self.seat.strike(self.at);
    }
}

impl<'s> SeatGuard<'s> {
    /// See [`PageGuard::unlock`].
    #[doc = example!("let released = seat.lock(3)?.unlock();" "assert!(!released.event_waiters);")]
    #[inline]
    pub fn unlock(self) -> Released {
        self.end(PageGuard::unlock)
    }

    /// See [`PageGuard::poison`].
    #[doc = example!("seat.lock(3)?.poison();" "assert!(seat.lock(3)?.is_poisoned());")]
    pub fn poison(self) -> Released {
        self.end(PageGuard::poison)
    }

    /// See [`PageGuard::is_poisoned`].
    #[doc = example!("assert!(!seat.lock(3)?.is_poisoned());")]
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        self.stage.is_poisoned()
    }

    /// See [`PageGuard::set_user`].
    #[doc = example!("seat.lock(3)?.set_user(UserBits::new(5));")]
    #[inline]
    pub fn set_user(&mut self, user: UserBits) {
        self.stage.set_user(user);
    }

    /// See [`PageGuard::begin_migration`].
    #[doc = example!(
        "let migration = seat.lock(3)?.begin_migration();"
        "assert!(seat.pin(3).is_err());"
    )]
    #[inline]
    pub fn begin_migration(self) -> SeatMigration<'s> {
        self.go(PageGuard::begin_migration)
    }
}

impl<'s> SeatMigration<'s> {
    /// See [`Migration::freeze`].
    ///
    /// # Errors
    ///
    /// [`SeatBusy`], with nothing changed.
    #[doc = example!(
        "let live = seat.activate(3)?;"
        "let migration = seat.lock(3)?.begin_migration();"
        "let frozen = migration.freeze(FreezeRule::ExactRefs(1)).unwrap();"
    )]
    #[inline]
    pub fn freeze(self, rule: FreezeRule) -> Result<SeatFrozen<'s>, SeatBusy<'s>> {
        let (seat, at, stage) = self.apart();
        match stage.freeze(rule) {
            Ok(frozen) => Ok(Held::new(seat, at, frozen)),
            Err(busy) => Err(SeatBusy {
                why: busy.reason(),
                migration: Held::new(seat, at, busy.into_migration()),
            }),
        }
    }

    /// See [`Migration::freeze_unpinned`].
    ///
    /// # Errors
    ///
    /// [`SeatBusy`], with nothing changed.
    #[doc = example!(
        "let migration = seat.lock(3)?.begin_migration();"
        "let frozen = migration.freeze_unpinned(FreezeRule::Unpinned, Limits::none()).unwrap();"
    )]
    pub fn freeze_unpinned(
        self,
        rule: FreezeRule,
        limits: Limits<'_, InSegment>,
    ) -> Result<SeatFrozen<'s>, SeatBusy<'s>> {
        let (seat, at, stage) = self.apart();
        match stage.freeze_unpinned(rule, limits) {
            Ok(frozen) => Ok(Held::new(seat, at, frozen)),
            Err(busy) => Err(SeatBusy {
                why: busy.reason(),
                migration: Held::new(seat, at, busy.into_migration()),
            }),
        }
    }

    /// See [`Migration::wait_unpinned`].
    ///
    /// # Errors
    ///
    /// [`StillPinned`], within `limits`, with nothing changed.
    #[doc = example!(
        "let mut migration = seat.lock(3)?.begin_migration();"
        "migration.wait_unpinned(Limits::none()).unwrap();"
    )]
    pub fn wait_unpinned(&mut self, limits: Limits<'_, InSegment>) -> Result<(), StillPinned> {
        self.stage.wait_unpinned(limits)
    }

    /// See [`Migration::set_user`].
    #[doc = example!("seat.lock(3)?.begin_migration().set_user(UserBits::new(5));")]
    #[inline]
    pub fn set_user(&mut self, user: UserBits) {
        self.stage.set_user(user);
    }

    /// See [`Migration::abort`].
    #[doc = example!("seat.lock(3)?.begin_migration().abort();")]
    #[inline]
    pub fn abort(self) -> Released {
        self.end(Migration::abort)
    }

    /// See [`Migration::cancel`].
    #[doc = example!("let guard = seat.lock(3)?.begin_migration().cancel();")]
    #[inline]
    pub fn cancel(self) -> SeatGuard<'s> {
        self.go(Migration::cancel)
    }

    /// See [`Migration::poison`].
    #[doc = example!("seat.lock(3)?.begin_migration().poison();")]
    pub fn poison(self) -> Released {
        self.end(Migration::poison)
    }
}

impl<'s> SeatFrozen<'s> {
    /// See [`Frozen::set_user`].
    #[doc = example!(
        "let mut frozen = seat.lock(3)?.begin_migration().freeze(FreezeRule::Unpinned).unwrap();"
        "frozen.set_user(UserBits::new(5));"
    )]
    #[inline]
    pub fn set_user(&mut self, user: UserBits) {
        self.stage.set_user(user);
    }

    /// See [`Frozen::commit_in_place`].
    #[doc = example!(
        "let frozen = seat.lock(3)?.begin_migration().freeze(FreezeRule::Unpinned).unwrap();"
        "// ... move the bytes, and put the entries up."
        "frozen.commit_in_place();"
    )]
    #[inline]
    pub fn commit_in_place(self) -> Released {
        self.end(Frozen::commit_in_place)
    }

    /// See [`Frozen::commit_keeping`].
    #[doc = example!(
        "let frozen = seat.lock(3)?.begin_migration().freeze(FreezeRule::Unpinned).unwrap();"
        "let guard = frozen.commit_keeping();"
    )]
    #[inline]
    pub fn commit_keeping(self) -> SeatGuard<'s> {
        self.go(Frozen::commit_keeping)
    }

    /// See [`Frozen::commit_to`].
    ///
    /// # Errors
    ///
    /// [`SeatCommitError`], with nothing changed.
    #[doc = example!(
        "let frozen = seat.lock(3)?.begin_migration().freeze(FreezeRule::Unpinned).unwrap();"
        "let committed = frozen.commit_to(seat.lock(4)?).unwrap();"
    )]
    #[allow(clippy::result_large_err)] // Both pages go back.
    pub fn commit_to(self, dst: SeatGuard<'s>) -> Result<Committed, SeatCommitError<'s>> {
        let ((seat, at, frozen), (there, dst_at, dst)) = (self.apart(), dst.apart());
        let notes = [(seat, at), (there, dst_at)];
        notes.iter().for_each(|(seat, at)| seat.note(*at).write(LOCK, GIVING));
        match frozen.commit_to(dst) {
            Ok(committed) => {
                notes.iter().for_each(|(seat, at)| seat.strike(*at));
                Ok(committed)
            }
            Err(e) => {
                notes.iter().for_each(|(seat, at)| seat.note(*at).write(LOCK, HELD));
                Err(SeatCommitError {
                    why: e.why,
                    frozen: Held::new(seat, at, e.frozen),
                    dst: Held::new(there, dst_at, e.dst),
                })
            }
        }
    }

    /// See [`Frozen::thaw`].
    #[doc = example!(
        "let frozen = seat.lock(3)?.begin_migration().freeze(FreezeRule::Unpinned).unwrap();"
        "frozen.thaw().abort();"
    )]
    #[inline]
    pub fn thaw(self) -> SeatMigration<'s> {
        self.go(Frozen::thaw)
    }

    /// See [`Frozen::abort`].
    #[doc = example!(
        "let frozen = seat.lock(3)?.begin_migration().freeze(FreezeRule::Unpinned).unwrap();"
        "frozen.abort();"
    )]
    #[inline]
    pub fn abort(self) -> Released {
        self.end(Frozen::abort)
    }

    /// See [`Frozen::poison`].
    #[doc = example!(
        "let frozen = seat.lock(3)?.begin_migration().freeze(FreezeRule::Unpinned).unwrap();"
        "frozen.poison(); // the copy has failed half-way"
    )]
    pub fn poison(self) -> Released {
        self.end(Frozen::poison)
    }
}

impl<S: fmt::Debug> fmt::Debug for Held<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held").field("page", &self.page()).field("stage", &*self.stage).finish()
    }
}
