//! The protocol's traits over this memory.

use super::frames::{frame, set_span, span, use_up};
use super::{At, Kind, Soft, SoftEntry, TierId};
use core::fmt;
use core::sync::atomic::Ordering::Relaxed;
use pagelock::PageLock;
use pagelock::futex::Futex;
use pagelock::mm::drain::{Cpus, Drain, Unlocked};
use pagelock::mm::ledger::{Change, Owner};
use pagelock::mm::migrate::{self, Mode, Outcome};
use pagelock::mm::{Brought, CopyError, Memory, Notice, ReverseMap, Span, Tables, Tiers, ToRam};

impl<F: Futex, C: Cpus> Tables for Soft<F, C> {
    type Address = At;
    type Entry<'t>
        = SoftEntry<'t, F, C>
    where
        Self: 't;

    fn lock(&self, at: At) -> Option<SoftEntry<'_, F, C>> {
        Some(self.entry(at)).filter(|entry| entry.table.is_some())
    }

    fn flush(&self) {
        self.count(|counts| &counts.flushes);
        if let Some(flush) = &mut *self.on_flush.lock() {
            flush();
        }
    }

    fn invalidate(&self, at: At, notice: Notice) {
        self.begin_invalidation(at, 1, Some(notice));
    }

    fn invalidated(&self, at: At) {
        self.end_invalidation(at);
    }
}

impl<F: Futex, C: Cpus> ReverseMap for Soft<F, C> {
    /// Every entry has a number, given when it came to name the frame; a copy gets a greater one
    /// than its original.
    fn each_mapping(&self, span: Span, mut visit: impl FnMut(At)) {
        self.count(|counts| &counts.walks);
        for pfn in span.frames() {
            let Some(frame) = frame(&self.frames, pfn) else { return };
            let mut last = 0;
            loop {
                let next = frame.rmap.lock().after(last);
                let Some((number, at)) = next else { break };
                visit(at);
                last = number;
            }
        }
    }
}

impl<F: Futex, C: Cpus> Memory for Soft<F, C> {
    type Futex = F;
    type Error = Outcome<Refusal>;

    fn header(&self, pfn: u64) -> Option<&PageLock<F>> {
        frame(&self.frames, span(&self.frames, pfn).head).map(|frame| &frame.header)
    }

    fn migrate_to_ram(&self, request: ToRam<'_, At, F>) -> Result<Brought, Outcome<Refusal>> {
        migrate::bring_back(self, request, TierId(0), self)
    }

    fn revoke_exclusive(&self, pfn: u64) {
        if let Some(revoke) = &mut *self.on_revoke.lock() {
            revoke(pfn);
        }
    }

    fn make_room(&self, at: At) -> bool {
        let make = self.on_full.lock().take();
        let Some(mut make) = make else { return false };
        let is_made = make(at);
        // Unless another was given meanwhile.
        self.on_full.lock().get_or_insert(make);
        is_made
    }

    fn busy(&self) {
        // SAFETY: the batch's own references, given back by the batch.
        self.batches.ask_all(|pfn| unsafe { self.put_as(pfn, Owner::Batch) });
    }

    fn account(&self, pfn: u64, owner: Owner, change: Change) {
        if let Some(frame) = frame(&self.frames, span(&self.frames, pfn).head) {
            frame.owners.note(owner, change);
        }
    }

    fn account_pin(&self, _pfn: u64, change: Change) {
        self.pinned.note(change);
    }
}

/// Why a page must not move.
///
/// ```
/// use pagelock::mm::{Tiers, migrate::Mode};
/// use pagelock_soft::Refusal;
/// # let (mm, at) = pagelock_soft::example();
/// mm.set_immovable(true);
/// assert_eq!(mm.prepare(mm.frame_at(at).unwrap(), Mode::Sync), Err(Refusal::Immovable));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Refusal {
    /// By [`Soft::set_immovable`](super::Soft::set_immovable).
    Immovable,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("pages are not to be moved")
    }
}

impl<F: Futex, C: Cpus> Tiers for Soft<F, C> {
    type Tier = TierId;
    type Refusal = Refusal;

    fn tier(&self, pfn: u64) -> TierId {
        frame(&self.frames, pfn).map_or(TierId(usize::MAX), |frame| frame.tier)
    }

