//! Faults: the owner that fetches the page, and what becomes of the others.

use crate::fetch::Fetch;
use crate::headers::Route;
use crate::layer::Layer;
use crate::owned::Owned;
use crate::place::Place;
use crate::region::Region;
use crate::seats::What;
use crate::stats::Counter;
use crate::unprotect::Unprotect;
use pagelock::{Claim, PageGuard};
use std::io;
use std::ops::Range;
use std::sync::Arc;

/// What came of asking for a page without sleeping for it.
#[derive(Debug)]
#[must_use]
pub enum Claimed<G> {
    /// The page is yours to deal with. However this guard ends, by a success, an error, a panic, a
    /// dropped task or a time-out, the faulter and all that came meanwhile are told.
    Owner(G),
    /// There is nothing to do. Threads that sleep for the page in the kernel have been woken.
    Present,
    /// Another owner has the page, and tells the faulter when it is released. Forget the fault.
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
    /// Pass each fault that arrives to this, also one for a page that seems to be there: its
    /// message may have been read late, or the page was taken away without an event. `Present` has
    /// made sure of both.
    ///
    /// # Example
    ///
    /// ```
    /// # use pagelock_vmm::Fault;
    /// # use pagelock_vmm::soft::SoftRam;
    /// let (_, region) = SoftRam::region(8)?;
    /// match region.fault(3) {
    ///     Fault::Owner(fetch) => _ = fetch.fill(&[7; 4096])?, // ... from the store
    ///     Fault::InFlight => {}  // its owner tells the faulter
    ///     _ => {}                // nothing to do
    /// }
    /// assert!(matches!(region.fault(3), Fault::Present));
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
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
        Claimed::Owner(Fetch::of(owned))
    }

    /// A thread faults on `page` because it is write protected.
    ///
    /// # Example
    ///
    /// ```
    /// # use pagelock_vmm::{Claimed, Fault};
    /// # use pagelock_vmm::soft::SoftRam;
    /// let (_, region) = SoftRam::region(8)?;
    /// # let Fault::Owner(fetch) = region.fault(0) else { unreachable!() };
    /// # fetch.fill(&[7; 4096])?;
    /// region.clean(0)?.done();
    /// if let Claimed::Owner(write) = region.write_fault(0) {
    ///     // ... noted as dirty, and then
    ///     write.allow()?;
    /// }
    /// assert!(!region.state(0).unwrap().protected);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn write_fault(self: &Arc<Self>, page: usize) -> Claimed<Unprotect> {
        self.counters.count(Counter::WriteFaults);
        let guard = match self.claim(page, |_, _| {}) {
            Ok(guard) => guard,
            Err(other) => return other,
        };
        let owned = Owned::new(self, page, guard, What::WriteFault).with_faulter();
        // A page that is out may come back protected. Its fault was late: there is nothing to lift
        // or to read, and the writer finds that no page is there.
        if owned.place() != Place::In {
            return Claimed::Present;
        }
        if owned.is_protected() {
            return Claimed::Owner(Unprotect::of(owned));
        }
        // Late as well; or the page was protected by another hand, and the writer would come again
        // and again. The release wakes it in any case.
        let at = owned.at();
        let _ = self.patiently(|layer| layer.protect(at, false));
        Claimed::Present
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
    pub(crate) fn lose(&self, page: usize) {
        let _ = self.patiently(|layer| layer.poison(self.at(page)));
    }

    /// A fault on a page that is in. Either it is late, and the page is there; or the kernel has
    /// taken the page away, by a removal that came between, and it reads as zeroes; or it has only
    /// unmapped a page of shared memory, which is still behind the mapping.
    fn there(&self, mut owned: Owned) {
        let (at, protected) = (owned.at(), owned.is_protected());
        let page = owned.page();
        // In the same breath as the zeroes: a removal that was noted before them is answered by
        // them, and is not one of what the guest writes next.
        let zero = |layer: &dyn Layer| {
            let asked = self.answer(page);
            let put = layer.zero(at);
            if !matches!(put, Ok(true)) {
                self.not_answered(page, asked);
            }
            put
        };
        match self.patiently(zero) {
            Ok(true) => {
                owned.faulter_woken();
                owned.set(Place::In, false);
            }
            // A page is there, and nobody was woken: if not by this, then by the release.
            _ => {
                if let Ok(true) = self.resume(page, protected) {
                    owned.faulter_woken();
                }
            }
        }
    }

    /// Maps what is behind the mapping. By then a removal is over, so the page is newer than one
    /// that was noted.
    pub(crate) fn resume(&self, page: usize, protected: bool) -> io::Result<bool> {
        self.patiently(|layer| {
            let asked = self.answer(page);
            let done = layer.resume(self.at(page), protected);
            if done.is_ok() {
                self.answered_by_newer(page, asked);
            } else {
                self.not_answered(page, asked);
            }
            done
        })
    }

    /// The pages of `range` that are not in and that nobody owns, one after the other, for a
    /// fetcher that comes before anybody asks.
    ///
    /// Busy pages are passed over without a trace: their owners do not tell because of it.
    ///
    /// # Example
    ///
    /// ```
    /// # use pagelock_vmm::Fault;
    /// # use pagelock_vmm::soft::SoftRam;
    /// let (_, region) = SoftRam::region(8)?;
    /// # let Fault::Owner(fetch) = region.fault(0) else { unreachable!() };
    /// # fetch.fill(&[7; 4096])?;
    /// for fetch in region.prefetch(0..4) {
    ///     fetch.fill(&[1; 4096])?;
    /// }
    /// assert_eq!(region.resident(), 4);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
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
        let owned = Owned::new(self, page, guard, What::Prefetch);
        (owned.place() != Place::In).then(|| Fetch::of(owned))
    }
}
