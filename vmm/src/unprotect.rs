//! A page whose writers wait.

use crate::owned::Owned;
use crate::place::Place;
use crate::region::Region;
use std::io;
use std::sync::Arc;

/// The right and the duty to let writers of one page go on. Dropping it leaves the page protected,
/// and tells.
#[derive(Debug)]
#[must_use = "dropping it gives up: the faulter is told and faults again"]
pub struct Unprotect {
    owned: Owned,
}

impl Unprotect {
    pub(crate) fn of(owned: Owned) -> Self {
        Self { owned }
    }

    /// The page's number.
    ///
    /// # Example
    ///
    /// ```
    /// # use pagelock_vmm::{Claimed, Fault};
    /// # use pagelock_vmm::soft::SoftRam;
    /// # let (_, region) = SoftRam::region(8)?;
    /// # let Fault::Owner(fetch) = region.fault(0) else { unreachable!() };
    /// # fetch.fill(&[7; 4096])?;
    /// region.clean(0)?.done();
    /// let Claimed::Owner(write) = region.write_fault(0) else { unreachable!() };
    /// assert_eq!(write.page(), 0);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn page(&self) -> usize {
        self.owned.page()
    }

    /// The page's region.
    ///
    /// # Example
    ///
    /// ```
    /// # use pagelock_vmm::{Claimed, Fault};
    /// # use pagelock_vmm::soft::SoftRam;
    /// # let (_, region) = SoftRam::region(8)?;
    /// # let Fault::Owner(fetch) = region.fault(0) else { unreachable!() };
    /// # fetch.fill(&[7; 4096])?;
    /// region.clean(0)?.done();
    /// let Claimed::Owner(write) = region.write_fault(0) else { unreachable!() };
    /// assert!(std::sync::Arc::ptr_eq(write.region(), &region));
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn region(&self) -> &Arc<Region> {
        self.owned.region()
    }

    /// The page as it was when it was protected, for a snapshot that saves pages before they are
    /// written.
    ///
    /// # Errors
    ///
    /// What the layer says.
    ///
    /// # Example
    ///
    /// ```
    /// # use pagelock_vmm::{Claimed, Fault};
    /// # use pagelock_vmm::soft::SoftRam;
    /// # let (_, region) = SoftRam::region(8)?;
    /// # let Fault::Owner(fetch) = region.fault(0) else { unreachable!() };
    /// # fetch.fill(&[7; 4096])?;
    /// region.clean(0)?.done();
    /// let Claimed::Owner(write) = region.write_fault(0) else { unreachable!() };
    /// let mut before = [0; 4096];
    /// write.read(&mut before)?; // for a snapshot
    /// write.allow()?;
    /// assert_eq!(before, [7; 4096]);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn read(&self, into: &mut [u8]) -> io::Result<()> {
        self.region().layer.read(self.owned.at(), into)
    }

    /// Lifts the protection, and wakes. Note the page as dirty *before*.
    ///
    /// # Errors
    ///
    /// What the layer says; the page stays protected, and its faulters are told.
    ///
    /// # Example
    ///
    /// ```
    /// # use pagelock_vmm::{Claimed, Fault};
    /// # use pagelock_vmm::soft::SoftRam;
    /// # let (_, region) = SoftRam::region(8)?;
    /// # let Fault::Owner(fetch) = region.fault(0) else { unreachable!() };
    /// # fetch.fill(&[7; 4096])?;
    /// region.clean(0)?.done();
    /// let Claimed::Owner(write) = region.write_fault(0) else { unreachable!() };
    /// write.allow()?;
    /// assert!(!region.state(0).unwrap().protected);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn allow(mut self) -> io::Result<()> {
        let at = self.owned.at();
        self.region().patiently(|layer| layer.protect(at, false))?;
        self.owned.faulter_woken();
        self.owned.set(Place::In, false);
        Ok(())
    }
}
