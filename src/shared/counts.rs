//! References and pins of a seat.
//!
//! The words of a page say how many references and pins there are, and not whose. So a seat that
//! changes a count keeps the others out (`changer` names it), and notes the count before the step.
//! If its thread dies there, the count says whether the step was made, because no other seat has
//! changed it since.
//!
//! The core's own changes do not disturb that: a freeze changes neither references nor pins.

use super::layout::{Note, PageCell};
use super::note::{ASKED, GIVEN, GIVING, HELD, LOWERING, PIN, RAISING, REF};
use super::recover::Dead;
use super::seat::NoteAt;
use super::{Seat, SeatError, Segment};
use crate::futex::Futex;
use crate::refs::Put;
use crate::sync::{
    Ordering::{Acquire, Relaxed, Release},
    spin_loop,
};
use core::fmt;
use core::mem::forget;

/// A reference of a seat. Dropping it puts it, and strikes the note out.
#[must_use = "the reference is put when this is dropped"]
pub struct SeatRef<'s>(Counted<'s>);

/// A pin of a seat. Dropping it unpins, and strikes the note out.
#[must_use = "the page is unpinned when this is dropped"]
pub struct SeatPin<'s>(Counted<'s>);

#[derive(Clone, Copy)]
struct Counted<'s> {
    seat: &'s Seat<'s>,
    at: NoteAt,
    page: &'s PageCell,
    kind: u32,
}

impl<'g> Seat<'g> {
    /// Makes a free page live, with one reference, which is this seat's. See
    /// [`PageLock::activate`](crate::PageLock::activate).
    ///
    /// # Errors
    ///
    /// [`SeatError::Count`], or there is no such page, or no room for a note.
    #[doc = example!("let live = seat.activate(3)?;" "assert_eq!(live.put(), Put::Last);")]
    #[inline]
    pub fn activate(&self, page: u32) -> Result<SeatRef<'_>, SeatError> {
        self.raise(page, REF, |cell| cell.lock.activate(1).map_err(SeatError::Count)).map(SeatRef)
    }

    /// Takes a reference. See [`PageLock::try_get`](crate::PageLock::try_get).
    ///
    /// # Errors
    ///
    /// [`SeatError::Get`], or there is no such page, or no room for a note.
    #[doc = example!("let live = seat.activate(3)?;" "let another = seat.get(3)?;")]
    #[inline]
    pub fn get(&self, page: u32) -> Result<SeatRef<'_>, SeatError> {
        self.raise(page, REF, |cell| {
            cell.lock.try_get().map(|got| _ = got.into_raw()).map_err(SeatError::Get)
        })
        .map(SeatRef)
    }

    /// Pins the page where it is. See [`PageLock::try_pin`](crate::PageLock::try_pin).
    ///
    /// # Errors
    ///
    /// [`SeatError::Pin`], or there is no such page, or no room for a note.
    #[doc = example!("let live = seat.activate(3)?;" "let pin = seat.pin(3)?;")]
    #[inline]
    pub fn pin(&self, page: u32) -> Result<SeatPin<'_>, SeatError> {
        self.raise(page, PIN, |cell| {
            cell.lock.try_pin().map(|got| _ = got.into_raw()).map_err(SeatError::Pin)
        })
        .map(SeatPin)
    }

    /// Makes a reference that was left [raw](SeatRef::into_raw) this seat's.
    ///
    /// # Errors
    ///
    /// There is no such page, or no room for a note.
    ///
    /// # Safety
    ///
    /// As for [`PageRef::from_raw`](crate::PageRef::from_raw): the reference exists, and one caller
    /// adopts it.
    #[doc = example!(
        "seat.activate(3)?.into_raw();"
        "// SAFETY: left just now."
        "let live = unsafe { seat.adopt_ref(3) }?;"
    )]
    pub unsafe fn adopt_ref(&self, page: u32) -> Result<SeatRef<'_>, SeatError> {
        self.adopt(page, REF).map(SeatRef)
    }

    /// Makes a pin that was left [raw](SeatPin::into_raw) this seat's.
    ///
    /// # Errors
    ///
    /// As there.
    ///
    /// # Safety
    ///
    /// As there.
    #[doc = example!(
        "let live = seat.activate(3)?;"
        "seat.pin(3)?.into_raw();"
        "// SAFETY: left just now."
        "let pin = unsafe { seat.adopt_pin(3) }?;"
    )]
    pub unsafe fn adopt_pin(&self, page: u32) -> Result<SeatPin<'_>, SeatError> {
        self.adopt(page, PIN).map(SeatPin)
    }

    fn adopt(&self, page: u32, kind: u32) -> Result<Counted<'_>, SeatError> {
        let (cell, at) = (self.page(page)?, self.reserve()?);
        let note = self.note(at);
        // Relaxed: seen with the step.
        note.page.store(page, Relaxed);
        note.write(kind, HELD);
        self.use_up(at);
        Ok(Counted { seat: self, at, page: cell, kind })
    }

    #[inline]
    fn raise(
        &self,
        page: u32,
        kind: u32,
        step: impl FnOnce(&'g PageCell) -> Result<(), SeatError>,
    ) -> Result<Counted<'_>, SeatError> {
        let (cell, at) = (self.page(page)?, self.reserve()?);
        let note = self.note(at);
        note.begin(kind, page);
        self.segment().alone_at(cell, self.number(), None);
        note.count(cell, kind, RAISING);
        let done = step(cell);
        note.write(kind, if done.is_ok() { HELD } else { ASKED });
        cell.let_go();
        if let Err(why) = done {
            note.strike();
            return Err(why);
        }
        self.use_up(at);
        Ok(Counted { seat: self, at, page: cell, kind })
    }
}

