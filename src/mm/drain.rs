//! Batches of references, one for each processor, and how to be sure that they are empty.
//!
//! A kernel does not put its pages on its lists one by one. It collects them in batches, one for
//! each processor, and each page in a batch has a reference for that. A migrator that counts
//! references finds one too many. So before it gives up it *drains*: has every batch emptied.
//!
//! That a drain waits for every processor is what made the livelock that this crate began with: the
//! drainer held the lock of a page, a thread spun for that page, and it kept the very processor
//! busy whose batch was to be emptied. Here that cannot be written by mistake:
//!
//! * [`drain_all`](Batches::drain_all) borrows the thread's [`Unlocked`], of which there is one. So
//!   does whatever keeps pages locked: [`collect`](super::migrate::collect) has it until the
//!   batch's last stage is consumed or dropped. While pages are in hand there is nothing to drain
//!   with; and with a borrow given to one batch there is no second one, and no
//!   [`migrate`](super::migrate::migrate) in the middle of it.
//! * What is called with pages locked gets none: [`migrate_to_ram`](super::Memory::migrate_to_ram),
//!   [`prepare`](super::Tiers::prepare), [`allocate`](super::Tiers::allocate), [`Drain::local`],
//!   the `put` of a batch. A fault gets none either, for it may come in the middle of anything. It
//!   has batches emptied by [`ask_all`](Batches::ask_all), which waits for nobody, and comes again.
//! * The processor's own batch is emptied first: [`drain_local`](Batches::drain_local) waits for
//!   nobody.
//! * By default `drain_all` empties the other batches itself, and waits only for who is in the
//!   middle of using one. Where only its own processor can reach a batch, [`Cpus::kick`] has it do
//!   so, and the drainer sleeps until it has.
//!
//! # Who has a batch
//!
//! A batch is held while it is used, and nobody ever waits to hold one. Whoever adds a page and
//! finds the batch held goes without. Whoever is to empty it and finds it held *asks*, by a bit in
//! the very word that says so, and goes away; the holder cannot let go of a batch for which it is
//! asked, and empties it first. So [`run`](Batches::run) may be called in an interrupt that came in
//! the middle of [`add`](Batches::add), and a migrator that has pages locked never waits for
//! another drainer, which may not be running. The one who waits is `drain_all`, for the word that
//! says up to which drain a batch was emptied.
//!
//! `put` is called with the batch held: when a drain is over, what was in a batch before is put,
//! and not just about to be. To drain from there would be to wait for itself, and it has nothing to
//! do that with. If it panics, references for which it was not called yet are lost.
//!
//! # Orderings
//!
//! | access | ordering | pairs with |
//! |---|---|---|
//! | `word`: to hold | Acquire | the former holder's letting go: what it left in the batch |
//! | `word`: to let go | Release | the above |
//! | `word`: to hold or ask | Release | the holder's taking note of it |
//! | `word`: to take note | Acquire | the ask: no older generation is read. It also passes on the former holder's letting go |
//! | `asked`: add, load | Relaxed | ordered by `word`: see [`Batches::drain_all`]'s source |
//! | `done`: store, load | Release, Acquire | whoever sees g done sees the references of the batch put |
//! | a batch's pages | – | `word` |

use crate::futex::{Futex, OsFutex};
use crate::sync::{AtomicU32, const_unless_loom};
use core::fmt;
use core::marker::PhantomData;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
pub use crossbeam_utils::CachePadded;
#[cfg(pagelock_loom)]
use loom::cell::UnsafeCell;

/// How many pages a batch holds: the kernel's figure.
pub const BATCH: usize = 15;

/// Processors: threads that stand for them, or cores.
///
/// Both may be called with locks held, and wait for nobody: [the
/// table](crate::mm#what-is-held-when-the-embedder-is-called).
pub trait Cpus {
    /// Which of the batches is the caller's own. Nobody minds if the caller is on another processor
    /// by the time it gets the answer.
    fn current(&self) -> usize;

    /// Asks processor `cpu` to call [`Batches::run`] soon, by an interrupt or a worker. That call
    /// comes after this one, as sending an interrupt and queueing work see to. The default says
    /// that there is no need: the drainer can empty the batch itself.
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
    /// By itself, or by who has the batch just then.
    Direct,
    /// The processor was told, will call [`Batches::run`], and the drainer sleeps until then.
    Kicked,
}

