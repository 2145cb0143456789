//! Failures on demand.

use super::{At, Soft, TierId};
use alloc::boxed::Box;
use core::sync::atomic::Ordering::Relaxed;
use pagelock::futex::Futex;
use pagelock::mm::drain::Cpus;
use pagelock::mm::migrate::Mode;

// Relaxed, throughout: switches that a test sets before what it tests.
impl<F: Futex, C: Cpus> Soft<F, C> {
    /// The next `n` allocations in `tier` fail.
    pub fn fail_allocations(&self, tier: TierId, n: usize) {
        if let Some(tier) = self.tiers.get(tier.0) {
            tier.fail_allocations.store(n, Relaxed);
        }
    }

    /// The next `n` allocations of large pages in `tier` fail.
    pub fn fail_large_allocations(&self, tier: TierId, n: usize) {
        if let Some(tier) = self.tiers.get(tier.0) {
            tier.fail_large.store(n, Relaxed);
        }
    }

    /// The next `n` copies of a frame to `tier` fail, with the source whole.
    pub fn fail_copies(&self, tier: TierId, n: usize) {
        if let Some(tier) = self.tiers.get(tier.0) {
            tier.fail_copies.store(n, Relaxed);
        }
    }

    /// Whether frame `pfn` can no longer be read.
    pub fn set_lost(&self, pfn: u64, is_lost: bool) {
        if let Some(frame) = super::frames::frame(&self.frames, pfn) {
            frame.lost.store(u32::from(is_lost), Relaxed);
        }
    }

    /// Whether every migration is refused.
    pub fn set_immovable(&self, is_immovable: bool) {
        self.immovable.store(is_immovable, Relaxed);
    }

    /// Who is told that a device's exclusive access to a frame has ended.
    pub fn on_revoke(&self, tell: impl FnMut(u64) + Send + 'static) {
        *self.on_revoke.lock() = Some(Box::new(tell));
    }

    /// The next `n` times that a cached page moves, the cache has changed.
    pub fn fail_cache(&self, n: usize) {
        self.fail_cache.store(n, Relaxed);
    }

    /// Who is called with the frames that a cached page moves from and to, in this order before the
    /// cache is changed, and in the other one right after it.
    pub fn on_move_cached(&self, call: impl FnMut(u64, u64) + Send + 'static) {
        *self.on_move_cached.lock() = Some(Box::new(call));
    }

    /// Who is called when a migration has locked a page and before it announces that the page is
    /// about to move. Its entry may be locked.
    pub fn on_prepare(&self, mut call: impl FnMut(u64) + Send + 'static) {
        self.on_ask(move |pfn, _| {
            call(pfn);
            true
        });
    }

    /// Who is asked then, with what may be waited for, whether the page may move.
    pub fn on_ask(&self, ask: impl FnMut(u64, Mode) -> bool + Send + 'static) {
        *self.on_prepare.lock() = Some(Box::new(ask));
    }

    /// Who is called with the frames that a page moves from and to, both locked.
    pub fn on_moved(&self, call: impl FnMut(u64, u64) + Send + 'static) {
        *self.on_moved.lock() = Some(Box::new(call));
    }

    /// Who is called when translations are flushed: to have that take its time, as it does where
    /// processors have to be asked.
    pub fn on_flush(&self, call: impl FnMut() + Send + 'static) {
        *self.on_flush.lock() = Some(Box::new(call));
    }

    /// Who is called between two batches.
    pub fn on_rest(&self, call: impl FnMut() + Send + 'static) {
        *self.on_rest.lock() = Some(Box::new(call));
    }

    /// Who is asked to make room when a page is to be brought back and tier 0 is full. The answer
    /// says whether it is to be tried again.
    pub fn on_full(&self, make: impl FnMut(At) -> bool + Send + 'static) {
        *self.on_full.lock() = Some(Box::new(make));
    }
}
