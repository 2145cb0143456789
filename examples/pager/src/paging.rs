//! A file in memory of which only some pages are in: faults, eviction, and saving what was written.
//!
//! Page `n` of memory is page `n` of the file, as with `mmap`; but how much of it is in, what goes,
//! and when it is written is decided here.

use crate::options::Options;
use anyhow::{Context, Result, bail};
use pagelock_vmm::{Fetch, Inbox, NotEvicted, Place, Region, Server, Settings, Unprotect};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{
    AtomicBool, AtomicU64, AtomicUsize,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

pub(crate) const PAGE: usize = 4096;

pub(crate) struct Paging {
    pub(crate) region: Arc<Region>,
    pub(crate) file: File,
    pub(crate) limit: usize,
    pub(crate) counts: Counts,
    /// A page that is in and not dirty is write protected, and the file has it.
    dirty: Box<[AtomicBool]>,
    /// Used since the hand last came by.
    pub(crate) used: Box<[AtomicBool]>,
    hand: AtomicUsize,
    /// About so many pages are in.
    about: AtomicUsize,
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
        let flags = || (0..region.pages()).map(|_| AtomicBool::new(false)).collect();
        Ok(Arc::new(Self {
            dirty: flags(),
            used: flags(),
            limit: ((options.resident as usize) << 20) / PAGE,
            region,
            file,
            counts: Counts::default(),
            hand: AtomicUsize::new(0),
            about: AtomicUsize::new(0),
            flip: options.flip,
            failed: Mutex::new(None),
        }))
    }

    pub(crate) fn serve(self: &Arc<Self>, handlers: u8) -> Result<Server> {
        let (on_write, on_fault) = (Arc::clone(self), Arc::clone(self));
        let settings =
            Settings::threads(handlers.into()).attempts(3).on_write(move |write: &Unprotect| {
                on_write.dirty[write.page()].store(true, Release);
                Ok(())
            });
        let fetch = move |fetch: &Fetch, into: &mut [u8]| on_fault.fetch(fetch, into);
        Server::with(self.region.inbox(), settings, fetch).context("no handlers")
    }

    fn fetch(&self, fetch: &Fetch, into: &mut [u8]) -> io::Result<()> {
        if self.about.fetch_add(1, Relaxed) > self.limit && self.evict_one() {
            self.counts.by_handlers.fetch_add(1, Relaxed);
        }
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
                    // It has failed, and the database is told. Nobody is to die of SIGBUS for it.
                    break;
                }
            }
        }
        into[have..].fill(0);
        // It comes as it went. If that is without protection, writes to it go unnoticed.
        let is_protected = self.region.state(fetch.page()).is_some_and(|state| state.protected);
        self.dirty[fetch.page()].store(!is_protected, Release);
        Ok(())
    }

    /// Keeps the pages in memory below the limit, until `end`.
    pub(crate) fn evict(&self, end: &AtomicBool) {
        while !end.load(Relaxed) {
            let resident = self.resident();
            self.counts.peak.fetch_max(resident, Relaxed);
            self.about.store(resident, Relaxed);
            let done = (self.limit..resident).take_while(|_| self.evict_one()).count();
            if done == 0 {
                thread::sleep(Duration::from_micros(500));
            }
        }
    }

    /// Pushes out one page that was not used for a while; `false` if none could be had.
    fn evict_one(&self) -> bool {
        for _ in 0..2 * self.region.pages() {
            let page = self.hand.fetch_add(1, Relaxed) % self.region.pages();
            if self.region.state(page).is_none_or(|state| state.place != Place::In)
                || self.used[page].swap(false, Relaxed)
            {
                continue;
            }
            let Ok(evict) = self.region.evict(page) else { continue };
            if !self.dirty[page].swap(false, AcqRel) {
                self.counts.evicted_clean.fetch_add(1, Relaxed);
            } else if let Err(error) = self.save(page, evict.bytes()) {
                self.fail(error);
                // It goes back to where it was.
                self.dirty[page].store(true, Release);
                return false;
            }
            evict.done();
            let _ = self.about.fetch_update(Relaxed, Relaxed, |about| about.checked_sub(1));
            return true;
        }
        false
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
        for page in 0..self.region.pages() {
            while self.dirty[page].load(Acquire) {
                let clean = match self.region.clean(page) {
                    Ok(clean) => clean,
                    // Whoever evicts it saves it.
                    Err(NotEvicted::NotIn) => break,
                    Err(NotEvicted::Owned) => {
                        let _ = self.region.header(page).map(|header| header.wait_unlocked(()));
                        continue;
                    }
                    Err(error) => return Err(io::Error::other(error)),
                };
                self.file
                    .write_all_at(clean.bytes(), (page * PAGE) as u64)
                    .map_err(|error| self.fail(error))?;
                self.dirty[page].store(false, Release);
                clean.done();
                self.counts.synced.fetch_add(1, Relaxed);
            }
        }
        self.file.sync_data().map_err(|error| self.fail(error))
    }

    /// Pages from `from` on read as zeroes from now on. Nobody uses them.
    pub(crate) fn cut(&self, from: usize, to: usize) {
        for page in from..to.min(self.region.pages()) {
            while self.region.discard(page..page + 1).left > 0 {
                let _ = self.region.header(page).map(|header| header.wait_unlocked(()));
            }
            self.dirty[page].store(true, Release);
        }
    }

    pub(crate) fn resident(&self) -> usize {
        self.region
            .states(0..self.region.pages())
            .filter(|(_, state)| state.place == Place::In)
            .count()
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
