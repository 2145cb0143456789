//! One processor's batch, and its holder.

use crate::futex::{Futex, OsFutex};
use crate::sync::{AtomicU32, const_unless_loom};
use core::fmt;
use core::marker::PhantomData;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
#[cfg(pagelock_loom)]
use loom::cell::UnsafeCell;

/// How many pages a batch has room for: the kernel's figure.
pub const BATCH: usize = 15;

/// Nobody holds the batch, and nobody asks for it.
pub(super) const FREE: u32 = 0;
/// A thread uses the batch.
pub(super) const HELD: u32 = 1;
/// The holder must empty it before it lets go. Only together with [`HELD`].
pub(super) const ASKED: u32 = 2;

/// One processor's batch. Put as many as there are processors wherever per-processor data is kept,
/// each in a [`CachePadded`](super::CachePadded).
///
/// ```
/// use pagelock::OsFutex;
/// use pagelock::mm::drain::{Batch, Batches, CachePadded, OneCpu};
/// let each: Vec<_> = (0..4).map(|_| CachePadded::new(Batch::with_futex(OsFutex))).collect();
/// let batches = Batches::new(OneCpu, OsFutex, each);
/// assert_eq!(batches.count(7, |_| {}), 0);
/// ```
pub struct Batch<F: Futex = OsFutex> {
    /// [`FREE`], [`HELD`], or that and [`ASKED`]. Nobody waits for it.
    pub(super) word: AtomicU32,
    /// The latest generation for which this was emptied. Drainers sleep on it.
    pub(super) done: AtomicU32,
    contents: UnsafeCell<Contents>,
    /// The platform on which they sleep.
    futex: PhantomData<F>,
}

pub(super) struct Contents {
    pub(super) pfns: [u64; BATCH],
    pub(super) len: usize,
}

impl Contents {
    const EMPTY: Self = Self { pfns: [0; BATCH], len: 0 };

    pub(super) fn put_all(self, put: impl FnMut(u64)) {
        self.pfns.into_iter().take(self.len).for_each(put);
    }
}

// SAFETY: only the thread that holds `word` uses `contents`, which is plain numbers.
unsafe impl<F: Futex + Sync> Sync for Batch<F> {}

impl<F: Futex> Batch<F> {
    const_unless_loom! {
        /// An empty batch, whose drainers sleep on the platform `futex`. `const`, so that batches
        /// can be statics.
        ///
        /// ```
        /// use pagelock::OsFutex;
        /// use pagelock::mm::drain::Batch;
        /// static BATCH: Batch = Batch::with_futex(OsFutex);
        /// assert!(format!("{BATCH:?}").starts_with("Batch"));
        /// ```
        #[must_use]
        pub fn with_futex(futex: F) -> Self {
            let _ = futex;
            let (word, done) = (AtomicU32::new(FREE), AtomicU32::new(0));
            let contents = UnsafeCell::new(Contents::EMPTY);
            Self { word, done, contents, futex: PhantomData }
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

/// The thread that holds a batch. [`release`](Self::release) lets go of it.
pub(super) struct Holder<'b, F: Futex> {
    pub(super) batch: &'b Batch<F>,
    pub(super) asked: &'b AtomicU32,
    pub(super) futex: F,
}

impl<F: Futex> Holder<'_, F> {
    pub(super) fn contents<R>(&mut self, look: impl FnOnce(&mut Contents) -> R) -> R {
        // SAFETY: this is the only holder, and it is borrowed for as long as `look` has the
        // contents.
        self.batch.contents.with_mut(|contents| look(unsafe { &mut *contents }))
    }

    /// The batch's contents; the batch is empty then.
    pub(super) fn take(&mut self) -> Contents {
        self.contents(|all| core::mem::replace(all, Contents::EMPTY))
    }

    pub(super) fn empty(&mut self, put: impl FnMut(u64)) {
        self.take().put_all(put);
    }

    /// Lets go of the batch. As long as a drainer asks, empties it first.
    pub(super) fn release(mut self, mut put: impl FnMut(u64)) {
        while !self.let_go() {
            // Relaxed: taking note of the ask was the Acquire. Read before the batch is emptied,
            // while nobody can add.
            let generation = self.asked.load(Relaxed);
            self.empty(&mut put);
            self.is_done(generation);
        }
        core::mem::forget(self);
    }

    /// Lets go of the batch, or takes note that a drainer asks for it.
    fn let_go(&self) -> bool {
        // Release: the next holder sees what this one did. Relaxed: the next line looks.
        if self.batch.word.compare_exchange(HELD, FREE, Release, Relaxed).is_ok() {
            return true;
        }
        // Acquire: pairs with the Release of `run`, and so with everything that was asked for
        // before.
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
    /// A `put` has panicked. The batch is empty, the references that were not put are lost, and
    /// drainers do not wait for them.
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

/// The standard cell, with the model checker's interface, which sees whether two threads use it at
/// a time.
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
