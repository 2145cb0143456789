//! A cache that finds pages by a number of the caller's, as a page cache finds them by offset.

use super::Soft;
use super::frames::{frame, use_up};
use alloc::collections::BTreeMap;
use core::sync::atomic::Ordering::Relaxed;
use pagelock::futex::Futex;
use pagelock::mm::drain::Cpus;
use pagelock::mm::ledger::{Change, Owner};
use pagelock::mm::{Memory, Tiers};
use pagelock::refs::GetError;

/// From the caller's numbers to the first frames of pages.
pub(super) type Slots = BTreeMap<u64, u64>;

impl<F: Futex, C: Cpus> Soft<F, C> {
    /// Makes the cache find the page at `pfn` by `key`, with a reference of its own. It forgets the
    /// page that it found by `key` before.
    ///
    /// ```
    /// # let (mm, at) = pagelock_soft::example();
    /// let pfn = mm.frame_at(at).unwrap();
    /// mm.cache(100, pfn).unwrap();
    /// assert_eq!(mm.cached_at(100), Some(pfn));
    /// ```
    ///
    /// # Errors
    ///
    /// As [`PageLock::try_get`](pagelock::PageLock::try_get).
    pub fn cache(&self, key: u64, pfn: u64) -> Result<(), GetError> {
        let head = self.span(pfn).head;
        let page = self.page(head).ok_or(GetError::Free)?;
        page.try_get()?.into_raw();
        self.account(head, Owner::Cache, Change::Taken);
        let old = self.cache.lock().insert(key, head);
        self.count_cached(head, 1);
        self.forgotten(old);
        Ok(())
    }

    /// Makes the cache forget the page that it finds by `key`, and puts its reference.
    ///
    /// ```
    /// # let (mm, at) = pagelock_soft::example();
    /// let pfn = mm.frame_at(at).unwrap();
    /// mm.cache(100, pfn).unwrap();
    /// mm.uncache(100);
    /// assert_eq!(mm.page(pfn).unwrap().refs(), 1);
    /// ```
    pub fn uncache(&self, key: u64) {
        let old = self.cache.lock().remove(&key);
        self.forgotten(old);
    }

    /// The frame that the cache finds by `key`.
    ///
    /// ```
    /// # let (mm, at) = pagelock_soft::example();
    /// assert_eq!(mm.cached_at(100), None);
    /// ```
    #[must_use]
    pub fn cached_at(&self, key: u64) -> Option<u64> {
        self.cache.lock().get(&key).copied()
    }

    fn forgotten(&self, old: Option<u64>) {
        if let Some(old) = old {
            self.count_cached(old, 1_u32.wrapping_neg());
            // SAFETY: the reference of a slot that was taken out.
            unsafe { self.put_as(old, Owner::Cache) };
        }
    }

    fn count_cached(&self, pfn: u64, change: u32) {
        if let Some(frame) = frame(&self.frames, pfn) {
            // Relaxed: a number that the freeze checks.
            frame.cached.fetch_add(change, Relaxed);
        }
    }

    pub(super) fn cached_count(&self, pfn: u64) -> u32 {
        // Relaxed: as above.
        frame(&self.frames, pfn).map_or(0, |frame| frame.cached.load(Relaxed))
    }

    /// Makes all slots for `from`, if those are `expected`, slots for `to`.
    pub(super) fn move_slots(&self, from: u64, to: u64, expected: u32) -> bool {
        if use_up(&self.fail_cache) {
            return false;
        }
        let mut slots = self.cache.lock();
        // Counts the slots themselves, not the frame's number of them, which changes after the slot
        // does.
        let found = slots.values().filter(|pfn| **pfn == from).count();
        if usize::try_from(expected) != Ok(found) {
            return false;
        }
        for pfn in slots.values_mut().filter(|pfn| **pfn == from) {
            *pfn = to;
            self.count_cached(from, 1_u32.wrapping_neg());
            self.count_cached(to, 1);
        }
        true
    }
}
