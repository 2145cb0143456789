//! The events that are compared: many sleep until one says that it is over.
//!
//! Every sleeper holds a page-table lock (a mutex) when it finds that it has to wait, and lets go
//! of it as it goes to sleep.

use super::Padded;
use super::locks::{Lock, RawFutex};
use super::table::Role;
use core::sync::atomic::{
    AtomicU32,
    Ordering::{Acquire, Relaxed, Release},
};
use pagelock::{Futex, OsFutex, PageGuard, PageLock};
use std::sync::{Arc, Condvar, Mutex};

/// What an event of this name is to the comparison.
pub fn role(name: &str) -> Role {
    match name {
        "pagelock" | COLLIDING => Role::Ours,
        RawWakeAll::NAME => Role::Bound,
        DISTINCT => Role::Beside,
        _ => Role::Peer,
    }
}

/// Pages that share one slot of the event table, which is as bad as it gets.
pub const COLLIDING: &str = "pagelock, one slot";
/// Pages that share slots only where the table has fewer than there are pages.
pub const DISTINCT: &str = "pagelock, own slots";

pub trait Event: Send + Sync + 'static {
    const NAME: &'static str;
    fn new() -> Self;
    /// From now on there is something to wait for.
    fn begin(&self);
    /// Sleeps until the end, and says how often it slept. `ready` is to be called with the
    /// page-table lock held.
    fn wait(&self, ready: &dyn Fn()) -> u32;
    /// The end: wakes all.
    fn end(&self);
}

/// An event whose beginning and end are those of a hold that others queue for.
pub trait Queue: Event {
    /// Takes the hold when it can be had, and gives it up.
    fn pass_through(&self);
}

/// An event that has no hold of its own: for the wait alone, with somebody's lock beside it for
/// those who queue.
pub struct Beside<E, H> {
    event: E,
    hold: Padded<H>,
}

/// A lock whose release may be on another thread than its acquisition, and that no guard is kept
/// for.
pub trait Hold: Send + Sync + 'static {
    fn new() -> Self;
    fn lock(&self);
    /// The caller has it.
    fn unlock(&self);
}

impl Hold for RawFutex {
    fn new() -> Self {
        Lock::new()
    }

    fn lock(&self) {
        Self::lock(self);
    }

    fn unlock(&self) {
        Self::unlock(self);
    }
}

/// What is inside `parking_lot::Mutex`.
impl Hold for parking_lot::RawMutex {
    fn new() -> Self {
        parking_lot::lock_api::RawMutex::INIT
    }

    fn lock(&self) {
        parking_lot::lock_api::RawMutex::lock(self);
    }

    fn unlock(&self) {
        // SAFETY: the caller has it.
        unsafe { parking_lot::lock_api::RawMutex::unlock(self) };
    }
}

/// The queued form of an event: its name, which says whose lock is beside it.
pub trait WithLock<H>: Event {
    const QUEUED: &'static str;
}

impl<E: WithLock<H>, H: Hold> Event for Beside<E, H> {
    const NAME: &'static str = E::QUEUED;

    fn new() -> Self {
        Self { event: E::new(), hold: Padded(H::new()) }
    }

    fn begin(&self) {
        self.hold.0.lock();
        self.event.begin();
    }

    fn wait(&self, ready: &dyn Fn()) -> u32 {
        self.event.wait(ready)
    }

    fn end(&self) {
        // The event first, which suits the sleepers: whoever has the hold next could begin the
        // event again. A page's release ends both at once, and wakes a locker first.
        self.event.end();
        self.hold.0.unlock();
    }
}

impl<E: WithLock<H>, H: Hold> Queue for Beside<E, H> {
    /// As a page's locker does: there is nobody to tell if nobody has waited since, so the event is
    /// not begun.
    fn pass_through(&self) {
        self.hold.0.lock();
        self.hold.0.unlock();
    }
}

/// `parking_lot_core::park` for those who wait, parking_lot's mutex for those who queue.
pub type ParkedQueue = Beside<Parked, parking_lot::RawMutex>;

impl WithLock<parking_lot::RawMutex> for Parked {
    const QUEUED: &'static str = "parking_lot_core-park + parking_lot's mutex";
}

/// event-listener for those who wait; for those who queue a lock by the algorithm of std's, which
/// it is most often found beside.
pub type ListenerQueue = Beside<EventListener, RawFutex>;

impl WithLock<RawFutex> for EventListener {
    const QUEUED: &'static str = "event-listener + three-state futex mutex";
}

/// This crate: the wait for the release of a page.
pub struct Page {
    page: Header,
    ptl: Padded<Mutex<()>>,
}

enum Header {
    Own(Padded<PageLock>),
    /// One of many, chosen by its address.
    Of(Arc<Vec<PageLock>>, usize),
}

