//! Guests, a device, an evictor and a balloon on one region, with every byte compared.
//!
//! Each page has one guest that writes it, and so knows what must be there: a pattern of the page
//! and of a version. Everybody else moves pages in and out, by the region's verbs only.

use super::{Over, watchdog};
use pagelock_vmm::{
    Evict, Fetch, Inbox, NotEvicted, PageState, Place, Region, Server, Settings, Unprotect,
};
use std::fmt;
use std::io;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// What happened.
#[derive(Debug, Default)]
pub struct Score {
    pub accesses: AtomicU64,
    pub evictions: AtomicU64,
    pub discards: AtomicU64,
    pub pins: AtomicU64,
    pub cleaned: AtomicU64,
    pub dirtied: AtomicU64,
    pub prefetched: AtomicU64,
    pub compared: AtomicU64,
    pub faults: AtomicU64,
    pub fetched: AtomicU64,
}

impl fmt::Display for Score {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let get = |count: &AtomicU64| count.load(Relaxed);
        write!(
            f,
            "{} accesses, {} faults, {} fetches, {} prefetched, {} evictions, {} discards, \
             {} pins, {} cleaned, {} write faults, {} bytes compared",
            get(&self.accesses),
            get(&self.faults),
            get(&self.fetched),
            get(&self.prefetched),
            get(&self.evictions),
            get(&self.discards),
            get(&self.pins),
            get(&self.cleaned),
            get(&self.dirtied),
            get(&self.compared)
        )
    }
}

/// A store in memory: a page is what was last saved, or the image: version 0 of its pattern.
pub struct Store {
    page_size: usize,
    salt: u64,
    saved: Vec<Mutex<Option<Box<[u8]>>>>,
}

impl Store {
    pub fn new(region: &Region, salt: u64) -> Arc<Self> {
        let saved = (0..region.pages()).map(|_| Mutex::new(None)).collect();
        Arc::new(Self { page_size: region.page_size(), salt, saved })
    }

    pub fn load(&self, page: usize, into: &mut [u8]) {
        match &*self.saved[page].lock().unwrap() {
            Some(bytes) => into.copy_from_slice(bytes),
            None => write_pattern(into, self.salt, page, 0),
        }
    }

    pub fn save(&self, page: usize, bytes: &[u8]) {
        assert_eq!(bytes.len(), self.page_size);
        *self.saved[page].lock().unwrap() = Some(bytes.into());
    }
}

/// Word `i` of version `version` of `page`.
fn word(salt: u64, page: usize, version: u64, i: usize) -> u64 {
    let seed = salt ^ (page as u64) << 40 ^ version << 16 ^ i as u64;
    seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29) | 1
}

pub fn write_pattern(into: &mut [u8], salt: u64, page: usize, version: u64) {
    for (i, bytes) in into.chunks_exact_mut(8).enumerate() {
        bytes.copy_from_slice(&word(salt, page, version, i).to_le_bytes());
    }
}

/// What a guest knows of a page of its own.
#[derive(Clone, Copy)]
enum Known {
    Version(u64),
    Zeroes,
}

struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % n
    }
}

/// How large a storm is.
#[derive(Clone, Copy)]
pub struct Plan {
    pub guests: usize,
    pub handlers: usize,
    pub accesses: usize,
    /// The device has so many of the last pages for itself.
    pub device_pages: usize,
    /// Whether pages are also cleaned.
    pub cleans: bool,
    /// The control: now and then an eviction is not saved.
    pub forgets: bool,
    pub salt: u64,
}

pub const PLAN: Plan = Plan {
    guests: 3,
    handlers: 3,
    accesses: 20_000,
    device_pages: 8,
    cleans: true,
    forgets: false,
    salt: 1,
};

/// Runs a storm over `region`, whose faults arrive at `inbox`.
pub fn run(inbox: &Arc<Inbox>, region: &Arc<Region>, plan: Plan) -> Score {
    watchdog();
    let score = Arc::new(Score::default());
    let store = Store::new(region, plan.salt);
    let settings = Settings::threads(plan.handlers).on_write({
        let score = Arc::clone(&score);
        move |_: &Unprotect| {
            score.dirtied.fetch_add(1, Relaxed);
            Ok(())
        }
    });
    let loads = Arc::clone(&store);
    let server = Server::with(inbox, settings, move |fetch: &Fetch, into: &mut [u8]| {
        loads.load(fetch.page(), into);
        Ok(())
    })
    .unwrap();
    let done = AtomicBool::new(false);
    let dma: Vec<AtomicU64> = (0..plan.device_pages).map(|_| AtomicU64::new(0)).collect();
    let own = region.pages() - plan.device_pages;
    thread::scope(|s| {
        // Also if a guest panics: the others end, and the panic is seen.
        let _over = Over(&done);
        let guests: Vec<_> = (0..plan.guests)
            .map(|guest| {
                s.spawn({
                    let score = &score;
                    move || be_guest(region, guest, own, plan, score)
                })
            })
            .collect();
        let (score, store, done, dma, server) = (&score, &store, &done, &dma, &server);
        s.spawn(move || say_what_is_stuck(region, server, done));
        s.spawn(move || evict_at_random(region, store, plan, score, done));
        s.spawn(move || prefetch_at_random(region, store, score, done));
        s.spawn(move || be_device(region, store, own, score, done, dma));
        for guest in guests {
            guest.join().unwrap();
        }
    });
    // The device's words, wherever their pages are by now.
    for (i, dma) in dma.iter().enumerate() {
        let at = region.host_address(own + i).unwrap() as *const u64;
        // SAFETY: in the region, whose faults the server serves.
        let seen = unsafe { ptr::read_volatile(at) };
        assert_eq!(
            seen,
            word(plan.salt, own + i, 0, 0).wrapping_add(dma.load(SeqCst)),
            "page {}: a device's write is lost",
            own + i
        );
    }
    let failure = server.last_failure();
    let served = server.stop().unwrap();
    score.faults.store(served.faults, Relaxed);
    score.fetched.store(served.fetched, Relaxed);
    assert_eq!((failure, served.lost), (None, 0));
    assert!(region.states(0..region.pages()).all(|(_, state)| !state.owned && state.pins == 0));
    let is_in = |state: &PageState| state.place == Place::In;
    let counted = region.states(0..region.pages()).filter(|(_, state)| is_in(state)).count();
    assert_eq!(region.resident(), counted, "the count of pages that are in");
    Arc::into_inner(score).unwrap_or_default()
}

