//! References by address, as a driver takes them. (Pins have an [API](pagelock::mm::pin) of their
//! own.)

use super::common::hmm_soft::attempt;
use super::common::machine::Mm;
use pagelock::leaf::{Leaf, Rights};
use pagelock::mm::Access;
use pagelock_soft::At;

/// A reference to the page at an address, once it may be written to there. To be put by [`put`].
pub(super) fn get(mm: &'static Mm, at: At) -> u64 {
    loop {
        let entry = mm.entry(at);
        if let Leaf::Present { pfn, rights: Rights::Write, .. } = entry.leaf() {
            // Under the entry's lock, so that the page is this one still.
            if mm.get(pfn).is_ok() {
                return pfn;
            }
        }
        drop(entry);
        attempt(mm, at, Access::Write);
    }
}

pub(super) fn put(mm: &'static Mm, pfn: u64) {
    // SAFETY: what `get` took, and its caller gives up.
    unsafe { mm.put(pfn) };
}
