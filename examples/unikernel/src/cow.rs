//! What the fault path leaves to the kernel: pages that are not there yet, and pages that a write
//! copies. And the fork that shares them.

use crate::counters::{COPIED, FORKS};
use crate::frames::{self, Tier};
use crate::kernel::KERNEL;
use crate::layout::PRIVATE;
use crate::paging::{self, At};
use pagelock::leaf::{Leaf, Rights, Tracking};
use pagelock::mm::ledger::{Change, Owner};
use pagelock::mm::{Entry, Tables, Tiers};

fn frame_for(at: At) -> u64 {
    let pfn = frames::allocate(Tier::Fast)
        .or_else(|| frames::allocate(Tier::Slow))
        .expect("there are frames for all pages");
    frames::set_page_in(pfn, at.page() as u32);
    pfn
}

/// A new page's first reference, which is an entry's.
fn activate(pfn: u64) {
    frames::header(pfn).expect("a frame").activate(1).expect("it was free");
    frames::owners(pfn).note(Owner::Mapping, Change::Taken);
}

fn new_leaf(pfn: u64) -> Leaf {
    Leaf::Present {
        pfn,
        rights: Rights::Write,
        tracking: Tracking { accessed: true, dirty: true, ..Tracking::default() },
    }
}

/// Fills a hole with zeroes.
pub fn fill(at: At) {
    let pfn = frame_for(at);
    KERNEL.zero(pfn);
    activate(pfn);
    let Some(mut entry) = KERNEL.lock(at) else { return };
    if entry.get() == Ok(Leaf::None) {
        entry.set(new_leaf(pfn));
    } else {
        drop(entry);
        frames::put(pfn, Owner::Mapping);
    }
}

/// A write to a page that may be shared: gives the address a page of its own, or the right to write
/// if no other entry has this one.
///
/// The page is locked meanwhile, so it stays where it is. If another owner has it locked, this
/// waits for the release as any faulter does.
pub fn copy(at: At) {
    let Some(entry) = KERNEL.lock(at) else { return };
    let Ok(leaf @ Leaf::Present { pfn, rights: Rights::Read | Rights::ReadExclusive, .. }) =
        entry.get()
    else {
        return;
    };
    let page = frames::header(pfn).expect("an entry's frame");
    let Some(guard) = page.try_lock() else {
        let _ = page.wait_unlocked(entry);
        return;
    };
    if page.refs() == 1 && page.pins() == 0 {
        // The entry's own. With the page locked, only a fork makes another entry of it, and needs
        // this PTL for that.
        replace(entry, leaf, pfn);
        return;
    }
    // The entry keeps the page, and is about to be unlocked.
    assert!(frames::get(pfn, Owner::Get), "a mapped page can be referred to");
    drop(entry);
    let new = frame_for(at);
    // No processor writes to it: its entries are read-only, and so is what processors have cached.
    let _ = KERNEL.copy(pfn, new);
    activate(new);
    let entry = paging::lock(at);
    // Hardware may have noted an access since.
    let is_same = entry.get().is_ok_and(|now| {
        now.pfn() == Some(pfn) && now.rights() == leaf.rights() && is_present(now)
    });
    let unneeded = if is_same {
        COPIED.one();
        replace(entry, leaf, new);
        pfn
    } else {
        drop(entry);
        new
    };
    frames::put(unneeded, Owner::Mapping);
    // Before the page is unlocked: its next owner would find a reference too many.
    frames::put_locked(pfn, guard);
}

fn is_present(leaf: Leaf) -> bool {
    matches!(leaf, Leaf::Present { .. })
}

/// Makes an entry one that may be written through, to `pfn`.
fn replace(mut entry: paging::Pte<'_>, was: Leaf, pfn: u64) {
    let tracking = match entry.take() {
        Ok(Leaf::Present { tracking, .. }) => tracking,
        _ => panic!("{was:?} has changed under its lock"),
    };
    entry.set(Leaf::Present { pfn, rights: Rights::Write, tracking });
}

/// Makes the private pages of `parent` those of `child` as well, for both to copy when they write.
///
/// Both tables stay locked, and there is one flush before they are unlocked. If the parent's were
/// unlocked earlier, one of its processors could write, by a cached right, to a page that another
/// has copied already.
pub fn fork(parent: usize, child: usize) {
    FORKS.one();
    paging::share(parent, child, PRIVATE, |leaf| {
        if let Leaf::Present { pfn, .. } | Leaf::DevicePrivate { pfn, .. } = leaf {
            // A migration entry owns no reference; its copy gets one when the page arrives.
            let owner = if is_present(leaf) { Owner::Mapping } else { Owner::Entry };
            assert!(frames::get(pfn, owner), "a mapped page can be referred to");
        }
        leaf.restrict(Rights::Read)
    });
}

/// The child is gone.
pub fn end(child: usize) {
    for page in PRIVATE {
        let mut entry = paging::lock(At::new(child, 0, page));
        let leaf = entry.take();
        entry.set(Leaf::None);
        drop(entry);
        match leaf {
            Ok(Leaf::Present { pfn, .. }) => frames::put(pfn, Owner::Mapping),
            Ok(Leaf::DevicePrivate { pfn, .. }) => frames::put(pfn, Owner::Entry),
            Ok(Leaf::None | Leaf::Migration { .. }) => {}
            other => panic!("{other:?} in a child"),
        }
    }
}
