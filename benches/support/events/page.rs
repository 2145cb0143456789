//! This crate's event: a page.

use super::{Event, Queue};
use crate::support::Padded;
use pagelock::{Futex, OsFutex, PageGuard, PageLock};
use std::sync::{Arc, Mutex};

/// This crate: the wait for the release of a page.
pub struct Page {
    page: Header,
    ptl: Padded<Mutex<()>>,
}

enum Header {
    Own(Padded<PageLock>),
    /// One of many, chosen by its address.
    Of(Arc<Vec<PageLock>>, usize),
}

impl Page {
    fn page(&self) -> &PageLock {
        match &self.page {
            Header::Own(page) => &page.0,
            Header::Of(pages, index) => &pages[*index],
        }
    }

    /// `n` pages: all of one slot of the event table, or spread over the slots as evenly as can be.
    pub fn many(n: usize, colliding: bool) -> Vec<Arc<Self>> {
        let slots = OsFutex.events();
        let pool: Arc<Vec<PageLock>> =
            Arc::new((0..4 * n.max(16) * slots).map(|_| PageLock::new()).collect());
        let slot = |index: usize| OsFutex.event_index(core::ptr::from_ref(&pool[index]).addr());
        let mut taken = vec![0; slots];
        let most = n.div_ceil(slots);
        let mut chosen = Vec::new();
        for index in 0..pool.len() {
            let wanted = if colliding { slot(index) == slot(0) } else { taken[slot(index)] < most };
            if wanted && chosen.len() < n {
                taken[slot(index)] += 1;
                chosen.push(Arc::new(Self {
                    page: Header::Of(pool.clone(), index),
                    ptl: Padded::default(),
                }));
            }
        }
        assert_eq!(chosen.len(), n, "the pool is large enough for what the hash gives");
        chosen
    }
}

impl Event for Page {
    const NAME: &'static str = "pagelock";

    fn new() -> Self {
        Self { page: Header::Own(Padded(PageLock::new())), ptl: Padded::default() }
    }

    fn begin(&self) {
        self.page().lock().into_raw();
    }

    fn wait(&self, ready: &dyn Fn()) -> u32 {
        let mut ptl = self.ptl.0.lock().unwrap();
        ready();
        let mut slept = 0;
        // Another page's release may end a wait; a faulter would look at its page table, this looks
        // at the page.
        while self.page().is_locked() {
            let _ = self.page().wait_unlocked(ptl);
            slept += 1;
            ptl = match self.page().is_locked() {
                true => self.ptl.0.lock().unwrap(),
                false => return slept,
            };
        }
        slept
    }

    fn end(&self) {
        // SAFETY: `begin` locked the page and gave up the guard; this is the one release of that
        // hold.
        unsafe { PageGuard::from_raw(self.page()) }.unlock();
    }
}

/// A page with lockers in its queue: a waiter returns after the release, and does not look whether
/// a locker has the page again.
pub struct QueuedPage {
    page: Padded<PageLock>,
    ptl: Padded<Mutex<()>>,
}

impl Event for QueuedPage {
    const NAME: &'static str = "pagelock";

    fn new() -> Self {
        Self { page: Padded(PageLock::new()), ptl: Padded::default() }
    }

    fn begin(&self) {
        self.page.0.lock().into_raw();
    }

    fn wait(&self, ready: &dyn Fn()) -> u32 {
        let ptl = self.ptl.0.lock().unwrap();
        ready();
        let _ = self.page.0.wait_unlocked(ptl);
        1
    }

    fn end(&self) {
        // SAFETY: `begin` locked the page and gave up the guard; this is the one release of that
        // hold.
        unsafe { PageGuard::from_raw(&self.page.0) }.unlock();
    }
}

impl Queue for QueuedPage {
    fn pass_through(&self) {
        drop(self.page.0.lock());
    }
}
