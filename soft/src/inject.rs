//! Failures on demand, and functions that are called at the steps of the protocol.

use super::{At, Soft, TierId};
use alloc::boxed::Box;
use core::sync::atomic::Ordering::Relaxed;
use pagelock::futex::Futex;
use pagelock::mm::drain::Cpus;
use pagelock::mm::migrate::Mode;

// Relaxed, throughout: switches that a test sets before what it tests.
impl<F: Futex, C: Cpus> Soft<F, C> {
    /// The next `n` allocations in `tier` fail.
    ///
    /// ```
    /// use pagelock::mm::Tiers;
    /// use pagelock_soft::TierId;
    /// # let (mm, at) = pagelock_soft::example();
    /// mm.fail_allocations(TierId(1), 1);
    /// assert_eq!(mm.allocate(TierId(1), 0), None);
    /// assert!(mm.allocate(TierId(1), 0).is_some());
    /// ```
    pub fn fail_allocations(&self, tier: TierId, n: usize) {
        if let Some(tier) = self.tiers.get(tier.0) {
            tier.fail_allocations.store(n, Relaxed);
        }
    }

    /// The next `n` allocations of large pages in `tier` fail.
    ///
    /// ```
    /// use pagelock::mm::Tiers;
    /// use pagelock_soft::TierId;
    /// # let (mm, at) = pagelock_soft::example();
    /// mm.fail_large_allocations(TierId(1), 1);
    /// assert_eq!(mm.allocate(TierId(1), 3), None);
    /// ```
    pub fn fail_large_allocations(&self, tier: TierId, n: usize) {
        if let Some(tier) = self.tiers.get(tier.0) {
            tier.fail_large.store(n, Relaxed);
        }
    }

    /// The next `n` copies of a frame to `tier` fail, with the source whole.
    ///
    /// ```
    /// use pagelock::mm::{CopyError, Tiers};
    /// use pagelock_soft::TierId;
    /// # let (mm, at) = pagelock_soft::example();
    /// mm.fail_copies(TierId(1), 1);
    /// assert_eq!(mm.copy(mm.frame_at(at).unwrap(), 40), Err(CopyError::Failed));
    /// ```
    pub fn fail_copies(&self, tier: TierId, n: usize) {
        if let Some(tier) = self.tiers.get(tier.0) {
            tier.fail_copies.store(n, Relaxed);
        }
    }

    /// Sets whether frame `pfn` can no longer be copied.
    ///
    /// ```
    /// use pagelock::mm::{CopyError, Tiers};
    /// # let (mm, at) = pagelock_soft::example();
    /// let pfn = mm.frame_at(at).unwrap();
    /// mm.set_lost(pfn, true);
    /// assert_eq!(mm.copy(pfn, 40), Err(CopyError::SourceLost));
    /// ```
    pub fn set_lost(&self, pfn: u64, is_lost: bool) {
        if let Some(frame) = super::frames::frame(&self.frames, pfn) {
            frame.lost.store(u32::from(is_lost), Relaxed);
        }
    }

    /// Sets whether every migration is refused.
    ///
    /// ```
    /// use pagelock::mm::{Tiers, migrate::Mode};
    /// # let (mm, at) = pagelock_soft::example();
    /// mm.set_immovable(true);
    /// assert!(mm.prepare(mm.frame_at(at).unwrap(), Mode::Async).is_err());
    /// ```
    pub fn set_immovable(&self, is_immovable: bool) {
        self.immovable.store(is_immovable, Relaxed);
    }

    /// Sets the function that is told the frame when a device's exclusive access ends.
    ///
    /// ```
    /// use pagelock::mm::exclusive::make_exclusive;
    /// # let (mm, at) = pagelock_soft::example();
    /// let (send, revoked) = std::sync::mpsc::channel();
    /// mm.on_revoke(move |pfn| send.send(pfn).unwrap());
    /// let pfn = make_exclusive(&mm, at).unwrap().pfn();
    /// mm.read(at, 0, &mut [0]).unwrap();
    /// assert_eq!(revoked.try_recv(), Ok(pfn));
    /// ```
    pub fn on_revoke(&self, tell: impl FnMut(u64) + Send + 'static) {
        *self.on_revoke.lock() = Some(Box::new(tell));
    }

    /// The next `n` times that a cached page moves, the cache has changed.
    ///
    /// ```
    /// use pagelock::mm::Tiers;
    /// # let (mm, at) = pagelock_soft::example();
    /// let pfn = mm.frame_at(at).unwrap();
    /// mm.cache(100, pfn).unwrap();
    /// mm.fail_cache(1);
    /// assert!(!mm.move_cached(pfn, 40, 1));
    /// ```
    pub fn fail_cache(&self, n: usize) {
        self.fail_cache.store(n, Relaxed);
    }

