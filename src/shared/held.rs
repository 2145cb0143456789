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
#[derive(Debug)]
pub struct SeatBusy<'s> {
    /// What was counted.
    pub why: FreezeRefused,
    /// To be tried again, or aborted.
    pub migration: SeatMigration<'s>,
}

/// A commit that was refused: why, and both pages as they were.
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
    #[must_use]
    pub fn page(&self) -> u32 {
        // Relaxed: this seat's own note. (It is for the caller; nothing is done by it.)
        self.seat.note(self.at).page.load(Relaxed)
    }

    /// Leaves a word for whoever may have to recover this page, such as where its bytes are going.
    /// It is 0 to begin with.
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
    #[inline]
    pub fn unlock(self) -> Released {
        self.end(PageGuard::unlock)
    }

    /// See [`PageGuard::poison`].
    pub fn poison(self) -> Released {
        self.end(PageGuard::poison)
    }

    /// See [`PageGuard::is_poisoned`].
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        self.stage.is_poisoned()
    }

    /// See [`PageGuard::set_user`].
    #[inline]
    pub fn set_user(&mut self, user: UserBits) {
        self.stage.set_user(user);
    }

    /// See [`PageGuard::begin_migration`].
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
    pub fn wait_unpinned(&mut self, limits: Limits<'_, InSegment>) -> Result<(), StillPinned> {
        self.stage.wait_unpinned(limits)
    }

    /// See [`Migration::set_user`].
    #[inline]
    pub fn set_user(&mut self, user: UserBits) {
        self.stage.set_user(user);
    }

    /// See [`Migration::abort`].
    #[inline]
    pub fn abort(self) -> Released {
        self.end(Migration::abort)
    }

    /// See [`Migration::cancel`].
    #[inline]
    pub fn cancel(self) -> SeatGuard<'s> {
        self.go(Migration::cancel)
    }

    /// See [`Migration::poison`].
    pub fn poison(self) -> Released {
        self.end(Migration::poison)
    }
}

impl<'s> SeatFrozen<'s> {
    /// See [`Frozen::set_user`].
    #[inline]
    pub fn set_user(&mut self, user: UserBits) {
        self.stage.set_user(user);
    }

    /// See [`Frozen::commit_in_place`].
    #[inline]
    pub fn commit_in_place(self) -> Released {
        self.end(Frozen::commit_in_place)
    }

    /// See [`Frozen::commit_keeping`].
    #[inline]
    pub fn commit_keeping(self) -> SeatGuard<'s> {
        self.go(Frozen::commit_keeping)
    }

    /// See [`Frozen::commit_to`].
    ///
    /// # Errors
    ///
    /// [`SeatCommitError`], with nothing changed.
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
    #[inline]
    pub fn thaw(self) -> SeatMigration<'s> {
        self.go(Frozen::thaw)
    }

    /// See [`Frozen::abort`].
    #[inline]
    pub fn abort(self) -> Released {
        self.end(Frozen::abort)
    }

    /// See [`Frozen::poison`].
    pub fn poison(self) -> Released {
        self.end(Frozen::poison)
    }
}

impl<S: fmt::Debug> fmt::Debug for Held<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held").field("page", &self.page()).field("stage", &*self.stage).finish()
    }
}
