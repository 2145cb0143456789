//! Where the faults of some regions arrive, and in which order they are acted on.
//!
//! The kernel holds up a remover of pages until the event has been *read*, and then takes the pages
//! away. So a thread that has read a removal and not yet acted on it leaves a gap in which another
//! thread, with an older fault in hand, can put the old bytes up again. The inbox closes it:
//! removals are read and noted in the headers under one lock, which a thread that puts a page up
//! shares. Faults are not held up by it, and where no removals can come nobody takes it.

use crate::layer::{Event, Events, Kind};
use crate::region::Region;
use crate::uffd::Uffd;
use rustix::event::{EventfdFlags, Timespec, epoll, eventfd};
use std::cell::Cell;
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, Weak};
use std::time::Duration;

/// A place where faults arrive, and the regions that they may concern: of one VM or of several.
///
/// Any number of threads and tasks may take faults from one inbox. Regions are plugged in by
/// [`Region::new`] and unplugged by [`Region::unplug`], or when the last handle of one is dropped.
pub struct Inbox {
    events: Box<dyn Events>,
    /// By address.
    regions: RwLock<Vec<Plugged>>,
    /// Faults that were read on the way to something else.
    aside: Mutex<VecDeque<Event>>,
    /// How many.
    set_aside: AtomicUsize,
    order: RwLock<()>,
    kicks: OwnedFd,
    /// The same for tasks.
    pub(crate) news: event_listener::Event,
}

struct Plugged {
    start: usize,
    end: usize,
    region: Weak<Region>,
}

/// A fault that has arrived.
#[derive(Debug)]
#[non_exhaustive]
pub struct Arrived {
    /// Of which region.
    pub region: Arc<Region>,
    /// On which of its pages.
    pub page: usize,
    /// What the faulter ran into.
    pub kind: Kind,
    /// Whether it wanted to write.
    pub write: bool,
    /// The thread that sleeps, or 0 if that is not known.
    pub thread: u32,
}

impl Inbox {
    /// An inbox of the kernel's faults, with what [`Uffd::open`] asks for by default.
    ///
    /// # Errors
    ///
    /// As [`Uffd::open`].
    ///
    /// # Example
    ///
    /// ```
    /// # use pagelock_vmm::Inbox;
    /// match Inbox::open() {
    ///     Ok(inbox) => assert!(inbox.regions().is_empty()),
    ///     Err(error) => println!("no userfaultfd: {error}"),
    /// }
    /// ```
    pub fn open() -> io::Result<Arc<Self>> {
        Self::new(Uffd::open(crate::uffd::Wish::default())?)
    }

