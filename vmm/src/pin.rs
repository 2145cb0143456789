//! Keeping pages in for devices.

use crate::fault::Claimed;
use crate::fetch::Fetch;
use crate::region::Region;
use crate::stats::Counter;
use pagelock::{PagePin, PinError};
use std::fmt;
use std::io;
use std::sync::Arc;

/// Why a page was not pinned. Nothing has changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NotPinned {
    /// It is not in: have it fetched first.
    #[error("the page is not in")]
    Out,
    /// It is on its way out, or being saved: wait for it, and try again.
    #[error("the page is on its way out")]
    Leaving,
    /// Its contents are lost.
    #[error("the page's contents are lost")]
    Poisoned,
    /// It has as many pins as can be counted.
    #[error("the page has too many pins")]
    Overflow,
    /// The region has no such page, or is unplugged.
    #[error("there is no such page")]
    Gone,
}

impl Region {
    /// Keeps `page` in, where it is, until the answer is dropped: for a device that reads or writes
    /// it without faults.
    ///
    /// Only a page that is in can be pinned, because only that has the reference that a pin needs.
    /// A page that is pinned is not evicted, discarded or protected.
    ///
    /// # Errors
    ///
    /// [`NotPinned`], with nothing changed.
    ///
    /// # Example
    ///
    /// ```
    /// # use pagelock_vmm::{Fault, NotEvicted, NotPinned};
    /// # use pagelock_vmm::soft::SoftRam;
    /// let (_, region) = SoftRam::region(8)?;
    /// # let Fault::Owner(fetch) = region.fault(0) else { unreachable!() };
    /// # fetch.fill(&[7; 4096])?;
    /// let pin = region.pin(0)?;
    /// assert!(matches!(region.evict(0), Err(NotEvicted::Pinned(1))));
    /// drop(pin); // the device has stopped
    /// region.evict(0)?.done();
    /// assert_eq!(region.pin(0).unwrap_err(), NotPinned::Out);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn pin(self: &Arc<Self>, page: usize) -> Result<Pin, NotPinned> {
        let Some(header) = self.headers.get(page).filter(|_| !self.is_unplugged()) else {
            return Err(NotPinned::Gone);
        };
        match header.try_pin() {
            Ok(pin) => {
                let _ = pin.into_raw();
                self.counters.count(Counter::Pins);
                Ok(Pin { region: Arc::clone(self), page })
            }
            Err(PinError::Free) => Err(NotPinned::Out),
            Err(PinError::Poisoned) => Err(NotPinned::Poisoned),
            Err(PinError::Overflow) => Err(NotPinned::Overflow),
            Err(_) => Err(NotPinned::Leaving),
        }
    }

    /// [`pin`](Self::pin) of a page that may be out: `fetch` fetches it, by filling what it is
    /// given. Sleeps while others own the page; not for a thread that serves faults.
    ///
    /// # Errors
    ///
    /// What `fetch` failed with, or [`NotPinned`] as an [`io::Error`].
    ///
    /// # Example
    ///
    /// ```
    /// # use pagelock_vmm::soft::SoftRam;
    /// let (_, region) = SoftRam::region(8)?;
    /// let pin = region.pin_or_fetch(0, |fetch| Ok(fetch.fill(&[7; 4096]).map(drop)?))?;
    /// assert_eq!(pin.page(), 0);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn pin_or_fetch(
        self: &Arc<Self>,
        page: usize,
        mut fetch: impl FnMut(Fetch) -> io::Result<()>,
    ) -> io::Result<Pin> {
        loop {
            let refused = match self.pin(page) {
                Ok(pin) => return Ok(pin),
                Err(refused) => refused,
            };
            if !matches!(refused, NotPinned::Out | NotPinned::Leaving) {
                return Err(io::Error::other(refused));
            }
            match self.fault(page) {
                Claimed::Owner(owned) => fetch(owned)?,
                Claimed::InFlight => self.wait_released(page),
                Claimed::Present => {}
                Claimed::Poisoned => return Err(io::Error::other(NotPinned::Poisoned)),
                Claimed::Gone => return Err(io::Error::other(NotPinned::Gone)),
            }
        }
    }
}

/// A page that stays in, where it is. Dropping it unpins.
///
/// One that is leaked keeps the page in for ever, which is the safe way to be wrong.
#[must_use = "the page is unpinned when this is dropped"]
pub struct Pin {
    region: Arc<Region>,
    page: usize,
}

impl Pin {
    /// The page's number.
    ///
    /// # Example
    ///
    /// ```
    /// # use pagelock_vmm::Fault;
    /// # use pagelock_vmm::soft::SoftRam;
    /// # let (_, region) = SoftRam::region(8)?;
    /// # let Fault::Owner(fetch) = region.fault(0) else { unreachable!() };
    /// # fetch.fill(&[7; 4096])?;
    /// assert_eq!(region.pin(0)?.page(), 0);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn page(&self) -> usize {
        self.page
    }

    /// The page's region.
    ///
    /// # Example
    ///
    /// ```
    /// # use pagelock_vmm::Fault;
    /// # use pagelock_vmm::soft::SoftRam;
    /// # let (_, region) = SoftRam::region(8)?;
    /// # let Fault::Owner(fetch) = region.fault(0) else { unreachable!() };
    /// # fetch.fill(&[7; 4096])?;
    /// assert!(std::sync::Arc::ptr_eq(region.pin(0)?.region(), &region));
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn region(&self) -> &Arc<Region> {
        &self.region
    }

    /// Where the page is, for the device.
    ///
    /// # Example
    ///
    /// ```
    /// # use pagelock_vmm::Fault;
    /// # use pagelock_vmm::soft::SoftRam;
    /// # let (_, region) = SoftRam::region(8)?;
    /// # let Fault::Owner(fetch) = region.fault(0) else { unreachable!() };
    /// # fetch.fill(&[7; 4096])?;
    /// assert_eq!(Some(region.pin(0)?.host_address()), region.host_address(0));
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn host_address(&self) -> usize {
        self.region.host_address(self.page).expect("a pinned page is in the region")
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let Some(header) = self.region.header(self.page) else { return };
        // SAFETY: the pin that `into_raw` left in `pin`; each `Pin` stands for one.
        drop(unsafe { PagePin::from_raw(header) });
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pin(page {})", self.page)
    }
}
