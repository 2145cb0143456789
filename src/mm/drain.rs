//! Batches of references, one for each processor, and how to be sure that they are empty.
//!
//! A kernel does not put its pages on its lists one by one. It collects them in batches, one for each processor, and each page in a
//! batch has a reference for that. A migrator that counts references finds one too many. So before it gives up it *drains*: has every
//! batch emptied.
//!
//! That a drain waits for every processor is what made the livelock that this crate began with: the drainer held the lock of a
//! page, a thread spun for that page, and it kept the very processor busy whose batch was to be emptied. Here it cannot be written:
//!
//! * [`drain_all`](Batches::drain_all) wants a [`DrainPermit`], which also shows what does not compile. In a migration only [`migrate::Finished`](super::migrate::Finished) gives
//!   one: the stage after every entry of the batch had been taken down and checked, and after all that did not pass have been put back
//!   and every lock is released. With a page in hand, or entries still to install, there is no such value. The fault path, which
//!   owns a page's lock, gets one when it has given that up.
//! * The processor's own batch is emptied first, and without a permit: [`drain_local`](Batches::drain_local) waits for nobody.
//! * By default even `drain_all` waits for no scheduler: the drainer empties the other batches itself. Where only its own processor can
//!   reach a batch, [`Cpus::kick`] has it do so, and the drainer sleeps until it has.
//!
//! # Orderings
//!
//! | access | ordering | pairs with |
//! |---|---|---|
//! | `asked`: add, load | AcqRel, Acquire | a batch emptied for generation g is emptied after g was asked for |
//! | `done`: store, load | Release, Acquire | whoever sees g done sees the references of the batch put |
//! | a batch's words | – | the batch's lock |

use crate::futex::{Futex, OsFutex};
use crate::lock::PageGuard;
use crate::page::PageLock;
use crate::seeded::seeded;
use crate::sync::AtomicU32;
use core::cell::UnsafeCell;
use core::fmt;
use core::marker::PhantomData;
use core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use crossbeam_utils::CachePadded;

/// How many pages a batch holds: the kernel's figure.
pub const BATCH: usize = 15;

/// Processors: threads that stand for them, or cores.
pub trait Cpus {
    /// Which of the batches is the caller's own. Nobody minds if the caller is on another processor by the time it gets the answer.
    fn current(&self) -> usize;

    /// Asks processor `cpu` to call [`Batches::run`] soon, by an interrupt or a worker. The default says that there is no need: the
    /// drainer can empty the batch itself.
    fn kick(&self, cpu: usize) -> Reach {
        let _ = cpu;
        Reach::Direct
    }
}

/// One processor.
#[derive(Clone, Copy, Debug, Default)]
pub struct OneCpu;

impl Cpus for OneCpu {
    fn current(&self) -> usize {
        0
    }
}

/// Threads that stand for processors: each is given a number when it first asks, in turn.
#[cfg(feature = "std")]
#[cfg_attr(docsrs, doc(cfg(feature = "std")))]
#[derive(Clone, Copy, Debug, Default)]
pub struct ThreadCpus;

#[cfg(feature = "std")]
impl Cpus for ThreadCpus {
    fn current(&self) -> usize {
        use core::sync::atomic::AtomicUsize;
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        std::thread_local! {
            // Relaxed: all that matters is that the numbers differ.
            static CPU: usize = NEXT.fetch_add(1, Relaxed);
        }
        CPU.with(|cpu| *cpu)
    }
}

/// How a drainer gets at another processor's batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reach {
    /// By itself, under the batch's lock.
    Direct,
    /// The processor was told, will call [`Batches::run`], and the drainer sleeps until then.
    Kicked,
}

/// One processor's batch. Put as many as there are processors wherever per-processor data is kept.
pub struct Batch<F: Futex = OsFutex> {
    /// Guards the rest. Only drainers ever wait for it; whoever adds tries, and otherwise goes without the batch.
    lock: PageLock<F>,
    /// The latest generation for which this was emptied.
    done: AtomicU32,
    held: UnsafeCell<Held>,
}

#[derive(Clone, Copy)]
struct Held {
    pfns: [u64; BATCH],
    len: usize,
}

// SAFETY: `held` is used by whoever owns `lock` only, and is plain numbers.
unsafe impl<F: Futex + Sync> Sync for Batch<F> {}

impl<F: Futex> Batch<F> {
    /// An empty batch.
    pub fn with_futex(futex: F) -> Self {
        Self {
            lock: PageLock::with_futex(futex),
            done: AtomicU32::new(0),
            held: UnsafeCell::new(Held { pfns: [0; BATCH], len: 0 }),
        }
    }