    fn is_accessible(&self, tier: TierId) -> bool {
        !matches!(self.kind(tier), Some(Kind::Device { .. }))
    }

    fn allocate(&self, tier: TierId, order: u32) -> Option<u64> {
        let head = self.tiers.get(tier.0)?.allocate(order)?;
        set_span(&self.frames, Span { head, order });
        Some(head)
    }

    fn free(&self, pfn: u64) {
        let span = self.span(pfn);
        debug_assert!(
            self.page(span.head).is_some_and(|page| page.refs() == 0),
            "frame {pfn:#x} is freed with references"
        );
        self.dissolve(span);
        if let Some(tier) = self.tiers.get(self.tier(span.head).0) {
            tier.free(span);
        }
    }

    fn copy(&self, from: u64, to: u64) -> Result<(), CopyError> {
        if frame(&self.frames, from).is_some_and(|frame| frame.lost.load(Relaxed) > 0) {
            return Err(CopyError::SourceLost);
        }
        if self.tiers.get(self.tier(to).0).is_some_and(|tier| use_up(&tier.fail_copies)) {
            return Err(CopyError::Failed);
        }
        self.bytes.copy(from, to);
        Ok(())
    }

    fn zero(&self, pfn: u64) {
        self.bytes.zero(pfn);
    }

    fn is_zero_frame(&self, pfn: u64) -> bool {
        pfn == 0
    }

    fn span(&self, pfn: u64) -> Span {
        span(&self.frames, pfn)
    }

    fn own_header(&self, pfn: u64) -> Option<&PageLock<F>> {
        frame(&self.frames, pfn).map(|frame| &frame.header)
    }

    fn split(&self, head: u64) {
        self.dissolve(self.span(head));
    }

    fn cached(&self, pfn: u64) -> u32 {
        self.cached_count(pfn)
    }

    fn move_cached(&self, from: u64, to: u64, expected: u32) -> bool {
        if let Some(call) = &mut *self.on_move_cached.lock() {
            call(from, to);
        }
        let is_moved = self.move_slots(from, to, expected);
        if let (true, Some(call)) = (is_moved, &mut *self.on_move_cached.lock()) {
            call(to, from);
        }
        is_moved
    }

    fn moved(&self, from: u64, to: u64) {
        if let Some(moved) = &mut *self.on_moved.lock() {
            moved(from, to);
        }
    }

    fn rest(&self) {
        if let Some(rest) = &mut *self.on_rest.lock() {
            rest();
        }
    }

    fn prepare(&self, pfn: u64, mode: Mode) -> Result<(), Refusal> {
        let is_ready = self.on_prepare.lock().as_mut().is_none_or(|prepare| prepare(pfn, mode));
        // Relaxed: a test's own switch.
        match is_ready && !self.immovable.load(Relaxed) {
            true => Ok(()),
            false => Err(Refusal::Immovable),
        }
    }
}

impl<F: Futex, C: Cpus> Soft<F, C> {
    /// Empties the batch of processor `cpu`: what a processor that was [kicked](Cpus::kick) does.
    ///
    /// ```
    /// use pagelock_soft::{Config, Soft};
    /// let mm = Soft::new(Config { batches: 1, ..Config::ram_and_device(8, 8) });
    /// let at = mm.spawn().unwrap().page(0);
    /// mm.map(at, 1).unwrap();
    /// mm.write(at, 0, b"new").unwrap(); // a new page is in a batch
    /// mm.run_batch(0);
    /// assert!(!mm.is_batched(mm.frame_at(at).unwrap()));
    /// ```
    pub fn run_batch(&self, cpu: usize) {
        // SAFETY: the batch's own references, given back by the batch.
        self.batches.run(cpu, |pfn| unsafe { self.put_as(pfn, Owner::Batch) });
    }
}

impl<F: Futex, C: Cpus> Drain for Soft<F, C> {
    fn local(&self) {
        // SAFETY: the batch's own references, given back by the batch.
        self.batches.drain_local(|pfn| unsafe { self.put_as(pfn, Owner::Batch) });
    }

    fn all(&self, unlocked: &mut Unlocked) {
        // SAFETY: as above.
        self.batches.drain_all(unlocked, |pfn| unsafe { self.put_as(pfn, Owner::Batch) });
    }
}
