//! How a server goes about it, and what it does with a fault before the store is asked.

use super::served::Tally;
use crate::fault::Claimed;
use crate::fetch::{Fetch, Wants};
use crate::inbox::Arrived;
use crate::layer::Kind;
use crate::unprotect::Unprotect;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::Duration;

type OnWrite = dyn Fn(&Unprotect) -> io::Result<()> + Send + Sync;
type OnFetch = dyn Fn(&Fetch) + Send + Sync;

/// How a server goes about it.
#[derive(Clone)]
#[must_use]
pub struct Settings {
    pub(super) threads: usize,
    pub(super) attempts: u32,
    on_write: Option<Arc<OnWrite>>,
    on_fetch: Option<Arc<OnFetch>>,
}

impl Settings {
    /// So many threads; 8 attempts for each page.
    ///
    /// # Example
    ///
    /// ```
    /// # use pagelock_vmm::Settings;
    /// let settings = Settings::threads(4);
    /// ```
    pub fn threads(threads: usize) -> Self {
        Self { threads: threads.max(1), attempts: 8, on_write: None, on_fetch: None }
    }

    /// How many times in a row fetching a page may fail before its contents are given up as lost.
    /// Between two attempts the thread rests, for 1 ms and then twice as long each time.
    ///
    /// # Example
    ///
    /// ```
    /// # use pagelock_vmm::Settings;
    /// let settings = Settings::threads(4).attempts(3);
    /// ```
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts.max(1);
        self
    }

    /// Called before a writer of a [protected](crate::Region::clean) page goes on, while the page
    /// is owned: to note it as dirty, or to save it first. An error keeps the writer waiting, and
    /// it is tried again.
    ///
    /// # Example
    ///
    /// ```
    /// # use pagelock_vmm::{Fault, Fetch, Server, Settings};
    /// # use pagelock_vmm::soft::SoftRam;
    /// # use std::time::Duration;
    /// let (ram, region) = SoftRam::region(8)?;
    /// let dirty = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    /// let noted = dirty.clone();
    /// let settings = Settings::threads(1).on_write(move |write| {
    ///     noted.lock().unwrap().push(write.page());
    ///     Ok(())
    /// });
    /// let server = Server::with(region.inbox(), settings, |_: &Fetch, _: &mut [u8]| Ok(()))?;
    /// # let Fault::Owner(fetch) = region.fault(0) else { unreachable!() };
    /// # fetch.fill(&[7; 4096])?;
    /// region.clean(0)?.done();
    /// ram.with(0, true, Duration::from_secs(10), |bytes| bytes[0] = 1)?;
    /// assert_eq!(*dirty.lock().unwrap(), [0]);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn on_write(
        mut self,
        call: impl Fn(&Unprotect) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        self.on_write = Some(Arc::new(call));
        self
    }

    /// Called before each page is put up that a guest has faulted on, with the bytes of the store
    /// or with zeroes, for which the store is not asked: to make room for it by evicting others, or
    /// to count.
    ///
    /// # Example
    ///
    /// ```
    /// # use pagelock_vmm::{Fetch, Server, Settings};
    /// # use pagelock_vmm::soft::SoftRam;
    /// # use std::time::Duration;
    /// let (ram, region) = SoftRam::region(8)?;
    /// // At most four pages, besides the one that comes.
    /// let settings = Settings::threads(1).on_fetch(|fetch| {
    ///     let region = fetch.region();
    ///     let _ = region.evict_to(4, 0..region.pages(), |evict| {
    ///         // ... saved
    ///         Ok(())
    ///     });
    /// });
    /// let server = Server::with(region.inbox(), settings, |_: &Fetch, _: &mut [u8]| Ok(()))?;
    /// for page in 0..8 {
    ///     ram.with(page, false, Duration::from_secs(10), |bytes| bytes[0])?;
    /// }
    /// assert!(region.resident() <= 5);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn on_fetch(mut self, call: impl Fn(&Fetch) + Send + Sync + 'static) -> Self {
        self.on_fetch = Some(Arc::new(call));
        self
    }

    /// Deals with a fault, up to the point where bytes are needed.
    pub(crate) fn deal(&self, arrived: &Arrived, tally: &Tally) -> Option<Fetch> {
        catch_unwind(AssertUnwindSafe(|| self.try_to_deal(arrived, tally))).unwrap_or_else(|_| {
            // The guard has told its faulter, which comes again.
            tally.failed(arrived.page, &"what is called on a write or a fetch panicked");
            thread::sleep(Duration::from_millis(1));
            None
        })
    }

    fn try_to_deal(&self, arrived: &Arrived, tally: &Tally) -> Option<Fetch> {
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
                if let Some(call) = &self.on_fetch {
                    call(&fetch);
                }
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
