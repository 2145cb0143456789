//! Saving a page while the guest goes on, and hearing of the next write: snapshots and pre-copy.

use crate::evict::NotEvicted;
use crate::owned::Owned;
use crate::place::Place;
use crate::region::Region;
use crate::seats::What;
use crate::stats::Counter;
use std::borrow::Cow;
use std::fmt;
use std::io;
use std::sync::Arc;

impl Region {
    /// Write protects `page`, for the caller to [read](Clean::read) and save, or only to hear of
    /// the next write. The guest goes on to read it; a write sleeps until the answer is
    /// [done](Clean::done) or dropped. Never sleeps for the page, and copies nothing.
    ///
    /// A device that has the page pinned writes to it without a fault. So a pinned page is refused:
    /// save it when the device has stopped.
    ///
    /// # Errors
    ///
    /// [`NotEvicted`], with nothing changed; [`Unsupported`](std::io::ErrorKind::Unsupported)
    /// where writes are noted by the kernel
    /// ([`Wish::write_async`](crate::uffd::Wish::write_async)), which stops no writer.
    ///
    /// # Example
    ///
    /// ```
    /// # use pagelock_vmm::Fault;
    /// # use pagelock_vmm::soft::SoftRam;
    /// let (_, region) = SoftRam::region(8)?;
    /// # let Fault::Owner(fetch) = region.fault(0) else { unreachable!() };
    /// # fetch.fill(&[7; 4096])?;
    /// let clean = region.clean(0)?;
    /// let mut bytes = [0; 4096];
    /// clean.read(&mut bytes)?; // ... and saved
    /// clean.done();
    /// assert!(region.state(0).unwrap().protected, "the next write is noticed");
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn clean(self: &Arc<Self>, page: usize) -> Result<Clean, NotEvicted> {
        let Some(header) = self.headers.get(page) else { return Err(NotEvicted::NotIn) };
        // A look first: it leaves no trace on a page that is out. A fetch may be about to say "in".
        if Place::of(header.user()) != Place::In {
            return Err(if header.is_locked() { NotEvicted::Owned } else { NotEvicted::NotIn });
        }
        let Some(guard) = header.try_lock() else { return Err(NotEvicted::Owned) };
        let mut owned = Owned::new(self, page, guard, What::Cleaning);
        if owned.place() != Place::In || owned.header().is_poisoned() {
            return Err(NotEvicted::NotIn);
        }
        owned.freeze().map_err(NotEvicted::Pinned)?;
        let at = owned.at();
        self.patiently(|layer| layer.protect(at, true)).map_err(NotEvicted::Io)?;
        owned.set(Place::In, true);
        Ok(Clean { owned: Some(owned) })
    }
}

/// A page that is write protected while it is saved. Dropping it lifts the protection, and tells.
#[must_use = "dropping it lifts the protection"]
pub struct Clean {
    /// `None` once it is done.
    owned: Option<Owned>,
}

impl Clean {
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
    /// assert_eq!(region.clean(0)?.page(), 0);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn page(&self) -> usize {
        self.get().page()
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
    /// assert!(std::sync::Arc::ptr_eq(region.clean(0)?.region(), &region));
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn region(&self) -> &Arc<Region> {
        self.get().region()
    }

    /// Copies the page's bytes into `into`, which has the page's length.
    ///
    /// # Errors
    ///
    /// What the layer says. Private memory that others may remove
    /// ([`Wish::removes`](crate::uffd::Wish::removes)) cannot be read in safety, and is refused
    /// ([`Unsupported`](std::io::ErrorKind::Unsupported)).
    ///
    /// # Example
    ///
    /// ```
    /// # use pagelock_vmm::Fault;
    /// # use pagelock_vmm::soft::SoftRam;
    /// # let (_, region) = SoftRam::region(8)?;
    /// # let Fault::Owner(fetch) = region.fault(0) else { unreachable!() };
    /// # fetch.fill(&[7; 4096])?;
    /// let mut bytes = [0; 4096];
    /// region.clean(0)?.read(&mut bytes)?;
    /// assert_eq!(bytes, [7; 4096]);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn read(&self, into: &mut [u8]) -> io::Result<()> {
        self.region().layer.read(self.get().at(), into)
    }

    /// Where the page's bytes are, for a caller that saves them from there, without a copy. As long
    /// as this is there, no write comes by the region's mapping.
    ///
    /// If the page may be removed by others, [`read`](Self::read) it instead: an access to a page
    /// that is gone sleeps for its owner, which is the caller.
    ///
    /// # Example
    ///
    /// ```
    /// # use pagelock_vmm::Fault;
    /// # use pagelock_vmm::soft::SoftRam;
    /// # let (_, region) = SoftRam::region(8)?;
    /// # let Fault::Owner(fetch) = region.fault(0) else { unreachable!() };
    /// # fetch.fill(&[7; 4096])?;
    /// assert_eq!(Some(region.clean(0)?.host_address()), region.host_address(0));
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn host_address(&self) -> usize {
        self.region().host_address(self.page()).expect("a page that is owned is in the region")
    }

    /// What the owner is at, for the [report](Region::report).
    ///
    /// # Example
    ///
    /// ```
    /// # use pagelock_vmm::Fault;
    /// # use pagelock_vmm::soft::SoftRam;
    /// # use std::time::Duration;
    /// # let (_, region) = SoftRam::region(8)?;
    /// # let Fault::Owner(fetch) = region.fault(0) else { unreachable!() };
    /// # fetch.fill(&[7; 4096])?;
    /// let clean = region.clean(0)?;
    /// clean.note("writing block 5");
    /// assert!(region.report(Duration::ZERO).to_string().contains("block 5"));
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn note(&self, note: impl Into<Cow<'static, str>>) {
        self.get().note(note.into());
    }

    /// The bytes are safe. The page stays protected, also across an eviction, and the next write to
    /// it is a [write fault](Region::write_fault).
    ///
    /// # Example
    ///
    /// ```
    /// # use pagelock_vmm::Fault;
    /// # use pagelock_vmm::soft::SoftRam;
    /// # let (_, region) = SoftRam::region(8)?;
    /// # let Fault::Owner(fetch) = region.fault(0) else { unreachable!() };
    /// # fetch.fill(&[7; 4096])?;
    /// drop(region.clean(0)?); // given up: free to be written
    /// assert!(!region.state(0).unwrap().protected);
    /// region.clean(0)?.done();
    /// assert!(region.state(0).unwrap().protected);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn done(mut self) {
        if let Some(owned) = self.owned.take() {
            owned.region().counters.count(Counter::Cleaned);
        }
    }

    fn get(&self) -> &Owned {
        self.owned.as_ref().expect("it is there until the end")
    }
}

impl Drop for Clean {
    fn drop(&mut self) {
        let Some(mut owned) = self.owned.take() else { return };
        let (region, at) = (Arc::clone(owned.region()), owned.at());
        if region.patiently(|layer| layer.protect(at, false)).is_ok() {
            owned.set(Place::In, false);
        }
    }
}

impl fmt::Debug for Clean {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Clean").field(&self.owned).finish()
    }
}
