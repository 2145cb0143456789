//! A seat: what a thread has to do with pages, noted where a survivor finds it.

use super::layout::{NOTES, Note, PageCell, SEAT_LOCKS, SeatCell};
use super::note::{HELD, LOCK};
use super::platform::InSegment;
use super::{Held, SeatError, SeatGuard, Segment, SegmentError, SitError, file};
use crate::futex::Futex;
use crate::lock::LockError;
use crate::sync::{
    Ordering::{Acquire, Relaxed, Release},
    fence, spin_loop,
};
use crate::wait::{Limits, Wait, Wake};
use core::cell::Cell;

/// All notes are free.
const ALL: u64 = u64::MAX >> (64 - NOTES);

/// How often a locker looks before it sleeps.
const LOOKS: u32 = 100;

/// One thread's place in a segment. Everything that the thread does with pages goes through it, so
/// that a survivor knows what it had.
///
/// A thread may have several: each has room for 60 things at a time. Dropping it gives the seat up,
/// unless something is still noted (a guard that was forgotten): then it stays taken until the
/// process ends, and is recovered as that of a dead one.
///
/// It is not [`Sync`]: one thread at a time sits in it.
///
/// ```compile_fail,E0277
/// fn in_two_threads<T: Sync>() {}
/// in_two_threads::<pagelock::shared::Seat<'static>>();
/// ```
#[derive(Debug)]
pub struct Seat<'g> {
    segment: &'g Segment,
    number: u32,
    cell: &'g SeatCell,
    /// The notes that are free, a bit each.
    free: Cell<u64>,
}

impl Segment {
    /// Takes a seat that has no owner, for the calling thread.
    ///
    /// # Errors
    ///
    /// [`SitError`]: there is none, or those that there are have to be
    /// [recovered](Self::recover) first.
    #[doc = example!(
        "let other = segment.sit()?; // of another thread"
        "assert_ne!(seat.number(), other.number());"
    )]
    pub fn sit(&self) -> Result<Seat<'_>, SitError> {
        if self.is_forked() {
            return Err(SitError::Forked);
        }
        let mut is_of_dead = false;
        for number in 0..self.seats() {
            let cell = self.cell(number);
            let has_notes = || cell.notes.iter().any(|note| note.read().is_some());
            if has_notes() {
                // Not even for a moment: a survivor would take it for one that is alive.
                is_of_dead |= !self.is_occupied(number);
                continue;
            }
            if !self.occupy(number).map_err(|errno| SitError::System { errno })? {
                continue;
            }
            if has_notes() {
                // Its owner came and died between the two looks.
                self.leave(number);
                is_of_dead = true;
                continue;
            }
            // Relaxed: for humans.
            cell.pid.store(file::pid(), Relaxed);
            return Ok(Seat { segment: self, number, cell, free: Cell::new(ALL) });
        }
        Err(if is_of_dead { SitError::OnlyDead } else { SitError::NoSeat })
    }

    /// Sleeps until seat `seat` has no owner: the kernel wakes this thread when the owner's process
    /// ends. Returns whether something is left to [recover](Self::recover). A signal ends the sleep
    /// too.
    ///
    /// An owner that dies with nothing noted leaves its seat free at once. If another thread takes
    /// the seat before this one wakes, the sleep lasts until that thread's end; nothing was left.
    ///
    /// # Errors
    ///
    /// The system refuses, or there is no such seat (`EINVAL`).
    #[doc = example!(
        "assert!(!segment.wait_for_end_of(5)?, \"it has no owner, and nothing is left\");"
    )]
    pub fn wait_for_end_of(&self, seat: u32) -> Result<bool, SegmentError> {
        let failed = |errno| SegmentError::System { call: "fcntl(F_OFD_SETLKW)", errno };
        if seat >= self.seats() {
            return Err(failed(libc::EINVAL));
        }
        // A description of its own, which has no seat: else the lock would be granted where this
        // process sits.
        // SAFETY: open as long as `self` lives.
        let apart = unsafe { file::File::reopen(self.as_raw_fd()) }?;
        let at = SEAT_LOCKS + i64::from(seat);
        let ended = apart.await_end(at).map_err(failed)?;
        // Not by closing it: a process that was forked meanwhile may have it as well.
        apart.unlock(at);
        Ok(ended && self.notes(seat).next().is_some())
    }
}

