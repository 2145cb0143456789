//! A device has a page to itself for a while: make, revoke.
//!
//! The entry names the page in ordinary memory and owns its reference, as a present one does, but the processor may not use it. An access
//! [faults](fn@super::fault), which ends the device's exclusivity. In the kernel such a faulter takes a reference and sleeps for the lock;
//! N of them block a migration for as long as they queue. Here they wait as everybody does: without one.

use super::ledger::{Change, Owner};
use super::range::invalidating;
use super::{Entry, Memory, Mm};
use crate::leaf::{Leaf, Rights};
use crate::wait::Wake;

/// Why a device did not get a page to itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ExclusiveError {
    /// There is no present page; fault it in and try again.
    NotPresent,
    /// The entry may not be written through; fault for writing and try again.
    NotWritable,
    /// The page is locked. [`PageLock::wait_unlocked`](crate::PageLock::wait_unlocked) was done for it, with the entry let go of; try
    /// again.
    Waited(Wake),
    /// There are other mappings, and the device would not have the page to itself.
    Shared,
    /// A pin may write to the page.
    Pinned {
        /// How many.
        pins: u32,
    },
}

impl core::fmt::Display for ExclusiveError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::NotPresent => f.write_str("there is no present page"),
            Self::NotWritable => f.write_str("the page may not be written to"),
            Self::Waited(_) => f.write_str("the page was locked"),
            Self::Shared => f.write_str("the page has other mappings"),
            Self::Pinned { pins } => write!(f, "the page has {pins} pins"),
        }
    }
}

impl core::error::Error for ExclusiveError {}

/// Makes the entry at `at` a device's, for as long as nobody accesses it. Says which frame it is.
///
/// It has to be the only one that names the page: through another the processor would go on writing, and nobody would notice. While the
/// device has the page, whoever makes another entry for it (a fork, a fault on a file's page) has it back first, or owns the page's lock.
///
/// # Errors
///
/// [`ExclusiveError`], with nothing changed.
pub fn make_exclusive<M: Mm>(mm: &M, at: M::Address) -> Result<u64, ExclusiveError> {
    let invalidating = invalidating(mm, at);
    let mut entry = mm.lock(at);
    let Ok(leaf @ Leaf::Present { pfn, rights, .. }) = Leaf::decode(entry.get()) else {
        return Err(ExclusiveError::NotPresent);
    };
    if rights != Rights::Write || mm.is_zero_frame(pfn) {
        return Err(ExclusiveError::NotWritable);
    }
    let page = mm.header(pfn).ok_or(ExclusiveError::NotPresent)?;
    let Some(guard) = page.try_lock() else {
        return Err(ExclusiveError::Waited(page.wait_unlocked((entry, invalidating))));
    };
    let pins = guard.page().pins();
    if pins > 0 {
        return Err(ExclusiveError::Pinned { pins });
    }
    // What the hardware noted at last; the reference goes from the one kind of entry to the other.
    let last = Leaf::decode(entry.take()).unwrap_or(leaf);
    let Some(Ok(word)) = last.to_device_exclusive().map(Leaf::encode) else { return Err(ExclusiveError::NotPresent) };
    entry.set(word);
    mm.account(pfn, Owner::Entry, Change::Taken);
    mm.account(pfn, Owner::Mapping, Change::Put);
    drop(entry);
    // The reverse map is walked without a page-table lock. This entry is taken down by now, so no copy of it is missed.
    if is_present_anywhere(mm, pfn) {
        present_again(mm, at, pfn);
        return Err(ExclusiveError::Shared);
    }
    drop(invalidating);
    drop(guard);
    Ok(pfn)
}

/// Whether the processor can access frame `pfn` through some entry.
fn is_present_anywhere<M: Mm>(mm: &M, pfn: u64) -> bool {
    let mut is_present = false;
    mm.each_mapping(pfn, |at| {
        is_present = is_present || matches!(Leaf::decode(mm.lock(at).get()), Ok(Leaf::Present { pfn: of, .. }) if of == pfn);
    });
    is_present
}

/// Ends it, with the page's lock held: lets go of the entry, for the device may take its time; tells the device; and makes the entry present,
/// unless it is another by then. Nobody has made it exclusive anew, for that takes the page's lock.
pub(super) fn revoke<M: Memory>(mm: &M, at: M::Address, entry: M::Entry<'_>, pfn: u64) {
    drop(entry);
    mm.revoke_exclusive(pfn);
    present_again(mm, at, pfn);
}

fn present_again<M: Memory>(mm: &M, at: M::Address, pfn: u64) {
    let mut entry = mm.lock(at);
    let Ok(leaf @ Leaf::DeviceExclusive { pfn: of, .. }) = Leaf::decode(entry.get()) else { return };
    if of != pfn {
        return;
    }
    if let Some(Ok(word)) = leaf.to_present(pfn).map(Leaf::encode) {
        entry.set(word);
        mm.account(pfn, Owner::Mapping, Change::Taken);
        mm.account(pfn, Owner::Entry, Change::Put);
    }
}
