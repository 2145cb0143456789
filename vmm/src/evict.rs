//! Pushing pages out to the store.

use crate::owned::Owned;
use crate::place::Place;
use crate::region::Region;
use crate::seats::What;
use crate::stats::Counter;
use crate::trace;
use std::borrow::Cow;
use std::fmt;
use std::io;
use std::sync::Arc;

/// Why a page was not taken out. Nothing has changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NotEvicted {
    /// It is not in, or there is no such page.
    #[error("the page is not in")]
    NotIn,
    /// It has an owner.
    #[error("the page has an owner")]
    Owned,
    /// Devices use it.
    #[error("the page has {0} pins")]
    Pinned(u32),
    /// The kernel keeps it where it is: it is pinned there, or shared with a child process.
    #[error("the kernel keeps the page where it is")]
    Kept,
    /// The system refused.
    #[error(transparent)]
    Io(io::Error),
}

impl Region {
    /// Takes `page` away from the guest, with what was last written to it, for the caller to save.
    /// Never sleeps for the page: one that is busy or pinned is refused.
    ///
    /// A thread that touches the page from now on sleeps until the answer is [done](Evict::done) or
    /// dropped.
    ///
    /// # Errors
    ///
    /// [`NotEvicted`], with nothing changed.
    ///
    /// # Example
    ///
    /// ```
    /// # use pagelock_vmm::{Fault, Place};
    /// # use pagelock_vmm::soft::SoftRam;
    /// let (_, region) = SoftRam::region(8)?;
    /// # let Fault::Owner(fetch) = region.fault(0) else { unreachable!() };
    /// # fetch.fill(&[7; 4096])?;
    /// let evict = region.evict(0)?;
    /// assert_eq!(evict.bytes(), [7; 4096]); // ... and saved
    /// evict.done();
    /// assert_eq!(region.state(0).unwrap().place, Place::Out);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn evict(self: &Arc<Self>, page: usize) -> Result<Evict, NotEvicted> {
        let Some(header) = self.headers.get(page) else { return Err(NotEvicted::NotIn) };
        // A look first: it leaves no trace on a page that is out. A fetch may be about to say "in".
        if Place::of(header.user()) != Place::In {
            return Err(if header.is_locked() { NotEvicted::Owned } else { NotEvicted::NotIn });
        }
        if header.pins() > 0 {
            return Err(NotEvicted::Pinned(header.pins()));
        }
        let Some(guard) = header.try_lock() else { return Err(NotEvicted::Owned) };
        let mut owned = Owned::new(self, page, guard, What::Eviction);
        if owned.place() != Place::In || owned.header().is_poisoned() {
            return Err(NotEvicted::NotIn);
        }
        owned.freeze().map_err(NotEvicted::Pinned)?;
        let mut bytes = vec![0; self.page_size()].into_boxed_slice();
        let (at, protected) = (owned.at(), owned.is_protected());
        match self.patiently(|layer| layer.take(at, &mut bytes, protected)) {
            Ok(()) => Ok(Evict { owned: Some(owned), bytes }),
            Err(error) => Err(match error.kind() {
                io::ErrorKind::ResourceBusy => NotEvicted::Kept,
                io::ErrorKind::NotFound => {
                    // Removed, and the event comes later.
                    owned.take_out(Place::Discarded);
                    NotEvicted::NotIn
                }
                _ => NotEvicted::Io(error),
            }),
        }
    }
}

/// A page that was taken away from the guest. Dropping it puts the page back as it was, and tells.
#[must_use = "dropping it puts the page back"]
pub struct Evict {
    /// `None` once it is done.
    owned: Option<Owned>,
    bytes: Box<[u8]>,
}

impl Evict {
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
    /// assert_eq!(region.evict(0)?.page(), 0);
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
    /// assert!(std::sync::Arc::ptr_eq(region.evict(0)?.region(), &region));
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn region(&self) -> &Arc<Region> {
        self.get().region()
    }

