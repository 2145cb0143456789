//! A region: guest pages, host addresses, headers.

use crate::headers::{Header, Headers};
use crate::inbox::Inbox;
use crate::layer::Layer;
use crate::place::{PageState, Place, is_protected};
use crate::seats::Seats;
use crate::stats::Counters;
use crate::uffd::{Ram, SMALL};
use pagelock::word::state::EVENT_WAITERS;
use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

/// A stretch of guest memory whose pages come and go: guest pages ↔ host addresses ↔ headers.
///
/// It is used through an [`Arc`], and so are the guards that its verbs hand out: each keeps the
/// region, and the memory below it, for as long as it is there. A guard can go to another thread or
/// into a task; nothing is leaked for it.
///
/// Pages are numbered from 0. All begin [out](Place::Out).
///
/// When the last handle is dropped, memory that others have mapped stays registered: a guest that
/// goes on all the same sleeps at the next page that is out, and does not run into zeroes where its
/// data was. To let it go on, [`unplug`](Self::unplug). (When the last handle of the
/// [`Uffd`](crate::uffd::Uffd) is closed, the kernel unregisters, and there are zeroes.)
///
/// | to | call |
/// |---|---|
/// | serve a fault | [`fault`](Self::fault), [`write_fault`](Self::write_fault) |
/// | fetch before anybody asks | [`prefetch`](Self::prefetch) |
/// | throw pages away | [`discard`](Self::discard), [`discard_blocking`](Self::discard_blocking) |
/// | push pages out to the store | [`evict`](Self::evict), [`evict_to`](Self::evict_to) a limit |
/// | save a page and hear of the next write to it | [`clean`](Self::clean) |
/// | keep a page in for a device | [`pin`](Self::pin), [`pin_or_fetch`](Self::pin_or_fetch) |
/// | wait for a page | [`wait_released`](Self::wait_released), as a task [`released`](Self::released) |
/// | look | [`state`](Self::state), [`states`](Self::states), [`resident`](Self::resident) |
/// | find out why a guest hangs | [`report`](Self::report) |
pub struct Region {
    pub(crate) layer: Arc<dyn Layer>,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) headers: Headers,
    /// What was asked of pages that had an owner at that moment, and answered.
    pub(crate) asked: Box<[AtomicU8]>,
    pub(crate) seats: Seats,
    pub(crate) counters: Counters,
    /// How many pages are in.
    pub(crate) resident: Apart<AtomicUsize>,
    pub(crate) guest: u64,
    pub(crate) page_size: usize,
    unplugged: AtomicBool,
}

/// In a cache line of its own: written at every fill, beside fields that are only read.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Apart<T>(pub(crate) T);

/// Why there is no region.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegionError {
    /// Its length or address is not a multiple of the page size, or it is empty.
    #[error("{len} bytes at {base:#x} are not whole pages of {page_size} bytes")]
    NotPages {
        /// The first address.
        base: usize,
        /// Its length.
        len: usize,
        /// The page size.
        page_size: usize,
    },
    /// Another region of the inbox has some of its addresses.
    #[error("addresses from {0:#x} are in another region")]
    Overlaps(usize),
    /// The memory was registered with another userfaultfd than the inbox's: its faults would arrive
    /// where nobody knows the region.
    #[error("the memory's faults arrive at another inbox")]
    OtherInbox,
    /// The system refused.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl From<RegionError> for io::Error {
    fn from(error: RegionError) -> Self {
        match error {
            RegionError::Io(error) => error,
            other => Self::new(io::ErrorKind::InvalidInput, other),
        }
    }
}

