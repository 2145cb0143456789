//! The right to put a page up.

use crate::owned::Owned;
use crate::place::Place;
use crate::region::Region;
use crate::stats::Counter;
use crate::trace;
use std::borrow::Cow;
use std::io;
use std::sync::Arc;

/// The right and the duty to put one page up. Dropping it leaves the page as it was, and tells.
///
/// It ends once, since its ends take it by value:
///
/// ```compile_fail,E0382
/// fn twice(fetch: pagelock_vmm::Fetch) {
///     let _ = fetch.fill(&[0; 4096]);
///     let _ = fetch.fill(&[0; 4096]);
/// }
/// ```
#[derive(Debug)]
#[must_use = "dropping it gives up: the faulter is told and faults again"]
pub struct Fetch {
    owned: Owned,
}

/// What a [`Fetch`] puts up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wants {
    /// The bytes that the store has.
    Bytes,
    /// Zeroes: the page was discarded.
    Zeroes,
}

/// How a page came to be there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Filled {
    /// By these bytes.
    Bytes,
    /// It reads as zeroes; bytes, if there were any, are dropped: the page was discarded while they
    /// were on their way.
    Zeroes,
    /// There was one already, which the region did not know of. It was left alone.
    There,
}

/// Why a page could not be put up. It is as it was, and its faulters are told.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FillError {
    /// So many bytes are not a page.
    #[error("{have} bytes for a page of {page_size}")]
    Length {
        /// How many there are.
        have: usize,
        /// How many a page has.
        page_size: usize,
    },
    /// The region was unplugged meanwhile.
    #[error("the region is unplugged")]
    Gone,
    /// The system refused.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl From<FillError> for io::Error {
    fn from(error: FillError) -> Self {
        match error {
            FillError::Io(error) => error,
            FillError::Gone => Self::new(io::ErrorKind::NotFound, error),
            FillError::Length { .. } => Self::new(io::ErrorKind::InvalidInput, error),
        }
    }
}

impl Fetch {
    pub(crate) fn of(owned: Owned) -> Self {
        Self { owned }
    }

    /// The page's number.
    ///
    /// # Example
    ///
    /// ```
    /// # use pagelock_vmm::soft::SoftRam;
    /// # let (_, region) = SoftRam::region(8)?;
    /// let fetch = region.prefetch(3..4).next().unwrap();
    /// assert_eq!(fetch.page(), 3);
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
    /// # use pagelock_vmm::soft::SoftRam;
    /// # let (_, region) = SoftRam::region(8)?;
    /// let fetch = region.prefetch(3..4).next().unwrap();
    /// assert!(std::sync::Arc::ptr_eq(fetch.region(), &region));
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn region(&self) -> &Arc<Region> {
        self.owned.region()
    }

