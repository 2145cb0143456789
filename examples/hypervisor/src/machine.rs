//! Guest memory, its region, and where its pages come from and go to.

use crate::accident::{Accident, Brake};
use crate::home::Home;
use crate::options::{Memory, Options};
use crate::program::{Layout, PAGE};
use crate::snapshot::Snapshot;
use crate::store::Store;
use anyhow::{Context, Result, anyhow};
use pagelock_vmm::{Fetch, Inbox, NotEvicted, Place, Region, Server, Settings};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use vm_memory::{FileOffset, GuestAddress, GuestRegionMmap};

pub(crate) struct Machine {
    pub(crate) layout: Layout,
    pub(crate) region: Arc<Region>,
    pub(crate) store: Arc<Store>,
    /// The store could not be read: what is in memory means nothing any more.
    pub(crate) unreadable: AtomicBool,
    pub(crate) snapshot: OnceLock<Snapshot>,
    pub(crate) brake: Arc<Brake>,
    pub(crate) counts: Counts,
    /// Pages that may be in.
    pub(crate) limit: usize,
    /// About so many are. If it is far too many, who fetches a page pushes another one out first.
    pub(crate) about: AtomicUsize,
    hand: AtomicUsize,
}

impl Home for Machine {
    fn layout(&self) -> &Layout {
        &self.layout
    }

    fn brake(&self) -> &Brake {
        &self.brake
    }

    fn host_range(&self) -> Range<usize> {
        self.region.host_range()
    }

    fn balloon(&self, pages: Range<u32>) {
        let by =
            if pages.len() == 1 { &self.counts.balloon_guest } else { &self.counts.balloon_host };
        by.fetch_add(pages.len() as u64, Relaxed);
        self.take_for_balloon(pages);
    }
}

#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) refused_pinned: AtomicU64,
    pub(crate) refused_owned: AtomicU64,
    pub(crate) refused_by_kernel: AtomicU64,
    pub(crate) reclaimed_by_handlers: AtomicU64,
    pub(crate) balloon_guest: AtomicU64,
    pub(crate) balloon_host: AtomicU64,
    pub(crate) discards_beat_owners: AtomicU64,
    pub(crate) peak: AtomicUsize,
}

impl Machine {
    /// All of its pages are out, in `store`.
    pub(crate) fn new(
        options: &Options,
        layout: Layout,
        store: Arc<Store>,
        brake: &Arc<Brake>,
    ) -> Result<Arc<Self>> {
        let len = layout.pages as usize * PAGE;
        let file = match options.memory {
            Memory::Anonymous => None,
            Memory::Memfd => {
                let file = rustix::fs::memfd_create("guest", rustix::fs::MemfdFlags::CLOEXEC)?;
                rustix::fs::ftruncate(&file, len as u64)?;
                Some(FileOffset::new(File::from(file), 0))
            }
        };
        let memory: GuestRegionMmap =
            GuestRegionMmap::from_range(GuestAddress(0), len, file).context("guest memory")?;
        let inbox =
            Inbox::open().context("no userfaultfd (run as root, or allow /dev/userfaultfd)")?;
        let region = Region::of_guest(&inbox, &Arc::new(memory)).context("guest memory")?;
        Ok(Arc::new(Self {
            limit: (layout.pages as usize * usize::from(options.resident) / 100).max(32),
            layout,
            region,
            store,
            unreadable: AtomicBool::new(false),
            snapshot: OnceLock::new(),
            brake: Arc::clone(brake),
            counts: Counts::default(),
            about: AtomicUsize::new(0),
            hand: AtomicUsize::new(0),
        }))
    }

    /// The threads that serve its faults.
    pub(crate) fn serve(self: &Arc<Self>, handlers: u8) -> Result<Server> {
        let (on_write, on_fault) = (Arc::clone(self), Arc::clone(self));
        let settings = Settings::threads(handlers.into()).attempts(3).on_write(move |write| {
            if let Some(snapshot) = on_write.snapshot.get() {
                let mut bytes = [0; PAGE];
                write.read(&mut bytes)?;
                snapshot.save(write.page(), &bytes);
            }
            Ok(())
        });
        let fetch = move |fetch: &Fetch, into: &mut [u8]| on_fault.fetch(fetch, into);
        Server::with(self.region.inbox(), settings, fetch).context("no handlers")
    }