    /// Sets the function that is called with the frames that a cached page moves from and to, in
    /// this order before the cache is changed, and in the other one right after it.
    ///
    /// ```
    /// use pagelock::mm::{drain::Unlocked, migrate::{Order, Slot, migrate}};
    /// # let (mm, at) = pagelock_soft::example();
    /// mm.cache(100, mm.frame_at(at).unwrap()).unwrap();
    /// let (send, calls) = std::sync::mpsc::channel();
    /// mm.on_move_cached(move |from, to| send.send((from, to)).unwrap());
    /// let order = Order::to(pagelock_soft::TierId(1));
    /// let _ = migrate(&mm, &mut [Slot::at(at)], &order, &mm, &mut Unlocked::promise());
    /// assert_eq!(calls.try_iter().count(), 2);
    /// ```
    pub fn on_move_cached(&self, call: impl FnMut(u64, u64) + Send + 'static) {
        *self.on_move_cached.lock() = Some(Box::new(call));
    }

    /// Sets the function that is called when a migration has locked a page and before it announces
    /// that the page is about to move. The page's entry may be locked.
    ///
    /// ```
    /// use pagelock::mm::{drain::Unlocked, migrate::{Order, Slot, migrate}};
    /// # let (mm, at) = pagelock_soft::example();
    /// let (send, locked) = std::sync::mpsc::channel();
    /// mm.on_prepare(move |pfn| send.send(pfn).unwrap());
    /// let pfn = mm.frame_at(at).unwrap();
    /// let order = Order::to(pagelock_soft::TierId(1));
    /// let _ = migrate(&mm, &mut [Slot::at(at)], &order, &mm, &mut Unlocked::promise());
    /// assert_eq!(locked.try_recv(), Ok(pfn));
    /// ```
    pub fn on_prepare(&self, mut call: impl FnMut(u64) + Send + 'static) {
        self.on_ask(move |pfn, _| {
            call(pfn);
            true
        });
    }

    /// [`on_prepare`](Self::on_prepare) with the mode, which says what it may wait for, and with an
    /// answer: whether the page may move.
    ///
    /// ```
    /// use pagelock::mm::{Tiers, migrate::Mode};
    /// # let (mm, at) = pagelock_soft::example();
    /// mm.on_ask(|_, mode| mode == Mode::Sync);
    /// assert!(mm.prepare(mm.frame_at(at).unwrap(), Mode::Async).is_err());
    /// ```
    pub fn on_ask(&self, ask: impl FnMut(u64, Mode) -> bool + Send + 'static) {
        *self.on_prepare.lock() = Some(Box::new(ask));
    }

    /// Sets the function that is called with the frames that a page moves from and to, both locked.
    ///
    /// ```
    /// use pagelock::mm::{drain::Unlocked, migrate::{Order, Slot, migrate}};
    /// # let (mm, at) = pagelock_soft::example();
    /// let (send, moved) = std::sync::mpsc::channel();
    /// mm.on_moved(move |from, to| send.send((from, to)).unwrap());
    /// let order = Order::to(pagelock_soft::TierId(1));
    /// let _ = migrate(&mm, &mut [Slot::at(at)], &order, &mm, &mut Unlocked::promise());
    /// assert_eq!(moved.try_iter().count(), 1);
    /// ```
    pub fn on_moved(&self, call: impl FnMut(u64, u64) + Send + 'static) {
        *self.on_moved.lock() = Some(Box::new(call));
    }

    /// Sets the function that is called when translations are flushed, for instance to make that
    /// take its time, as it does where other processors have to be asked.
    ///
    /// ```
    /// use pagelock::mm::Tables;
    /// # let (mm, at) = pagelock_soft::example();
    /// let (send, flushes) = std::sync::mpsc::channel();
    /// mm.on_flush(move || send.send(()).unwrap());
    /// mm.flush();
    /// assert_eq!(flushes.try_iter().count(), 1);
    /// ```
    pub fn on_flush(&self, call: impl FnMut() + Send + 'static) {
        *self.on_flush.lock() = Some(Box::new(call));
    }

    /// Sets the function that is called between two batches.
    ///
    /// ```
    /// use pagelock::mm::Tiers;
    /// # let (mm, at) = pagelock_soft::example();
    /// let (send, rests) = std::sync::mpsc::channel();
    /// mm.on_rest(move || send.send(()).unwrap());
    /// mm.rest();
    /// assert_eq!(rests.try_iter().count(), 1);
    /// ```
    pub fn on_rest(&self, call: impl FnMut() + Send + 'static) {
        *self.on_rest.lock() = Some(Box::new(call));
    }

    /// Sets the function that makes room when a page has to be brought back and tier 0 is full. Its
    /// answer says whether to try again.
    ///
    /// ```
    /// use pagelock::mm::Memory;
    /// # let (mm, at) = pagelock_soft::example();
    /// mm.on_full(move |full_at| full_at == at);
    /// assert!(mm.make_room(at) && !mm.make_room(at.space.page(1)));
    /// ```
    pub fn on_full(&self, make: impl FnMut(At) -> bool + Send + 'static) {
        *self.on_full.lock() = Some(Box::new(make));
    }
}
