//! Frames and their headers: what the fault path needs to know.

use super::drain::DrainPermit;
use super::ledger::{Change, Owner};
use super::{Tables, ToRam};
use crate::futex::Futex;
use crate::page::PageLock;

/// Frames, and how to bring a page back to where the processor can access it.
pub trait Memory: Tables {
    /// The platform of the frames' headers.
    type Futex: Futex;

    /// Why a page could not be brought back.
    type Error;

    /// The header of frame `pfn`, if there is such a frame.
    ///
    /// Headers must be *type-stable*: at this place there is a header as long as `self` exists, whatever becomes of the frame. All
    /// frames of a large page have the header of its first.
    fn header(&self, pfn: u64) -> Option<&PageLock<Self::Futex>>;

    /// Brings the page of a device-private entry back. Called by the faulter that owns the frame's lock, without any PTL.
    ///
    /// The implementation does what the kernel's `migrate_to_ram` does: takes down every mapping, freezes, copies, puts up the
    /// new entries, commits. It must look at the entry again, which may have changed since the PTL was dropped. On failure it
    /// puts back what it took down; the page's lock is released either way, because `request` owns it.
    /// [`migrate::bring_back`](super::migrate::bring_back) is such an implementation, for whoever has [`Tiers`](super::Tiers).
    ///
    /// # Errors
    ///
    /// `Ok(false)` means that it did not work this time (the page was busy) and the access is to be tried again. An error ends the
    /// fault.
    fn migrate_to_ram(&self, request: ToRam<'_, Self::Address, Self::Futex>) -> Result<bool, Self::Error>;

    /// Ends a device's exclusive access to frame `pfn`, whose lock is held: tells the device to stop, and returns when it has. No PTL is
    /// held, so this may wait for the device; it must not wait for a page's lock. The entry is made present again afterwards, unless
    /// somebody has changed it meanwhile. If that one has told the device as well, this finds that nothing is left to end.
    fn revoke_exclusive(&self, pfn: u64) {
        let _ = pfn;
    }

    /// A page that was to be brought back was [busy](super::Why::Busy). Called by the faulter when it has let go of everything: the place
    /// to empty [batches](super::drain), for a page that is in one is busy for as long.
    fn drain(&self, permit: DrainPermit<'_>) {
        let _ = permit;
    }

    /// A reference of the page at `pfn` has gained or lost an owner. Called with every change that the crate makes; for a
    /// [ledger](super::ledger).
    #[inline]
    fn account(&self, pfn: u64, owner: Owner, change: Change) {
        let _ = (pfn, owner, change);
    }

    /// A page has gained or lost a pin. Called with every pin that [`pin`](super::pin) takes and drops.
    fn account_pin(&self, pfn: u64, change: Change) {
        let _ = (pfn, change);
    }
}
