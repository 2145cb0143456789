//! The last stage: entries, then locks, then references.

use super::dst::{Dst, put_raw};
use super::pass::Pass;
use super::slot::{NO_FRAME, PageName, Src, Work};
use super::{Abort, Outcome};
use crate::leaf::{Leaf, Rights, Tracking};
use crate::mm::ledger::{Change, Owner};
use crate::mm::range::invalidating;
use crate::mm::{Cause, Entry, Mm, Span};
use crate::page::PageLock;
use crate::word::UserBits;

pub(super) fn finalize<M: Mm>(pass: &mut Pass<'_, '_, M>) {
    for index in 0..pass.slots.len() {
        finalize_one(pass, index);
    }
}

pub(super) fn finalize_one<M: Mm>(pass: &mut Pass<'_, '_, M>, index: usize) {
    let mm = pass.mm;
    match pass.take(index) {
        Work::Hole { was, order, dst } if dst != NO_FRAME => {
            // SAFETY: taken out of its slot just now.
            match (unsafe { Dst::from_raw(mm, dst, u32::from(order), 0) }, pass.slots[index].what) {
                (Some(dst), PageName::At(at)) => fill(pass, index, at, was, dst),
                _ => pass.set(index, Outcome::Aborted(Abort::BadDestination), 0),
            }
        }
        Work::Frozen { src, dst } if dst != NO_FRAME && src.is_copied => {
            // In the slot without its destination: if the embedder's code panics, the destination
            // drops, and the pass puts back the page.
            pass.slots[index].work = Work::Frozen { src, dst: NO_FRAME };
            // SAFETY: as above.
            match unsafe { Dst::from_raw(mm, dst, u32::from(src.order), src.counted()) } {
                Some(dst) => arrive(pass, index, &src, dst),
                None => pass.put_back(index, Abort::BadDestination),
            }
        }
        other => pass.slots[index].work = other,
    }
}

fn arrive<'m, M: Mm>(
    pass: &mut Pass<'_, 'm, M>,
    index: usize,
    src: &Src<'m, M>,
    mut dst: Dst<'m, M>,
) {
    let (mm, to) = (pass.mm, dst.span);
    if src.hand.cached > 0 && !move_cached(mm, src, &dst) {
        drop(dst);
        return pass.put_back(index, Abort::CacheChanged);
    }
    // What belongs to the page goes with it, before anybody can find it there. The new frame had no
    // bits.
    let user = src.page.user();
    if user != UserBits::default() {
        if let Some(lock) = dst.lock() {
            lock.set_user(user);
        }
    }
    mm.moved(src.head, to.head);
    let Work::Frozen { src, .. } = pass.take(index) else { return };
    let lost = put_up(mm, src.span(), to, dst.page, &mut dst.counted);
    let mut page = src.into_frozen();
    let is_free = dst.release(|new| {
        pass.let_go(src, |fault| match fault {
            // The faulter keeps its lock. Threads that wait for the migration are told: the entries
            // are up.
            Some(fault) => {
                drop(new);
                page.set_user(UserBits::default());
                fault.guard = Some(page.commit_keeping());
            }
            None => {
                // Moves no reference, so nothing can be refused. If it were, both pages are
                // released all the same.
                let committed = page.commit_to(new);
                debug_assert!(committed.is_ok(), "{committed:?}");
            }
        });
    });
    let outcome = match lost {
        // Free already if every entry was unmapped meanwhile.
        0 if is_free => Outcome::Freed,
        0 => Outcome::Moved { pfn: to.head },
        entries => Outcome::Uncounted { pfn: to.head, entries },
    };
    pass.set(index, outcome, lost);
}

/// Makes a cache find the new page, and moves its references, unless the cache has changed
/// meanwhile.
///
/// The new page's references first: as soon as the cache finds the page, another thread may empty
/// the place and put the reference there.
fn move_cached<M: Mm>(mm: &M, src: &Src<'_, M>, dst: &Dst<'_, M>) -> bool {
    let cached = src.hand.cached;
    if !take_cached(mm, dst, cached) {
        return false;
    }
    let is_moved = mm.move_cached(src.head, dst.span.head, cached);
    // The references to the page that the cache does not find.
    let (head, lost) = if is_moved { (src.head, src.page) } else { (dst.span.head, dst.page) };
    put_cached(mm, head, lost, cached);
    is_moved
}

