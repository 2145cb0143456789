//! A file in memory of which only some pages are in: faults, eviction, and saving what was written.
//!
//! Page `n` of memory is page `n` of the file, as with `mmap`; but how much of it is in, what goes,
//! and when it is written is decided here.

use crate::options::Options;
use anyhow::{Context, Result, bail};
use pagelock_vmm::{Evict, Fetch, Inbox, NotEvicted, Place, Region, Server, Settings};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

pub(crate) const PAGE: usize = 4096;

pub(crate) struct Paging {
    pub(crate) region: Arc<Region>,
    pub(crate) file: File,
    pub(crate) limit: usize,
    pub(crate) counts: Counts,
    /// Used since the hand last came by.
    pub(crate) used: Box<[AtomicBool]>,
    hand: AtomicUsize,
    flip: bool,
    failed: Mutex<Option<String>>,
}

#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) hits: AtomicU64,
    pub(crate) misses: AtomicU64,
    pub(crate) evicted_clean: AtomicU64,
    pub(crate) by_handlers: AtomicU64,
    pub(crate) synced: AtomicU64,
    pub(crate) flipped: AtomicU64,
    pub(crate) peak: AtomicUsize,
}

impl Counts {
    /// Pages that were in memory when the database used them; and all that it used.
    pub(crate) fn used(&self) -> (u64, u64) {
        let (hits, misses) = (self.hits.load(Relaxed), self.misses.load(Relaxed));
        (hits, hits + misses)
    }
}

impl Paging {
    pub(crate) fn new(options: &Options, file: File) -> Result<Arc<Self>> {
        let inbox =
            Inbox::open().context("no userfaultfd (run as root, or allow /dev/userfaultfd)")?;
        let region = Region::anonymous(&inbox, (options.mib as usize) << 20).context("memory")?;
        Ok(Arc::new(Self {
            used: (0..region.pages()).map(|_| AtomicBool::new(false)).collect(),
            limit: ((options.resident as usize) << 20) / PAGE,
            region,
            file,
            counts: Counts::default(),
            hand: AtomicUsize::new(0),
            flip: options.flip,
            failed: Mutex::new(None),
        }))
    }

    pub(crate) fn serve(self: &Arc<Self>, handlers: u8) -> Result<Server> {
        let (on_fetch, on_fault) = (Arc::clone(self), Arc::clone(self));
        let settings = Settings::threads(handlers.into())
            .attempts(3)
            .on_fetch(move |_: &Fetch| on_fetch.make_room());
        let fetch = move |fetch: &Fetch, into: &mut [u8]| on_fault.fetch(fetch, into);
        Server::with(self.region.inbox(), settings, fetch).context("no handlers")
    }

    fn fetch(&self, fetch: &Fetch, into: &mut [u8]) -> io::Result<()> {
        let mut have = 0;
        while have < into.len() {
            match self.file.read_at(&mut into[have..], fetch.offset() + have as u64) {
                Ok(0) => break,
                Ok(more) => have += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    if self.check().is_ok() {
                        // The toolkit tries again, and after some failures gives the page up as
                        // lost.
                        return Err(self.fail(error));
                    }
                    // It has failed, and the database is told. No thread dies of SIGBUS for it.
                    break;
                }
            }
        }
        into[have..].fill(0);
        Ok(())
    }

    /// Keeps the pages in memory below the limit, until `end`.
    pub(crate) fn evict(&self, end: &AtomicBool) {
        while !end.load(Relaxed) {
            self.counts.peak.fetch_max(self.region.resident(), Relaxed);
            if self.evict_to(self.limit) == 0 {
                thread::sleep(Duration::from_micros(500));
            }
        }
    }

    fn make_room(&self) {
        let done = self.evict_to(self.limit + 1);
        self.counts.by_handlers.fetch_add(done as u64, Relaxed);
    }

    /// Pushes out pages that were not used for a while, until `limit` are in; how many went.
    fn evict_to(&self, limit: usize) -> usize {
        let pages = self.region.pages();
        let next = (0..2 * pages)
            .map(|_| self.hand.fetch_add(1, Relaxed) % pages)
            .filter(|&page| self.is_in(page) && !self.used[page].swap(false, Relaxed));
        let save = |evict: &Evict| {
            if evict.is_clean() {
                self.counts.evicted_clean.fetch_add(1, Relaxed);
                return Ok(());
            }
            // If it fails, the page goes back to where it was.
            self.save(evict.page(), evict.bytes())
        };
        self.region.evict_to(limit, next, save).map_or_else(
            |error| {
                self.fail(error);
                0
            },
            |evicted| evicted.done,
        )
    }

    pub(crate) fn is_in(&self, page: usize) -> bool {
        self.region.state(page).is_some_and(|state| state.place == Place::In)
    }

    fn save(&self, page: usize, bytes: &[u8]) -> io::Result<()> {
        let at = (page * PAGE) as u64;
        self.file.write_all_at(bytes, at)?;
        if self.flip && page % 100 == 99 {
            self.counts.flipped.fetch_add(1, Relaxed);
            self.file.write_all_at(&[bytes[PAGE - 100] ^ 1], at + PAGE as u64 - 100)?;
        }
        Ok(())
    }

    /// Writes what is dirty to the file, and the file to the disk. What is written to meanwhile may
    /// or may not be in.
    pub(crate) fn sync(&self) -> io::Result<()> {
        // A page that is write protected is as the file has it, unless an owner is just about to
        // let a writer go on. One that is out was saved.
        let is_dirty = |page: usize| {
            self.region
                .state(page)
                .is_some_and(|state| state.place == Place::In && (state.owned || !state.protected))
        };
        for page in 0..self.region.pages() {
            while is_dirty(page) {
                let clean = match self.region.clean(page) {
                    Ok(clean) => clean,
                    // It was evicted, and saved by that.
                    Err(NotEvicted::NotIn) => break,
                    Err(NotEvicted::Owned) => {
                        self.region.wait_released(page);
                        continue;
                    }
                    Err(error) => return Err(io::Error::other(error)),
                };
                // SAFETY: a page that is there and write protected; only this region maps it.
                let bytes = unsafe {
                    let at = std::ptr::with_exposed_provenance(clean.host_address());
                    std::slice::from_raw_parts(at, PAGE)
                };
                self.file
                    .write_all_at(bytes, (page * PAGE) as u64)
                    .map_err(|error| self.fail(error))?;
                clean.done();
                self.counts.synced.fetch_add(1, Relaxed);
            }
        }
        self.file.sync_data().map_err(|error| self.fail(error))
    }

    /// Pages from `from` on read as zeroes from now on. Nobody uses them.
    pub(crate) fn cut(&self, from: usize, to: usize) {
        let _ = self.region.discard_blocking(from..to);
    }

    /// Notes that something outside has failed, and gives it back.
    pub(crate) fn fail(&self, error: io::Error) -> io::Error {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.get_or_insert_with(|| error.to_string());
        error
    }

    /// If reading or writing the file has failed.
    pub(crate) fn check(&self) -> Result<()> {
        match &*self.failed.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(error) => bail!("the store: {error}"),
            None => Ok(()),
        }
    }
}
