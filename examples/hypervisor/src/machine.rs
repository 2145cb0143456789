//! Guest memory, its region, and where its pages come from and go to.

use crate::accident::{Accident, Brake};
use crate::home::Home;
use crate::options::{Memory, Options};
use crate::program::{Layout, PAGE};
use crate::snapshot::Snapshot;
use crate::store::Store;
use anyhow::{Context, Result, anyhow};
use pagelock_vmm::{Evict, Fetch, Inbox, Region, Server, Settings};
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
    pub(crate) discards_met_owners: AtomicU64,
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
            hand: AtomicUsize::new(0),
        }))
    }

    /// The threads that serve its faults.
    pub(crate) fn serve(self: &Arc<Self>, handlers: u8) -> Result<Server> {
        let machine = || Arc::clone(self);
        let (on_write, on_fetch, on_fault) = (machine(), machine(), machine());
        let settings = Settings::threads(handlers.into())
            .attempts(3)
            .on_fetch(move |_| on_fetch.make_room())
            .on_write(move |write| {
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

    /// The bytes of the page of `fetch`.
    pub(crate) fn fetch(&self, fetch: &Fetch, into: &mut [u8]) -> io::Result<()> {
        let page = fetch.page();
        if let Err(error) = self.store.read(page as u32, into) {
            if !self.unreadable.swap(true, Relaxed) {
                self.brake.pull(Accident::Outside(format!(
                    "page {page} cannot be read from the store: {error}"
                )));
                // The toolkit tries again, and after some failures gives the page up as lost.
                return Err(error);
            }
            // The run has failed, and its memory is not looked at. So no thread sleeps for it, and
            // none of this process's own dies of SIGBUS.
            into.fill(0);
        }
        if let Some(snapshot) = self.snapshot.get() {
            snapshot.save(page, into);
        }
        Ok(())
    }

    /// Pushes pages out, whichever come next, until `limit` are in; how many went.
    pub(crate) fn evict_to(&self, limit: usize) -> usize {
        let pages = self.region.pages();
        let next = (0..pages).map(|_| self.hand.fetch_add(1, Relaxed) % pages);
        let save = |evict: &Evict| {
            let page = evict.page();
            if let Some(snapshot) = self.snapshot.get() {
                snapshot.save(page, evict.bytes());
            }
            // If it fails, the page goes back to where it was.
            self.store.write(page as u32, evict.bytes()).map_err(|error| {
                let what = format!("page {page} cannot be written to the store: {error}");
                io::Error::new(error.kind(), what)
            })
        };
        match self.region.evict_to(limit, next, save) {
            Ok(evicted) => {
                self.counts.refused_pinned.fetch_add(evicted.pinned as u64, Relaxed);
                self.counts.refused_owned.fetch_add(evicted.owned as u64, Relaxed);
                self.counts.refused_by_kernel.fetch_add(evicted.kept as u64, Relaxed);
                evicted.done
            }
            Err(error) => {
                self.brake.pull(error.into());
                0
            }
        }
    }

    /// Far too many pages are in: the handler that brings another one pushes one out first.
    fn make_room(&self) {
        if self.region.resident() > self.limit + self.limit / 16 {
            let done = self.evict_to(self.limit + self.limit / 16);
            self.counts.reclaimed_by_handlers.fetch_add(done as u64, Relaxed);
        }
    }

    fn take_for_balloon(&self, pages: Range<u32>) {
        for page in pages.map(|page| page as usize) {
            if let Some(snapshot) = self.snapshot.get() {
                snapshot.save_now(self, page);
            }
            if self.region.state(page).is_some_and(|state| state.owned) {
                self.counts.discards_met_owners.fetch_add(1, Relaxed);
            }
            let _ = self.region.discard_blocking(page..page + 1);
            self.store.drop_page(page as u32);
        }
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