    /// An inbox of the events of `events`.
    ///
    /// # Errors
    ///
    /// If the system has no descriptor left.
    ///
    /// # Example
    ///
    /// ```
    /// # use pagelock_vmm::{Inbox, Region};
    /// # use pagelock_vmm::soft::SoftRam;
    /// let ram = SoftRam::new(8, 4096);
    /// let inbox = Inbox::new(ram.clone())?;
    /// let region = Region::new(ram, &inbox, 0)?;
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn new(events: impl Events + 'static) -> io::Result<Arc<Self>> {
        let kicks =
            eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK | EventfdFlags::SEMAPHORE)?;
        Ok(Arc::new(Self {
            events: Box::new(events),
            regions: RwLock::default(),
            aside: Mutex::default(),
            set_aside: AtomicUsize::new(0),
            order: RwLock::default(),
            kicks,
            news: event_listener::Event::new(),
        }))
    }

    /// Where the events come from: its descriptor is readable while there are any, for a caller
    /// with a loop of its own.
    ///
    /// # Example
    ///
    /// ```
    /// # use pagelock_vmm::soft::SoftRam;
    /// # let (_, region) = SoftRam::region(8)?;
    /// assert_eq!(region.inbox().events().pending()?, (0, 0));
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn events(&self) -> &dyn Events {
        &*self.events
    }

    /// The next fault, if one has arrived. Never sleeps. Removals that come before it are acted on.
    ///
    /// # Errors
    ///
    /// What reading the events failed with.
    ///
    /// # Example
    ///
    /// ```
    /// # use pagelock_vmm::Fault;
    /// # use pagelock_vmm::soft::SoftRam;
    /// # use std::time::Duration;
    /// let (ram, region) = SoftRam::region(8)?;
    /// let inbox = region.inbox().clone();
    /// let patience = Duration::from_secs(10);
    /// let guest = std::thread::spawn(move || ram.with(5, false, patience, |bytes| bytes[0]));
    /// let arrived = loop {
    ///     match inbox.next()? {
    ///         Some(arrived) => break arrived,
    ///         None => std::thread::yield_now(),
    ///     }
    /// };
    /// let Fault::Owner(fetch) = arrived.region.fault(arrived.page) else { unreachable!() };
    /// fetch.fill(&[7; 4096])?;
    /// assert_eq!(guest.join().unwrap(), Ok(7));
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn next(&self) -> io::Result<Option<Arrived>> {
        loop {
            let aside = self.pop_aside();
            let event = match aside {
                Some(event) => event,
                None => match self.read()? {
                    Some(event) => event,
                    None => return Ok(None),
                },
            };
            // A fault on what is no region any more: its faulter was woken when that was unplugged.
            if let Some(arrived) = self.arrived(event) {
                return Ok(Some(arrived));
            }
        }
    }

    fn pop_aside(&self) -> Option<Event> {
        // Relaxed: a thread that puts a fault aside rings afterwards, so one that is missed here is
        // found by the thread that wakes.
        if self.set_aside.load(Relaxed) == 0 {
            return None;
        }
        let mut aside = self.lock_aside();
        let event = aside.pop_front();
        self.set_aside.store(aside.len(), Relaxed);
        event
    }

    fn arrived(&self, event: Event) -> Option<Arrived> {
        let Event::Fault { address, kind, write, thread } = event else { return None };
        let region = self.region_of(address)?;
        let page = region.page_at_host(address)?;
        Some(Arrived { region, page, kind, write, thread })
    }

    /// The region that has the host address `address`.
    ///
    /// # Example
    ///
    /// ```
    /// # use pagelock_vmm::soft::SoftRam;
    /// # let (_, region) = SoftRam::region(8)?;
    /// let address = region.host_address(3).unwrap();
    /// assert!(region.inbox().region_of(address).is_some());
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn region_of(&self, address: usize) -> Option<Arc<Region>> {
        let regions = self.regions.read().unwrap_or_else(PoisonError::into_inner);
        let next = regions.partition_point(|plugged| plugged.start <= address);
        let plugged = regions.get(next.checked_sub(1)?)?;
        if address < plugged.end { plugged.region.upgrade() } else { None }
    }

    /// All regions that are plugged in, by address.
    ///
    /// # Example
    ///
    /// ```
    /// # use pagelock_vmm::soft::SoftRam;
    /// # let (_, region) = SoftRam::region(8)?;
    /// assert_eq!(region.inbox().regions().len(), 1);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn regions(&self) -> Vec<Arc<Region>> {
        let regions = self.regions.read().unwrap_or_else(PoisonError::into_inner);
        regions.iter().filter_map(|plugged| plugged.region.upgrade()).collect()
    }

    /// `false` if a region has some of these addresses already.
    pub(crate) fn plug(&self, region: &Arc<Region>) -> bool {
        let (start, end) = (region.host_range().start, region.host_range().end);
        let mut regions = self.regions.write().unwrap_or_else(PoisonError::into_inner);
        let next = regions.partition_point(|plugged| plugged.start < start);
        let overlaps = |plugged: &Plugged| plugged.start < end && start < plugged.end;
        let neighbours = next.saturating_sub(1)..(next + 1).min(regions.len());
        if regions[neighbours].iter().any(overlaps) {
            return false;
        }
        regions.insert(next, Plugged { start, end, region: Arc::downgrade(region) });
        true
    }

    pub(crate) fn unplug(&self, region: &Region) {
        let mut regions = self.regions.write().unwrap_or_else(PoisonError::into_inner);
        regions.retain(|plugged| !std::ptr::eq(plugged.region.as_ptr(), region));
    }

    /// One event that is not a removal; removals before it are noted in the headers.
    fn read(&self) -> io::Result<Option<Event>> {
        if !self.events.has_removes() {
            return self.events.next();
        }
        let _order = self.order.write().unwrap_or_else(PoisonError::into_inner);
        self.read_in_order()
    }

    /// Whether this thread is noting removals at this moment.
    pub(crate) fn notes() -> bool {
        NOTES.get()
    }

    fn read_in_order(&self) -> io::Result<Option<Event>> {
        while let Some(event) = self.events.next()? {
            let Event::Remove { start, end } = event else { return Ok(Some(event)) };
            NOTES.set(true);
            for region in self.regions() {
                region.removed(start, end);
            }
            NOTES.set(false);
        }
        Ok(None)
    }

    /// Reads what there is, because a page cannot be put up before that. Faults are put aside for
    /// the next taker, so that a pool of one thread makes progress too.
    pub(crate) fn catch_up(&self) -> io::Result<()> {
        let mut found = 0;
        {
            let _order = self.order.write().unwrap_or_else(PoisonError::into_inner);
            while let Some(event) = self.read_in_order()? {
                let mut aside = self.lock_aside();
                aside.push_back(event);
                self.set_aside.store(aside.len(), Relaxed);
                found += 1;
            }
        }
        if found > 0 {
            self.kick(found);
        }
        Ok(())
    }

    /// Held while a page is put up.
    pub(crate) fn in_order(&self) -> Option<RwLockReadGuard<'_, ()>> {
        self.events.has_removes().then(|| self.order.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn lock_aside(&self) -> MutexGuard<'_, VecDeque<Event>> {
        self.aside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has `n` threads that sleep in a [`Doorbell`] look again.
    pub(crate) fn kick(&self, n: u64) {
        // It fails only if the counter is full, and then everybody is awake.
        let _ = rustix::io::write(&self.kicks, &n.to_ne_bytes());
        self.news.notify(usize::MAX);
    }

    /// A thread's own place to sleep until something arrives.
    pub(crate) fn doorbell(&self) -> io::Result<Doorbell<'_>> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        // Exclusive: one event wakes one thread, and not all of the pool.
        let flags = epoll::EventFlags::IN | epoll::EventFlags::EXCLUSIVE;
        epoll::add(&epoll, self.events.fd(), epoll::EventData::new_u64(0), flags)?;
        epoll::add(&epoll, &self.kicks, epoll::EventData::new_u64(KICK), flags)?;
        Ok(Doorbell { inbox: self, epoll })
    }
}

thread_local! {
    static NOTES: Cell<bool> = const { Cell::new(false) };
}

const KICK: u64 = 1;

/// Where a server's thread sleeps.
pub(crate) struct Doorbell<'i> {
    inbox: &'i Inbox,
    epoll: OwnedFd,
}

impl Doorbell<'_> {
    /// Sleeps until something has arrived, or it was kicked, or for `most`.
    pub(crate) fn wait(&self, most: Duration) -> io::Result<()> {
        let mut room = [epoll::Event {
            flags: epoll::EventFlags::empty(),
            data: epoll::EventData::new_u64(0),
        }; 2];
        let most =
            Timespec { tv_sec: most.as_secs() as i64, tv_nsec: i64::from(most.subsec_nanos()) };
        match epoll::wait(&self.epoll, &mut room[..], Some(&most)) {
            Ok(found) => {
                if room[..found].iter().any(|event| event.data.u64() == KICK) {
                    // One kick is one thread's.
                    let _ = rustix::io::read(&self.inbox.kicks, &mut [0; 8]);
                }
                Ok(())
            }
            Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbox").field("regions", &self.regions().len()).finish_non_exhaustive()
    }
}
