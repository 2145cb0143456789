//! The second stage: every entry that names the page becomes a migration entry.

use super::batch::Batch;
use super::slot::{Src, What, Work};
use super::{Abort, Mode};
use crate::leaf::Leaf;
use crate::mm::ledger::{Change, Owner};
use crate::mm::range::invalidating;
use crate::mm::{Cause, Entry, Mm};

pub(super) fn unmap<M: Mm>(batch: &mut Batch<'_, '_, M>) {
    for index in 0..batch.slots.len() {
        let Work::Locked(src) = &batch.slots[index].work else { continue };
        let (mm, span) = (batch.mm, src.span());
        if src.page.refs() == src.expected() {
            // Every entry owns a reference, and all there are are in the hand: nothing else is
            // mapped.
            continue;
        }
        let first = match batch.slots[index].what {
            What::At(at) if src.is_first_down => Some(at),
            _ => None,
        };
        let mut is_exclusive = false;
        mm.each_mapping(span, |at| {
            if first != Some(at) {
                is_exclusive |= !take_down(batch, index, at);
            }
        });
        if is_exclusive {
            batch.put_back(index, Abort::Exclusive);
        }
    }
    batch.flush();
}

/// Replaces the entry at `at`, if it names a frame of slot `index`'s page, by a migration entry.
/// The reference that it owned goes to the hand: a migration entry owns none. `false` if it is one
/// that must stay.
pub(super) fn take_down<M: Mm>(batch: &mut Batch<'_, '_, M>, index: usize, at: M::Address) -> bool {
    let (mm, mode) = (batch.mm, batch.mode());
    let _invalidating = invalidating(mm, at, batch.notice(Cause::Migrate));
    let Work::Locked(src) = &mut batch.slots[index].work else { return true };
    let Some(mut entry) = mm.lock(at) else { return true };
    if let Ok(Leaf::DeviceExclusive { pfn, .. }) = entry.get() {
        if src.span().contains(pfn) {
            if mode == Mode::Async {
                return false;
            }
            // The device may take its time, so the entry is let go of. Nobody makes it exclusive
            // anew, for that takes the page's lock.
            drop(entry);
            mm.revoke_exclusive(pfn);
            let Some(again) = mm.lock(at) else { return true };
            entry = again;
        }
    }
    if replace(mm, src, &mut entry) {
        batch.is_unflushed = true;
    }
    true
}

/// The same for an entry that is locked, and was announced. Whether it named the page.
pub(super) fn replace<M: Mm>(mm: &M, src: &mut Src<'_, M>, entry: &mut M::Entry<'_>) -> bool {
    let span = src.span();
    let owner = match entry.get() {
        Ok(Leaf::Present { pfn, .. }) if span.contains(pfn) => Owner::Mapping,
        Ok(Leaf::DevicePrivate { pfn, .. } | Leaf::DeviceExclusive { pfn, .. })
            if span.contains(pfn) =>
        {
            Owner::Entry
        }
        _ => return false,
    };
    // What it was at last: hardware may have noted an access since.
    let Some(migration) = entry.take_unflushed().ok().and_then(Leaf::to_migration) else {
        return false;
    };
    entry.set(migration);
    src.hand.taken += 1;
    mm.account(span.head, owner, Change::Put);
    mm.account(span.head, Owner::Get, Change::Taken);
    true
}
