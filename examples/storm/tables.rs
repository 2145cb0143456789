//! The page tables: one per mapping, with split locks.

use crate::region::boxed;
use pagelock::leaf::{Leaf, Rights, Tracking, UnknownLeaf};
use pagelock::mm::Entry;
use pagelock_soft::At;
use std::collections::TryReserveError;
use std::sync::{Mutex, MutexGuard};

/// Entries under one page-table lock. A hardware table has 512; with fewer, small regions have
/// several locks too.
const SPLIT: usize = 64;

/// The entries under one lock.
type Chunk = Mutex<[Leaf; SPLIT]>;

/// One table per mapping. `std`'s mutex is a futex here: it allocates nothing, so the fault handler
/// may take it.
pub struct PageTables {
    mappings: Vec<Box<[Chunk]>>,
}

impl PageTables {
    /// Tables in which every entry is present and writable, each page in the frame of its number.
    pub fn new(mappings: usize, pages: usize) -> Result<Self, TryReserveError> {
        let present = |pfn| Leaf::Present {
            pfn: pfn as u64,
            rights: Rights::Write,
            tracking: Tracking::default(),
        };
        let chunk = |chunk| Mutex::new(core::array::from_fn(|i| present(chunk * SPLIT + i)));
        Ok(Self {
            mappings: (0..mappings)
                .map(|_| boxed(pages.div_ceil(SPLIT), chunk))
                .collect::<Result<_, _>>()?,
        })
    }

    pub fn lock(&self, at: At) -> Locked<'_> {
        let table = &self.mappings[at.space.0 as usize][at.page / SPLIT];
        // A worker that panicked has failed the run already.
        let table = table.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        Locked { table, index: at.page % SPLIT }
    }
}

/// An entry whose lock is held.
///
/// Taking it down does not yet keep threads from the page. Only [`copy`](pagelock::mm::Tiers::copy)
/// must be alone with it, and sees to that itself, page by page and in one system call where the
/// region has one. Nothing relies on it before.
pub struct Locked<'t> {
    table: MutexGuard<'t, [Leaf; SPLIT]>,
    index: usize,
}

impl Entry for Locked<'_> {
    fn get(&self) -> Result<Leaf, UnknownLeaf> {
        Ok(self.table[self.index])
    }

    fn set(&mut self, leaf: Leaf) {
        self.table[self.index] = leaf;
    }
}
