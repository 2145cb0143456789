//! The last stage: entries, then locks, then references.

use super::slot::{Batch, Dst, Src, Work};
use super::{Abort, Outcome};
use crate::leaf::{Leaf, Rights, Tracking};
use crate::migration::Frozen;
use crate::mm::ledger::{Change, Owner};
use crate::mm::range::invalidating;
use crate::mm::{Entry, Mm, Span};
use crate::page::PageLock;

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
    if src.hand.cached() > 0 && !move_cached(mm, &src, &dst) {
        batch.slots[index].work = Work::Frozen { src, page, dst: Some(dst) };
        return batch.put_back(index, Abort::CacheChanged);
    }
    put_up(mm, src.span, dst.span, dst.own.page());
    let pfn = dst.span.head;
    let is_free = dst.release(mm, |new| {
        batch.let_go(src, |fault| match fault {
            // The faulter's lock stays the faulter's. Those who wait for the migration are told; the entries are up.
            Some(fault) => {
                drop(new);
                fault.guard = Some(page.thaw().cancel());
            }
            None => {
                // Moves no reference, so there is nothing that could be refused; and if it were, both pages are let go of all the same.
                let committed = page.commit_to(new);
                debug_assert!(committed.is_ok(), "{committed:?}");
            }
        });
    });
    // Free already if every entry was unmapped meanwhile.
    batch.slots[index].outcome = if is_free { Outcome::Freed } else { Outcome::Moved { pfn } };
}

/// Makes a cache find the new page, and moves its references, unless the cache has changed meanwhile.
///
/// The new page's first: as soon as the cache finds it, somebody may empty the place and put what it has there.
fn move_cached<M: Mm>(mm: &M, src: &Src<'_, M>, dst: &Dst<'_, M>) -> bool {
    let cached = src.hand.cached();
    if !take_cached(mm, dst, cached) {
        return false;
    }
    let is_moved = mm.move_cached(src.span.head, dst.span.head, cached);
    // Those of the page that the cache does not find.
    let (head, lost) = if is_moved { (src.span.head, src.hand.page()) } else { (dst.span.head, dst.own.page()) };
    put_cached(mm, head, lost, cached);
    is_moved
}

/// Takes as many references for a cache. None at all if they are too many, which they are not: the source had as many.
fn take_cached<M: Mm>(mm: &M, dst: &Dst<'_, M>, cached: u32) -> bool {
    for taken in 0..cached {
        match dst.own.try_clone() {
            Ok(reference) => drop(reference.into_raw()),
            Err(_) => {
                put_cached(mm, dst.span.head, dst.own.page(), taken);
                return false;
            }
        }
        mm.account(dst.span.head, Owner::Cache, Change::Taken);
    }
    true
}

fn put_cached<M: Mm>(mm: &M, head: u64, page: &PageLock<M::Futex>, cached: u32) {
    for _ in 0..cached {
        mm.account(head, Owner::Cache, Change::Put);
        // SAFETY: a reference of the cache's to a page that it does not find. Not the last: the migrator has one.
        let _ = unsafe { page.put_raw() };
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
    let word = entry.hole().filter(|_| entry.get() == was).map(|rights| {
        // Writes that are to be reported fault, as they did on the page of zeroes. The new page is nobody else's.
        let most = if tracking.uffd_wp { Rights::ReadExclusive } else { Rights::Write };
        leaf(mm, dst.span.head, rights.min(most), tracking).encode()
    });
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
///
/// Each entry gets a new reference. One that can have none, because there are [`MAX_REFS`](crate::MAX_REFS), becomes a poison entry: it
/// can neither stay (nobody would ever put it up) nor lead to a page that does not know of it. That is so for a page that is put back as
/// well: while its entries were down, others may have taken their references' places in the count.
pub(super) fn put_up<M: Mm>(mm: &M, from: Span, to: Span, page: &PageLock<M::Futex>) {
    let owner = owner(mm, to.head);
    for (old, new) in from.frames().zip(to.frames()) {
        mm.each_mapping(old, |at| {
            let mut entry = mm.lock(at);
            let Ok(Leaf::Migration { pfn, rights, tracking }) = Leaf::decode(entry.get()) else { return };
            if pfn != old {
                return;
            }
            // Every frame fits: the old one is named by an entry, and a destination that cannot be is not accepted.
            let word = leaf(mm, new, rights, tracking).encode();
            debug_assert!(word.is_ok(), "{word:?}");
            match (page.try_get(), word) {
                (Ok(reference), Ok(word)) => {
                    reference.into_raw();
                    mm.account(to.head, owner, Change::Taken);
                    entry.set(word);
                }
                // More references than can be counted, by whoever has taken so many since the entries were taken down. What cannot be
                // counted cannot be mapped.
                _ => set_poison(&mut entry, old),
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
