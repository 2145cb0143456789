//! A snapshot of one moment, taken while the guest goes on.
//!
//! At that moment all pages that are in are write protected. From then on an *owner* of a page that
//! is about to change where its bytes are saves it first: a write fault, a fetch, an eviction, the
//! balloon; and one thread saves the rest. The page's lock is what makes it once.

use crate::accident::Accident;
use crate::machine::Machine;
use crate::program::PAGE;
use crate::store::Store;
use anyhow::Result;
use pagelock_vmm::{NotEvicted, Place, Wants};
use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};
use std::time::Duration;

pub(crate) struct Snapshot {
    saved: Box<[AtomicBool]>,
    left: AtomicU64,
    by_others: AtomicU64,
    store: Arc<Store>,
    brake: Arc<crate::accident::Brake>,
}

impl Snapshot {
    /// Of this moment. Nobody runs, evicts, or uses a device.
    pub(crate) fn begin(machine: &Machine, store: Arc<Store>) -> Result<()> {
        machine.settle()?;
        let saved: Box<[_]> = machine
            .region
            .states(0..machine.region.pages())
            .map(|_| AtomicBool::new(false))
            .collect();
        let mut left = saved.len() as u64;
        for (page, state) in machine.region.states(0..saved.len()) {
            match state.place {
                // It reads as zeroes, which is what the store has of a page that was never written.
                Place::Discarded => {
                    saved[page].store(true, Relaxed);
                    left -= 1;
                }
                Place::In => machine.region.clean(page)?.done(),
                _ => {}
            }
        }
        let this = Self {
            saved,
            left: AtomicU64::new(left),
            by_others: AtomicU64::new(0),
            store,
            brake: Arc::clone(&machine.brake),
        };
        let _ = machine.snapshot.set(this);
        Ok(())
    }

    /// The owner of `page` calls this, with the bytes since the moment.
    pub(crate) fn save(&self, page: usize, bytes: &[u8]) {
        self.by_others.fetch_add(u64::from(self.save_once(page, bytes)), Relaxed);
    }

    fn save_once(&self, page: usize, bytes: &[u8]) -> bool {
        if self.saved[page].load(Acquire) {
            return false;
        }
        if let Err(error) = self.store.write(page as u32, bytes) {
            self.brake.pull(Accident::Outside(format!(
                "page {page} cannot be written to the snapshot: {error}"
            )));
        }
        // Release: pairs with the Acquire of the next owner, and of the thread that waits for the
        // end.
        self.saved[page].store(true, Release);
        self.left.fetch_sub(1, Release);
        true
    }

    /// Saves `page`; sleeps while others own it.
    pub(crate) fn save_now(&self, machine: &Machine, page: usize) -> bool {
        let mut did = false;
        while !self.saved[page].load(Acquire) {
            match machine.region.clean(page) {
                Ok(clean) => {
                    let mut bytes = [0; PAGE];
                    match clean.read(&mut bytes) {
                        Ok(()) => did |= self.save_once(page, &bytes),
                        Err(error) => {
                            self.brake.pull(error.into());
                            break;
                        }
                    }
                }
                Err(NotEvicted::NotIn) => {
                    let Some(fetch) = machine.region.prefetch(page..page + 1).next() else {
                        continue;
                    };
                    let mut bytes = [0; PAGE];
                    if fetch.wants() == Wants::Bytes
                        && let Err(error) = machine.store.read(page as u32, &mut bytes)
                    {
                        self.brake.pull(Accident::Outside(format!(
                            "page {page} cannot be read from the store: {error}"
                        )));
                    }
                    did |= self.save_once(page, &bytes);
                }
                Err(NotEvicted::Owned) => machine.region.wait_released(page),
                // A device has it. It is done soon, and its first access has saved the page.
                Err(_) => std::thread::sleep(Duration::from_micros(200)),
            }
        }
        did
    }

    /// Saves what nobody comes for. The number of pages that others have saved meanwhile.
    pub(crate) fn finish(&self, machine: &Machine) -> u64 {
        for page in 0..self.saved.len() {
            if machine.brake.accident().is_some() {
                break;
            }
            self.save_now(machine, page);
        }
        self.by_others.load(Relaxed)
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.left.load(Acquire) == 0
    }
}
