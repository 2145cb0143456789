//! The last stage: entries, then locks, then references.

use super::slot::{Batch, Dst, Src, Work};
use super::{Abort, Outcome};
use crate::leaf::{Leaf, Rights, Tracking};
use crate::migration::Frozen;
use crate::mm::ledger::{Change, Owner};
use crate::mm::range::invalidating;
use crate::mm::{Entry, Mm, Span};
use crate::page::PageLock;
use crate::seeded::seeded;

pub(super) fn finalize<M: Mm>(batch: &mut Batch<'_, '_, M>) {
    for index in 0..batch.slots.len() {
        finalize_one(batch, index);
    }
}

pub(super) fn finalize_one<M: Mm>(batch: &mut Batch<'_, '_, M>, index: usize) {
    match batch.take(index) {
        Work::Hole { at, was, dst: Some(dst) } => fill(batch, index, at, was, dst),
        Work::Frozen { src, page, dst: Some(dst) } => arrive(batch, index, src, page, dst),
        other => batch.slots[index].work = other,
    }
}

fn arrive<'m, M: Mm>(batch: &mut Batch<'_, 'm, M>, index: usize, src: Src<'m, M>, page: Frozen<'m, M::Futex>, dst: Dst<'m, M>) {
    let mm = batch.mm;
    if src.hand.cached() > 0 && !mm.move_cached(src.span.head, dst.span.head) {
        batch.slots[index].work = Work::Frozen { src, page, dst: Some(dst) };
        return batch.put_back(index, Abort::CacheChanged);
    }
    put_up(mm, src.span, dst.span, dst.own.page());
    let pfn = dst.span.head;
    move_cached_references(mm, &src, &dst);
    let is_free = dst.release(mm, |new| {
        batch.let_go(src, |fault| match fault {
            // The faulter's lock stays the faulter's. Those who wait for the migration are told; the entries are up.
            Some(fault) => {
                drop(new);
                fault.guard = Some(page.thaw().cancel());
                if seeded!("faulters-lock-released") {
                    fault.guard = None;
                }
            }
            None => {
                // Moves no reference, so there is nothing that could be refused; and if it were, both pages are let go of all the same.
                let committed = page.commit_to_moving(new, 0);
                debug_assert!(committed.is_ok(), "{committed:?}");
            }
        });
    });
    // Free already if every entry was unmapped meanwhile.
    batch.slots[index].outcome = if is_free { Outcome::Freed } else { Outcome::Moved { pfn } };
}

/// The references of a cache, which finds the new page by now.
fn move_cached_references<M: Mm>(mm: &M, src: &Src<'_, M>, dst: &Dst<'_, M>) {
    let (old, new) = (src.hand.page(), dst.own.page());
    for _ in 0..src.hand.cached() {
        match new.try_get() {
            Ok(reference) => drop(reference.into_raw()),
            Err(why) => debug_assert!(false, "a page that was just made live cannot be referred to: {why}"),
        }
        mm.account(dst.span.head, Owner::Cache, Change::Taken);
        mm.account(src.span.head, Owner::Cache, Change::Put);
        // SAFETY: the cache's own reference to a page that it does not find any more. Not the last: the migrator has one.
        let _ = unsafe { old.put_raw() };
    }
}

/// A hole: the new page's entry goes where nothing was, if nothing is there still.
fn fill<'m, M: Mm>(batch: &mut Batch<'_, 'm, M>, index: usize, at: M::Address, was: u64, dst: Dst<'m, M>) {
    let mm = batch.mm;
    // A page of zeroes may be known to somebody.
    let invalidating = invalidating(mm, at);
    let mut entry = mm.lock(at);
    let tracking = match Leaf::decode(was) {
        Ok(Leaf::Present { tracking, .. }) => tracking,
        _ => Tracking::default(),
    };
    // Both may have changed since, with the page-table lock let go of.
    let word = entry
        .hole()
        .filter(|_| entry.get() == was || seeded!("hole-filled-over"))
        .map(|rights| leaf(mm, dst.span.head, rights, tracking).encode());
    let filled = match word {
        Some(Ok(word)) => dst.own.try_clone().ok().map(|reference| (word, reference)),
        _ => None,
    };
    if let Some((word, reference)) = filled {
        reference.into_raw();
        mm.account(dst.span.head, owner(mm, dst.span.head), Change::Taken);
        entry.set(word);
        drop(entry);
        batch.slots[index].outcome = Outcome::Filled { pfn: dst.span.head };
    } else {
        drop(entry);
        batch.slots[index].outcome = Outcome::Aborted(Abort::HoleFilled);
    }
    drop(invalidating);
    dst.discard(mm);
}

/// Makes every migration entry for `from` an entry for `to`, whose header is `page`, live and not frozen. `from` and `to` may be one.
pub(super) fn put_up<M: Mm>(mm: &M, from: Span, to: Span, page: &PageLock<M::Futex>) {
    if seeded!("entry-left-behind") {
        return;
    }
    let owner = owner(mm, to.head);
    for (old, new) in from.frames().zip(to.frames()) {
        mm.each_mapping(old, |at| {
            let mut entry = mm.lock(at);
            let Ok(Leaf::Migration { pfn, rights, tracking }) = Leaf::decode(entry.get()) else { return };
            if pfn != old {
                return;
            }
            let Ok(word) = leaf(mm, new, rights, tracking).encode() else { return };
            match page.try_get() {
                Ok(reference) => {
                    if seeded!("entry-without-a-reference") {
                        drop(reference);
                    } else {
                        reference.into_raw();
                    }
                    mm.account(to.head, owner, Change::Taken);
                    entry.set(word);
                }
                // More entries than can be counted. What cannot be counted cannot be mapped.
                Err(_) => set_poison(&mut entry, old),
            }
        });
    }
}

/// Makes every migration entry for `span` a poison entry.
pub(super) fn condemn<M: Mm>(mm: &M, span: Span) {
    for old in span.frames() {
        mm.each_mapping(old, |at| {
            let mut entry = mm.lock(at);
            if matches!(Leaf::decode(entry.get()), Ok(Leaf::Migration { pfn, .. }) if pfn == old) {
                set_poison(&mut entry, old);
            }
        });
    }
}

/// The end of a page whose contents are lost. Its frame is not freed.
pub(super) fn let_go_of_lost<'m, M: Mm>(batch: &mut Batch<'_, 'm, M>, src: Src<'m, M>, page: Frozen<'m, M::Futex>) {
    let Src { span, hand, is_fault } = src;
    batch.mm.account(span.head, Owner::Get, Change::Put);
    // Nothing is freed, whether or not it was the last.
    let _ = hand.put();
    match &mut batch.fault {
        Some(fault) if is_fault => {
            fault.guard = Some(page.thaw().cancel());
            fault.is_lost = true;
        }
        _ => drop(page.poison()),
    }
}

fn set_poison<E: Entry>(entry: &mut E, pfn: u64) {
    if let Ok(word) = (Leaf::Poison { pfn }).encode() {
        entry.set(word);
    }
}

/// The entry for a page in frame `pfn`.
fn leaf<M: Mm>(mm: &M, pfn: u64, rights: Rights, tracking: Tracking) -> Leaf {
    if mm.is_accessible(mm.tier(pfn)) {
        Leaf::Present { pfn, rights, tracking }
    } else {
        Leaf::DevicePrivate { pfn, rights, tracking }
    }
}

fn owner<M: Mm>(mm: &M, pfn: u64) -> Owner {
    if mm.is_accessible(mm.tier(pfn)) { Owner::Mapping } else { Owner::Entry }
}
