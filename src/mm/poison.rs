//! A page whose contents were found lost while it was mapped.

use super::exclusive::revoked;
use super::ledger::{Change, owner_in};
use super::range::{invalidating, notice};
use super::{Cause, Entry, Mm, is_header_of};
use crate::leaf::Leaf;
use crate::lock::PageGuard;

/// What poisoning a page has come to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Condemned {
    /// How many entries are poison now.
    pub entries: u32,
    /// How many pins are left: their holders access the page past every entry, and are the caller's
    /// to tell.
    pub pins: u32,
}

/// Poisons the page that `guard` owns, and turns every entry that names it into poison: nobody
/// accesses it from then on, and each access is an error, before the lock is let go of. A device
/// that has the page to itself loses it.
///
/// For a memory error that the hardware has reported. All frames of a large page are lost with it:
/// whoever wants to lose one of them splits it before, for instance by
/// [moving](super::migrate::migrate) it, which loses only what cannot be copied.
///
/// Called without any page-table lock, and must not be called in an interrupt: the device is waited
/// for. The frame is not freed, then or later.
pub fn condemn<M: Mm>(mm: &M, pfn: u64, guard: PageGuard<'_, M::Futex>) -> Condemned {
    let (span, page) = (mm.span(pfn), guard.page());
    debug_assert!(
        is_header_of(mm, pfn, page),
        "the lock is that of another page than frame {pfn:#x}'s"
    );
    let mut entries = 0;
    mm.each_mapping(span, |at| {
        let _invalidating = invalidating(mm, at, notice(Cause::Poison));
        let Some(entry) = mm.lock(at) else { return };
        let Some(mut entry) = revoked(mm, at, entry, span) else { return };
        let Some(owner) = owner_in(&entry, span) else { return };
        // Nobody accesses the page through it any more. What it has noted is of no use.
        let Some(pfn) = entry.take().ok().and_then(Leaf::pfn) else { return };
        entry.set(Leaf::Poison { pfn });
        drop(entry);
        entries += 1;
        mm.account(span.head, owner, Change::Put);
        // SAFETY: the entry's own reference, which went with the entry. Whether it is the last does
        // not matter: a lost frame is not freed.
        let _ = unsafe { page.put_raw() };
    });
    let pins = page.pins();
    guard.poison();
    Condemned { entries, pins }
}
