//! Page tables: one for each mapping, each under one lock.

use pagelock::leaf::{Leaf, Rights, Tracking, UnknownLeaf};
use pagelock::mm::Entry;
use std::sync::{Mutex, MutexGuard};

/// Names an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct At {
    pub(crate) mapping: usize,
    pub(crate) page: usize,
}

/// `std`'s mutex is a futex here: it allocates nothing, so a fault handler may take it.
pub(crate) struct PageTables(Vec<Mutex<Vec<Leaf>>>);

impl PageTables {
    /// Tables in which every entry is present and writable. Frame numbers are page numbers.
    pub(crate) fn new(mappings: usize, pages: usize) -> Self {
        let entry = |page| Leaf::Present {
            pfn: page as u64,
            rights: Rights::Write,
            tracking: Tracking::default(),
        };
        Self((0..mappings).map(|_| Mutex::new((0..pages).map(entry).collect())).collect())
    }

    pub(crate) fn lock(&self, at: At) -> Locked<'_> {
        // A thread that panicked has failed the run already.
        let table = self.0[at.mapping].lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        Locked { table, index: at.page }
    }

    pub(crate) fn leaf(&self, at: At) -> Leaf {
        self.lock(at).leaf()
    }

    /// What the entry says, unless it is locked.
    pub(crate) fn try_leaf(&self, at: At) -> Option<Leaf> {
        Some(self.0[at.mapping].try_lock().ok()?[at.page])
    }
}

/// An entry whose lock is held.
pub(crate) struct Locked<'t> {
    table: MutexGuard<'t, Vec<Leaf>>,
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

impl Locked<'_> {
    pub(crate) fn leaf(&self) -> Leaf {
        self.table[self.index]
    }
}
