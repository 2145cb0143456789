//! A pool of threads that serves faults.

use crate::fault::{Claimed, Fetch, Unprotect, Wants};
use crate::inbox::{Arrived, Inbox};
use crate::layer::Kind;
use crate::trace;
use std::collections::HashMap;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{
    AtomicBool, AtomicU64, AtomicUsize,
    Ordering::{Relaxed, SeqCst},
};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Where bytes come from. Closures are stores.
pub trait Store: Send + Sync {
    /// Reads the page of `fetch` into `into`, which has the page's length.
    ///
    /// # Errors
    ///
    /// Whatever goes wrong. The faulter is told and faults again, a few times; then the page is
    /// given up as lost ([`Settings::attempts`]).
    fn read(&self, fetch: &Fetch, into: &mut [u8]) -> io::Result<()>;
}

impl<F: Fn(&Fetch, &mut [u8]) -> io::Result<()> + Send + Sync> Store for F {
    fn read(&self, fetch: &Fetch, into: &mut [u8]) -> io::Result<()> {
        self(fetch, into)
    }
}

type OnWrite = dyn Fn(&Unprotect) -> io::Result<()> + Send + Sync;

/// How a server goes about it.
#[derive(Clone)]
#[must_use]
pub struct Settings {
    threads: usize,
    attempts: u32,
    on_write: Option<Arc<OnWrite>>,
}

impl Settings {
    /// So many threads; 8 attempts for each page.
    pub fn threads(threads: usize) -> Self {
        Self { threads: threads.max(1), attempts: 8, on_write: None }
    }

    /// How many times in a row fetching a page may fail before its contents are given up as lost.
    /// Between two attempts the thread rests, for 1 ms and then twice as long each time.
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts.max(1);
        self
    }

    /// Called before a writer of a [protected](crate::Region::clean) page goes on, while the page
    /// is owned: to note it as dirty, or to save it first. An error keeps the writer waiting, and
    /// it is tried again.
    pub fn on_write(
        mut self,
        call: impl Fn(&Unprotect) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        self.on_write = Some(Arc::new(call));
        self
    }

    /// Deals with a fault, up to the point where bytes are needed.
    pub(crate) fn deal(&self, arrived: &Arrived, tally: &Tally) -> Option<Fetch> {
        tally.faults.fetch_add(1, Relaxed);
        let Arrived { region, page, .. } = arrived;
        if arrived.kind == Kind::Protected {
            match region.write_fault(*page) {
                Claimed::Owner(write) => {
                    let noted = self.on_write.as_ref().map_or(Ok(()), |call| call(&write));
                    if let Err(error) = noted.and_then(|()| write.allow()) {
                        tally.failed(*page, &error);
                        // Its faulter has been told, and comes again.
                        thread::sleep(Duration::from_millis(1));
                    }
                }
                _ => _ = tally.duplicates.fetch_add(1, Relaxed),
            }
            return None;
        }
        match region.fault(*page) {
            Claimed::Owner(mut fetch) => {
                let done = match arrived.kind {
                    Kind::Minor => fetch.resume(),
                    _ => Ok(false),
                };
                let done = match (done, fetch.wants()) {
                    (Ok(false), Wants::Bytes) => return Some(fetch),
                    (Ok(false), Wants::Zeroes) => fetch.zero().map(drop),
                    (done, _) => done.map(drop),
                };
                if let Err(error) = done {
                    tally.failed(*page, &error);
                }
            }
            Claimed::InFlight => {
                let generation = region.header(*page).map_or(0, |header| header.generation());
                region.seats.waits(*page, generation, arrived.thread);
                tally.duplicates.fetch_add(1, Relaxed);
            }
            Claimed::Present => _ = tally.late.fetch_add(1, Relaxed),
            Claimed::Poisoned | Claimed::Gone => {}
        }
        None
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("threads", &self.threads)
            .field("attempts", &self.attempts)
            .finish_non_exhaustive()
    }
}

