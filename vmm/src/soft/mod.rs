//! A layer in software, which traps nothing: for tests, and where userfaultfd is refused.
//!
//! "Guests" are threads that call [`SoftRam::with`]. They sleep as a processor sleeps in the
//! kernel: until they are woken, and not a moment less; so a server that forgets a wake is found
//! out.

mod layer;

use crate::inbox::Inbox;
use crate::layer::{Event, Kind};
use crate::region::Region;
use rustix::event::{EventfdFlags, eventfd};
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Memory in software. Clones are handles of the same memory, which is both the layer of a region
/// and the events of its inbox.
///
/// ```
/// use pagelock_vmm::{Fetch, Inbox, Region, Server, soft::SoftRam};
/// use std::time::Duration;
///
/// let ram = SoftRam::new(8, 4096);
/// let inbox = Inbox::new(ram.clone())?;
/// let region = Region::new(ram.clone(), &inbox, 0)?;
/// let store = |fetch: &Fetch, into: &mut [u8]| Ok(into.fill(fetch.page() as u8));
/// let server = Server::start(&inbox, 1, store)?;
/// let patience = Duration::from_secs(10);
/// let guest = std::thread::spawn(move || ram.with(5, false, patience, |bytes| bytes[0]));
/// assert_eq!(guest.join().unwrap(), Ok(5));
/// assert_eq!(server.stop()?.fetched, 1);
/// # drop(region);
/// # Ok::<_, std::io::Error>(())
/// ```
#[derive(Clone)]
pub struct SoftRam {
    inner: Arc<Inner>,
}

struct Inner {
    base: usize,
    page: usize,
    pages: usize,
    removes: bool,
    state: Mutex<State>,
    changed: Condvar,
    /// Counts what is queued.
    bell: OwnedFd,
}

#[derive(Default)]
struct State {
    pages: Vec<Page>,
    faults: VecDeque<Event>,
    /// With a number each, so that a remover knows when its own was read.
    removals: VecDeque<(u64, Event)>,
    removed: u64,
    read: u64,
    /// Removals under way: nothing can be put up.
    changing: u32,
    asleep: u64,
    closed: bool,
}

#[derive(Default, Clone)]
struct Page {
    bytes: Option<Box<[u8]>>,
    protected: bool,
    poisoned: bool,
    wakes: u64,
}

/// How an access failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failed {
    /// Nobody woke the guest for so long.
    #[error("nobody woke the guest")]
    Stranded,
    /// The page is poisoned: SIGBUS.
    #[error("the page is poisoned")]
    Poisoned,
    /// The region is unplugged.
    #[error("the region is unplugged")]
    Gone,
}

static NEXT_BASE: AtomicUsize = AtomicUsize::new(1 << 40);

impl SoftRam {
    /// So many pages of so many bytes, none of them there.
    ///
    /// # Panics
    ///
    /// If the system has no descriptor left.
    ///
    /// # Example
    ///
    /// ```
    /// # use pagelock_vmm::soft::SoftRam;
    /// let ram = SoftRam::new(8, 4096);
    /// assert!(!ram.is_there(0));
    /// ```
    #[must_use]
    pub fn new(pages: usize, page: usize) -> Self {
        Self::made(pages, page, false)
    }

    /// So many pages of 4 KiB, and a region of them, with an inbox of its own, at guest address 0:
    /// the shortest way to try something out.
    ///
    /// # Errors
    ///
    /// If the system has no descriptor left.
    ///
    /// # Example
    ///
    /// ```
    /// # use pagelock_vmm::soft::SoftRam;
    /// let (ram, region) = SoftRam::region(8)?;
    /// assert_eq!((region.pages(), region.resident()), (8, 0));
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn region(pages: usize) -> io::Result<(Self, Arc<Region>)> {
        let ram = Self::new(pages, 4096);
        let region = Region::new(ram.clone(), &Inbox::new(ram.clone())?, 0)?;
        Ok((ram, region))
    }

    /// Memory that can be [removed](Self::remove), which then is an event.
    ///
    /// # Panics
    ///
    /// As [`new`](Self::new).
    ///
    /// # Example
    ///
    /// ```
    /// # use pagelock_vmm::Events;
    /// # use pagelock_vmm::soft::SoftRam;
    /// let ram = SoftRam::with_removes(8, 4096);
    /// assert!(ram.has_removes());
    /// ```
    #[must_use]
    pub fn with_removes(pages: usize, page: usize) -> Self {
        Self::made(pages, page, true)
    }

