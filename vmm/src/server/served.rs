//! What a server has done.

use crate::trace;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

/// What a server has done so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Served {
    /// Faults that arrived.
    pub faults: u64,
    /// Pages that were fetched from the store.
    pub fetched: u64,
    /// Faults on a page that was being fetched already: nothing was to be done.
    pub duplicates: u64,
    /// Faults on a page that had come meanwhile.
    pub late: u64,
    /// Fetches that came to nothing: an error, or a panic of the store.
    pub failed: u64,
    /// Pages given up as lost.
    pub lost: u64,
}

#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) faults: AtomicU64,
    pub(crate) fetched: AtomicU64,
    pub(crate) duplicates: AtomicU64,
    pub(super) late: AtomicU64,
    failed: AtomicU64,
    pub(super) lost: AtomicU64,
    /// The last failure, in words.
    pub(super) last: Mutex<Option<String>>,
}

impl Tally {
    pub(super) fn failed(&self, page: usize, why: &dyn fmt::Display) {
        self.failed.fetch_add(1, Relaxed);
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(format!("page {page}: {why}"));
        trace::aborted(page, why);
    }

    pub(crate) fn served(&self) -> Served {
        let get = |count: &AtomicU64| count.load(Relaxed);
        Served {
            faults: get(&self.faults),
            fetched: get(&self.fetched),
            duplicates: get(&self.duplicates),
            late: get(&self.late),
            failed: get(&self.failed),
            lost: get(&self.lost),
        }
    }
}