impl Page {
    fn page(&self) -> &PageLock {
        match &self.page {
            Header::Own(page) => &page.0,
            Header::Of(pages, index) => &pages[*index],
        }
    }

    /// `n` pages: all of one slot of the event table, or spread over the slots as evenly as can be.
    pub fn many(n: usize, colliding: bool) -> Vec<Arc<Self>> {
        let slots = OsFutex.events();
        let pool: Arc<Vec<PageLock>> =
            Arc::new((0..4 * n.max(16) * slots).map(|_| PageLock::new()).collect());
        let slot = |index: usize| OsFutex.event_index(core::ptr::from_ref(&pool[index]).addr());
        let mut taken = vec![0; slots];
        let most = n.div_ceil(slots);
        let mut chosen = Vec::new();
        for index in 0..pool.len() {
            let wanted = if colliding { slot(index) == slot(0) } else { taken[slot(index)] < most };
            if wanted && chosen.len() < n {
                taken[slot(index)] += 1;
                chosen.push(Arc::new(Self {
                    page: Header::Of(pool.clone(), index),
                    ptl: Padded::default(),
                }));
            }
        }
        assert_eq!(chosen.len(), n, "the pool is large enough for what the hash gives");
        chosen
    }
}

impl Event for Page {
    const NAME: &'static str = "pagelock";

    fn new() -> Self {
        Self { page: Header::Own(Padded(PageLock::new())), ptl: Padded::default() }
    }

    fn begin(&self) {
        self.page().lock().into_raw();
    }

    fn wait(&self, ready: &dyn Fn()) -> u32 {
        let mut ptl = self.ptl.0.lock().unwrap();
        ready();
        let mut slept = 0;
        // Another page's release may end a wait; a faulter would look at its page table, this looks
        // at the page.
        while self.page().is_locked() {
            let _ = self.page().wait_unlocked(ptl);
            slept += 1;
            ptl = match self.page().is_locked() {
                true => self.ptl.0.lock().unwrap(),
                false => return slept,
            };
        }
        slept
    }

    fn end(&self) {
        // SAFETY: `begin` locked the page and gave up the guard; this is the one release of that
        // hold.
        unsafe { PageGuard::from_raw(self.page()) }.unlock();
    }
}

/// A page with lockers in its queue: those who wait for its release are not to see whether somebody
/// has it again.
pub struct QueuedPage {
    page: Padded<PageLock>,
    ptl: Padded<Mutex<()>>,
}

impl Event for QueuedPage {
    const NAME: &'static str = "pagelock";

    fn new() -> Self {
        Self { page: Padded(PageLock::new()), ptl: Padded::default() }
    }

    fn begin(&self) {
        self.page.0.lock().into_raw();
    }

    fn wait(&self, ready: &dyn Fn()) -> u32 {
        let ptl = self.ptl.0.lock().unwrap();
        ready();
        let _ = self.page.0.wait_unlocked(ptl);
        1
    }

    fn end(&self) {
        // SAFETY: `begin` locked the page and gave up the guard; this is the one release of that
        // hold.
        unsafe { PageGuard::from_raw(&self.page.0) }.unlock();
    }
}

impl Queue for QueuedPage {
    fn pass_through(&self) {
        drop(self.page.0.lock());
    }
}

/// The bound: all sleep on one futex word, and one system call wakes them.
pub struct RawWakeAll {
    word: Padded<AtomicU32>,
    ptl: Padded<Mutex<()>>,
}

impl Event for RawWakeAll {
    const NAME: &'static str = "raw-futex";

    fn new() -> Self {
        Self { word: Padded::default(), ptl: Padded::default() }
    }

    fn begin(&self) {
        self.word.0.store(1, Relaxed);
    }

    fn wait(&self, ready: &dyn Fn()) -> u32 {
        let ptl = self.ptl.0.lock().unwrap();
        ready();
        drop(ptl);
        let mut slept = 0;
        while self.word.0.load(Acquire) == 1 {
            atomic_wait::wait(&self.word.0, 1);
            slept += 1;
        }
        slept
    }

    fn end(&self) {
        self.word.0.store(0, Release);
        atomic_wait::wake_all(&self.word.0);
    }
}

/// The bound with a queue: as above, and the hold's own word wakes one.
pub type RawQueue = Beside<RawWakeAll, RawFutex>;

impl WithLock<RawFutex> for RawWakeAll {
    const QUEUED: &'static str = Self::NAME;
}

/// What a condition variable guards: whether somebody has the hold, and how many there were.
#[derive(Default)]
struct Held {
    on: bool,
    ends: u64,
}

pub struct StdCondvar {
    held: Padded<Mutex<Held>>,
    condvar: Padded<Condvar>,
}

impl Event for StdCondvar {
    const NAME: &'static str = "std-condvar";