    fn made(pages: usize, page: usize, removes: bool) -> Self {
        // Addresses that nothing is mapped at, and that no other one has.
        let base = NEXT_BASE.fetch_add((pages * page).next_multiple_of(1 << 24), Relaxed);
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK | EventfdFlags::SEMAPHORE;
        let bell = eventfd(0, flags).expect("a descriptor");
        let state = Mutex::new(State { pages: vec![Page::default(); pages], ..State::default() });
        Self {
            inner: Arc::new(Inner {
                base,
                page,
                pages,
                removes,
                state,
                changed: Condvar::new(),
                bell,
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ring(&self) {
        let _ = rustix::io::write(&self.inner.bell, &1_u64.to_ne_bytes());
    }

    /// A guest's access to a page, for at most `patience` asleep in one go.
    ///
    /// # Errors
    ///
    /// [`Failed`].
    ///
    /// # Example
    ///
    /// ```
    /// # use pagelock_vmm::Fault;
    /// # use pagelock_vmm::soft::SoftRam;
    /// # use std::time::Duration;
    /// let (ram, region) = SoftRam::region(8)?;
    /// # let Fault::Owner(fetch) = region.fault(0) else { unreachable!() };
    /// # fetch.fill(&[7; 4096])?;
    /// assert_eq!(ram.with(0, false, Duration::ZERO, |bytes| bytes[0]), Ok(7));
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn with<R>(
        &self,
        page: usize,
        write: bool,
        patience: Duration,
        access: impl FnOnce(&mut [u8]) -> R,
    ) -> Result<R, Failed> {
        let mut state = self.lock();
        loop {
            if state.closed {
                return Err(Failed::Gone);
            }
            let here = &mut state.pages[page];
            if here.poisoned {
                return Err(Failed::Poisoned);
            }
            let kind = match &mut here.bytes {
                Some(bytes) if !(write && here.protected) => return Ok(access(bytes)),
                Some(_) => Kind::Protected,
                None => Kind::Missing,
            };
            let wakes = here.wakes;
            let address = self.inner.base + page * self.inner.page;
            let thread = rustix::thread::gettid().as_raw_nonzero().get() as u32;
            state.faults.push_back(Event::Fault { address, kind, write, thread });
            state.asleep += 1;
            self.ring();
            let until = Instant::now() + patience;
            while state.pages[page].wakes == wakes && !state.closed {
                let left = until.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    state.asleep -= 1;
                    return Err(Failed::Stranded);
                }
                state = self
                    .inner
                    .changed
                    .wait_timeout(state, left)
                    .unwrap_or_else(PoisonError::into_inner)
                    .0;
            }
            state.asleep -= 1;
        }
    }

    /// Takes pages away as `madvise` does: sleeps until the event is read, and then they go.
    ///
    /// # Example
    ///
    /// ```
    /// # use pagelock_vmm::Fault;
    /// # use pagelock_vmm::soft::SoftRam;
    /// let (ram, region) = SoftRam::region(8)?;
    /// # let Fault::Owner(fetch) = region.fault(0) else { unreachable!() };
    /// # fetch.fill(&[7; 4096])?;
    /// ram.remove(0, 1); // without an event: this memory has none
    /// assert!(!ram.is_there(0));
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn remove(&self, first: usize, last: usize) {
        let mut state = self.lock();
        if self.inner.removes {
            state.removed += 1;
            let number = state.removed;
            let [start, end] = [first, last].map(|page| self.inner.base + page * self.inner.page);
            state.removals.push_back((number, Event::Remove { start, end }));
            state.changing += 1;
            self.ring();
            while state.read < number && !state.closed {
                state = self.inner.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            state.changing -= 1;
        }
        for page in &mut state.pages[first..last] {
            page.bytes = None;
            page.protected = false;
        }
    }

    /// Puts a page up and wakes nobody, as a copy with `UFFDIO_COPY_MODE_DONTWAKE`. For tests.
    ///
    /// # Example
    ///
    /// ```
    /// # use pagelock_vmm::soft::SoftRam;
    /// let ram = SoftRam::new(8, 4096);
    /// ram.fill_unheard(0, &[7; 4096]);
    /// assert!(ram.is_there(0));
    /// ```
    pub fn fill_unheard(&self, page: usize, bytes: &[u8]) {
        self.lock().pages[page].bytes = Some(bytes.into());
    }

    /// Whether a page is there. For tests.
    ///
    /// # Example
    ///
    /// ```
    /// # use pagelock_vmm::soft::SoftRam;
    /// let ram = SoftRam::new(8, 4096);
    /// assert!(!ram.is_there(0));
    /// ```
    #[must_use]
    pub fn is_there(&self, page: usize) -> bool {
        self.lock().pages[page].bytes.is_some()
    }

    fn page(&self, at: usize) -> io::Result<usize> {
        let page = at / self.inner.page;
        if page < self.inner.pages { Ok(page) } else { Err(io::ErrorKind::NotFound.into()) }
    }

    fn put(&self, at: usize, bytes: Box<[u8]>, protected: bool) -> io::Result<bool> {
        let page = self.page(at)?;
        let mut state = self.lock();
        if state.closed {
            return Err(io::ErrorKind::NotFound.into());
        }
        if state.changing > 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let here = &mut state.pages[page];
        if here.bytes.is_some() || here.poisoned {
            return Ok(false);
        }
        here.bytes = Some(bytes);
        here.protected = protected;
        here.wakes += 1;
        self.inner.changed.notify_all();
        Ok(true)
    }
}

impl fmt::Debug for SoftRam {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SoftRam({} pages)", self.inner.pages)
    }
}