impl Region {
    /// A region over `layer`, whose faults arrive at `inbox`; its first byte is the guest's
    /// physical address `guest`.
    ///
    /// # Errors
    ///
    /// [`RegionError`], with nothing changed.
    ///
    /// # Example
    ///
    /// ```
    /// # use pagelock_vmm::{Inbox, Region};
    /// # use pagelock_vmm::soft::SoftRam;
    /// let ram = SoftRam::new(8, 4096);
    /// let inbox = Inbox::new(ram.clone())?;
    /// let region = Region::new(ram, &inbox, 0x1_0000_0000)?;
    /// assert_eq!(region.guest_address(1), Some(0x1_0000_1000));
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn new(
        layer: impl Layer + 'static,
        inbox: &Arc<Inbox>,
        guest: u64,
    ) -> Result<Arc<Self>, RegionError> {
        let (base, len, page_size) = (layer.base(), layer.len(), layer.page_size());
        if len == 0
            || !page_size.is_power_of_two()
            || !len.is_multiple_of(page_size)
            || !base.is_multiple_of(page_size)
        {
            return Err(RegionError::NotPages { base, len, page_size });
        }
        if layer.as_any().downcast_ref::<Ram>().is_some_and(|ram| !ram.reports_to(inbox)) {
            return Err(RegionError::OtherInbox);
        }
        let layer: Arc<dyn Layer> = Arc::new(layer);
        let pages = len / page_size;
        let region = Arc::new(Self {
            headers: Headers::new(pages, page_size, Arc::clone(&layer)),
            asked: (0..pages).map(|_| AtomicU8::new(0)).collect(),
            seats: Seats::new(),
            counters: Counters::default(),
            resident: Apart(AtomicUsize::new(0)),
            inbox: Arc::clone(inbox),
            layer,
            guest,
            page_size,
            unplugged: AtomicBool::new(false),
        });
        if inbox.plug(&region) { Ok(region) } else { Err(RegionError::Overlaps(base)) }
    }

    /// `len` bytes of private anonymous memory in pages of 4 KiB, at guest address 0.
    ///
    /// # Errors
    ///
    /// [`RegionError`]. The inbox must be one of the kernel's ([`Inbox::open`]).
    ///
    /// # Example
    ///
    /// ```
    /// # use pagelock_vmm::{Inbox, Region};
    /// # let Ok(inbox) = Inbox::open() else { return Ok(()) }; // refused here
    /// let region = Region::anonymous(&inbox, 64 << 20)?;
    /// assert_eq!(region.pages(), 16384);
    /// let error = Region::anonymous(&inbox, 5000).unwrap_err();
    /// assert_eq!(error.to_string(), "5000 bytes at 0x0 are not whole pages of 4096 bytes");
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn anonymous(inbox: &Arc<Inbox>, len: usize) -> Result<Arc<Self>, RegionError> {
        if len == 0 || !len.is_multiple_of(SMALL) {
            // The system would only say that the argument is invalid.
            return Err(RegionError::NotPages { base: 0, len, page_size: SMALL });
        }
        Self::new(Ram::anonymous(inbox, len, SMALL)?, inbox, 0)
    }