/// The batch is held by nobody, and nobody asks for it.
const FREE: u32 = 0;
/// Somebody uses the batch.
const HELD: u32 = 1;
/// It is to be emptied before it is let go of. Only together with [`HELD`].
const ASKED: u32 = 2;

/// One processor's batch. Put as many as there are processors wherever per-processor data is kept.
pub struct Batch<F: Futex = OsFutex> {
    /// [`FREE`], [`HELD`], or that and [`ASKED`]. Nobody waits for it.
    word: AtomicU32,
    /// The latest generation for which this was emptied. Drainers sleep on it.
    done: AtomicU32,
    held: UnsafeCell<Held>,
    /// The platform on which they sleep.
    futex: PhantomData<F>,
}

struct Held {
    pfns: [u64; BATCH],
    len: usize,
}

impl Held {
    const EMPTY: Self = Self { pfns: [0; BATCH], len: 0 };

    fn put_all(self, put: impl FnMut(u64)) {
        self.pfns.into_iter().take(self.len).for_each(put);
    }
}

// SAFETY: `held` is used by whoever holds `word` only, and is plain numbers.
unsafe impl<F: Futex + Sync> Sync for Batch<F> {}

impl<F: Futex> Batch<F> {
    const_unless_loom! {
        /// An empty batch, whose drainers sleep on the platform `futex`.
        #[must_use]
        pub fn with_futex(futex: F) -> Self {
            let _ = futex;
            Self { word: AtomicU32::new(FREE), done: AtomicU32::new(0), held: UnsafeCell::new(Held::EMPTY), futex: PhantomData }
        }
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
        f.debug_struct("Batch").field("done", &self.done.load(Relaxed)).finish_non_exhaustive()
    }
}

/// Whoever holds a batch. [`release`](Self::release) lets go of it.
struct Holder<'b, F: Futex> {
    batch: &'b Batch<F>,
    asked: &'b AtomicU32,
    futex: F,
}

impl<F: Futex> Holder<'_, F> {
    fn held<R>(&mut self, look: impl FnOnce(&mut Held) -> R) -> R {
        // SAFETY: this is the only holder, and borrowed for as long as it looks.
        self.batch.held.with_mut(|held| look(unsafe { &mut *held }))
    }

    /// What the batch holds; it holds nothing then.
    fn take(&mut self) -> Held {
        self.held(|held| core::mem::replace(held, Held::EMPTY))
    }

    fn empty(&mut self, put: impl FnMut(u64)) {
        self.take().put_all(put);
    }

    /// Lets go of the batch. As long as somebody asks that it be emptied, does that first.
    fn release(mut self, mut put: impl FnMut(u64)) {
        while !self.let_go() {
            // Relaxed: taking note of who asked was the Acquire. Read before the batch is emptied,
            // while nobody can add.
            let generation = self.asked.load(Relaxed);
            self.empty(&mut put);
            self.is_done(generation);
        }
        core::mem::forget(self);
    }

    /// Lets go of the batch, or takes note that somebody asks for it.
    fn let_go(&self) -> bool {
        // Release: the next holder sees what this one did. Relaxed: the line below looks.
        if self.batch.word.compare_exchange(HELD, FREE, Release, Relaxed).is_ok() {
            return true;
        }
        // Acquire: pairs with the Release of `run`, and so with all that was asked for before.
        self.batch.word.fetch_and(!ASKED, Acquire);
        false
    }

    /// Everything that was in the batch when `generation` was asked for is put.
    fn is_done(&self, generation: u32) {
        // Release: see the table.
        self.batch.done.store(generation, Release);
        self.futex.wake_all(&self.batch.done);
    }
}

impl<F: Futex> Drop for Holder<'_, F> {
    /// A `put` has panicked. The batch is empty, what was not put is lost, and drainers do not wait
    /// for it.
    fn drop(&mut self) {
        loop {
            // Relaxed: as in `release`.
            self.is_done(self.asked.load(Relaxed));
            if self.let_go() {
                break;
            }
        }
    }
}

/// As the model checker's, which sees whether two use it at a time.
#[cfg(not(pagelock_loom))]
struct UnsafeCell<T>(core::cell::UnsafeCell<T>);

#[cfg(not(pagelock_loom))]
impl<T> UnsafeCell<T> {
    const fn new(value: T) -> Self {
        Self(core::cell::UnsafeCell::new(value))
    }

