//! Faults: who fetches the page, and what becomes of the others.

use crate::headers::Route;
use crate::owned::Owned;
use crate::place::Place;
use crate::region::Region;
use crate::seats::What;
use crate::stats::Counter;
use crate::trace;
use pagelock::{Claim, PageGuard};
use std::borrow::Cow;
use std::io;
use std::ops::Range;
use std::sync::Arc;

/// What came of asking for a page without sleeping for it.
#[derive(Debug)]
#[must_use]
pub enum Claimed<G> {
    /// The page is yours to deal with. However this guard ends, by a success, an error, a panic, a
    /// dropped task or a time-out, the faulter and all who came meanwhile are told.
    Owner(G),
    /// There is nothing to do. Who sleeps for the page in the kernel has been woken.
    Present,
    /// Somebody else owns the page, and tells the faulter when it is released. Forget the fault.
    InFlight,
    /// The contents are lost; an access fails (SIGBUS), where the kernel can do that.
    Poisoned,
    /// The region has no such page, or is unplugged.
    Gone,
}

/// What came of a [fault](Region::fault).
pub type Fault = Claimed<Fetch>;

impl Region {
    /// A thread faults on `page` because it is not there. Never sleeps for the page.
    ///
    /// Each fault that arrives is to be passed to this, also one for a page that seems to be there:
    /// its message may have been read late, or the page was taken away by somebody that no event
    /// has told of. `Present` has made sure of both.
    pub fn fault(self: &Arc<Self>, page: usize) -> Fault {
        self.counters.count(Counter::Faults);
        let guard = match self.claim(page, Region::lose) {
            Ok(guard) => guard,
            Err(other) => return other,
        };
        let owned = Owned::new(self, page, guard, What::Fetch).with_faulter();
        if owned.place() == Place::In {
            self.counters.count(Counter::Present);
            self.there(owned);
            return Claimed::Present;
        }
        Claimed::Owner(Fetch { owned })
    }

    /// A thread faults on `page` because it is write protected.
    pub fn write_fault(self: &Arc<Self>, page: usize) -> Claimed<Unprotect> {
        self.counters.count(Counter::WriteFaults);
        let guard = match self.claim(page, |_, _| {}) {
            Ok(guard) => guard,
            Err(other) => return other,
        };
        let owned = Owned::new(self, page, guard, What::WriteFault).with_faulter();
        // A page that is out may be to come back protected. Its fault was late: there is nothing to
        // lift or to read, and whoever slept finds that no page is there.
        let stays = owned.place() == Place::In && owned.is_protected();
        if stays { Claimed::Owner(Unprotect { owned }) } else { Claimed::Present }
    }

    fn claim<G>(
        self: &Arc<Self>,
        page: usize,
        poisoned: impl Fn(&Self, usize),
    ) -> Result<PageGuard<'_, Route>, Claimed<G>> {
        let Some(header) = self.headers.get(page).filter(|_| !self.is_unplugged()) else {
            return Err(Claimed::Gone);
        };
        Err(match header.claim() {
            Claim::Owner(guard) => return Ok(guard),
            Claim::InFlight => {
                self.counters.count(Counter::InFlight);
                Claimed::InFlight
            }
            _ => {
                poisoned(self, page);
                Claimed::Poisoned
            }
        })
    }

    /// Has the faulter on a lost page fail.
    fn lose(&self, page: usize) {
        let _ = self.patiently(|layer| layer.poison(self.at(page)));
    }

    /// A fault on a page that is in. Either it is late, and the page is there; or the kernel has
    /// taken the page away, by a removal that came between, and it reads as zeroes; or it has only
    /// unmapped a page of shared memory, which is still behind the mapping.
    fn there(&self, mut owned: Owned) {
        let (at, protected) = (owned.at(), owned.is_protected());
        match self.patiently(|layer| layer.zero(at)) {
            Ok(true) => {
                owned.faulter_woken();
                owned.set(Place::In, false);
            }
            // A page is there, and nobody was woken: if not by this, then by the release.
            _ => {
                if let Ok(true) = self.patiently(|layer| layer.resume(at, protected)) {
                    owned.faulter_woken();
                }
            }
        }
    }

    /// The pages of `range` that are not in and that nobody owns, one after the other, for whoever
    /// fetches before anybody asks.
    ///
    /// Busy pages are passed over without a trace: their owners do not tell because of it.
    pub fn prefetch(self: &Arc<Self>, range: Range<usize>) -> impl Iterator<Item = Fetch> + use<> {
        let region = Arc::clone(self);
        let range = range.start..range.end.min(self.pages());
        range
            .map_while(move |page| (!region.is_unplugged()).then(|| region.try_fetch(page)))
            .flatten()
    }

    fn try_fetch(self: &Arc<Self>, page: usize) -> Option<Fetch> {
        let header = self.headers.get(page)?;
        if Place::of(header.user()) == Place::In || header.is_poisoned() {
            return None;
        }
        let guard = header.try_lock().filter(|guard| !guard.is_poisoned())?;
        let fetch = Fetch { owned: Owned::new(self, page, guard, What::Prefetch) };
        (fetch.owned.place() != Place::In).then_some(fetch)
    }
}

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