/// What a server has done so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Served {
    /// Faults that arrived.
    pub faults: u64,
    /// Pages that were fetched from the store.
    pub fetched: u64,
    /// Faults on a page that was being fetched already: nothing was to be done.
    pub duplicates: u64,
    /// Faults on a page that had come meanwhile.
    pub late: u64,
    /// Fetches that came to nothing: an error, or a panic of the store.
    pub failed: u64,
    /// Pages given up as lost.
    pub lost: u64,
}

#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) faults: AtomicU64,
    pub(crate) fetched: AtomicU64,
    pub(crate) duplicates: AtomicU64,
    late: AtomicU64,
    failed: AtomicU64,
    lost: AtomicU64,
    /// The last failure, in words.
    last: Mutex<Option<String>>,
}

impl Tally {
    fn failed(&self, page: usize, why: &dyn fmt::Display) {
        self.failed.fetch_add(1, Relaxed);
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(format!("page {page}: {why}"));
        trace::aborted(page, why);
    }

    pub(crate) fn served(&self) -> Served {
        let get = |count: &AtomicU64| count.load(Relaxed);
        Served {
            faults: get(&self.faults),
            fetched: get(&self.fetched),
            duplicates: get(&self.duplicates),
            late: get(&self.late),
            failed: get(&self.failed),
            lost: get(&self.lost),
        }
    }
}

/// A pool of threads that takes faults from an inbox and has their pages fetched.
///
/// No thread sleeps for a page that another one fetches. A store that fails or panics costs an
/// attempt, and neither a thread nor a faulter. Dropping the server stops it.
#[must_use = "the server stops when this is dropped"]
pub struct Server {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<io::Result<()>>>,
}

struct Shared {
    inbox: Arc<Inbox>,
    store: Box<dyn Store>,
    settings: Settings,
    tally: Tally,
    stop: AtomicBool,
    /// Failures in a row, by region and page. Few or none.
    failures: Mutex<HashMap<Key, u32>>,
    /// How many pages are in there.
    failing: AtomicUsize,
}

impl Server {
    /// Starts `threads` threads.
    ///
    /// # Errors
    ///
    /// If the system has no thread or descriptor left.
    pub fn start(
        inbox: &Arc<Inbox>,
        threads: usize,
        store: impl Store + 'static,
    ) -> io::Result<Self> {
        Self::with(inbox, Settings::threads(threads), store)
    }

    /// Starts as `settings` say.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub fn with(
        inbox: &Arc<Inbox>,
        settings: Settings,
        store: impl Store + 'static,
    ) -> io::Result<Self> {
        let threads = settings.threads;
        let shared = Arc::new(Shared {
            inbox: Arc::clone(inbox),
            store: Box::new(store),
            settings,
            tally: Tally::default(),
            stop: AtomicBool::new(false),
            failures: Mutex::default(),
            failing: AtomicUsize::new(0),
        });
        // Dropped on an error below: those that run are stopped.
        let mut server = Self { shared, threads: Vec::with_capacity(threads) };
        for number in 0..threads {
            let shared = Arc::clone(&server.shared);
            let thread = thread::Builder::new()
                .name(format!("fault-{number}"))
                .spawn(move || shared.serve())?;
            server.threads.push(thread);
        }
        Ok(server)
    }

    /// What it has done so far.
    #[must_use]
    pub fn served(&self) -> Served {
        self.shared.tally.served()
    }

    /// What the last fetch failed with that failed, and of which page.
    #[must_use]
    pub fn last_failure(&self) -> Option<String> {
        self.shared.tally.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Stops: each thread finishes the fetch that it is at, and ends. Faults that arrive from now
    /// on wait for the next server of the inbox.
    ///
    /// # Errors
    ///
    /// The first error that a thread ended with: the inbox could not be read.
    pub fn stop(mut self) -> io::Result<Served> {
        self.end().map(|()| self.served())
    }

    fn end(&mut self) -> io::Result<()> {
        self.shared.stop.store(true, SeqCst);
        let mut ended = Ok(());
        for thread in self.threads.drain(..) {
            // One for each, and again if another server of the inbox has taken it.
            while !thread.is_finished() {
                self.shared.inbox.kick(1);
                thread::sleep(Duration::from_micros(200));
            }
            ended = ended.and(
                thread
                    .join()
                    .unwrap_or_else(|_| Err(io::Error::other("a server's thread panicked"))),
            );
        }
        ended
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("threads", &self.threads.len())
            .field("served", &self.served())
            .finish_non_exhaustive()
    }
}

