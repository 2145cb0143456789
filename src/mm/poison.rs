//! A page whose contents were found lost while it was mapped.

use super::exclusive::revoked;
use super::ledger::{Change, owner_in};
use super::range::{invalidating, notice};
use super::{Cause, Entry, Mm, is_header_of};
use crate::leaf::Leaf;
use crate::lock::PageGuard;

/// The result of poisoning a page; see [`condemn`].
///
/// ```
/// # use pagelock::mm::condemn;
/// # let (mm, at) = pagelock_soft::example();
/// # let pfn = mm.frame_at(at).unwrap();
/// let condemned = condemn(&mm, pfn, mm.page(pfn).unwrap().lock());
/// assert_eq!((condemned.entries, condemned.pins), (1, 0));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Condemned {
    /// How many entries are poison now.
    pub entries: u32,
    /// How many pins are left. Their holders access the page past every entry; the caller must tell
    /// them.
    pub pins: u32,
}

/// Poisons the page that `guard` owns, and turns every entry that names it into poison, before it
/// releases the lock: nobody accesses it from then on, and each access is an error. A device that
/// has exclusive access loses it.
///
/// For a memory error that the hardware has reported. All frames of a large page are lost with it.
/// To lose only one of them, split the page first, for instance by
/// [moving](super::migrate::migrate) it, which loses only what cannot be copied.
///
/// Called without any page-table lock, and must not be called in an interrupt, because it waits for
/// the device. The frame is not freed, then or later.
///
/// # Panics
///
/// In debug builds, if `guard` is the lock of another page.
///
/// # Example
///
/// ```
/// use pagelock::leaf::Leaf;
/// use pagelock::mm::condemn;
/// use pagelock_soft::AccessError;
/// # let (mm, at) = pagelock_soft::example();
/// let pfn = mm.frame_at(at).unwrap();
/// let page = mm.page(pfn).unwrap().lock();
/// assert_eq!(condemn(&mm, pfn, page).entries, 1);
/// assert_eq!(mm.leaf(at), Leaf::Poison { pfn });
/// assert_eq!(mm.read(at, 0, &mut [0]), Err(AccessError::Poisoned { pfn }));
/// ```
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
        // From here on nobody accesses the page through this entry. What hardware has noted in it
        // is of no use.
        let Some(pfn) = entry.take().ok().and_then(Leaf::pfn) else { return };
        entry.set(Leaf::Poison { pfn });
        drop(entry);
        entries += 1;
        mm.account(span.head, owner, Change::Put);
        // SAFETY: the entry's own reference, which went with the entry. It does not matter whether
        // it is the last: a lost frame is not freed.
        let _ = unsafe { page.put_raw() };
    });
    let pins = page.pins();
    guard.poison();
    Condemned { entries, pins }
}