    /// What `fetch` has to put up.
    pub(crate) fn fetch(&self, fetch: &Fetch, into: &mut [u8]) -> io::Result<()> {
        if self.about.fetch_add(1, Relaxed) > self.limit + self.limit / 16 && self.evict_one() {
            self.counts.reclaimed_by_handlers.fetch_add(1, Relaxed);
        }
        let page = fetch.page();
        if let Err(error) = self.store.read(page as u32, into) {
            if !self.unreadable.swap(true, Relaxed) {
                self.brake.pull(Accident::Outside(format!(
                    "page {page} cannot be read from the store: {error}"
                )));
                // The toolkit tries again, and after some failures gives the page up as lost.
                return Err(error);
            }
            // The run has failed, and its memory is not looked at. So nobody is to sleep for it,
            // and none of this process's own threads to die of SIGBUS.
            into.fill(0);
        }
        if let Some(snapshot) = self.snapshot.get() {
            snapshot.save(page, into);
        }
        Ok(())
    }

    /// Pushes out one page, whichever comes next; `false` if none could be had.
    pub(crate) fn evict_one(&self) -> bool {
        for _ in 0..self.region.pages() {
            let page = self.hand.fetch_add(1, Relaxed) % self.region.pages();
            let evict = match self.region.evict(page) {
                Ok(evict) => evict,
                Err(NotEvicted::NotIn) => continue,
                Err(why) => {
                    let count = match why {
                        NotEvicted::Pinned(_) => &self.counts.refused_pinned,
                        NotEvicted::Owned => &self.counts.refused_owned,
                        NotEvicted::Kept => &self.counts.refused_by_kernel,
                        other => {
                            self.brake.pull(Accident::Outside(format!(
                                "page {page} cannot be evicted: {other}"
                            )));
                            return false;
                        }
                    };
                    count.fetch_add(1, Relaxed);
                    continue;
                }
            };
            if let Some(snapshot) = self.snapshot.get() {
                snapshot.save(page, evict.bytes());
            }
            return match self.store.write(page as u32, evict.bytes()) {
                Ok(()) => {
                    evict.done();
                    // The evictor sets it right again; a race may not take it below zero.
                    let _ = self.about.fetch_update(Relaxed, Relaxed, |about| about.checked_sub(1));
                    true
                }
                Err(error) => {
                    // The page goes back to where it was when `evict` is dropped.
                    self.brake.pull(Accident::Outside(format!(
                        "page {page} cannot be written to the store: {error}"
                    )));
                    false
                }
            };
        }
        false
    }

    fn take_for_balloon(&self, pages: Range<u32>) {
        for page in pages.map(|page| page as usize) {
            if let Some(snapshot) = self.snapshot.get() {
                snapshot.save_now(self, page);
            }
            // Somebody may own the page, and then it goes when that ends.
            let mut tries = 0;
            while self.region.discard(page..page + 1).left > 0 {
                tries += 1;
                let _ = self.region.header(page).map(|header| header.wait_unlocked(()));
            }
            self.counts.discards_beat_owners.fetch_add(u64::from(tries > 0), Relaxed);
            self.store.drop_page(page as u32);
        }
    }

    pub(crate) fn resident(&self) -> usize {
        self.region
            .states(0..self.region.pages())
            .filter(|(_, state)| state.place == Place::In)
            .count()
    }

    /// Waits until nobody owns a page, and nobody is going to.
    pub(crate) fn settle(&self) -> Result<()> {
        for _ in 0..20_000 {
            if !self.region.states(0..self.region.pages()).any(|(_, state)| state.owned) {
                return Ok(());
            }
            std::thread::sleep(std::time::Duration::from_micros(500));
        }
        Err(anyhow!("{}", self.region.report(std::time::Duration::ZERO)))
    }
}
