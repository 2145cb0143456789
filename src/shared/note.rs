//! Notes: what a seat has to do with a page, and how far it is.
//!
//! A note is written before the step that it announces. So a survivor that finds it after a death
//! knows what was done, or that it was one of two things, and which facts decide.
//!
//! | kind | step | the page |
//! |---|---|---|
//! | [`LOCK`] | [`ASKED`] | may be owned by this seat |
//! | | [`HELD`] | is owned by it |
//! | | [`GIVING`] | may be owned by it; it was letting go |
//! | | [`RESCUED`] | as `GIVING`; a survivor has had it, on the owner's behalf |
//! | [`REF`], [`PIN`] | `ASKED` | is not counted yet |
//! | | [`RAISING`] | is counted if the count is not `before` any more |
//! | | `HELD` | is counted |
//! | | `GIVING` | is counted still |
//! | | [`LOWERING`] | is counted if the count still is `before` |
//! | | [`GIVEN`] | is not counted any more; a migrator may not have heard |

use super::layout::Note;
use crate::sync::Ordering::{Acquire, Relaxed, Release};

/// The kind of a note: the page's lock, at whatever stage of a migration.
pub const LOCK: u32 = 1;
/// A reference.
pub const REF: u32 = 2;
/// A pin.
pub const PIN: u32 = 3;

/// The step of a note, in its second byte: about to ask.
pub const ASKED: u32 = 1 << 8;
/// It has it.
pub const HELD: u32 = 2 << 8;
/// About to give it back.
pub const GIVING: u32 = 3 << 8;
/// A survivor gives it back.
pub const RESCUED: u32 = 4 << 8;
/// Alone at the page's counts, and about to add one.
pub const RAISING: u32 = 5 << 8;
/// Alone at the page's counts, and about to take one off.
pub const LOWERING: u32 = 6 << 8;
/// Taken off.
pub const GIVEN: u32 = 7 << 8;

/// The bits of the kind, and those of the step.
pub(super) const KIND: u32 = 0xff;
pub(super) const STEP: u32 = 0xff00;

impl Note {
    /// What it says: kind and step, and the page. `None` if it is free.
    pub(super) fn read(&self) -> Option<(u32, u32, u32)> {
        // Acquire: pairs with `write` and `strike`, so that a reader of a step sees what came
        // before it.
        match self.what.load(Acquire) {
            0 => None,
            // Relaxed: written before `what`.
            what => Some((what & KIND, what & STEP, self.page.load(Relaxed))),
        }
    }

    /// Begins a note that is free.
    #[inline]
    pub(super) fn begin(&self, kind: u32, page: u32) {
        // Relaxed: seen with `what`.
        self.page.store(page, Relaxed);
        self.tag.store(0, Relaxed);
        self.write(kind, ASKED);
    }

    #[inline]
    pub(super) fn write(&self, kind: u32, step: u32) {
        // Release: pairs with `read`.
        self.what.store(kind | step, Release);
    }

    #[inline]
    pub(super) fn strike(&self) {
        // Release: as above. A reader that finds it free finds the page let go of, and its waiters
        // told.
        self.what.store(0, Release);
    }
}