/// Takes as many references for a cache. Takes none if they are too many, which they are not: the
/// source had as many.
fn take_cached<M: Mm>(mm: &M, dst: &Dst<'_, M>, cached: u32) -> bool {
    for taken in 0..cached {
        match dst.page.try_get() {
            Ok(reference) => drop(reference.into_raw()),
            Err(_) => {
                put_cached(mm, dst.span.head, dst.page, taken);
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
        // SAFETY: a reference of the cache's to a page that it does not find. Not the last: the
        // migrator has one.
        let _ = unsafe { page.put_raw() };
    }
}

/// A hole: the new page's entry goes where nothing was, if nothing is there still.
fn fill<'m, M: Mm>(
    pass: &mut Pass<'_, 'm, M>,
    index: usize,
    at: M::Address,
    was: Leaf,
    dst: Dst<'m, M>,
) {
    let (mm, pfn) = (pass.mm, dst.span.head);
    // A reader may have a copy of an entry for a page of zeroes.
    let invalidation = invalidating(mm, at, pass.notice(Cause::Fill));
    let tracking = match was {
        Leaf::Present { tracking, .. } => tracking,
        _ => Tracking::default(),
    };
    let mut entry = mm.lock(at);
    // Both may have changed since, while the page-table lock was released.
    let is_as_it_was = |entry: &&<M as crate::mm::Tables>::Entry<'_>| {
        entry.get() == Ok(was) && entry.order() == dst.span.order
    };
    let rights = entry.as_ref().filter(is_as_it_was).and_then(Entry::hole);
    let outcome = match (&mut entry, rights, dst.page.try_get()) {
        (Some(entry), Some(rights), Ok(reference)) => {
            reference.into_raw();
            mm.account(pfn, owner(mm, pfn), Change::Taken);
            if was != Leaf::None {
                // From here on nobody reads the frame of zeroes through this entry.
                let _ = entry.take();
            }
            // Writes that must be reported fault, as they did on the page of zeroes. Nobody else
            // has the new page.
            let most = if tracking.uffd_wp { Rights::ReadExclusive } else { Rights::Write };
            let offset = if dst.span.order > 0 { entry.offset() } else { 0 };
            entry.set(leaf(mm, pfn + offset, rights.min(most), tracking));
            Outcome::Filled { pfn }
        }
        _ => Outcome::Aborted(Abort::HoleFilled),
    };
    drop(entry);
    drop(invalidation);
    drop(dst);
    pass.set(index, outcome, 0);
}

/// Makes every migration entry for `from` an entry for `to`, whose header is `page`, live and not
/// frozen. `from` and `to` may be the same. Returns how many entries were lost.
///
/// Each entry gets a reference: one of the `counted` that the migrator has or, for a copy that
/// another thread made of a migration entry, a new one. If no more can be counted, the entry
/// becomes poison: it can neither stay (nobody would ever put it up) nor lead to a page that does
/// not count it. So code that copies migration entries refuses more than [can be
/// counted](crate::mm::ledger::MAX_MAPPINGS).
pub(super) fn put_up<M: Mm>(
    mm: &M,
    from: Span,
    to: Span,
    page: &PageLock<M::Futex>,
    counted: &mut u32,
) -> u32 {
    let owner = owner(mm, to.head);
    let mut lost = 0;
    mm.each_mapping(from, |at| {
        let Some(mut entry) = mm.lock(at) else { return };
        let Ok(Leaf::Migration { pfn, rights, tracking }) = entry.get() else { return };
        if !from.contains(pfn) {
            return;
        }
        if *counted > 0 {
            *counted -= 1;
            mm.account(to.head, Owner::Get, Change::Put);
        } else if let Ok(reference) = page.try_get() {
            reference.into_raw();
        } else {
            entry.set(Leaf::Poison { pfn });
            lost += 1;
            return;
        }
        mm.account(to.head, owner, Change::Taken);
        entry.set(leaf(mm, to.head + (pfn - from.head), rights, tracking));
    });
    lost
}

/// Makes every migration entry for `span` a poison entry.
pub(super) fn condemn<M: Mm>(mm: &M, span: Span) {
    mm.each_mapping(span, |at| {
        let Some(mut entry) = mm.lock(at) else { return };
        match entry.get() {
            Ok(Leaf::Migration { pfn, .. }) if span.contains(pfn) => {
                entry.set(Leaf::Poison { pfn })
            }
            _ => {}
        }
    });
}

/// Ends the migration of a page whose contents are lost. Its frame is not freed.
pub(super) fn let_go_of_lost<'m, M: Mm>(pass: &mut Pass<'_, 'm, M>, src: Src<'m, M>) {
    let page = src.into_frozen();
    // Nothing is freed, whether or not this was the last.
    let _ = put_raw(pass.mm, src.page, src.span(), src.hand.taken + 1);
    match &mut pass.fault {
        Some(fault) if src.is_fault => {
            fault.guard = Some(page.thaw().cancel());
            fault.is_lost = true;
        }
        _ => drop(page.poison()),
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