    /// Where the page begins in the region, in bytes.
    ///
    /// # Example
    ///
    /// ```
    /// # use pagelock_vmm::soft::SoftRam;
    /// # let (_, region) = SoftRam::region(8)?;
    /// let fetch = region.prefetch(3..4).next().unwrap();
    /// assert_eq!(fetch.offset(), 3 * 4096);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.owned.at() as u64
    }

    /// What it puts up.
    ///
    /// # Example
    ///
    /// ```
    /// # use pagelock_vmm::Wants;
    /// # use pagelock_vmm::soft::SoftRam;
    /// # let (_, region) = SoftRam::region(8)?;
    /// let _ = region.discard(0..1);
    /// let wants: Vec<_> = region.prefetch(0..2).map(|fetch| fetch.wants()).collect();
    /// assert_eq!(wants, [Wants::Zeroes, Wants::Bytes]);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn wants(&self) -> Wants {
        if self.owned.place() == Place::Discarded || self.is_discarded() {
            Wants::Zeroes
        } else {
            Wants::Bytes
        }
    }

    /// Whether the page was discarded meanwhile: then there is no need to go on fetching, and the
    /// bytes would be dropped.
    ///
    /// # Example
    ///
    /// ```
    /// # use pagelock_vmm::soft::SoftRam;
    /// # let (_, region) = SoftRam::region(8)?;
    /// let fetch = region.prefetch(0..1).next().unwrap();
    /// let _ = region.discard(0..1);
    /// assert!(fetch.is_discarded());
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn is_discarded(&self) -> bool {
        self.region().is_asked(self.page())
    }

    /// What the owner is at, for the [report](Region::report).
    ///
    /// # Example
    ///
    /// ```
    /// # use pagelock_vmm::soft::SoftRam;
    /// # use std::time::Duration;
    /// # let (_, region) = SoftRam::region(8)?;
    /// let fetch = region.prefetch(0..1).next().unwrap();
    /// fetch.note("reading block 5");
    /// assert!(region.report(Duration::ZERO).to_string().contains("block 5"));
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn note(&self, note: impl Into<Cow<'static, str>>) {
        self.owned.note(note.into());
    }

    /// Puts the page up with `bytes`, and wakes. If the page was discarded meanwhile, the bytes are
    /// dropped and it reads as zeroes. A page that is there is never written over.
    ///
    /// # Errors
    ///
    /// [`FillError`]. The page stays out, and its faulters are told.
    ///
    /// # Example
    ///
    /// ```
    /// # use pagelock_vmm::Filled;
    /// # use pagelock_vmm::soft::SoftRam;
    /// # let (_, region) = SoftRam::region(8)?;
    /// let fetch = region.prefetch(0..1).next().unwrap();
    /// assert_eq!(fetch.fill(&[7; 4096])?, Filled::Bytes);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn fill(self, bytes: &[u8]) -> Result<Filled, FillError> {
        let page_size = self.region().page_size();
        if bytes.len() != page_size {
            return Err(FillError::Length { have: bytes.len(), page_size });
        }
        self.put(Some(bytes))
    }

    /// Puts the page up with zeroes, and wakes.
    ///
    /// # Errors
    ///
    /// As [`fill`](Self::fill).
    ///
    /// # Example
    ///
    /// ```
    /// # use pagelock_vmm::Filled;
    /// # use pagelock_vmm::soft::SoftRam;
    /// # let (_, region) = SoftRam::region(8)?;
    /// let fetch = region.prefetch(0..1).next().unwrap();
    /// assert_eq!(fetch.zero()?, Filled::Zeroes);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn zero(self) -> Result<Filled, FillError> {
        self.put(None)
    }

    fn put(mut self, bytes: Option<&[u8]>) -> Result<Filled, FillError> {
        let (region, page, at) = (self.region(), self.page(), self.owned.at());
        let zeroes = self.owned.place() == Place::Discarded;
        let protected = self.owned.is_protected();
        let (done, put) = region
            .patiently(|layer| match bytes {
                // Looked at in the same breath as the page is put up: see `Inbox`.
                Some(bytes) if !zeroes && !region.is_asked(page) => {
                    Ok((Filled::Bytes, layer.fill(at, bytes, protected)?))
                }
                _ => {
                    let asked = region.answer(page);
                    let put = layer.zero(at).inspect_err(|_| region.not_answered(page, asked))?;
                    Ok((Filled::Zeroes, put))
                }
            })
            .map_err(
                |error| if region.is_unplugged() { FillError::Gone } else { FillError::Io(error) },
            )?;
        let filled = if put { done } else { Filled::There };
        region.counters.count(match filled {
            Filled::Bytes => Counter::Fetches,
            Filled::Zeroes => Counter::Zeroes,
            Filled::There => Counter::There,
        });
        trace::filled(region, page, filled);
        if put {
            self.owned.faulter_woken();
        }
        self.owned.put_in(protected && filled == Filled::Bytes);
        Ok(filled)
    }

    /// Lets a page of shared memory be used as it is behind the mapping: another process has put
    /// its bytes there, and the fault was a [minor](crate::Kind::Minor) one. The page is in then:
    /// drop this guard.
    ///
    /// `false` if nothing is there, or not any more: the page was taken out after the fault. It is
    /// to be filled as usual.
    ///
    /// # Errors
    ///
    /// As [`fill`](Self::fill).
    ///
    /// # Example
    ///
    /// ```
    /// # use pagelock_vmm::{Fetch, FillError};
    /// fn minor_fault(mut fetch: Fetch) -> Result<(), FillError> {
    ///     if !fetch.resume()? {
    ///         fetch.fill(&[7; 4096])?; // nothing is behind the mapping: from the store
    ///     }
    ///     Ok(())
    /// }
    /// ```
    pub fn resume(&mut self) -> Result<bool, FillError> {
        let protected = self.owned.is_protected();
        match self.region().resume(self.page(), protected) {
            // If it was mapped already, nobody was woken, and the release does it.
            Ok(mapped) => {
                if mapped {
                    self.owned.faulter_woken();
                }
                self.owned.put_in(protected);
                self.region().counters.count(Counter::There);
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// The page's contents are lost for good: accesses fail (SIGBUS), where the kernel can do that.
    ///
    /// # Example
    ///
    /// ```
    /// # use pagelock_vmm::Fault;
    /// # use pagelock_vmm::soft::SoftRam;
    /// # let (_, region) = SoftRam::region(8)?;
    /// region.prefetch(0..1).next().unwrap().poison();
    /// assert!(matches!(region.fault(0), Fault::Poisoned));
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn poison(self) {
        let Self { owned } = self;
        let region = Arc::clone(owned.region());
        let page = owned.page();
        region.counters.count(Counter::Poisoned);
        owned.poison();
        region.lose(page);
    }
}
