//! The protocol over the caller's page tables and memory.
//!
//! The crate owns neither. It is told how to lock an entry ([`Tables`]) and which header belongs to a frame ([`Memory`]), and
//! does the part that everybody gets wrong: in which order to look, register, let go, sleep and look again. Nothing here
//! allocates.
//!
//! * [`fault`](fn@fault): what to do about an access that trapped; the kernel's `do_swap_page` for the leaves that concern migration, with
//!   the ways of waiting as a [parameter](Strategy), so that they can be compared.

mod fault;
#[cfg(all(test, not(any(pagelock_loom, pagelock_shuttle))))]
mod tests;

pub use fault::{Access, Fault, FaultError, Faulter, Strategy, ToRam, Why, fault, resolve};

use crate::futex::Futex;
use crate::page::PageLock;

/// Page tables with split locks.
pub trait Tables {
    /// Names an entry: a virtual address, a guest frame, a pair of table and index.
    type Address: Copy;

    /// An entry whose page-table lock (PTL) is held. Dropping it releases the lock.
    type Entry<'t>: Entry
    where
        Self: 't;

    /// Locks the PTL of the entry for `at`.
    ///
    /// It may be the lock of a whole table. While it is held, nobody else reads or writes the entry.
    fn lock(&self, at: Self::Address) -> Self::Entry<'_>;
}

/// A locked entry.
pub trait Entry {
    /// The entry, in the encoding of [`Leaf`](crate::leaf::Leaf).
    fn get(&self) -> u64;

    /// Replaces the entry. Flushing translations that the old one has left behind is part of it.
    fn set(&mut self, leaf: u64);
}

/// Frames, and how to bring a page back to where the processor can access it.
pub trait Memory: Tables {
    /// The platform of the frames' headers.
    type Futex: Futex;

    /// Why a page could not be brought back.
    type Error;

    /// The header of frame `pfn`, if there is such a frame.
    ///
    /// Headers must be *type-stable*: at this place there is a header as long as `self` exists, whatever becomes of the frame.
    fn header(&self, pfn: u64) -> Option<&PageLock<Self::Futex>>;

    /// Brings the page of a device-private entry back. Called by the faulter that owns the frame's lock, without any PTL.
    ///
    /// The implementation does what the kernel's `migrate_to_ram` does: takes down every mapping, freezes, copies, puts up the
    /// new entries, commits. It must look at the entry again, which may have changed since the PTL was dropped. On failure it
    /// puts back what it took down; the page's lock is released either way, because `request` owns it.
    ///
    /// # Errors
    ///
    /// `Ok(false)` means that it did not work this time (the page was busy) and the access is to be tried again. An error ends the
    /// fault.
    fn migrate_to_ram(&self, request: ToRam<'_, Self::Address, Self::Futex>) -> Result<bool, Self::Error>;

    /// Ends a device's exclusive access to frame `pfn`, whose lock and whose entry's PTL are held: tells the device to stop. The
    /// entry is made present again afterwards.
    fn revoke_exclusive(&self, pfn: u64) {
        let _ = pfn;
    }
}