impl Counted<'_> {
    #[inline]
    fn give_back(self) -> Put {
        let left = self.seat.segment().give_back(
            self.page,
            self.seat.note(self.at),
            self.kind,
            self.seat.number(),
            None,
        );
        self.seat.strike(self.at);
        left
    }

    fn into_raw(self) {
        self.seat.strike(self.at);
    }
}

impl Segment {
    /// Gives back what `note`, of seat `seat`, has counted; the caller strikes the note out then. A
    /// survivor that recovers passes the seats that it has settled: `dead`.
    #[inline]
    pub(super) fn give_back(
        &self,
        cell: &PageCell,
        note: &Note,
        kind: u32,
        seat: u32,
        dead: Option<&Dead<'_>>,
    ) -> Put {
        note.write(kind, GIVING);
        self.alone_at(cell, seat, dead);
        note.count(cell, kind, LOWERING);
        let left = lower(cell, kind);
        note.write(kind, GIVEN);
        cell.let_go();
        left
    }

    /// From here on no other seat changes the counts of the page.
    #[inline]
    fn alone_at(&self, cell: &PageCell, seat: u32, dead: Option<&Dead<'_>>) {
        // Acquire: pairs with `let_go`.
        while let Err(other) = cell.changer.compare_exchange(0, seat + 1, Acquire, Relaxed) {
            self.wait_for(cell, other, seat, dead);
        }
    }

    /// Another seat is at the count, which takes some instructions, unless its thread was stopped
    /// or has died. A word that names no such seat is the work of a peer that breaks the protocol,
    /// and nothing to wait for.
    #[cold]
    fn wait_for(&self, cell: &PageCell, other: u32, seat: u32, dead: Option<&Dead<'_>>) {
        for _ in 0..100 {
            // Relaxed: a look.
            if cell.changer.load(Relaxed) != other {
                return;
            }
            spin_loop();
        }
        cell.lock.futex.relax();
        match other.checked_sub(1).filter(|&other| other < self.seats()) {
            // This seat is not at it; the dead have been settled.
            Some(other) if other == seat || dead.is_some_and(|dead| dead.has(other)) => {
                cell.disown(other + 1);
            }
            Some(other) => self.settle_of_dead(other, cell, dead.is_some()),
            None => cell.disown(other),
        }
    }
}

impl PageCell {
    /// The count of this kind.
    #[inline]
    pub(super) fn counted(&self, kind: u32) -> u32 {
        if kind == PIN { self.lock.pins() } else { self.lock.refs() }
    }

    /// The end of `alone_at`.
    #[inline]
    pub(super) fn let_go(&self) {
        // Release: pairs with `alone_at`.
        self.changer.store(0, Release);
    }

    /// Strikes out `changer`, which names no seat that could still let go.
    pub(super) fn disown(&self, changer: u32) {
        // Release: as `let_go`, for what the caller has settled. It fails if another was faster.
        let _ = self.changer.compare_exchange(changer, 0, Release, Relaxed);
    }
}

impl Note {
    /// Notes the count before a step that changes it. Alone at it, so the count stays what it is.
    #[inline]
    fn count(&self, cell: &PageCell, kind: u32, step: u32) {
        // Relaxed: seen with the step.
        self.before.store(cell.counted(kind), Relaxed);
        self.write(kind, step);
    }
}

/// One fewer.
fn lower(cell: &PageCell, kind: u32) -> Put {
    // SAFETY: a note says that there is one that is the caller's. A peer that forges a note could
    // have written the count as well.
    unsafe { if kind == PIN { cell.lock.unpin_raw() } else { cell.lock.put_raw() } }
}

macro_rules! faces {
    ($($type:ident, $give:ident, $what:literal, $take:literal, $put:literal;)*) => {
        $(impl $type<'_> {
            /// The index of the page.
            #[doc = example!("seat.activate(3)?.into_raw();" $take "assert_eq!(got.page(), 3);")]
            #[must_use]
            pub fn page(&self) -> u32 {
                // Relaxed: this seat's own note.
                self.0.seat.note(self.0.at).page.load(Relaxed)
            }

            #[doc = concat!("Gives the ", $what, " back and says whether anything is left.")]
            #[doc = example!("seat.activate(3)?.into_raw();" $take $put)]
            pub fn $give(self) -> Put {
                let counted = self.0;
                forget(self);
                counted.give_back()
            }

            /// Strikes the note out and keeps what was counted, for a page table, say, that
            /// outlives this seat. A survivor of this seat knows nothing of it.
            #[doc = example!("seat.activate(3)?.into_raw();" $take "got.into_raw();")]
            pub fn into_raw(self) {
                self.0.into_raw();
                forget(self);
            }
        }

        impl Drop for $type<'_> {
            fn drop(&mut self) {
                let _ = self.0.give_back();
            }
        }

        impl fmt::Debug for $type<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_tuple(stringify!($type)).field(&self.0.page.lock).finish()
            }
        })*
    };
}
faces! {
    SeatRef, put, "reference", "let got = seat.get(3)?;", "assert_eq!(got.put(), Put::Kept);";
    SeatPin, unpin, "pin", "let got = seat.pin(3)?;", "assert_eq!(got.unpin(), Put::Kept);";
}
