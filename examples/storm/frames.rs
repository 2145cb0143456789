//! Frames of real memory: names with headers. Where a page lies is the region's business; which
//! tier it is in, its frame says.

use crate::machine::{COLD, HOT, SPARE};
use crate::region::boxed;
use pagelock::PageLock;
use pagelock_soft::TierId;
use std::collections::{TryReserveError, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard};

pub struct Frames {
    /// First the hot frames, then as many cold ones.
    headers: Box<[PageLock]>,
    /// The page that is, or was at last, in each.
    pages: Box<[AtomicUsize]>,
    /// The longest free is the first to be used again. These never grow, so the fault handler may
    /// use them.
    free: [Mutex<VecDeque<u64>>; 2],
}

impl Frames {
    /// One hot frame for each page, with as many references as there are entries for it.
    pub fn new(pages: usize, references: u32) -> Result<Self, TryReserveError> {
        let each = pages + SPARE;
        let headers = boxed(2 * each, |_| PageLock::new())?;
        for header in &headers[..pages] {
            header.activate(references).expect("a fresh header is free");
        }
        let free = |frames: std::ops::Range<usize>| {
            let mut free = VecDeque::new();
            free.try_reserve_exact(each)?;
            free.extend(frames.map(|pfn| pfn as u64));
            Ok::<_, TryReserveError>(Mutex::new(free))
        };
        let free = [free(pages..each)?, free(each..2 * each)?];
        Ok(Self { headers, pages: boxed(2 * each, AtomicUsize::new)?, free })
    }

    pub fn header(&self, pfn: u64) -> Option<&PageLock> {
        self.headers.get(usize::try_from(pfn).ok()?)
    }

    pub fn count(&self) -> usize {
        self.headers.len()
    }

    pub fn count_free(&self) -> usize {
        self.free(HOT).len() + self.free(COLD).len()
    }

    pub fn tier(&self, pfn: u64) -> TierId {
        if (pfn as usize) < self.headers.len() / 2 { HOT } else { COLD }
    }

    /// The page that a live frame is for.
    pub fn page(&self, pfn: u64) -> usize {
        // Relaxed: the frame was learnt of from an entry, under whose lock it was put there after
        // it was allocated.
        self.pages[pfn as usize].load(Relaxed)
    }

    pub fn allocate(&self, tier: TierId, page: usize) -> Option<u64> {
        let pfn = self.free(tier).pop_front()?;
        self.pages[pfn as usize].store(page, Relaxed);
        Some(pfn)
    }

    pub fn give_back(&self, pfn: u64) {
        self.free(self.tier(pfn)).push_back(pfn);
    }

    fn free(&self, tier: TierId) -> MutexGuard<'_, VecDeque<u64>> {
        // A worker that panicked has failed the run already.
        self.free[tier.0].lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}
