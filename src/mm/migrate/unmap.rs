//! The second stage: every entry that names the page becomes a migration entry.

use super::pass::Pass;
use super::slot::{PageName, Src, Work};
use super::{Abort, Mode};
use crate::leaf::Leaf;
use crate::mm::exclusive::revoked;
use crate::mm::ledger::{Change, Owner, owner_in};
use crate::mm::range::invalidating;
use crate::mm::{Cause, Entry, Mm};

pub(super) fn unmap<M: Mm>(pass: &mut Pass<'_, '_, M>) {
    for index in 0..pass.slots.len() {
        let Work::Locked(src) = &pass.slots[index].work else { continue };
        let (mm, span) = (pass.mm, src.span());
        if src.page.refs() == src.expected() {
            // Every entry owns a reference, and the hand has all there are: nothing else is mapped.
            continue;
        }
        let first = match pass.slots[index].what {
            PageName::At(at) if src.is_first_down => Some(at),
            _ => None,
        };
        let mut is_exclusive = false;
        mm.each_mapping(span, |at| {
            if first != Some(at) {
                is_exclusive |= !take_down(pass, index, at);
            }
        });
        if is_exclusive {
            pass.put_back(index, Abort::Exclusive);
        }
    }
    pass.flush();
}

/// Replaces the entry at `at`, if it names a frame of slot `index`'s page, by a migration entry.
/// The reference that it owned goes to the hand: a migration entry owns none. `false` if it is one
/// that must stay.
pub(super) fn take_down<M: Mm>(pass: &mut Pass<'_, '_, M>, index: usize, at: M::Address) -> bool {
    let (mm, mode) = (pass.mm, pass.mode());
    let _invalidating = invalidating(mm, at, pass.notice(Cause::Migrate));
    let Work::Locked(src) = &mut pass.slots[index].work else { return true };
    let Some(entry) = mm.lock(at) else { return true };
    let leaf = entry.get();
    let is_exclusive =
        matches!(leaf, Ok(Leaf::DeviceExclusive { pfn, .. }) if src.span().contains(pfn));
    if is_exclusive && mode == Mode::Async {
        return false;
    }
    let Some(mut entry) = revoked(mm, at, entry, src.span()) else { return true };
    if replace(mm, src, &mut entry) {
        pass.is_unflushed = true;
    }
    true
}

/// The same for an entry that is locked and was announced. Returns whether it named the page.
pub(super) fn replace<M: Mm>(mm: &M, src: &mut Src<'_, M>, entry: &mut M::Entry<'_>) -> bool {
    let span = src.span();
    let Some(owner) = owner_in(entry, span) else { return false };
    // The entry at last: hardware may have noted an access since.
    let Some(migration) = entry.take_unflushed().ok().and_then(Leaf::to_migration) else {
        return false;
    };
    entry.set(migration);
    src.hand.taken += 1;
    mm.account(span.head, owner, Change::Put);
    mm.account(span.head, Owner::Get, Change::Taken);
    true
}
