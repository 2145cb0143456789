//! The batches of all processors: add, drain, ask.

use super::batch::{ASKED, FREE, HELD, Holder};
use super::{BATCH, Batch, CachePadded, Cpus, OneCpu, Reach, Unlocked};
use crate::futex::{Futex, OsFutex};
use crate::sync::{AtomicU32, const_unless_loom};
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

/// The batches of all processors, over the caller's memory.
///
/// ```
/// use pagelock::OsFutex;
/// use pagelock::mm::drain::{Batch, Batches, CachePadded, OneCpu, Unlocked};
/// let batches =
///     Batches::new(OneCpu, OsFutex, [CachePadded::new(Batch::with_futex(OsFutex))]);
/// assert!(batches.add(7, |pfn| panic!("room for {pfn}"))); // with a reference to page 7
/// let mut unlocked = Unlocked::promise(); // the top of a thread
/// let mut put = Vec::new();
/// batches.drain_all(&mut unlocked, |pfn| put.push(pfn)); // drops the reference
/// assert_eq!(put, [7]);
/// ```
#[derive(Debug)]
pub struct Batches<B, C = OneCpu, F: Futex = OsFutex> {
    cpus: C,
    futex: F,
    asked: AtomicU32,
    each: B,
}

impl<B, C, F: Futex> Batches<B, C, F> {
    const_unless_loom! {
        /// The batches `each`, one for each processor that `cpus` tells apart. `const`, so that
        /// both can be statics.
        ///
        /// `each` is a slice of batches, an array, a vector. A processor's batch is `each[cpu %
        /// each.len()]`; with none at all, nothing is ever batched.
        ///
        /// ```
        /// use pagelock::OsFutex;
        /// use pagelock::mm::drain::{Batch, Batches, CachePadded, OneCpu};
        /// let no_batch: [CachePadded<Batch>; 0] = [];
        /// let none = Batches::new(OneCpu, OsFutex, no_batch);
        /// assert!(!none.add(7, |_| {})); // the reference is still the caller's
        /// ```
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

    /// Puts the page at `pfn` into this processor's batch, with a reference of the caller's. A full
    /// batch is emptied first. `false`: the batch is in use just now, and the reference is still
    /// the caller's.
    ///
    /// `put` drops a batch's reference to a page.
    ///
    /// ```
    /// use pagelock::OsFutex;
    /// use pagelock::mm::drain::{BATCH, Batch, Batches, CachePadded, OneCpu};
    /// let batches =
    ///     Batches::new(OneCpu, OsFutex, [CachePadded::new(Batch::with_futex(OsFutex))]);
    /// let mut put = 0;
    /// for pfn in 0..=BATCH as u64 {
    ///     assert!(batches.add(pfn, |_| put += 1));
    /// }
    /// assert_eq!(put, BATCH); // the last found the batch full
    /// ```
    pub fn add(&self, pfn: u64, mut put: impl FnMut(u64)) -> bool {
        let Some(batch) = self.of(self.cpus.current()) else { return false };
        let Some(mut holder) = self.try_hold(batch) else { return false };
        if holder.contents(|contents| contents.len == BATCH) {
            holder.empty(&mut put);
        }
        // There is room by now. Checked, not asserted, so that nothing here can panic.
        let is_in = holder.contents(|contents| {
            let place = contents.pfns.get_mut(contents.len).map(|place| *place = pfn);
            contents.len += usize::from(place.is_some());
            place.is_some()
        });
        holder.release(put);
        is_in
    }

    /// Empties this processor's batch, or leaves that to the thread that is using it. Waits for
    /// nobody.
    ///
    /// ```
    /// use pagelock::OsFutex;
    /// use pagelock::mm::drain::{Batch, Batches, CachePadded, OneCpu};
    /// let batches =
    ///     Batches::new(OneCpu, OsFutex, [CachePadded::new(Batch::with_futex(OsFutex))]);
    /// batches.add(7, |_| {});
    /// batches.drain_local(|pfn| assert_eq!(pfn, 7));
    /// assert_eq!(batches.count(7, |_| {}), 0);
    /// ```
    pub fn drain_local(&self, put: impl FnMut(u64)) {
        self.run(self.cpus.current(), put);
    }

    /// Returns once no batch has a reference that it had when this was called, and all of those are
    /// put (I26).
    ///
    /// A drain that another thread began after this call counts: processors that it has reached are
    /// not asked twice.
    ///
    /// No limits apply: this takes as long as the slowest of the processors that were kicked, or of
    /// the threads that are using a batch. Do not call it in an interrupt, nor in a `put`.
    /// [`Batches`] has an example.
    ///
    /// ```
    /// use pagelock::OsFutex;
    /// use pagelock::mm::drain::{Batch, Batches, CachePadded, OneCpu, Unlocked};
    /// let each = [const { CachePadded::new(Batch::with_futex(OsFutex)) }; 2];
    /// let batches = Batches::new(OneCpu, OsFutex, each);
    /// batches.add(7, |_| {});
    /// let mut unlocked = Unlocked::promise(); // the top of a thread
    /// batches.drain_all(&mut unlocked, |_| {});
    /// assert_eq!(batches.count(7, |_| {}), 0);
    /// ```
    pub fn drain_all(&self, unlocked: &mut Unlocked, mut put: impl FnMut(u64)) {
        let _ = unlocked;
        // Relaxed: each batch's word orders its emptying after the ask for this generation. A
        // holder whom this asks takes note of that before it reads `asked`, so it reads no older
        // generation. A holder who reads this generation without having been asked has every page
        // that was added before: had it held the batch before the page was added, its read would
        // have come before this line, by way of the word, and could not have returned this
        // generation.
        let generation = self.asked.fetch_add(1, Relaxed).wrapping_add(1);
        let own = self.cpus.current();
        self.run(own, &mut put);
        for cpu in 0..self.each().len() {
            let Some(batch) = self.of(cpu) else { continue };
            // Relaxed: a hint that spares a kick. The Acquire load below decides.
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
                // However the sleep ends, the look at `done` decides.
                let _ = self.futex.wait(&batch.done, done);
            }
        }
    }

