//! A pool of threads that serves faults.

mod served;
mod settings;

pub use served::Served;
pub(crate) use served::Tally;
pub use settings::Settings;

use crate::fetch::Fetch;
use crate::inbox::Inbox;
use std::collections::HashMap;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{
    AtomicBool, AtomicUsize,
    Ordering::{Relaxed, SeqCst},
};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Where bytes come from. Closures are stores.
///
/// ```
/// use pagelock_vmm::{Fetch, Store};
/// use std::{fs::File, io, os::unix::fs::FileExt};
///
/// struct Image(File);
///
/// impl Store for Image {
///     fn read(&self, fetch: &Fetch, into: &mut [u8]) -> io::Result<()> {
///         fetch.note("reading the image"); // for the report
///         self.0.read_exact_at(into, fetch.offset())
///     }
/// }
/// ```
pub trait Store: Send + Sync {
    /// Reads the page of `fetch` into `into`, which has the page's length.
    ///
    /// # Errors
    ///
    /// Whatever goes wrong. The faulter is told and faults again, a few times; then the page is
    /// given up as lost ([`Settings::attempts`]).
    ///
    /// # Example
    ///
    /// ```
    /// # use pagelock_vmm::{Fault, Fetch, Store, soft::SoftRam};
    /// let store = |fetch: &Fetch, into: &mut [u8]| Ok(into.fill(fetch.page() as u8));
    /// let (_, region) = SoftRam::region(8)?;
    /// let Fault::Owner(fetch) = region.fault(5) else { unreachable!("it is out") };
    /// let mut bytes = [0; 4096];
    /// Store::read(&store, &fetch, &mut bytes)?;
    /// assert_eq!(bytes[0], 5);
    /// # Ok::<_, std::io::Error>(())
    /// ```
    fn read(&self, fetch: &Fetch, into: &mut [u8]) -> io::Result<()>;
}

impl<F: Fn(&Fetch, &mut [u8]) -> io::Result<()> + Send + Sync> Store for F {
    fn read(&self, fetch: &Fetch, into: &mut [u8]) -> io::Result<()> {
        self(fetch, into)
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
    ///
    /// # Example
    ///
    /// ```
    /// # use pagelock_vmm::{Fetch, Server};
    /// # use pagelock_vmm::soft::SoftRam;
    /// # use std::time::Duration;
    /// let (ram, region) = SoftRam::region(8)?;
    /// let store = |fetch: &Fetch, into: &mut [u8]| Ok(into.fill(fetch.page() as u8));
    /// let server = Server::start(region.inbox(), 2, store)?;
    /// assert_eq!(ram.with(5, false, Duration::from_secs(10), |bytes| bytes[0]), Ok(5));
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
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
    ///
    /// # Example
    ///
    /// ```
    /// # use pagelock_vmm::{Fetch, Server, Settings};
    /// # use pagelock_vmm::soft::SoftRam;
    /// # use std::time::Duration;
    /// let (ram, region) = SoftRam::region(8)?;
    /// let store = |_: &Fetch, _: &mut [u8]| Err(std::io::ErrorKind::NotFound.into());
    /// let server = Server::with(region.inbox(), Settings::threads(1).attempts(2), store)?;
    /// // A page that cannot be fetched is given up.
    /// assert!(ram.with(5, false, Duration::from_secs(10), |bytes| bytes[0]).is_err());
    /// assert_eq!(server.stop()?.lost, 1);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
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
    ///
    /// # Example
    ///
    /// ```
    /// # use pagelock_vmm::{Fetch, Server};
    /// # use pagelock_vmm::soft::SoftRam;
    /// # let (_, region) = SoftRam::region(8)?;
    /// let server = Server::start(region.inbox(), 1, |_: &Fetch, _: &mut [u8]| Ok(()))?;
    /// assert_eq!(server.served().faults, 0);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn served(&self) -> Served {
        self.shared.tally.served()
    }

    /// What the last fetch failed with that failed, and of which page.
    ///
    /// # Example
    ///
    /// ```
    /// # use pagelock_vmm::{Fetch, Server};
    /// # use pagelock_vmm::soft::SoftRam;
    /// # let (_, region) = SoftRam::region(8)?;
    /// let server = Server::start(region.inbox(), 1, |_: &Fetch, _: &mut [u8]| Ok(()))?;
    /// assert_eq!(server.last_failure(), None);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
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
    ///
    /// # Example
    ///
    /// ```
    /// # use pagelock_vmm::{Fetch, Server};
    /// # use pagelock_vmm::soft::SoftRam;
    /// # let (_, region) = SoftRam::region(8)?;
    /// let server = Server::start(region.inbox(), 1, |_: &Fetch, _: &mut [u8]| Ok(()))?;
    /// assert_eq!(server.stop()?.fetched, 0);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
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
                Some(arrived) => {
                    if let Some(fetch) = self.settings.deal(&arrived, &self.tally) {
                        self.fetch(fetch, &mut buffer);
                    }
                }
                None => doorbell.wait(Duration::from_secs(1))?,
            }
        }
        Ok(())
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
                // Before the page is free: the next attempt must know of this one.
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
                // The store has the page. That there was no room for it is no reason to give it up.
                if !matches!(error.kind(), io::ErrorKind::OutOfMemory | io::ErrorKind::WouldBlock) {
                    self.count_failure(key);
                }
                // Its faulter has been told, and comes again.
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
