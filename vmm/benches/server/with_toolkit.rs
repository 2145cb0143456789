//! A server that fetches, evicts, discards and pins: with the toolkit.

use pagelock_vmm::uffd::SMALL;
use pagelock_vmm::{Evict, Fetch, Inbox, Pin, Region, Server};
use std::io;
use std::sync::{Arc, Mutex};

/// Where pages are kept.
pub type Store = Mutex<Vec<[u8; SMALL]>>;

// count from here
pub struct Memory {
    region: Arc<Region>,
    store: Arc<Store>,
    server: Server,
}

impl Memory {
    pub fn new(store: Arc<Store>, threads: usize) -> io::Result<Self> {
        let inbox = Inbox::open()?;
        let region = Region::anonymous(&inbox, store.lock().unwrap().len() * SMALL)?;
        let from = Arc::clone(&store);
        let server = Server::start(&inbox, threads, move |fetch: &Fetch, page: &mut [u8]| {
            page.copy_from_slice(&from.lock().unwrap()[fetch.page()]);
            Ok(())
        })?;
        Ok(Self { region, store, server })
    }

    pub fn address(&self, page: usize) -> usize {
        self.region.host_address(page).expect("a page of the region")
    }

    pub fn evict(&self, page: usize) -> bool {
        let Ok(evicted) = self.region.evict(page) else { return false };
        self.store.lock().unwrap()[page].copy_from_slice(evicted.bytes());
        Evict::done(evicted);
        true
    }

    pub fn discard(&self, page: usize) {
        let _ = self.region.discard(page..page + 1);
    }

    pub fn pin(&self, page: usize) -> io::Result<Pin> {
        let fetch = |fetch: Fetch| Ok(fetch.fill(&self.store.lock().unwrap()[page]).map(drop)?);
        self.region.pin_or_fetch(page, fetch)
    }

    pub fn stop(self) -> io::Result<u64> {
        Ok(self.server.stop()?.fetched)
    }
}
// to here

pub fn lines() -> usize {
    crate::by_hand::count(include_str!("with_toolkit.rs"))
}
