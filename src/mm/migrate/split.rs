//! A large page that cannot be moved as one: split, while it is frozen and nobody can tell.
//!
//! All its entries are migration entries, so whoever wants one of its frames waits, for the header of the first: that is what
//! [`Memory::header`](crate::mm::Memory::header) gives for all of them. From the split on it gives each frame its own. So those are locked,
//! migrating and frozen *before* they can be found: a migration entry never leads to a page that is not locked (I12). A waiter who looked
//! before the split is told when the first frame's page is released, looks again, and finds the frame's own header.

use super::slot::Src;
use crate::migration::{FreezeRule, Frozen};
use crate::mm::ledger::{Change, Hand, Owner};
use crate::mm::{Mm, Span};
use crate::refs::PageRef;
use core::ops::Range;

/// The frames of a split page but the first: locked, frozen, with one reference each, the migrator's. Dropping them puts back those
/// that are left.
pub(super) struct Tails<'m, M: Mm> {
    mm: &'m M,
    frames: Range<u64>,
}

/// Splits the page of `span`, which is frozen. `None`, with nothing changed, if a frame's own header is in somebody's hands.
pub(super) fn split<M: Mm>(mm: &M, span: Span) -> Option<Tails<'_, M>> {
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

/// Makes the header of a frame that is not a page yet a page's: live, locked, frozen.
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
    type Item = (Src<'m, M>, Frozen<'m, M::Futex>);

    fn next(&mut self) -> Option<Self::Item> {
        let head = self.frames.next()?;
        let page = self.mm.own_header(head)?;
        // SAFETY: `seize` has left it raw, and each is taken once, because the range gets shorter.
        let frozen = unsafe { Frozen::from_raw(page) };
        // SAFETY: the reference that it was made live with.
        let own = unsafe { PageRef::from_raw(page) };
        Some((Src { span: Span { head, order: 0 }, hand: Hand::new(own), is_fault: false }, frozen))
    }
}

impl<M: Mm> Drop for Tails<'_, M> {
    fn drop(&mut self) {
        let mm = self.mm;
        for (src, frozen) in self {
            let page = frozen.thaw();
            super::finalize::put_up(mm, src.span, src.span, page.page());
            mm.account(src.span.head, Owner::Get, Change::Put);
            let put = src.hand.put();
            page.abort();
            if put == crate::refs::Put::Last {
                mm.free(src.span.head);
            }
        }
    }
}