    fn new() -> Self {
        Self { held: Padded::default(), condvar: Padded::default() }
    }

    fn begin(&self) {
        let held = self.held.0.lock().unwrap();
        self.condvar.0.wait_while(held, |held| held.on).unwrap().on = true;
    }

    fn wait(&self, ready: &dyn Fn()) -> u32 {
        let mut held = self.held.0.lock().unwrap();
        ready();
        let (mut slept, ends) = (0, held.ends);
        while held.on && held.ends == ends {
            held = self.condvar.0.wait(held).unwrap();
            slept += 1;
        }
        slept
    }

    fn end(&self) {
        let mut held = self.held.0.lock().unwrap();
        held.on = false;
        held.ends += 1;
        drop(held);
        self.condvar.0.notify_all();
    }
}

impl Queue for StdCondvar {
    fn pass_through(&self) {
        self.begin();
        self.end();
    }
}

pub struct ParkingLotCondvar {
    held: Padded<parking_lot::Mutex<Held>>,
    condvar: Padded<parking_lot::Condvar>,
}

impl Event for ParkingLotCondvar {
    const NAME: &'static str = "parking_lot-condvar";

    fn new() -> Self {
        Self { held: Padded::default(), condvar: Padded::default() }
    }

    fn begin(&self) {
        let mut held = self.held.0.lock();
        self.condvar.0.wait_while(&mut held, |held| held.on);
        held.on = true;
    }

    fn wait(&self, ready: &dyn Fn()) -> u32 {
        let mut held = self.held.0.lock();
        ready();
        let (mut slept, ends) = (0, held.ends);
        while held.on && held.ends == ends {
            self.condvar.0.wait(&mut held);
            slept += 1;
        }
        slept
    }

    fn end(&self) {
        let mut held = self.held.0.lock();
        held.on = false;
        held.ends += 1;
        drop(held);
        self.condvar.0.notify_all();
    }
}

impl Queue for ParkingLotCondvar {
    fn pass_through(&self) {
        self.begin();
        self.end();
    }
}

/// `parking_lot_core`: a global table of queues by address; the page-table lock is let go of in
/// `before_sleep`. The one peer that releases a caller's guard and sleeps, as this crate does.
pub struct Parked {
    on: Padded<AtomicU32>,
    ptl: Padded<parking_lot::Mutex<()>>,
}

impl Parked {
    fn key(&self) -> usize {
        core::ptr::from_ref(&self.on.0).addr()
    }
}

impl Event for Parked {
    const NAME: &'static str = "parking_lot_core-park";

    fn new() -> Self {
        Self { on: Padded::default(), ptl: Padded::default() }
    }

    fn begin(&self) {
        self.on.0.store(1, Relaxed);
    }

    fn wait(&self, ready: &dyn Fn()) -> u32 {
        use parking_lot_core::{DEFAULT_PARK_TOKEN, park};
        let mut slept = 0;
        loop {
            let mut ptl = Some(self.ptl.0.lock());
            ready();
            // SAFETY: the key is an address of our own, which nobody else parks on. The closures
            // neither panic nor park; dropping the guard may unpark, which `before_sleep` allows.
            unsafe {
                park(
                    self.key(),
                    || self.on.0.load(Acquire) == 1,
                    || drop(ptl.take()),
                    |_, _| {},
                    DEFAULT_PARK_TOKEN,
                    None,
                )
            };
            slept += 1;
            if self.on.0.load(Acquire) != 1 {
                return slept;
            }
        }
    }

    fn end(&self) {
        self.on.0.store(0, Release);
        // SAFETY: as for `park`.
        unsafe { parking_lot_core::unpark_all(self.key(), parking_lot_core::DEFAULT_UNPARK_TOKEN) };
    }
}

pub struct EventListener {
    on: Padded<AtomicU32>,
    event: Padded<event_listener::Event>,
    ptl: Padded<Mutex<()>>,
}

impl Event for EventListener {
    const NAME: &'static str = "event-listener";

    fn new() -> Self {
        Self { on: Padded::default(), event: Padded::default(), ptl: Padded::default() }
    }

    fn begin(&self) {
        self.on.0.store(1, Relaxed);
    }

    fn wait(&self, ready: &dyn Fn()) -> u32 {
        use event_listener::Listener;
        let mut slept = 0;
        while self.on.0.load(Acquire) == 1 {
            let ptl = self.ptl.0.lock().unwrap();
            ready();
            let listener = self.event.0.listen();
            drop(ptl);
            if self.on.0.load(Acquire) == 1 {
                listener.wait();
                slept += 1;
            }
        }
        slept
    }

    fn end(&self) {
        self.on.0.store(0, Release);
        self.event.0.notify(usize::MAX);
    }
}
