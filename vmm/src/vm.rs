//! Regions of `vm-memory`, as they are.

use crate::inbox::Inbox;
use crate::region::{Region, RegionError};
use crate::uffd::{Ram, SMALL};
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use vm_memory::bitmap::Bitmap;
use vm_memory::{GuestMemoryRegion, GuestRegionMmap};

impl Region {
    /// A region over one of `vm-memory`'s, at the guest address that it has there. It is kept for
    /// as long as this region is there.
    ///
    /// Which pages are *dirty* is a bitmap's business: have the [write
    /// fault](Self::write_fault) mark `guest`'s own.
    ///
    /// # Errors
    ///
    /// As [`Ram::anonymous`] and [`Region::new`].
    ///
    /// # Example
    ///
    /// ```
    /// # use pagelock_vmm::{Inbox, Region};
    /// # use vm_memory::{GuestAddress, GuestRegionMmap};
    /// # let Ok(inbox) = Inbox::open() else { return Ok(()) }; // refused here
    /// let guest: GuestRegionMmap = GuestRegionMmap::from_range(GuestAddress(0), 1 << 20, None)?;
    /// let region = Region::of_guest(&inbox, &std::sync::Arc::new(guest))?;
    /// assert_eq!(region.pages(), 256);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn of_guest<B>(
        inbox: &Arc<Inbox>,
        guest: &Arc<GuestRegionMmap<B>>,
    ) -> Result<Arc<Self>, RegionError>
    where
        B: Bitmap + Send + Sync + 'static,
    {
        let len = usize::try_from(guest.len())
            .map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        let (base, owner) = (guest.as_ptr(), Arc::clone(guest));
        // SAFETY: the mapping is readable and writable while the owner is there. `vm-memory` hands
        // out volatile accesses, which bear with pages that come and go.
        let ram = unsafe {
            match guest.file_offset() {
                None => Ram::from_raw(inbox, base, len, SMALL, owner)?,
                Some(file) => {
                    let shared: (Arc<dyn AsFd + Send + Sync>, u64) =
                        (Arc::new(file.file().try_clone()?), file.start());
                    Ram::from_raw_shared(inbox, base, len, SMALL, shared, owner)?
                }
            }
        };
        Self::new(ram, inbox, guest.start_addr().0)
    }
}
