//! After a death: a survivor makes good what the notes of the dead say.
//!
//! The process that has locked the byte of a seat has the seat. A survivor takes a dead one's and
//! ends what its notes say was begun, step by step as the dead would have: each note is struck out
//! after what it says is done. So a survivor that dies leaves the seat to the next, as it was or a
//! step further.
//!
//! # Whose lock it is
//!
//! A locked page does not name its owner. If the dead had noted that it *has* the page, it is the
//! dead's. If the dead was about to ask, or to let go, another thread may own it. Then the survivor
//! looks for that owner:
//!
//! 1. it reads the sequence of the page's event slot;
//! 2. it sets the waiters' flag on the locked word, as a waiter does: of *this* hold;
//! 3. it reads the notes of all seats. A living owner has noted the page, since before it took the
//!    page, and until after its release has told the slot;
//! 4. it reads the sequence again. If it is the same, the hold did not end in between: its release
//!    would have found the flag, and told the slot before it struck out its note.
//!
//! If no living seat has the page noted, the owner is dead. If a seat has noted that it has the
//! page, that seat owns it. If a living thread is about to ask, or letting go, it will be known in
//! some instructions; the survivor looks again, and if that thread has been stopped just there,
//! leaves the page for later ([`Recovered::undecided`]).
//!
//! One survivor at a time recovers: two of the dead may have been about to ask for the same page,
//! and one of them may own it.

use super::layout::{Note, PageCell};
use super::note::{ASKED, GIVEN, GIVING, HELD, LOCK, LOWERING, PIN, RAISING, REF, RESCUED};
use super::platform::InSegment;
use super::seat::page_before_notes;
use super::{RecoverError, Segment};
use crate::futex::Futex;
use crate::migration::TakenOver;
use crate::page::PageLock;
use crate::sync::Ordering::{Acquire, Relaxed};
use crate::sync::spin_loop;

/// How often to look again at a page of which it is not known whose it is.
const LOOKS: u32 = 1000;

/// A page that a dead thread owned, and the survivor has now.
#[derive(Debug)]
#[non_exhaustive]
pub struct Left<'r> {
    /// The seat of the dead.
    pub seat: u32,
    /// The index of the page.
    pub page: u32,
    /// What it had left for a survivor, by [`set_tag`](super::Held::set_tag).
    pub tag: u32,
    /// How far it was.
    pub when: When,
    /// The stage that the page is in, which the survivor ends: commits, aborts, poisons. Dropping
    /// it is right for the crate. It must not be forgotten, nor made raw: then the page stays
    /// taken.
    pub stage: TakenOver<'r, InSegment>,
}

/// How far the dead was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum When {
    /// It had just got the page, and done nothing with it.
    Taking,
    /// It was at work on it.
    Working,
    /// It was letting go of the page: of a commit, the entries are up.
    Ending,
    /// Another survivor had the page, at work on it or letting go, and has died as well.
    Rescuing,
}

/// What [`Segment::recover`] came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Recovered {
    /// Seats of the dead.
    pub seats: u32,
    /// Pages taken over from them.
    pub pages: u32,
    /// References given back.
    pub refs: u32,
    /// Pins given back.
    pub pins: u32,
    /// Pages that have become free by that. No other call reports them.
    pub freed: u32,
    /// Pages whose waiters were told again.
    pub retold: u32,
    /// Notes with values that no note can have: their writer broke the protocol.
    pub nonsense: u32,
    /// Notes left for the next time: a living thread was stopped while it took the page or let go
    /// of it, or while it woke from a wait for the owner's end.
    pub undecided: u32,
}

/// Whose a page is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Owner {
    Dead,
    Another,
    None,
    Unknown,
}

