//! Page tables: one for each mapping, each under one lock.

use pagelock::leaf::{Leaf, Rights, Tracking};
use pagelock::mm::Entry;
use std::sync::{Mutex, MutexGuard};

/// Names an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct At {
    pub(crate) mapping: usize,
    pub(crate) page: usize,
}

/// `std`'s mutex is a futex here: it allocates nothing, so a fault handler may take it.
pub(crate) struct PageTables(Vec<Mutex<Vec<u64>>>);

impl PageTables {
    /// Tables in which every entry is present and writable. Frame numbers are page numbers.
    pub(crate) fn new(mappings: usize, pages: usize) -> Self {
        let entry = |page| Leaf::Present { pfn: page as u64, rights: Rights::Write, tracking: Tracking::default() };
        Self((0..mappings).map(|_| Mutex::new((0..pages).map(|page| encode(entry(page))).collect())).collect())
    }

    pub(crate) fn lock(&self, at: At) -> Locked<'_> {
        // A thread that panicked has failed the run already.
        let table = self.0[at.mapping].lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        Locked { table, index: at.page }
    }

    pub(crate) fn leaf(&self, at: At) -> Leaf {
        decode(self.lock(at).get())
    }

    /// What the entry says, unless somebody has its lock.
    pub(crate) fn try_leaf(&self, at: At) -> Option<Leaf> {
        Some(decode(self.0[at.mapping].try_lock().ok()?[at.page]))
    }
}

/// An entry whose lock is held.
pub(crate) struct Locked<'t> {
    table: MutexGuard<'t, Vec<u64>>,
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

pub(crate) fn encode(leaf: Leaf) -> u64 {
    leaf.encode().expect("page numbers are below the limit of a leaf")
}

pub(crate) fn decode(word: u64) -> Leaf {
    Leaf::decode(word).expect("the tables hold nothing but leaves")
}
