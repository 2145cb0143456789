//! Batches of references, one for each processor, and how a thread makes sure that they are empty.
//!
//! A kernel does not put its pages on its lists one by one. It collects them in batches, one for
//! each processor, and each page in a batch has a reference for that. A migrator that counts
//! references then finds one too many. So before it gives up it *drains*: it has every batch
//! emptied.
//!
//! A drain waits for every processor, and that made the livelock that this crate began with: the
//! drainer held the lock of a page, a thread spun for that page, and it kept the very processor
//! busy whose batch the drainer waited for. Here that cannot be written by mistake:
//!
//! * [`drain_all`](Batches::drain_all) borrows the thread's [`Unlocked`], of which there is one. So
//!   does everything that keeps pages locked: [`collect`](super::migrate::collect) has it until the
//!   last stage is consumed or dropped. While pages are in hand there is nothing to drain with.
//!   With a borrow given to one migration there is no second one, and no
//!   [`migrate`](super::migrate::migrate) in the middle of it.
//! * Code that is called with pages locked gets none:
//!   [`migrate_to_ram`](super::Memory::migrate_to_ram), [`prepare`](super::Tiers::prepare),
//!   [`allocate`](super::Tiers::allocate), [`Drain::local`], the `put` of a batch. A fault gets
//!   none either, because it may come in the middle of anything. It has batches emptied by
//!   [`ask_all`](Batches::ask_all), which waits for nobody, and comes again.
//! * The processor's own batch is emptied first: [`drain_local`](Batches::drain_local) waits for
//!   nobody.
//! * By default `drain_all` empties the other batches itself, and waits only for a thread that is
//!   in the middle of using one. Where only its own processor can reach a batch, [`Cpus::kick`] has
//!   that processor empty it, and the drainer sleeps until it has.
//!
//! ```
//! use pagelock::OsFutex;
//! use pagelock::mm::drain::{Batch, Batches, CachePadded, OneCpu, Unlocked};
//! let each: Vec<_> = (0..4).map(|_| CachePadded::new(Batch::with_futex(OsFutex))).collect();
//! let batches = Batches::new(OneCpu, OsFutex, each);
//! assert!(batches.add(7, |_| {})); // with a reference to page 7
//! let mut unlocked = Unlocked::promise(); // the top of a thread
//! batches.drain_all(&mut unlocked, |pfn| assert_eq!(pfn, 7)); // puts it
//! ```
//!
//! # Who holds a batch
//!
//! A thread holds a batch while it uses it, and nobody ever waits to hold one. A thread that adds a
//! page and finds the batch held goes without. A drainer that finds it held *asks*, by a bit in the
//! very word that says so, and goes away; the holder cannot let go of a batch for which it is
//! asked, and empties it first. So [`run`](Batches::run) may be called in an interrupt that came in
//! the middle of [`add`](Batches::add), and a migrator with pages locked never waits for another
//! drainer, which may not be running. Only `drain_all` waits, for the word that says up to which
//! drain a batch was emptied.
//!
//! `put` is called with the batch held: when a drain is over, the references that were in a batch
//! before are put, not just about to be. A drain from within `put` would wait for itself, and `put`
//! has nothing to drain with. If `put` panics, the references for which it was not called yet are
//! lost.
//!
//! # Orderings
//!
//! | access | ordering | pairs with |
//! |---|---|---|
//! | `word`: to hold | Acquire | the last holder's letting go: what it left in the batch |
//! | `word`: to let go | Release | the above |
//! | `word`: to hold or ask | Release | the holder's taking note of it |
//! | `word`: to take note | Acquire | the ask: reads no older generation |
//! | `asked`: add, load | Relaxed | ordered by `word`: see [`Batches::drain_all`]'s source |
//! | `done`: store, load | Release, Acquire | a thread that sees g done sees the references put |
//! | a batch's pages | – | `word` |

mod batch;
mod batches;
mod cpus;
mod unlocked;

pub use batch::{BATCH, Batch};
pub use batches::Batches;
#[cfg(feature = "std")]
pub use cpus::ThreadCpus;
pub use cpus::{Cpus, OneCpu, Reach};
pub use crossbeam_utils::CachePadded;
pub use unlocked::Unlocked;

/// How a migration drains: [`Batches`] and how to put a page's reference, put together by the owner
/// of both.
///
/// Both are called without a PTL; [`local`](Self::local) with page locks: see the
/// [table](crate::mm#what-is-held-when-the-embedder-is-called).
pub trait Drain {
    /// Empties the batch of the processor that this runs on, as far as that needs no waiting: page
    /// locks are held.
    ///
    /// ```
    /// use pagelock::mm::drain::Drain;
    /// use pagelock_soft::{Config, Soft};
    /// let mm = Soft::new(Config { batches: 1, ..Config::ram_and_device(8, 8) });
    /// let at = mm.spawn().unwrap().page(0);
    /// mm.map(at, 1).unwrap();
    /// mm.write(at, 0, b"new").unwrap(); // a new page is in a batch
    /// Drain::local(&mm);
    /// assert!(!mm.is_batched(mm.frame_at(at).unwrap()));
    /// ```
    fn local(&self);

    /// Returns once every batch is empty of what it held at the call. No [limits](crate::Limits)
    /// apply.
    ///
    /// ```
    /// use pagelock::mm::drain::{Drain, Unlocked};
    /// use pagelock_soft::{Config, Soft};
    /// let mm = Soft::new(Config { batches: 4, ..Config::ram_and_device(8, 8) });
    /// let at = mm.spawn().unwrap().page(0);
    /// mm.map(at, 1).unwrap();
    /// mm.write(at, 0, b"new").unwrap();
    /// let mut unlocked = Unlocked::promise(); // the top of a thread
    /// mm.all(&mut unlocked);
    /// assert!(!mm.is_batched(mm.frame_at(at).unwrap()));
    /// ```
    fn all(&self, unlocked: &mut Unlocked);
}

/// For memory without batches: both calls do nothing.
///
/// ```
/// use pagelock::mm::drain::{NoBatches, Unlocked};
/// use pagelock::mm::migrate::{Order, Slot, migrate};
/// use pagelock_soft::TierId;
/// # let (mm, at) = pagelock_soft::example();
/// let mut unlocked = Unlocked::promise(); // the top of a thread
/// let order = Order::to(TierId(1));
/// assert_eq!(migrate(&mm, &mut [Slot::at(at)], &order, &NoBatches, &mut unlocked).done, 1);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct NoBatches;

impl Drain for NoBatches {
    fn local(&self) {}
    fn all(&self, _unlocked: &mut Unlocked) {}
}