/// What a [`Fetch`] has to put up.
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
        /// How many there have to be.
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
    /// The page's number.
    #[must_use]
    pub fn page(&self) -> usize {
        self.owned.page()
    }

    /// The page's region.
    #[must_use]
    pub fn region(&self) -> &Arc<Region> {
        self.owned.region()
    }

    /// Where the page begins in the region, in bytes.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.owned.at() as u64
    }

    /// What has to be put up.
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
    #[must_use]
    pub fn is_discarded(&self) -> bool {
        self.region().is_asked(self.page())
    }

    /// What the owner is at, for the [report](Region::report).
    pub fn note(&self, note: impl Into<Cow<'static, str>>) {
        self.owned.note(note.into());
    }

    /// Puts the page up with `bytes`, and wakes. If the page was discarded meanwhile, the bytes are
    /// dropped and it reads as zeroes. A page that is there is never written over.
    ///
    /// # Errors
    ///
    /// [`FillError`]. The page stays out, and its faulters are told.
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
    /// its bytes there, and the fault was a [minor](crate::Kind::Minor) one. The page is in then,
    /// and this guard is to be dropped.
    ///
    /// `false` if nothing is there, or not any more: the page was taken out after the fault. It is
    /// to be filled as usual.
    ///
    /// # Errors
    ///
    /// As [`fill`](Self::fill).
    pub fn resume(&mut self) -> Result<bool, FillError> {
        let at = self.owned.at();
        let protected = self.owned.is_protected();
        match self.region().patiently(|layer| layer.resume(at, protected)) {
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
    pub fn poison(self) {
        let Self { owned } = self;
        let region = Arc::clone(owned.region());
        let page = owned.page();
        region.counters.count(Counter::Poisoned);
        owned.poison();
        region.lose(page);
    }
}

/// The right and the duty to let writers of one page go on. Dropping it leaves the page protected,
/// and tells.
#[derive(Debug)]
#[must_use = "dropping it gives up: the faulter is told and faults again"]
pub struct Unprotect {
    owned: Owned,
}

impl Unprotect {
    /// The page's number.
    #[must_use]
    pub fn page(&self) -> usize {
        self.owned.page()
    }

    /// The page's region.
    #[must_use]
    pub fn region(&self) -> &Arc<Region> {
        self.owned.region()
    }

    /// The page as it was when it was protected, for whoever saves pages before they are written.
    ///
    /// # Errors
    ///
    /// What the layer says.
    pub fn read(&self, into: &mut [u8]) -> io::Result<()> {
        self.region().layer.read(self.owned.at(), into)
    }

    /// Lifts the protection, and wakes. Note the page as dirty *before*.
    ///
    /// # Errors
    ///
    /// What the layer says; the page stays protected, and its faulters are told.
    pub fn allow(mut self) -> io::Result<()> {
        let at = self.owned.at();
        self.region().patiently(|layer| layer.protect(at, false))?;
        self.owned.faulter_woken();
        self.owned.set(Place::In, false);
        Ok(())
    }
}
