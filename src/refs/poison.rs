//! Contents that are lost for good, and memory that starts a new life.

use crate::futex::Futex;
use crate::lock::{PageGuard, Released};
use crate::page::PageLock;
use crate::sync::Ordering::{Relaxed, Release};
use crate::word::count::FROZEN;
use crate::word::state::POISONED;

impl<F: Futex> PageLock<F> {
    /// Ends the hold of an owner that has found the contents lost: refuses references and pins, and
    /// then releases the page.
    pub(crate) fn poison(&self, migrating: bool) -> Released {
        // Relaxed: the compare-exchange of get and pin fails on the bit itself.
        self.count.fetch_or(FROZEN, Relaxed);
        self.release(migrating, true)
    }
}

impl<F: Futex> PageGuard<'_, F> {
    /// Undoes a poisoning, for memory that starts a new life: the frame was replaced or repaired,
    /// or its pool was set up anew (Linux: `unpoison_memory`). Afterwards the page is not poisoned
    /// and has neither references nor pins, as if it were new; it is still locked, and its [user
    /// bits](crate::PageLock::user) are as they were. On a page that is not poisoned it does
    /// nothing.
    ///
    /// It is for the owner of the *memory*, not for any owner of the lock. It removes references
    /// and pins of the old life that were never given back.
    ///
    /// # Safety
    ///
    /// Nothing of the page's old life is left: no [`PageRef`](crate::PageRef), no
    /// [`PagePin`](crate::PagePin), no raw reference or pin that will be put, and no entry that
    /// still leads here for the old contents. Otherwise these end a reference of the new life, or
    /// take the new contents for the old.
    ///
    /// # Example
    ///
    /// ```
    /// use pagelock::{PageLock, Wake};
    ///
    /// let frame = PageLock::new();
    /// frame.lock().poison(); // the memory failed
    /// assert_eq!(frame.wait_unlocked(()), Wake::Poisoned);
    ///
    /// // ... the module was exchanged; no entry leads to the frame, and no thread refers to it.
    /// let mut guard = frame.lock();
    /// // SAFETY: as the comment above says.
    /// unsafe { guard.unpoison() };
    /// drop(guard);
    /// frame.activate(1).unwrap();
    /// ```
    pub unsafe fn unpoison(&mut self) {
        let page = self.page;
        if !self.is_poisoned() {
            return;
        }
        // Relaxed: the counts are still frozen, so no other thread can use the page yet. In this
        // order, because a survivor takes a page that is locked and frozen, but neither migrating
        // nor poisoned, for one in the middle of being poisoned.
        page.state.fetch_and(!POISONED, Relaxed);
        // Release: pairs with the Acquire of activate.
        page.count.store(0, Release);
    }
}