impl<'g> Seat<'g> {
    /// The segment.
    #[doc = example!("assert_eq!(seat.segment().pages(), 8);")]
    #[must_use]
    pub fn segment(&self) -> &'g Segment {
        self.segment
    }

    /// Which seat it is, from 0.
    #[doc = example!("assert_eq!(seat.number(), 0);")]
    #[must_use]
    pub fn number(&self) -> u32 {
        self.number
    }

    /// How many more things can be noted.
    #[doc = example!("let guard = seat.lock(3)?;" "assert_eq!(seat.room(), 59);")]
    #[must_use]
    pub fn room(&self) -> u32 {
        self.free.get().count_ones()
    }

    /// Takes the page if it is free.
    ///
    /// # Errors
    ///
    /// [`SeatError::Locked`], or there is no such page, or no room for a note.
    #[doc = example!(
        "let guard = seat.try_lock(3)?;"
        "assert_eq!(seat.try_lock(3).unwrap_err(), SeatError::Locked);"
    )]
    #[inline]
    pub fn try_lock(&self, page: u32) -> Result<SeatGuard<'_>, SeatError> {
        let cell = self.page(page)?;
        self.take(page, cell, self.reserve()?).ok_or(SeatError::Locked)
    }

    /// Takes the page, sleeping until it can.
    ///
    /// Unlike [`PageLock::lock`](crate::PageLock::lock) it sleeps in the event table, where the
    /// dead leave nothing behind, and is woken by each release, together with all others. So there
    /// is no bound on how often it is overtaken.
    ///
    /// # Errors
    ///
    /// There is no such page, or no room for a note.
    #[doc = example!("let guard = seat.lock(3)?;" "assert_eq!(guard.page(), 3);")]
    #[inline]
    pub fn lock(&self, page: u32) -> Result<SeatGuard<'_>, SeatError> {
        let cell = self.page(page)?;
        match self.take(page, cell, self.reserve()?) {
            Some(held) => Ok(held),
            None => self.lock_within(page, Limits::none()),
        }
    }

    /// [`lock`](Self::lock) within `limits`.
    ///
    /// # Errors
    ///
    /// [`SeatError::Limit`] as well.
    #[doc = example!(
        "let switch = Cancel::with_futex(InSegment::clock());"
        "let guard = seat.lock_within(3, Limits::none().unless(&switch))?;"
    )]
    #[cold]
    pub fn lock_within(
        &self,
        page: u32,
        limits: Limits<'_, InSegment>,
    ) -> Result<SeatGuard<'_>, SeatError> {
        let cell = self.page(page)?;
        loop {
            if let Some(held) = self.take(page, cell, self.reserve()?) {
                return Ok(held);
            }
            let is_free = (0..LOOKS).any(|_| {
                spin_loop();
                !cell.lock.is_locked()
            });
            if is_free {
                continue;
            }
            let over = match cell.lock.wait_with((), Wait::unlocked().within(limits)) {
                // A page whose contents are lost has no waiters that a release would wake.
                Wake::Poisoned => {
                    cell.lock.futex.relax();
                    limits.over(cell.lock.futex)
                }
                wake @ (Wake::TimedOut | Wake::Cancelled) => Some(wake),
                _ => None,
            };
            if let Some(over) = over {
                let why = if over == Wake::Cancelled {
                    LockError::Cancelled
                } else {
                    LockError::TimedOut
                };
                return self.take(page, cell, self.reserve()?).ok_or(SeatError::Limit(why));
            }
        }
    }

    /// Waits as `wait` says, holding neither `ptl` nor a reference, as
    /// [`PageLock::wait_with`](crate::PageLock::wait_with). There is nothing to note: a death in it
    /// leaves a flag at most, which costs one needless wake.
    ///
    /// # Errors
    ///
    /// There is no such page; `ptl` is dropped then as well.
    #[doc = example!(
        "let wake = seat.wait(3, (), Wait::migration())?;"
        "assert_eq!(wake, Wake::NotLocked);"
    )]
    pub fn wait<G>(&self, page: u32, ptl: G, wait: Wait<'_, InSegment>) -> Result<Wake, SeatError> {
        Ok(self.page(page)?.lock.wait_with(ptl, wait))
    }

    /// What the page's header says now, in words; for humans.
    ///
    /// # Errors
    ///
    /// There is no such page.
    #[doc = example!("println!(\"{:?}\", seat.look(3)?);")]
    pub fn look(&self, page: u32) -> Result<impl core::fmt::Debug + use<'g>, SeatError> {
        Ok(&self.page(page)?.lock)
    }

    /// One attempt, noted before it is made.
    #[inline]
    fn take(&self, page: u32, cell: &'g PageCell, at: NoteAt) -> Option<SeatGuard<'_>> {
        let note = self.note(at);
        note.begin(LOCK, page);
        // Release: pairs with the Acquire fence in `recover`. A survivor that sees the page taken
        // here sees the note.
        fence(Release);
        match cell.lock.try_lock() {
            Some(guard) => {
                note.write(LOCK, HELD);
                self.use_up(at);
                Some(Held::new(self, at, guard))
            }
            None => {
                note.strike();
                None
            }
        }
    }

    #[inline]
    pub(super) fn page(&self, page: u32) -> Result<&'g PageCell, SeatError> {
        self.segment.page(page).ok_or(SeatError::NoSuchPage)
    }

    /// A note that is free; it is used from `use_up` on.
    #[inline]
    pub(super) fn reserve(&self) -> Result<NoteAt, SeatError> {
        match self.free.get() {
            0 => Err(SeatError::Full),
            free => Ok(NoteAt(free.trailing_zeros())),
        }
    }

    #[inline]
    pub(super) fn use_up(&self, at: NoteAt) {
        self.free.set(self.free.get() & !(1 << at.0));
    }

    #[inline]
    pub(super) fn note(&self, at: NoteAt) -> &'g Note {
        debug_assert!(at.0 < NOTES);
        // SAFETY: `at` comes from `reserve`: the place of a bit of `free`, of which no other than
        // the first `NOTES` are ever set. It is this process's own, and no peer can write it.
        unsafe { self.cell.notes.get_unchecked(at.0 as usize) }
    }

    /// The end of a note whose page was let go of.
    #[inline]
    pub(super) fn strike(&self, at: NoteAt) {
        self.note(at).strike();
        self.free.set(self.free.get() | 1 << at.0);
    }
}

/// The number of a note in its seat.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct NoteAt(u32);

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        if self.free.get() == ALL {
            self.segment.leave(self.number);
        }
    }
}

/// Orders what was read of a page before what is read of notes.
pub(super) fn page_before_notes() {
    // Acquire: pairs with the Release fence in `Seat::take`.
    fence(Acquire);
}
