//! The rest of a fault handler, which the caller has: what an address may be used for, holes,
//! copies, swap.
//!
//! [`fault`](fn@super::fault) knows of migration and nothing else. A caller that brings in pages
//! for a thread without a fault handler, as [`range`](super::range) and [`pin`](super::pin) do,
//! needs the rest as well.

use super::{Access, Fault, Memory};
use crate::leaf::Rights;

/// The rest of a fault handler.
///
/// The two methods that are given an entry are called with its PTL held: they neither sleep nor
/// take another PTL. The two that do something are called with nothing held and may sleep: see the
/// [table](crate::mm#what-is-held-when-the-embedder-is-called).
pub trait Areas: Memory {
    /// Why the access could not be prepared.
    type Failure;

    /// The most that an access to `at` may ever be allowed, whatever its entry says now. `None`:
    /// the address is not mapped, or mapped for no access at all.
    ///
    /// `entry` is locked; it is `None` where there is no [table](super::Tables::lock).
    ///
    /// ```
    /// use pagelock::leaf::Rights;
    /// use pagelock::mm::{Areas, Tables};
    /// # let (mm, at) = pagelock_soft::example();
    /// assert_eq!(mm.allowed(at, mm.lock(at).as_ref()), Some(Rights::Write));
    /// let unmapped = at.space.page(20);
    /// assert_eq!(mm.allowed(unmapped, mm.lock(unmapped).as_ref()), None);
    /// ```
    fn allowed(&self, at: Self::Address, entry: Option<&Self::Entry<'_>>) -> Option<Rights>;

    /// Does what the fault path has `left` to its caller: fills a hole, copies on write, swaps in,
    /// acts on a marker. No lock is held. After `Ok` the access is tried again.
    ///
    /// ```
    /// use pagelock::mm::{Access, Areas, Fault, Faulter, Strategy, fault};
    /// # let (mm, at) = pagelock_soft::example();
    /// let hole = at.space.page(7);
    /// let mut faulter = Faulter::new(Strategy::Wait);
    /// assert_eq!(fault(&mm, hole, Access::Write, &mut faulter), Ok(Fault::Missing));
    /// mm.settle(hole, Access::Write, Fault::Missing).unwrap();
    /// assert_eq!(fault(&mm, hole, Access::Write, &mut faulter), Ok(Fault::Present));
    /// ```
    ///
    /// # Errors
    ///
    /// The access cannot be made.
    fn settle(&self, at: Self::Address, access: Access, left: Fault) -> Result<(), Self::Failure>;

    /// Whether a write to the page of `entry`, which is present, would give the writer a copy. A
    /// thread that held on to the page now would then be left with the old copy. The default is
    /// `false`.
    ///
    /// ```
    /// use pagelock::mm::{Areas, Tables};
    /// # let (mm, at) = pagelock_soft::example();
    /// let child = mm.fork(at.space).unwrap();
    /// let entry = mm.lock(child.page(0)).unwrap();
    /// assert!(mm.is_copied_on_write(&entry)); // shared with the parent until one of them writes
    /// ```
    fn is_copied_on_write(&self, entry: &Self::Entry<'_>) -> bool {
        let _ = entry;
        false
    }

    /// Gives the address a page that it keeps, in place of one that a write would copy, without
    /// allowing more than before. After `Ok` the caller must re-check the entry. The default does
    /// nothing.
    ///
    /// ```
    /// use pagelock::mm::{Areas, Tables};
    /// # let (mm, at) = pagelock_soft::example();
    /// let child = mm.fork(at.space).unwrap();
    /// mm.unshare(child.page(0)).unwrap();
    /// let entry = mm.lock(child.page(0)).unwrap();
    /// assert!(!mm.is_copied_on_write(&entry));
    /// ```
    ///
    /// # Errors
    ///
    /// There is no memory, for instance.
    fn unshare(&self, at: Self::Address) -> Result<(), Self::Failure> {
        let _ = at;
        Ok(())
    }
}