    fn held<'b>(&'b self, owner: &'b mut PageGuard<'_, F>) -> &'b mut Held {
        debug_assert!(core::ptr::eq(owner.page(), &self.lock));
        // SAFETY: the guard says that nobody else owns the lock, and it is borrowed for as long as the answer.
        unsafe { &mut *self.held.get() }
    }

    /// What the batch holds; it holds nothing then.
    fn take(&self, owner: &mut PageGuard<'_, F>) -> Held {
        core::mem::replace(self.held(owner), Held { pfns: [0; BATCH], len: 0 })
    }
}

impl<F: Futex + Default> Default for Batch<F> {
    fn default() -> Self {
        Self::with_futex(F::default())
    }
}

impl<F: Futex> fmt::Debug for Batch<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Relaxed: a look.
        f.debug_struct("Batch").field("lock", &self.lock).field("done", &self.done.load(Relaxed)).finish_non_exhaustive()
    }
}

/// The batches of all processors, over the caller's memory.
#[derive(Debug)]
pub struct Batches<B, C = OneCpu, F: Futex = OsFutex> {
    cpus: C,
    futex: F,
    asked: AtomicU32,
    each: B,
}

impl<B: AsRef<[CachePadded<Batch<F>>]>, C: Cpus, F: Futex> Batches<B, C, F> {
    /// The batches `each`, one for each processor that `cpus` tells apart.
    ///
    /// `each` is a slice of them, an array, a vector. A processor's batch is `each[cpu % each.len()]`; with none at all, nothing is
    /// ever batched.
    pub fn new(cpus: C, futex: F, each: B) -> Self {
        Self { cpus, futex, asked: AtomicU32::new(0), each }
    }

    fn each(&self) -> &[CachePadded<Batch<F>>] {
        self.each.as_ref()
    }

    fn of(&self, cpu: usize) -> Option<&Batch<F>> {
        self.each().get(cpu.checked_rem(self.each().len())?).map(|b| &**b)
    }

    /// Puts the page at `pfn` into this processor's batch, together with a reference of the caller's. If the batch is full, it is
    /// emptied first. `false` if the batch cannot be had just now: then the reference is still the caller's.
    ///
    /// `put` drops a batch's reference to a page.
    pub fn add(&self, pfn: u64, put: impl FnMut(u64)) -> bool {
        let Some(batch) = self.of(self.cpus.current()) else { return false };
        let Some(mut owner) = batch.lock.try_lock() else { return false };
        let full = (batch.held(&mut owner).len == BATCH).then(|| batch.take(&mut owner));
        let held = batch.held(&mut owner);
        held.pfns[held.len] = pfn;
        held.len += 1;
        drop(owner);
        if let Some(full) = full {
            full.put_all(put);
        }
        true
    }

    /// Empties this processor's batch. Waits for nobody's scheduler.
    pub fn drain_local(&self, put: impl FnMut(u64)) {
        if let Some(batch) = self.of(self.cpus.current()) {
            self.empty(batch, put);
        }
    }

