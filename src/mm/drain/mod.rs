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