/// Before the watchdog ends it all: owners and waiters.
fn say_what_is_stuck(region: &Arc<Region>, server: &Server, done: &AtomicBool) {
    let until = Instant::now() + Duration::from_secs(120);
    while Instant::now() < until {
        if done.load(SeqCst) {
            return;
        }
        thread::sleep(Duration::from_millis(20));
    }
    let report = region.report(Duration::from_secs(1));
    let words = format!("stuck: {report}\n{:?}\n{:?}\n", server.served(), server.last_failure());
    let _ = io::Write::write_all(&mut io::stderr(), words.as_bytes());
}

fn be_guest(region: &Arc<Region>, guest: usize, own: usize, plan: Plan, score: &Score) {
    let mut random = Random(plan.salt.wrapping_mul(977) + guest as u64 + 1);
    let pages: Vec<usize> = (guest..own).step_by(plan.guests).collect();
    let mut known = vec![Known::Version(0); pages.len()];
    let words = region.page_size() / 8;
    for n in 0..plan.accesses {
        let i = random.below(pages.len());
        let page = pages[i];
        let at = region.host_address(page).unwrap() as *mut u64;
        score.accesses.fetch_add(1, Relaxed);
        match random.below(16) {
            0..4 => {
                let version = n as u64 + 1;
                for w in 0..words {
                    // SAFETY: a page of the region that only this thread writes.
                    unsafe { ptr::write_volatile(at.add(w), word(plan.salt, page, version, w)) };
                }
                known[i] = Known::Version(version);
            }
            4 => {
                let gone = region.discard_blocking(page..page + 1);
                assert_eq!(gone.done, 1, "{gone:?}, {:?}", region.state(page));
                score.discards.fetch_add(1, Relaxed);
                known[i] = Known::Zeroes;
            }
            _ => {
                for w in 0..words {
                    // SAFETY: as above.
                    let seen = unsafe { ptr::read_volatile(at.add(w)) };
                    let right = match known[i] {
                        Known::Version(version) => word(plan.salt, page, version, w),
                        Known::Zeroes => 0,
                    };
                    assert_eq!(
                        seen,
                        right,
                        "page {page}, word {w}, access {n}: {:?}",
                        region.state(page)
                    );
                }
                score.compared.fetch_add(words as u64 * 8, Relaxed);
            }
        }
    }
}

fn evict_at_random(
    region: &Arc<Region>,
    store: &Store,
    plan: Plan,
    score: &Score,
    done: &AtomicBool,
) {
    let mut random = Random(plan.salt + 4242);
    let mut buffer = vec![0; region.page_size()];
    while !done.load(SeqCst) {
        let page = random.below(region.pages());
        if plan.cleans && random.below(8) == 0 {
            if let Ok(clean) = region.clean(page) {
                clean.read(&mut buffer).unwrap();
                if random.below(2) == 0 {
                    clean.done();
                }
                score.cleaned.fetch_add(1, Relaxed);
            }
            continue;
        }
        match region.evict(page) {
            Ok(evicted) => {
                if random.below(16) == 0 {
                    continue; // the store is full: it is put back
                }
                if !(plan.forgets && random.below(4) == 0) {
                    store.save(page, evicted.bytes());
                }
                Evict::done(evicted);
                score.evictions.fetch_add(1, Relaxed);
            }
            Err(NotEvicted::Io(error)) => panic!("page {page}: {error}"),
            Err(_) => thread::yield_now(),
        }
    }
}

fn prefetch_at_random(region: &Arc<Region>, store: &Store, score: &Score, done: &AtomicBool) {
    let mut random = Random(99);
    let mut buffer = vec![0; region.page_size()];
    while !done.load(SeqCst) {
        let first = random.below(region.pages());
        for fetch in region.prefetch(first..first + 4) {
            store.load(fetch.page(), &mut buffer);
            fetch.fill(&buffer).unwrap();
            score.prefetched.fetch_add(1, Relaxed);
        }
        thread::yield_now();
    }
}

/// A device that adds to the first word of its pages, without faults: under a pin.
fn be_device(
    region: &Arc<Region>,
    store: &Store,
    own: usize,
    score: &Score,
    done: &AtomicBool,
    dma: &[AtomicU64],
) {
    let mut random = Random(7);
    while !done.load(SeqCst) && !dma.is_empty() {
        let i = random.below(dma.len());
        let fetch = |fetch: Fetch| -> io::Result<()> {
            let mut buffer = vec![0; region.page_size()];
            store.load(fetch.page(), &mut buffer);
            Ok(fetch.fill(&buffer).map(drop)?)
        };
        let pin = region.pin_or_fetch(own + i, fetch).unwrap();
        // SAFETY: a pinned page of the region, whose words only this thread uses.
        unsafe {
            let at = pin.host_address() as *mut u64;
            ptr::write_volatile(at, ptr::read_volatile(at).wrapping_add(1));
        }
        drop(pin);
        dma[i].fetch_add(1, SeqCst);
        score.pins.fetch_add(1, Relaxed);
        thread::yield_now();
    }
}