impl Segment {
    /// Ends what the dead have begun: takes over their pages, and has `each` end each of them;
    /// gives back their references and pins; tells the waiters that they have not told. No living
    /// thread is stopped, or robbed; a thread that is stopped lives.
    ///
    /// Without a death it finds nothing to do, and that costs a look at each seat. Call it when a
    /// child was reaped, when a socket is closed, or by [a thread that
    /// waits](Self::wait_for_end_of) for the end of a seat. While `each` runs, the page is the
    /// survivor's, and others wait for it. `each` takes no references or pins. If it panics the
    /// page is let go of, and the rest is left for the next time.
    ///
    /// # Errors
    ///
    /// [`RecoverError::Busy`] if another survivor is at it, which may have begun before this death:
    /// call again. [`Forked`](RecoverError::Forked) in a child that has not attached for itself. Or
    /// the system refuses.
    ///
    /// # Example
    ///
    /// ```
    /// use pagelock::TakenOver;
    /// use pagelock::shared::{Segment, Size};
    ///
    /// let segment = Segment::create(c"pages", Size::of(16))?;
    /// let recovered = segment.recover(|left| match left.stage {
    ///     // ... the bytes are where they were: put the entries back, and then
    ///     TakenOver::Frozen(frozen) => drop(frozen.abort()),
    ///     other => drop(other),
    /// })?;
    /// assert_eq!(recovered.seats, 0); // no owner has died
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn recover(&self, mut each: impl FnMut(Left<'_>)) -> Result<Recovered, RecoverError> {
        self.alone(|| self.recover_all(&mut each))
    }

    fn recover_all(&self, each: &mut impl FnMut(Left<'_>)) -> Result<Recovered, RecoverError> {
        let mut recovered = Recovered::default();
        // All of the dead first: none of them is a living owner of what another had.
        let mut dead = Dead { segment: self, seats: [0; 8] };
        for seat in 0..self.seats() {
            let notes = self.notes(seat).count() as u32;
            if notes == 0 {
                continue;
            }
            if self.occupy(seat).map_err(|errno| RecoverError::System { errno })? {
                dead.add(seat);
            } else if !self.is_occupied(seat) {
                // A thread that waited for the owner's end was stopped on its way out.
                recovered.undecided += notes;
            }
        }
        let all = || (0..self.seats()).filter(|&seat| dead.has(seat));
        // A living thread may wait for a count.
        all().for_each(|seat| self.settle(seat));
        for seat in all() {
            recovered.seats += 1;
            for note in self.notes(seat) {
                self.recover_note(&dead, seat, note, each, &mut recovered);
            }
        }
        Ok(recovered)
    }

    /// The notes of a seat that are not free.
    pub(super) fn notes(&self, seat: u32) -> impl Iterator<Item = &Note> {
        self.cell(seat).notes.iter().filter(|note| note.read().is_some())
    }

    fn recover_note(
        &self,
        dead: &Dead<'_>,
        seat: u32,
        note: &Note,
        each: &mut impl FnMut(Left<'_>),
        sum: &mut Recovered,
    ) {
        let Some((kind, step, page)) = note.read() else { return };
        let Some(cell) = self.page(page).filter(|_| (LOCK..=PIN).contains(&kind)) else {
            sum.nonsense += 1;
            note.strike();
            return;
        };
        if kind == LOCK {
            match self.owner(dead, page, cell, step) {
                Owner::Unknown => {
                    sum.undecided += 1;
                    return;
                }
                Owner::Dead => {
                    let when = match step {
                        ASKED => When::Taking,
                        HELD => When::Working,
                        GIVING => When::Ending,
                        _ => When::Rescuing,
                    };
                    // From here on the survivor may have let go of it.
                    note.write(LOCK, RESCUED);
                    // SAFETY: the owner is dead, as the kernel says, and this is the one survivor
                    // that recovers.
                    if let Some(stage) = unsafe { cell.lock.take_over() } {
                        sum.pages += 1;
                        // Relaxed: written by the dead, of whose end the kernel has told.
                        each(Left { seat, page, tag: note.tag.load(Relaxed), when, stage });
                    }
                    tell(&cell.lock, sum);
                }
                Owner::Another | Owner::None => {
                    if step != ASKED {
                        tell(&cell.lock, sum);
                    }
                }
            }
        } else {
            if matches!(step, HELD | GIVING) && cell.counted(kind) > 0 {
                let left = self.give_back(cell, note, kind, seat, Some(dead));
                sum.freed += u32::from(left == crate::refs::Put::Last);
                *(if kind == REF { &mut sum.refs } else { &mut sum.pins }) += 1;
            }
            if step != ASKED {
                tell(&cell.lock, sum);
            }
        }
        note.strike();
    }

    /// Whose the page is, if the dead has noted that it may have it.
    fn owner(&self, dead: &Dead<'_>, page: u32, cell: &PageCell, step: u32) -> Owner {
        for look in 0..LOOKS {
            // (1)
            let slot = cell
                .lock
                .futex
                .event(cell.lock.futex.event_index(core::ptr::from_ref(&cell.lock).addr()));
            let sequence = slot.sequence();
            // (2)
            let seen = cell.lock.state();
            if !seen.is_locked() {
                return Owner::None;
            }
            if step == HELD {
                return Owner::Dead;
            }
            if cell.lock.set_event_waiters(seen).is_ok() {
                // (3)
                page_before_notes();
                match self.living(dead, page) {
                    // (4)
                    Owner::Dead if slot.sequence() == sequence => return Owner::Dead,
                    Owner::Another => return Owner::Another,
                    _ => {}
                }
            }
            if look % 64 == 63 {
                cell.lock.futex.relax();
            }
            spin_loop();
        }
        Owner::Unknown
    }

    /// Whether a seat has noted that it has the page. `Dead` if no living thread may have it.
    fn living(&self, dead: &Dead<'_>, page: u32) -> Owner {
        let mut owner = Owner::Dead;
        for seat in 0..self.seats() {
            for (_, step, _) in self
                .cell(seat)
                .notes
                .iter()
                .filter_map(Note::read)
                .filter(|&(kind, _, of)| kind == LOCK && of == page)
            {
                if step == HELD {
                    // Of another dead one: it is that one's, and its turn comes.
                    return Owner::Another;
                }
                if !dead.has(seat) {
                    owner = Owner::Unknown;
                }
            }
        }
        owner
    }

    /// Finds out whether the change of a count was made that the seat, in which the caller sits,
    /// may have been in the middle of; then lets others at the count.
    fn settle(&self, seat: u32) {
        let at_count = |note: &Note| {
            let (kind, step, page) = note.read()?;
            let cell = self.page(page).filter(|_| kind == REF || kind == PIN)?;
            // Acquire: pairs with `let_go`.
            (cell.changer.load(Acquire) == seat + 1).then_some((kind, step, cell))
        };
        for note in self.notes(seat) {
            let Some((kind, step, cell)) = at_count(note) else { continue };
            // Relaxed: written before the step.
            let is_as_before = cell.counted(kind) == note.before.load(Relaxed);
            match step {
                RAISING => note.write(kind, if is_as_before { ASKED } else { HELD }),
                LOWERING => note.write(kind, if is_as_before { HELD } else { GIVEN }),
                _ => {}
            }
        }
        // Not before: another note of the seat may be of the same page.
        for (_, _, cell) in self.notes(seat).filter_map(at_count) {
            cell.let_go();
        }
    }

    /// [`settle`](Self::settle) for a seat whose owner has died, if it has: it keeps others from
    /// the count of `cell`.
    pub(super) fn settle_of_dead(&self, seat: u32, cell: &PageCell, recovers: bool) {
        if self.is_occupied(seat) {
            return;
        }
        let settle = || {
            if self.occupy(seat) == Ok(true) {
                self.settle(seat);
                // If it is still named there, no note of it says so.
                cell.disown(seat + 1);
                self.leave(seat);
            }
        };
        if recovers {
            settle();
        } else {
            // As a survivor that recovers: else one that does would take the seat for a living
            // one's.
            let _ = self.alone(|| {
                settle();
                Ok(())
            });
        }
    }
}

fn tell(page: &PageLock<InSegment>, sum: &mut Recovered) {
    sum.retold += 1;
    // SAFETY: the survivor has let go of the page, and this platform's `tell` locks nothing.
    unsafe { page.retell() };
}

/// The seats of the dead, which the survivor sits in. Dropping it gives them up.
pub(super) struct Dead<'g> {
    segment: &'g Segment,
    seats: [u32; 8],
}

impl Dead<'_> {
    fn add(&mut self, seat: u32) {
        self.seats[Self::word(seat)] |= 1 << (seat % 32);
    }

    pub(super) fn has(&self, seat: u32) -> bool {
        self.seats[Self::word(seat)] & 1 << (seat % 32) != 0
    }

    /// The remainder, of a number that is less in any case, spares a check that could panic.
    fn word(seat: u32) -> usize {
        seat as usize / 32 % 8
    }
}

impl Drop for Dead<'_> {
    fn drop(&mut self) {
        for seat in (0..self.segment.seats()).filter(|&seat| self.has(seat)) {
            self.segment.leave(seat);
        }
    }
}
