//! The page tables: one per mapping, with split locks.

use crate::region::PAGE;
use pagelock::leaf::{Leaf, Rights, Tracking};
use pagelock::mm::Entry;
use std::sync::{Mutex, MutexGuard};

/// Entries under one page-table lock. A hardware table has 512; with fewer, small regions have several locks too.
const SPLIT: usize = 64;

/// Names an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct At {
    pub mapping: usize,
    pub page: usize,
}

/// One table per mapping. `std`'s mutex is a futex here: it allocates nothing, so the fault handler may take it.
pub struct PageTables {
    mappings: Vec<Vec<Mutex<[u64; SPLIT]>>>,
}

impl PageTables {
    /// Tables in which every entry is present and writable.
    pub fn new(mappings: usize, pages: usize) -> Self {
        assert!(pages * PAGE <= usize::MAX / 2);
        let table = |_| {
            (0..pages.div_ceil(SPLIT))
                .map(|chunk| Mutex::new(core::array::from_fn(|i| encode(present(chunk * SPLIT + i)))))
                .collect()
        };
        Self { mappings: (0..mappings).map(table).collect() }
    }

    pub fn lock(&self, at: At) -> Locked<'_> {
        let table = &self.mappings[at.mapping][at.page / SPLIT];
        // A worker that panicked has failed the run already.
        let table = table.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        Locked { table, index: at.page % SPLIT }
    }

    /// What the entry says. The engine writes nothing but leaves.
    pub fn leaf(&self, at: At) -> Leaf {
        decode(self.lock(at).get())
    }
}

/// An entry whose lock is held.
pub struct Locked<'t> {
    table: MutexGuard<'t, [u64; SPLIT]>,
    index: usize,
}

impl Entry for Locked<'_> {
    fn get(&self) -> u64 {
        self.table[self.index]
    }

    fn set(&mut self, leaf: u64) {
        self.table[self.index] = leaf;
    }
}

/// The leaf of a page that is hot. Frame numbers are page numbers: a page's header is the same in both tiers.
pub fn present(page: usize) -> Leaf {
    Leaf::Present { pfn: page as u64, rights: Rights::Write, tracking: Tracking::default() }
}

pub fn encode(leaf: Leaf) -> u64 {
    leaf.encode().expect("page numbers are below the limit of a leaf")
}

pub fn decode(word: u64) -> Leaf {
    Leaf::decode(word).expect("the tables hold nothing but leaves")
}
