//! The second stage: every entry that names the page becomes a migration entry.

use super::Abort;
use super::slot::{Batch, Work};
use crate::leaf::Leaf;
use crate::mm::ledger::{Change, Owner};
use crate::mm::range::invalidating;
use crate::mm::{Entry, Mm, Span};
use crate::page::PageLock;

pub(super) fn unmap<M: Mm>(batch: &mut Batch<'_, '_, M>) {
    for index in 0..batch.slots.len() {
        let Work::Locked { src, page } = &batch.slots[index].work else { continue };
        let (mm, span, page) = (batch.mm, src.span, page.page());
        let mut is_exclusive = false;
        for pfn in span.frames() {
            mm.each_mapping(pfn, |at| is_exclusive |= !take_down(mm, span, page, at));
        }
        if is_exclusive {
            batch.put_back(index, Abort::Exclusive);
        }
    }
}

/// Replaces the entry at `at`, if it names a frame of `span`, by a migration entry. The reference that it owned is put: a migration
/// entry owns none. `false` if it is one that must stay.
pub(super) fn take_down<M: Mm>(mm: &M, span: Span, page: &PageLock<M::Futex>, at: M::Address) -> bool {
    let _invalidating = invalidating(mm, at);
    let mut entry = mm.lock(at);
    let owner = match Leaf::decode(entry.get()) {
        Ok(Leaf::Present { pfn, .. }) if span.contains(pfn) => Owner::Mapping,
        Ok(Leaf::DevicePrivate { pfn, .. }) if span.contains(pfn) => Owner::Entry,
        Ok(Leaf::DeviceExclusive { pfn, .. }) => return !span.contains(pfn),
        _ => return true,
    };
    // What it was at last: hardware may have noted an access since.
    let Some(Ok(migration)) = Leaf::decode(entry.take()).ok().and_then(Leaf::to_migration).map(Leaf::encode) else {
        return true;
    };
    entry.set(migration);
    mm.account(span.head, owner, Change::Put);
    // SAFETY: the entry's own reference, which went with the entry. It is not the last: the migrator has one.
    let _ = unsafe { page.put_raw() };
    true
}
