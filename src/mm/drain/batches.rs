//! The batches of all processors: add, drain, ask.

use super::batch::{ASKED, FREE, HELD, Holder};
use super::{BATCH, Batch, CachePadded, Cpus, OneCpu, Reach, Unlocked};
use crate::futex::{Futex, OsFutex};
use crate::sync::{AtomicU32, const_unless_loom};
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

/// The batches of all processors, over the caller's memory.
#[derive(Debug)]
pub struct Batches<B, C = OneCpu, F: Futex = OsFutex> {
    cpus: C,
    futex: F,
    asked: AtomicU32,
    each: B,
}

impl<B, C, F: Futex> Batches<B, C, F> {
    const_unless_loom! {
        /// The batches `each`, one for each processor that `cpus` tells apart. Both can be statics.
        ///
        /// `each` is a slice of them, an array, a vector. A processor's batch is
        /// `each[cpu % each.len()]`; with none at all, nothing is ever batched.
        pub fn new(cpus: C, futex: F, each: B) -> Self {
            Self { cpus, futex, asked: AtomicU32::new(0), each }
        }
    }
}

impl<B: AsRef<[CachePadded<Batch<F>>]>, C: Cpus, F: Futex> Batches<B, C, F> {
    fn each(&self) -> &[CachePadded<Batch<F>>] {
        self.each.as_ref()
    }

    fn of(&self, cpu: usize) -> Option<&Batch<F>> {
        self.each().get(cpu.checked_rem(self.each().len())?).map(|b| &**b)
    }

    fn holder<'b>(&'b self, batch: &'b Batch<F>) -> Holder<'b, F> {
        Holder { batch, asked: &self.asked, futex: self.futex }
    }

    /// Holds `batch`, if nobody else does.
    fn try_hold<'b>(&'b self, batch: &'b Batch<F>) -> Option<Holder<'b, F>> {
        // Acquire: pairs with the Release of `let_go`.
        let held = batch.word.compare_exchange(FREE, HELD, Acquire, Relaxed);
        held.is_ok().then(|| self.holder(batch))
    }

    /// Puts the page at `pfn` into this processor's batch, together with a reference of the
    /// caller's. If the batch is full, it is emptied first. `false` if the batch is in use just
    /// now: then the reference is still the caller's.
    ///
    /// `put` drops a batch's reference to a page.
    pub fn add(&self, pfn: u64, mut put: impl FnMut(u64)) -> bool {
        let Some(batch) = self.of(self.cpus.current()) else { return false };
        let Some(mut holder) = self.try_hold(batch) else { return false };
        if holder.held(|held| held.len == BATCH) {
            holder.empty(&mut put);
        }
        // There is room by now. Asked, and not asserted, so that nothing here can panic.
        let is_in = holder.held(|held| {
            let place = held.pfns.get_mut(held.len).map(|place| *place = pfn);
            held.len += usize::from(place.is_some());
            place.is_some()
        });
        holder.release(put);
        is_in
    }

    /// Empties this processor's batch, or if somebody is using it leaves that to him. Waits for
    /// nobody.
    pub fn drain_local(&self, put: impl FnMut(u64)) {
        self.run(self.cpus.current(), put);
    }

    /// Returns once no batch has a reference that it had when this was called, and all of those are
    /// put (I26).
    ///
    /// A drain that began after this was called, by whomever, counts: processors that it has been
    /// to are not asked twice.
    ///
    /// There is no limit to it: it takes as long as the slowest of the processors that were kicked,
    /// or of those who are using a batch. Not to be called in an interrupt, nor in a `put`.
    pub fn drain_all(&self, unlocked: &mut Unlocked, mut put: impl FnMut(u64)) {
        let _ = unlocked;
        // Relaxed: that a batch is emptied for this generation after it was asked for is in each
        // batch's word. A holder whom this asks takes note of that before it reads `asked`, so it
        // reads no older generation. And one who reads this generation without having been asked
        // has every page that was added before: if it had held the batch before the page was added,
        // then its reading would have come before this line, by way of the word, and could not have
        // read it.
        let generation = self.asked.fetch_add(1, Relaxed).wrapping_add(1);
        let own = self.cpus.current();
        self.run(own, &mut put);
        for cpu in 0..self.each().len() {
            let Some(batch) = self.of(cpu) else { continue };
            // Relaxed: it spares a kick. The look below is the one that counts.
            if is_at_least(batch.done.load(Relaxed), generation) {
                continue;
            }
            self.ask(cpu, own, &mut put);
        }
        // All are told by now, and get to it at the same time.
        for batch in self.each() {
            loop {
                // Acquire: see the table.
                let done = batch.done.load(Acquire);
                if is_at_least(done, generation) {
                    break;
                }
                // Whatever ends the sleep, the look at `done` decides.
                let _ = self.futex.wait(&batch.done, done);
            }
        }
    }

    /// Has every batch emptied as soon as may be, and waits for nobody: this processor's, and those
    /// that can be reached and are not in use, are empty on return; of the others those who use
    /// them, or whose they are, have been asked.
    ///
    /// For who cannot wait because locks are held, or may be, and tries again later: a
    /// [fault](super::Memory::busy).
    pub fn ask_all(&self, mut put: impl FnMut(u64)) {
        let own = self.cpus.current();
        self.run(own, &mut put);
        for cpu in (0..self.each().len()).filter(|&cpu| cpu != own) {
            self.ask(cpu, own, &mut put);
        }
    }

    /// Has processor `cpu` empty its batch, or does it for it. Called on processor `own`.
    fn ask(&self, cpu: usize, own: usize, put: impl FnMut(u64)) {
        if cpu == own || self.cpus.kick(cpu) == Reach::Direct {
            self.run(cpu, put);
        }
    }

    /// What a processor that was [kicked](Cpus::kick) does: empties its batch and says so. If the
    /// batch is in use, by another thread or by the very one that this interrupts, it is emptied
    /// and said so before it is let go of.
    ///
    /// Waits for nobody, so it may be called in an interrupt, if `put` and the platform's wake may.
    pub fn run(&self, cpu: usize, put: impl FnMut(u64)) {
        let Some(batch) = self.of(cpu) else { return };
        // Release: the holder who takes note of it sees what was asked for before. If there is
        // none, this is the next, takes note itself before it does anything else, and that is when
        // it acquires what the last one left.
        if batch.word.fetch_or(HELD | ASKED, Release) & HELD == 0 {
            self.holder(batch).release(put);
        }
    }

    /// In how many places of the batches `pfn` is, at this moment or that. For tests and ledgers:
    /// it tries until it has had each batch, which may be asked for meanwhile, and then has to be
    /// emptied by this. Not to be called in a `put`.
    pub fn count(&self, pfn: u64, mut put: impl FnMut(u64)) -> usize {
        let mut found = 0;
        for batch in self.each() {
            let mut holder = loop {
                match self.try_hold(batch) {
                    Some(holder) => break holder,
                    None => self.futex.relax(),
                }
            };
            found +=
                holder.held(|held| held.pfns[..held.len].iter().filter(|&&p| p == pfn).count());
            holder.release(&mut put);
        }
        found
    }
}

/// Generations wrap around: `a` is not before `b`.
fn is_at_least(a: u32, b: u32) -> bool {
    a.wrapping_sub(b) < 1 << 31
}