    /// A page's header, for what has no verb here: a wait or a lock with limits. An owner by this
    /// must leave the caller's bits and the reference alone, which are the region's; and a discard
    /// that comes meanwhile is not done at its end, but by the page's next owner.
    ///
    /// # Example
    ///
    /// ```
    /// # use pagelock_vmm::soft::SoftRam;
    /// let (_, region) = SoftRam::region(8)?;
    /// let header = region.header(0).unwrap();
    /// assert!(!header.is_locked() && size_of_val(header) == 8);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn header(&self, page: usize) -> Option<&Header> {
        self.headers.get(page)
    }

    /// The memory below.
    ///
    /// # Example
    ///
    /// ```
    /// # use pagelock_vmm::soft::SoftRam;
    /// let (_, region) = SoftRam::region(8)?;
    /// assert_eq!(region.layer().len(), 8 * 4096);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn layer(&self) -> &dyn Layer {
        &*self.layer
    }

    /// Where its faults arrive.
    ///
    /// # Example
    ///
    /// ```
    /// # use pagelock_vmm::soft::SoftRam;
    /// let (_, region) = SoftRam::region(8)?;
    /// assert_eq!(region.inbox().regions().len(), 1);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn inbox(&self) -> &Arc<Inbox> {
        &self.inbox
    }

    /// How many pages are in: what an evictor keeps below a limit. One load, and exact whenever
    /// nobody owns a page; a fetch counts from the moment that its page is up.
    ///
    /// # Example
    ///
    /// ```
    /// # use pagelock_vmm::Fault;
    /// # use pagelock_vmm::soft::SoftRam;
    /// let (_, region) = SoftRam::region(8)?;
    /// # let Fault::Owner(fetch) = region.fault(0) else { unreachable!() };
    /// # fetch.fill(&[7; 4096])?;
    /// assert_eq!(region.resident(), 1);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn resident(&self) -> usize {
        self.resident.0.load(Relaxed)
    }

    /// What a page's header says now. `None` beyond the end.
    ///
    /// # Example
    ///
    /// ```
    /// # use pagelock_vmm::{Fault, Place};
    /// # use pagelock_vmm::soft::SoftRam;
    /// let (_, region) = SoftRam::region(8)?;
    /// # let Fault::Owner(fetch) = region.fault(0) else { unreachable!() };
    /// # fetch.fill(&[7; 4096])?;
    /// let state = region.state(0).unwrap();
    /// assert_eq!((state.place, state.owned, state.pins), (Place::In, false, 0));
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn state(&self, page: usize) -> Option<PageState> {
        let header = self.headers.get(page)?;
        let user = header.user();
        Some(PageState {
            place: Place::of(user),
            owned: header.is_locked(),
            awaited: header.is_locked() && is_awaited(header),
            protected: is_protected(user),
            pins: header.pins(),
            poisoned: header.is_poisoned(),
        })
    }

    /// The pages of `range` and what their headers say, each as it is when it is looked at. It
    /// touches nothing, so nobody is held up by it.
    ///
    /// # Example
    ///
    /// ```
    /// # use pagelock_vmm::{Fault, Place};
    /// # use pagelock_vmm::soft::SoftRam;
    /// let (_, region) = SoftRam::region(8)?;
    /// # let Fault::Owner(fetch) = region.fault(0) else { unreachable!() };
    /// # fetch.fill(&[7; 4096])?;
    /// let out = region.states(0..8).filter(|(_, state)| state.place == Place::Out);
    /// assert_eq!(out.count(), 7);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn states(&self, range: Range<usize>) -> impl Iterator<Item = (usize, PageState)> + '_ {
        let range = range.start..range.end.min(self.pages());
        range.filter_map(|page| Some((page, self.state(page)?)))
    }

    /// Takes the region out: no more of its faults arrive, and a thread that sleeps for one of its
    /// pages in the kernel is woken and goes on without the region (it finds zeroes, or what is
    /// mapped there by then). Guards that exist are still good for being dropped. Once is enough.
    ///
    /// # Errors
    ///
    /// What the layer says. The region is out of the inbox in any case.
    ///
    /// # Example
    ///
    /// ```
    /// # use pagelock_vmm::Fault;
    /// # use pagelock_vmm::soft::SoftRam;
    /// let (_, region) = SoftRam::region(8)?;
    /// region.unplug()?;
    /// assert!(matches!(region.fault(0), Fault::Gone));
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn unplug(&self) -> io::Result<()> {
        if self.unplugged.swap(true, Relaxed) {
            return Ok(());
        }
        self.inbox.unplug(self);
        self.layer.close()
    }

    pub(crate) fn is_unplugged(&self) -> bool {
        self.unplugged.load(Relaxed)
    }

    /// A call of the layer that cannot succeed while a removal waits to be read: reads it.
    pub(crate) fn patiently<T>(
        &self,
        mut call: impl FnMut(&dyn Layer) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut tries = 0_u32;
        loop {
            let done = {
                let _order = self.inbox.in_order();
                call(&*self.layer)
            };
            match done {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && tries < PATIENCE => {
                    tries += 1;
                    self.inbox.catch_up()?;
                    // The remover has to run before this can go on: first a look, then a rest.
                    if tries < 32 {
                        std::thread::yield_now()
                    } else {
                        std::thread::sleep(Duration::from_micros(100))
                    }
                }
                done => return done,
            }
        }
    }
}

/// Whether the owner's release will tell.
fn is_awaited(header: &Header) -> bool {
    // SAFETY: a header is `repr(C)` and begins with its state word, an atomic `u32`; both are
    // documented, and this only looks.
    let state = unsafe { &*std::ptr::from_ref(header).cast::<AtomicU32>() };
    state.load(Relaxed) & EVENT_WAITERS != 0
}

/// How often a call is made that says "again": about ten seconds.
pub(crate) const PATIENCE: u32 = 100_000;

impl Drop for Region {
    /// Not unplugged: see [`Region`].
    fn drop(&mut self) {
        self.inbox.unplug(self);
    }
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Region")
            .field("host", &format_args!("{:#x?}", self.host_range()))
            .field("pages", &self.pages())
            .field("page_size", &self.page_size)
            .finish_non_exhaustive()
    }
}
