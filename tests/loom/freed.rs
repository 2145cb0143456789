//! A page that is freed right after its release, while waiters return.

use crate::wait::assert_over;
use crate::{In, explore_with, on};
use loom::sync::Mutex;
use loom::thread::JoinHandle;
use pagelock::PageLock;
use std::sync::Arc;

/// A header that its owner frees: what was there afterwards is no header, and the model checker
/// fails on an access to it.
struct Freed(*mut PageLock<In<0>>);

// SAFETY: the models hand it over under the mutex that stands for the page-table lock.
unsafe impl Send for Freed {}
// SAFETY: as above.
unsafe impl Sync for Freed {}

impl Freed {
    fn new() -> Self {
        Self(Box::into_raw(Box::new(PageLock::default())))
    }

    /// Frees the header. What it held is overwritten, so that a later access fails whatever the
    /// allocator does.
    ///
    /// # Safety
    ///
    /// Nobody refers to the header any more.
    unsafe fn free(&self) {
        // SAFETY: the caller's promise; the box's memory is given back without another drop of its
        // contents.
        unsafe {
            self.0.drop_in_place();
            self.0.write_bytes(0xff, 1);
            drop(Box::from_raw(self.0.cast::<core::mem::MaybeUninit<PageLock<In<0>>>>()));
        }
    }
}

/// A faulter that waits for the page, if it finds the entry there.
fn waits_if_there(page: &Arc<Freed>, entry: &Arc<Mutex<bool>>) -> JoinHandle<()> {
    let entry = entry.clone();
    on(page, move |page| {
        let entry = entry.lock().unwrap();
        if *entry {
            // SAFETY: the entry is there, and keeps the header as long as its lock is held;
            // `wait_unlocked` does not use the header after it has dropped that.
            assert_over(unsafe { &*page.0 }.wait_unlocked(entry));
        }
    })
}

/// The page goes away as soon as its owner has taken the entry down: the waiter saw the entry under
/// the same lock, and after dropping that it may not look at the page.
#[test]
fn a_page_that_is_freed_right_after_the_unlock() {
    explore_with(3, || {
        let page = Arc::new(Freed::new());
        let table = Arc::new(Mutex::new(true));
        // SAFETY: the header is freed below, and the guard is gone by then.
        let guard = unsafe { &*page.0 }.lock();
        let waiter = waits_if_there(&page, &table);
        *table.lock().unwrap() = false;
        drop(guard);
        // SAFETY: the entry is down, and each thread that saw it has dropped the lock since.
        unsafe { page.free() };
        waiter.join().unwrap();
    });
}

/// The other way round: the page is unlocked first and its entry taken down later, as for
/// device-private memory.
#[test]
fn a_page_that_is_unlocked_and_then_freed() {
    explore_with(3, || {
        let page = Arc::new(Freed::new());
        let table = Arc::new(Mutex::new(true));
        // SAFETY: as above.
        let guard = unsafe { &*page.0 }.lock();
        let waiter = waits_if_there(&page, &table);
        drop(guard);
        *table.lock().unwrap() = false;
        // SAFETY: as above.
        unsafe { page.free() };
        waiter.join().unwrap();
    });
}

/// The next owner frees the page, while the last one's release still has a waiter to wake.
#[test]
fn a_page_that_the_next_owner_frees() {
    explore_with(3, || {
        let page = Arc::new(Freed::new());
        // SAFETY: the header is freed below, by its last user.
        let guard = unsafe { &*page.0 }.lock();
        let next = on(&page, |page| {
            // SAFETY: as above.
            drop(unsafe { &*page.0 }.lock());
            // SAFETY: the first owner has released the page, and does nothing else with it.
            unsafe { page.free() };
        });
        drop(guard);
        next.join().unwrap();
    });
}
