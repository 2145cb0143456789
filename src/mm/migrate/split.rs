//! A large page that cannot be moved as one: split, while it is frozen and nobody notices.
//!
//! All its entries are migration entries, so a thread that wants one of its frames waits, for the
//! header of the first: [`Memory::header`](crate::mm::Memory::header) gives that for all of them.
//! From the split on it gives each frame its own. So those headers are locked, migrating and frozen
//! *before* anybody can find them: a migration entry never leads to a page that is not locked
//! (I12). A waiter that looked before the split is told when the first frame's page is released,
//! looks again, and finds the frame's own header.

use super::dst::put_raw;
use super::slot::Src;
use crate::migration::{FreezeRule, Frozen};
use crate::mm::ledger::{Change, Hand, Owner};
use crate::mm::{Entry, Mm, Span};
use crate::refs::Put;
use core::ops::Range;

/// The frames of a split page after the first: locked, frozen, with one reference each, the
/// migrator's. Dropping this puts back those that are left.
pub(super) struct Tails<'m, M: Mm> {
    mm: &'m M,
    frames: Range<u64>,
}

/// Splits the page of `span`, which is frozen. `None`, with the page as it was, if another thread
/// has a frame's own header, or a large entry cannot be split.
pub(super) fn split<M: Mm>(mm: &M, span: Span) -> Option<Tails<'_, M>> {
    let mut are_small = true;
    mm.each_mapping(span, |at| {
        let Some(mut entry) = mm.lock(at) else { return };
        are_small &= entry.order() == 0 || entry.split();
    });
    if !are_small {
        return None;
    }
    let tails = span.head + 1..span.frames().end;
    for pfn in tails.clone() {
        if seize(mm, pfn).is_none() {
            for pfn in tails.start..pfn {
                unseize(mm, pfn);
            }
            return None;
        }
    }
    mm.split(span.head);
    for pfn in tails.clone() {
        mm.account(pfn, Owner::Get, Change::Taken);
    }
    Some(Tails { mm, frames: tails })
}

/// Makes the header of a frame in the middle a page's: live, locked, frozen.
fn seize<M: Mm>(mm: &M, pfn: u64) -> Option<()> {
    let page = mm.own_header(pfn)?;
    let guard = page.try_lock()?;
    page.activate(1).ok()?;
    match guard.begin_migration().freeze(FreezeRule::ExactRefs(1)) {
        Ok(frozen) => {
            frozen.into_raw();
            Some(())
        }
        Err(busy) => {
            // SAFETY: the reference that it was made live with.
            let _ = unsafe { page.put_raw() };
            drop(busy);
            None
        }
    }
}

fn unseize<M: Mm>(mm: &M, pfn: u64) {
    let Some(page) = mm.own_header(pfn) else { return };
    // SAFETY: `seize` has left it raw.
    let frozen = unsafe { Frozen::from_raw(page) };
    // SAFETY: the reference that it was made live with.
    let _ = unsafe { page.put_raw() };
    frozen.abort();
}

impl<'m, M: Mm> Iterator for Tails<'m, M> {
    type Item = Src<'m, M>;

    /// As `seize` has left it: for a slot.
    fn next(&mut self) -> Option<Self::Item> {
        let head = self.frames.next()?;
        let page = self.mm.own_header(head)?;
        let mut src = Src::new(page, Span { head, order: 0 }, Hand::default());
        src.is_part = true;
        Some(src)
    }
}

impl<M: Mm> Drop for Tails<'_, M> {
    fn drop(&mut self) {
        let mm = self.mm;
        for src in self {
            let page = src.into_frozen().thaw();
            super::finalize::put_up(mm, src.span(), src.span(), src.page, &mut 0);
            let put = put_raw(mm, src.page, src.span(), 1);
            page.abort();
            if put == Put::Last {
                mm.free(src.head);
            }
        }
    }
}