    fn with_mut<R>(&self, look: impl FnOnce(*mut T) -> R) -> R {
        look(self.0.get())
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

/// A thread that owns no page's lock, and so may wait: for every processor, and for locks.
///
/// One for each thread of control, made at its top, by its [word](Self::promise), and lent from
/// there: to what keeps pages locked ([`collect`](super::migrate::collect) and the stages that
/// follow, and with them [`migrate`](super::migrate::migrate), [`evict`](super::migrate::evict),
/// [`pin_page`](super::pin::pin_page)), for as long as it does; and to what waits for every
/// processor ([`Drain::all`], [`Batches::drain_all`]). It cannot be lent to two of them at a time,
/// and that is all there is to it. It takes no space. It can neither be copied nor go to another
/// thread, nor can the stages that have it: the other thread may have one of its own.
///
/// Whoever is given one may use it until he returns: a [`Drain::all`] that moves pages is odd, but
/// nothing is locked before it or after.
///
/// What it does not know of: a lock that was taken by hand
/// ([`PageLock::lock`](crate::PageLock::lock), [`claim_range`](super::claim_range); a fault
/// handler's, with what [`collect_for_fault`](super::migrate::collect_for_fault) locks besides), a
/// page-table lock, a stage that was [forgotten](core::mem::forget). And it is worth nothing if it
/// is kept where those find it who are called with pages locked, in a cell of the memory for
/// instance. Those are the promise's to keep.
///
/// A drain between two batches:
///
/// ```
/// # use pagelock::mm::{Mm, drain::*, migrate::*};
/// fn right<'m, M: Mm>(mm: &'m M, slots: &mut [Slot<'m, M>], order: &Order<M>, drain: &impl Drain, unlocked: &mut Unlocked) {
///     let unmapped = collect(mm, slots, order, unlocked).unmap();
///     let _ = unmapped.drain_local(drain).check().copy().finalize();
///     drain.all(unlocked);
///     let _ = collect(mm, slots, order, unlocked).unmap().check().copy().finalize();
/// }
/// ```
///
/// None with pages in hand:
///
/// ```compile_fail,E0499
/// # use pagelock::mm::{Mm, drain::*, migrate::*};
/// fn early<'m, M: Mm>(mm: &'m M, slots: &mut [Slot<'m, M>], order: &Order<M>, drain: &impl Drain, unlocked: &mut Unlocked) {
///     let unmapped = collect(mm, slots, order, unlocked).unmap();
///     drain.all(unlocked); // the batch has it
///     let _ = unmapped.drain_local(drain).check().copy().finalize();
///     let _ = collect(mm, slots, order, unlocked).unmap().check().copy().finalize();
/// }
/// ```
///
/// Nor before every entry is taken down:
///
/// ```compile_fail,E0499
/// # use pagelock::mm::{Mm, drain::*, migrate::*};
/// fn earlier<'m, M: Mm>(mm: &'m M, slots: &mut [Slot<'m, M>], order: &Order<M>, drain: &impl Drain, unlocked: &mut Unlocked) {
///     let collected = collect(mm, slots, order, unlocked);
///     drain.all(unlocked); // nor here
///     let _ = collected.unmap().drain_local(drain).check().copy().finalize();
///     let _ = collect(mm, slots, order, unlocked).unmap().check().copy().finalize();
/// }
/// ```
///
/// Nor by what is called in the middle: the one who chooses frames, say.
///
/// ```compile_fail,E0500
/// # use pagelock::mm::{Mm, drain::*, migrate::*};
/// fn inside<'m, M: Mm>(mm: &'m M, slots: &mut [Slot<'m, M>], order: &Order<M>, drain: &impl Drain, unlocked: &mut Unlocked) {
///     let checked = collect(mm, slots, order, unlocked).unmap().check();
///     let _ = checked.copy_to(|from, size| {
///         drain.all(unlocked); // it is not for this to lend
///         mm.allocate_for(order.to, size, from).ok_or(Abort::NoDestination)
///     }).finalize();
/// }
/// ```
///
/// With the drain before it that is fine:
///
/// ```
/// # use pagelock::mm::{Mm, drain::*, migrate::*};
/// fn before<'m, M: Mm>(mm: &'m M, slots: &mut [Slot<'m, M>], order: &Order<M>, drain: &impl Drain, unlocked: &mut Unlocked) {
///     drain.all(unlocked);
///     let checked = collect(mm, slots, order, unlocked).unmap().check();
///     let _ = checked.copy_to(|from, size| {
///         mm.allocate_for(order.to, size, from).ok_or(Abort::NoDestination)
///     }).finalize();
/// }
/// ```
///
/// Two batches, one after the other:
///
/// ```
/// # use pagelock::mm::{Mm, drain::*, migrate::*};
/// fn one_by_one<'m, M: Mm>(mm: &'m M, out: &mut [Slot<'m, M>], back: &mut [Slot<'m, M>], order: [Order<M>; 2], unlocked: &mut Unlocked) {
///     let first = collect(mm, out, &order[0], unlocked);
///     let _ = first.unmap().check().copy().finalize();
///     let second = collect(mm, back, &order[1], unlocked);
///     let _ = second.unmap().check().copy().finalize();
/// }
/// ```
///
/// and not two at once:
///
/// ```compile_fail,E0499
/// # use pagelock::mm::{Mm, drain::*, migrate::*};
/// fn together<'m, M: Mm>(mm: &'m M, out: &mut [Slot<'m, M>], back: &mut [Slot<'m, M>], order: [Order<M>; 2], unlocked: &mut Unlocked) {
///     let first = collect(mm, out, &order[0], unlocked);
///     let second = collect(mm, back, &order[1], unlocked);
///     let _ = first.unmap().check().copy().finalize();
///     let _ = second.unmap().check().copy().finalize();
/// }
/// ```
///
/// A batch stays with its thread,
///
/// ```compile_fail,E0277
/// # use pagelock::mm::{drain::*, migrate::*};
/// # use pagelock_soft::{Soft, TierId};
/// fn away<'m>(mm: &'m Soft, slots: &mut [Slot<'m, Soft>], unlocked: &mut Unlocked) {
///     let unmapped = collect(mm, slots, &Order::to(TierId(1)), unlocked).unmap();
///     std::thread::scope(|s| {
///         s.spawn(move || unmapped.check().in_work());
///     });
/// }
/// ```
///
/// though its slots may go elsewhere when they are idle again:
///
/// ```
/// # use pagelock::mm::{drain::*, migrate::*};
/// # use pagelock_soft::{Soft, TierId};
/// fn here<'m>(mm: &'m Soft, slots: &mut [Slot<'m, Soft>], unlocked: &mut Unlocked) {
///     let unmapped = collect(mm, slots, &Order::to(TierId(1)), unlocked).unmap();
///     unmapped.check().in_work();
///     std::thread::scope(|s| {
///         s.spawn(move || slots.len());
///     });
/// }
/// ```
///
/// And a fault handler, who owns a page, has none. The same with a
/// [`migrate`](super::migrate::migrate) in it, or a drain, does not compile: see
/// [`migrate_to_ram`](super::Memory::migrate_to_ram).
pub struct Unlocked(PhantomData<*mut ()>);

impl Unlocked {
    /// The caller's word: this is the top of a thread of control (a thread's first function, a
    /// system call, an item of a work queue), which owns no page's lock and no page-table lock,
    /// keeps nobody waiting who does, and has not given its word before. And: it does not take such
    /// a lock by hand and then lend this to something that drains.
    ///
    /// Nothing checks it. Two in one thread are as good as none. If it is not so, that is the
    /// livelock that this type exists to prevent, and nothing worse: no memory is touched that
    /// should not be, which is why this is not `unsafe`.
    #[must_use]
    pub fn promise() -> Self {
        Self(PhantomData)
    }
}

impl fmt::Debug for Unlocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Unlocked")
    }
}

/// Where a migration has batches drained: [`Batches`] and how to put a page's reference, put
/// together by the owner of both.
///
/// Both are called without a PTL; [`local`](Self::local) with page locks: [the table]
/// (crate::mm#what-is-held-when-the-embedder-is-called).
pub trait Drain {
    /// Empties the batch of the processor that this runs on, as far as that can be done without
    /// waiting: page locks are held.
    fn local(&self);

    /// Returns once every batch is empty of what it held at the call. No [limits](crate::Limits)
    /// apply to this.
    fn all(&self, unlocked: &mut Unlocked);
}

/// There are no batches.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoBatches;

impl Drain for NoBatches {
    fn local(&self) {}
    fn all(&self, _unlocked: &mut Unlocked) {}
}