    /// Has every batch emptied as soon as may be, and waits for nobody. On return this processor's
    /// batch is empty, and so are those that can be reached and are not in use. The holders or
    /// processors of the others have been asked.
    ///
    /// For a caller that cannot wait, because locks are held or may be, and that tries again later:
    /// a [fault](crate::mm::Memory::busy).
    ///
    /// ```
    /// use pagelock::OsFutex;
    /// use pagelock::mm::drain::{Batch, Batches, CachePadded, OneCpu};
    /// let batches =
    ///     Batches::new(OneCpu, OsFutex, [CachePadded::new(Batch::with_futex(OsFutex))]);
    /// batches.add(7, |_| {});
    /// batches.ask_all(|pfn| assert_eq!(pfn, 7));
    /// assert_eq!(batches.count(7, |_| {}), 0);
    /// ```
    pub fn ask_all(&self, mut put: impl FnMut(u64)) {
        let own = self.cpus.current();
        self.run(own, &mut put);
        for cpu in (0..self.each().len()).filter(|&cpu| cpu != own) {
            self.ask(cpu, own, &mut put);
        }
    }

    /// Has processor `cpu` empty its batch, or empties it from here. Called on processor `own`.
    fn ask(&self, cpu: usize, own: usize, put: impl FnMut(u64)) {
        if cpu == own || self.cpus.kick(cpu) == Reach::Direct {
            self.run(cpu, put);
        }
    }

    /// Empties processor `cpu`'s batch and says so: what a processor that was [kicked](Cpus::kick)
    /// does. If the batch is in use, by another thread or by the very one that this interrupts, its
    /// holder empties it and says so before it lets go.
    ///
    /// Waits for nobody, so it may be called in an interrupt, if `put` and the platform's wake may.
    ///
    /// ```
    /// use pagelock::OsFutex;
    /// use pagelock::mm::drain::{Batch, Batches, CachePadded, OneCpu};
    /// let batches =
    ///     Batches::new(OneCpu, OsFutex, [CachePadded::new(Batch::with_futex(OsFutex))]);
    /// batches.add(7, |_| {});
    /// batches.run(0, |pfn| assert_eq!(pfn, 7)); // in processor 0's interrupt
    /// ```
    pub fn run(&self, cpu: usize, put: impl FnMut(u64)) {
        let Some(batch) = self.of(cpu) else { return };
        // Release: the holder that takes note of it sees what was asked for before. If nobody holds
        // the batch, this thread is the next holder. It takes note itself before it does anything
        // else, and by that acquires what the last holder left.
        if batch.word.fetch_or(HELD | ASKED, Release) & HELD == 0 {
            self.holder(batch).release(put);
        }
    }

    /// How many places of the batches have `pfn`, counted one batch at a time. For tests and
    /// ledgers: it tries until it has held each batch, and empties a batch for which it is asked
    /// meanwhile. Do not call it in a `put`.
    ///
    /// ```
    /// use pagelock::OsFutex;
    /// use pagelock::mm::drain::{Batch, Batches, CachePadded, OneCpu};
    /// let batches =
    ///     Batches::new(OneCpu, OsFutex, [CachePadded::new(Batch::with_futex(OsFutex))]);
    /// batches.add(7, |_| {});
    /// batches.add(7, |_| {});
    /// assert_eq!(batches.count(7, |_| {}), 2);
    /// ```
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
                holder.contents(|all| all.pfns[..all.len].iter().filter(|&&p| p == pfn).count());
            holder.release(&mut put);
        }
        found
    }
}

/// Whether generation `a` is `b` or later. Generations wrap around.
fn is_at_least(a: u32, b: u32) -> bool {
    a.wrapping_sub(b) < 1 << 31
}
