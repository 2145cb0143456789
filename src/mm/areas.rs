//! What the fault path leaves to its caller, done by the caller: what an address may be used for,
//! holes, copies, swap.
//!
//! [`fault`](fn@super::fault) knows of migration and nothing else. Whoever brings in pages on
//! behalf of somebody who has no fault handler, as [`range`](super::range) and [`pin`](super::pin)
//! do, needs the rest as well.

use super::{Access, Fault, Memory};
use crate::leaf::Rights;

/// The rest of a fault handler.
///
/// The two that are given an entry are asked with its PTL held, and neither sleep nor take another.
/// The two that do something are called with nothing held, and may sleep: [the
/// table](crate::mm#what-is-held-when-the-embedder-is-called).
pub trait Areas: Memory {
    /// Why it could not be done.
    type Failure;

    /// The most that accesses to `at` may be allowed, whatever its entry says now; `None` if the
    /// address is not mapped, or mapped for no access at all. `entry` is locked; `None` where there
    /// is no [table](super::Tables::lock).
    fn allowed(&self, at: Self::Address, entry: Option<&Self::Entry<'_>>) -> Option<Rights>;

    /// Does what `left` says is left to do: fills a hole, copies on write, swaps in, acts on a
    /// marker. Called without any lock. `Ok` means that the access is to be tried again.
    ///
    /// # Errors
    ///
    /// The access cannot be made.
    fn settle(&self, at: Self::Address, access: Access, left: Fault) -> Result<(), Self::Failure>;

    /// Whether a write to the page of the entry, which is present, would give the writer a copy:
    /// then whoever holds on to the page now would be left with the old one.
    fn is_copied_on_write(&self, entry: &Self::Entry<'_>) -> bool {
        let _ = entry;
        false
    }

    /// Gives the address a page that it will keep, instead of one that a write would copy, without
    /// allowing more than before. `Ok` means that it is to be looked at again.
    ///
    /// # Errors
    ///
    /// There is no memory, for instance.
    fn unshare(&self, at: Self::Address) -> Result<(), Self::Failure> {
        let _ = at;
        Ok(())
    }
}