impl Shared {
    fn serve(&self) -> io::Result<()> {
        let doorbell = self.inbox.doorbell()?;
        let mut buffer = Vec::new();
        while !self.stop.load(SeqCst) {
            match self.inbox.next()? {
                Some(arrived) => self.deal(&arrived, &mut buffer),
                None => doorbell.wait(Duration::from_secs(1))?,
            }
        }
        Ok(())
    }

    fn deal(&self, arrived: &Arrived, buffer: &mut Vec<u8>) {
        // A panic of what is called on a write: the guard has told already.
        let dealt = catch_unwind(AssertUnwindSafe(|| {
            if let Some(fetch) = self.settings.deal(arrived, &self.tally) {
                self.fetch(fetch, buffer);
            }
        }));
        if dealt.is_err() {
            self.tally.failed(arrived.page, &"what is called on a write panicked");
        }
    }

    fn fetch(&self, fetch: Fetch, buffer: &mut Vec<u8>) {
        buffer.resize(fetch.region().page_size(), 0);
        let page = fetch.page();
        let key = key(fetch.region().host_range().start, page);
        let failures = self.failures_of(key);
        if failures >= self.settings.attempts {
            self.forget(key);
            self.tally.lost.fetch_add(1, Relaxed);
            return fetch.poison();
        }
        if failures > 0 {
            // The page stays owned meanwhile, so nobody tries faster.
            fetch.note(format!("attempt {}", failures + 1));
            thread::sleep(Duration::from_millis(1 << (failures - 1).min(9)));
        }
        let read = catch_unwind(AssertUnwindSafe(|| self.store.read(&fetch, buffer)));
        let done = match read.unwrap_or_else(|_| Err(io::Error::other("the store panicked"))) {
            Ok(()) => fetch.fill(buffer).map(drop).map_err(io::Error::from),
            Err(error) => {
                // Before the page is free: the next attempt is to know of this one.
                self.count_failure(key);
                drop(fetch);
                return self.tally.failed(page, &error);
            }
        };
        match done {
            Ok(()) => {
                self.tally.fetched.fetch_add(1, Relaxed);
                if failures > 0 {
                    self.forget(key);
                }
            }
            Err(error) => {
                // The store has the page, and there was no room for it: that is no reason to give
                // it up. Its faulter has been told, and comes again.
                self.tally.failed(page, &error);
                thread::sleep(Duration::from_millis(10));
            }
        }
    }

    fn failures_of(&self, key: Key) -> u32 {
        // Relaxed: a count that another thread is about to raise is that thread's attempt.
        if self.failing.load(Relaxed) == 0 {
            0
        } else {
            self.lock_failures().get(&key).copied().unwrap_or(0)
        }
    }

    fn count_failure(&self, key: Key) {
        let mut failures = self.lock_failures();
        *failures.entry(key).or_insert(0) += 1;
        self.failing.store(failures.len(), Relaxed);
    }

    fn forget(&self, key: Key) {
        let mut failures = self.lock_failures();
        failures.remove(&key);
        self.failing.store(failures.len(), Relaxed);
    }

    fn lock_failures(&self) -> MutexGuard<'_, HashMap<Key, u32>> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A region, by its first address, and a page of it.
type Key = (usize, usize);

fn key(start: usize, page: usize) -> Key {
    (start, page)
}