    /// Where the page begins in the region, in bytes.
    ///
    /// # Example
    ///
    /// ```
    /// # use pagelock_vmm::Fault;
    /// # use pagelock_vmm::soft::SoftRam;
    /// # let (_, region) = SoftRam::region(8)?;
    /// # let Fault::Owner(fetch) = region.fault(0) else { unreachable!() };
    /// # fetch.fill(&[7; 4096])?;
    /// assert_eq!(region.evict(0)?.offset(), 0);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.get().at() as u64
    }

    /// What the page had.
    ///
    /// # Example
    ///
    /// ```
    /// # use pagelock_vmm::Fault;
    /// # use pagelock_vmm::soft::SoftRam;
    /// # let (_, region) = SoftRam::region(8)?;
    /// # let Fault::Owner(fetch) = region.fault(0) else { unreachable!() };
    /// # fetch.fill(&[7; 4096])?;
    /// assert_eq!(region.evict(0)?.bytes(), [7; 4096]);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether the store that the page was last [cleaned](Region::clean) into has these bytes
    /// still: nobody has written to the page since. Then `done` needs no write before it.
    ///
    /// Writes through another mapping of a memfd are not noticed; see
    /// [`Ram::memfd`](crate::uffd::Ram::memfd).
    ///
    /// # Example
    ///
    /// ```
    /// # use pagelock_vmm::Fault;
    /// # use pagelock_vmm::soft::SoftRam;
    /// # let (_, region) = SoftRam::region(8)?;
    /// # let Fault::Owner(fetch) = region.fault(0) else { unreachable!() };
    /// # fetch.fill(&[7; 4096])?;
    /// assert!(!region.evict(0)?.is_clean());
    /// region.clean(0)?.done(); // the store has it now
    /// assert!(region.evict(0)?.is_clean());
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.get().is_protected()
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
    /// let evict = region.evict(0)?;
    /// evict.note("writing block 5");
    /// assert!(region.report(Duration::ZERO).to_string().contains("block 5"));
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn note(&self, note: impl Into<Cow<'static, str>>) {
        self.get().note(note.into());
    }

    /// The bytes are safe: the page is out, and its waiters are told.
    ///
    /// # Example
    ///
    /// ```
    /// # use pagelock_vmm::Fault;
    /// # use pagelock_vmm::soft::SoftRam;
    /// # let (_, region) = SoftRam::region(8)?;
    /// # let Fault::Owner(fetch) = region.fault(0) else { unreachable!() };
    /// # fetch.fill(&[7; 4096])?;
    /// drop(region.evict(0)?); // the store is full: the page is back
    /// assert_eq!(region.resident(), 1);
    /// region.evict(0)?.done();
    /// assert_eq!(region.resident(), 0);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn done(mut self) {
        if let Some(mut owned) = self.owned.take() {
            owned.take_out(Place::Out);
            owned.region().counters.count(Counter::Evictions);
            trace::evicted(owned.region(), owned.page());
        }
    }

    fn get(&self) -> &Owned {
        self.owned.as_ref().expect("it is there until the end")
    }
}

impl Drop for Evict {
    fn drop(&mut self) {
        let Some(mut owned) = self.owned.take() else { return };
        let (region, page, at) = (Arc::clone(owned.region()), owned.page(), owned.at());
        region.counters.count(Counter::PutBack);
        let protected = owned.is_protected();
        let put_back = || {
            region.patiently(|layer| {
                if region.is_asked(page) {
                    Ok(None)
                } else {
                    layer.fill(at, &self.bytes, protected).map(Some)
                }
            })
        };
        let mut put = put_back();
        for _ in 0..SCARCE {
            if !put.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::OutOfMemory) {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
            put = put_back();
        }
        match put {
            Ok(Some(_)) => {}
            // Discarded meanwhile: there is nothing to put back.
            Ok(None) => owned.take_out(Place::Discarded),
            // An unplugged region needs nothing back. Otherwise the bytes are lost, and zeroes in
            // their place would be worse than an error.
            Err(_) if region.is_unplugged() => owned.take_out(Place::Out),
            Err(_) => owned.poison(),
        }
    }
}

/// How often a page is put back for which there is no memory: for ten seconds.
const SCARCE: u32 = 1000;

impl fmt::Debug for Evict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Evict").field(&self.owned).finish()
    }
}