    /// Returns once no batch has a reference that it had when this was called (I26).
    ///
    /// A drain that began after this was called, by whomever, counts: processors that it has been to are not asked twice.
    pub fn drain_all(&self, permit: DrainPermit<'_>, mut put: impl FnMut(u64)) {
        let _ = permit;
        // AcqRel: see the table.
        let generation = self.asked.fetch_add(1, AcqRel).wrapping_add(1);
        let own = self.cpus.current();
        self.drain_local(&mut put);
        if seeded!("drains-its-own-only") {
            return;
        }
        for cpu in 0..self.each().len() {
            let Some(batch) = self.of(cpu) else { continue };
            // Relaxed: it spares a kick. The look below is the one that counts.
            if is_at_least(batch.done.load(Relaxed), generation) {
                continue;
            }
            let reach = if cpu == own { Reach::Direct } else { self.cpus.kick(cpu) };
            if reach == Reach::Direct {
                self.empty(batch, &mut put);
            }
        }
        // All are kicked by now, and get to it at the same time.
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

    /// What a processor that was [kicked](Cpus::kick) does: empties its batch and says so.
    pub fn run(&self, cpu: usize, put: impl FnMut(u64)) {
        if let Some(batch) = self.of(cpu) {
            self.empty(batch, put);
        }
    }

    /// Whether `pfn` is in some batch, at this moment or that. For tests and ledgers.
    pub fn count(&self, pfn: u64) -> usize {
        self.each()
            .iter()
            .map(|batch| {
                let mut owner = batch.lock.lock();
                let held = batch.held(&mut owner);
                held.pfns[..held.len].iter().filter(|&&p| p == pfn).count()
            })
            .sum()
    }

    fn empty(&self, batch: &Batch<F>, put: impl FnMut(u64)) {
        let mut owner = batch.lock.lock();
        // Acquire: read before the batch is emptied, under its lock. All that was added before this generation was asked for is in it.
        let generation = self.asked.load(Acquire);
        let held = batch.take(&mut owner);
        // Under the lock, so that whoever sees it done finds no reference left.
        held.put_all(put);
        // Release: see the table.
        batch.done.store(generation, Release);
        drop(owner);
        self.futex.wake_all(&batch.done);
    }
}

impl Held {
    fn put_all(self, put: impl FnMut(u64)) {
        self.pfns.into_iter().take(self.len).for_each(put);
    }
}

/// Generations wrap around: `a` is not before `b`.
fn is_at_least(a: u32, b: u32) -> bool {
    a.wrapping_sub(b) < 1 << 31
}

/// The right to wait for every processor: whoever has it holds no page's lock.
///
/// Comes from [`migrate::Finished::permit`](super::migrate::Finished::permit), which exists only when a migration has let go of
/// everything; with [`Memory::drain`](super::Memory::drain), which the fault path calls when it has; or from
/// [`promise`](Self::promise), for who is in neither.
///
/// Not with pages in hand:
///
/// ```compile_fail
/// # use pagelock::mm::{Mm, drain::Drain, migrate::*};
/// fn early<'m, M: Mm>(mm: &'m M, slots: &mut [Slot<'m, M>], order: &Order<M>, drain: &impl Drain) {
///     let unmapped = collect(mm, slots, order, None).unmap();
///     drain.all(unmapped.permit()); // no such method: pages are locked
/// }
/// ```
///
/// Nor before every entry is taken down:
///
/// ```compile_fail
/// # use pagelock::mm::{Mm, drain::Drain, migrate::*};
/// fn earlier<'m, M: Mm>(mm: &'m M, slots: &mut [Slot<'m, M>], order: &Order<M>, drain: &impl Drain) {
///     let collected = collect(mm, slots, order, None);
///     drain.all(collected.permit()); // nor here
///     let _ = collected.unmap();
/// }
/// ```
///
/// Nor is a permit kept until there are pages in hand again:
///
/// ```compile_fail
/// # use pagelock::mm::{Mm, drain::Drain, migrate::*};
/// fn late<'m, M: Mm>(mm: &'m M, slots: &mut [Slot<'m, M>], order: &Order<M>, drain: &impl Drain) {
///     let mut finished = collect(mm, slots, order, None).unmap().check().copy().finalize();
///     let permit = finished.permit().unwrap();
///     let unmapped = collect(mm, slots, order, None).unmap(); // the slots are the permit's still
///     drain.all(permit);
/// }
/// ```
///
/// But like this:
///
/// ```
/// # use pagelock::mm::{Mm, drain::Drain, migrate::*};
/// fn right<'m, M: Mm>(mm: &'m M, slots: &mut [Slot<'m, M>], order: &Order<M>, drain: &impl Drain) {
///     let mut finished = collect(mm, slots, order, None).unmap().drain_local(drain).check().copy().finalize();
///     if let Some(permit) = finished.permit() {
///         drain.all(permit);
///     }
///     let _ = collect(mm, slots, order, None).unmap().check().copy().finalize();
/// }
/// ```
#[derive(Debug)]
pub struct DrainPermit<'f>(PhantomData<&'f mut ()>);

impl DrainPermit<'_> {
    /// For the places in this module tree that have let go of everything.
    pub(super) fn released() -> Self {
        Self(PhantomData)
    }

    /// The caller's word that it holds no page's lock. A lie is the livelock that this type exists to prevent, and nothing worse.
    #[must_use]
    pub fn promise() -> DrainPermit<'static> {
        DrainPermit(PhantomData)
    }
}

/// Where a migration has batches drained: [`Batches`] and how to put a page's reference, put together by the owner of both.
pub trait Drain {
    /// Empties the batch of the processor that this runs on. Waits for nobody's scheduler: page locks are held.
    fn local(&self);

    /// Returns once every batch is empty of what it held at the call.
    fn all(&self, permit: DrainPermit<'_>);
}

/// There are no batches.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoBatches;

impl Drain for NoBatches {
    fn local(&self) {}
    fn all(&self, _permit: DrainPermit<'_>) {}
}
