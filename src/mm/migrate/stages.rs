//! The stages as types: each arrow consumes the stage before.

#[allow(unused_imports)] // The documentation links to it.
use super::Outcome;
use super::pass::Pass;
use super::{
    Abort, FaultPage, Jobs, Order, Slot, Summary, check, copy, evict, finalize, place, unmap,
};
use crate::futex::FutexTimed;
use crate::mm::drain::{Drain, Unlocked};
use crate::mm::{Memory, Mm};
use crate::wait::Limits;
use core::fmt;

macro_rules! stages {
    ($($(#[$attr:meta])* $name:ident)*) => {$(
        $(#[$attr])*
        #[must_use = "everything is put back when this is dropped"]
        pub struct $name<'s, 'm, M: Mm>(pub(super) Pass<'s, 'm, M>);

        impl<M: Mm> fmt::Debug for $name<'_, '_, M> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name)).field("pages", &self.0.in_work()).finish_non_exhaustive()
            }
        }

        impl<M: Mm> $name<'_, '_, M> {
            /// How many pages are still under way.
            #[must_use]
            pub fn in_work(&self) -> usize {
                self.0.in_work()
            }
        }
    )*};
}

stages! {
    /// Pages that are locked, with one entry taken down at most.
    Collected
    /// Pages of which every entry is taken down.
    Unmapped
    /// Pages that are frozen: nobody refers to them but the migrator, and nobody can begin to.
    Checked
    /// Pages whose bytes are in two places.
    Copied
}

/// Locks the pages in `slots` that are still [`Pending`](Outcome::Pending), as many as
/// [`Order::batch`] says, and takes down the entries that led to them.
///
/// Tries each lock and skips what it does not get. From here to the end the batch has the thread's
/// [`Unlocked`]: nothing can be drained that is waited for, and no other batch begun.
pub fn collect<'s, 'm, M: Mm>(
    mm: &'m M,
    slots: &'s mut [Slot<'m, M>],
    order: &Order<M>,
    unlocked: &'s mut Unlocked,
) -> Collected<'s, 'm, M> {
    let mut pass = Pass::new(mm, slots, order, unlocked);
    super::collect::collect(&mut pass);
    Collected(pass)
}

/// [`collect`] for a fault handler, which owns the lock of the page `fault` and so has no
/// [`Unlocked`].
///
/// That page is moved if it is in `slots`; others are too, as far as their locks are free.
pub fn collect_for_fault<'s, 'm, M: Mm>(
    mm: &'m M,
    slots: &'s mut [Slot<'m, M>],
    order: &Order<M>,
    fault: &'s mut FaultPage<'m, M::Futex>,
) -> Collected<'s, 'm, M> {
    let mut pass = Pass::for_fault(mm, slots, order, fault);
    super::collect::collect(&mut pass);
    Collected(pass)
}

impl<'s, 'm, M: Mm> Collected<'s, 'm, M> {
    /// Waits, within `limits`, until the page has no pins; there are no new ones from now on. Its
    /// entries are up meanwhile, except the one that led to it if that was by address: so collect
    /// it by frame, and accesses go on while this waits. If the pins stay, the page is put back.
    ///
    /// If several pages are under way this waits for none of them: whoever owns several pages
    /// sleeps for none (I23).
    pub fn wait_unpinned(mut self, limits: Limits<'_, M::Futex>) -> Self
    where
        M: Memory<Futex: FutexTimed>,
    {
        if self.0.in_work() == 1 {
            evict::wait_unpinned(&mut self.0, limits);
        }
        self
    }

    /// Takes down every other entry.
    pub fn unmap(mut self) -> Unmapped<'s, 'm, M> {
        unmap::unmap(&mut self.0);
        Unmapped(self.0)
    }
}

impl<'s, 'm, M: Mm> Unmapped<'s, 'm, M> {
    /// Empties this processor's batch, as far as nobody is using it, and waits for nobody. For the
    /// others see [`Drain::all`], when this batch has come to its end.
    pub fn drain_local(self, drain: &impl Drain) -> Self {
        if self.0.in_work() > 0 {
            drain.local();
        }
        self
    }

    /// All that is left to do, with frames of the memory's choice.
    pub(super) fn finish(self, drain: &impl Drain) -> Summary {
        self.drain_local(drain).check().copy().finalize()
    }

    /// Freezes the pages that nobody else refers to, and puts the others back.
    pub fn check(mut self) -> Checked<'s, 'm, M> {
        check::check(&mut self.0);
        Checked(self.0)
    }
}

impl<'s, 'm, M: Mm> Checked<'s, 'm, M> {
    /// Allocates a frame for each page in the tier that the order names, and copies. Pages for
    /// which that fails are put back.
    pub fn copy(self) -> Copied<'s, 'm, M> {
        let (mm, to) = (self.0.mm, self.0.order.to);
        self.copy_to(|from, order| mm.allocate_for(to, order, from).ok_or(Abort::NoDestination))
    }

    /// [`copy`](Self::copy), with frames of the caller's choice: `choose` is asked for a free frame
    /// for the page at a frame and of an order (the first of a large page's), and may refuse,
    /// usually with [`Abort::Declined`]. A frame whose lock somebody has is kept until every page
    /// has its place, and `choose` is asked for another.
    pub fn copy_to(
        mut self,
        mut choose: impl FnMut(Option<u64>, u32) -> Result<u64, Abort>,
    ) -> Copied<'s, 'm, M> {
        place::place(&mut self.0, &mut choose);
        copy::copy(&mut self.0, choose);
        Copied(self.0)
    }

    /// [`copy`](Self::copy) by an engine that does it for all pages at a time: `engine` is handed
    /// the [`Jobs`], and reports each of them when it is done. It may go about them in any order
    /// and on as many threads as it likes, and returns when nothing of theirs is written any more:
    /// a DMA engine waits for its last completion. What is not reported by then is put back.
    pub fn copy_by(mut self, engine: impl FnOnce(&mut Jobs<'_, 's, 'm, M>)) -> Copied<'s, 'm, M> {
        let (mm, to) = (self.0.mm, self.0.order.to);
        place::place(&mut self.0, |from, order| {
            mm.allocate_for(to, order, from).ok_or(Abort::NoDestination)
        });
        let mut jobs = Jobs { pass: &mut self.0 };
        engine(&mut jobs);
        jobs.end();
        Copied(self.0)
    }
}

impl<M: Mm> Copied<'_, '_, M> {
    /// Puts up the new entries, releases the locks, drops the references, frees what is left. Says
    /// what it came to.
    ///
    /// The thread's [`Unlocked`] is free again, and so is the right to drain.
    pub fn finalize(mut self) -> Summary {
        finalize::finalize(&mut self.0);
        self.0.summary()
    }
}
