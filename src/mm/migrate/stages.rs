//! The stages as types: each arrow consumes the stage before.

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
                f.debug_struct(stringify!($name))
                    .field("pages", &self.0.in_work())
                    .finish_non_exhaustive()
            }
        }

        impl<M: Mm> $name<'_, '_, M> {
            /// How many pages are still under way.
            ///
            /// ```
            /// use pagelock::mm::migrate::{Order, Slot, collect};
            /// use pagelock::mm::drain::Unlocked;
            /// use pagelock_soft::TierId;
            /// # let (mm, at) = pagelock_soft::example();
            /// let mut slots = [Slot::at(at)];
            /// let mut unlocked = Unlocked::promise(); // the top of a thread
            /// let collected = collect(&mm, &mut slots, &Order::to(TierId(1)), &mut unlocked);
            /// assert_eq!(collected.in_work(), 1);
            /// let copied = collected.unmap().check().copy();
            /// assert_eq!(copied.in_work(), 1);
            /// ```
            #[must_use]
            pub fn in_work(&self) -> usize {
                self.0.in_work()
            }
        }
    )*};
}

stages! {
    /// Pages that are locked, with at most one entry taken down.
    ///
    /// ```
    /// use pagelock::mm::migrate::{Order, Slot, collect};
    /// use pagelock::mm::drain::Unlocked;
    /// use pagelock_soft::TierId;
    /// # let (mm, at) = pagelock_soft::example();
    /// let mut slots = [Slot::at(at)];
    /// let mut unlocked = Unlocked::promise(); // the top of a thread
    /// let collected = collect(&mm, &mut slots, &Order::to(TierId(1)), &mut unlocked);
    /// assert!(mm.page(mm.frame_at(at).unwrap()).unwrap().is_migrating());
    /// drop(collected); // puts the page back
    /// ```
    Collected
    /// Pages whose every entry is taken down.
    ///
    /// ```
    /// use pagelock::leaf::Leaf;
    /// use pagelock::mm::migrate::{Order, Slot, collect};
    /// use pagelock::mm::drain::Unlocked;
    /// use pagelock_soft::TierId;
    /// # let (mm, at) = pagelock_soft::example();
    /// let mut slots = [Slot::at(at)];
    /// let mut unlocked = Unlocked::promise(); // the top of a thread
    /// let unmapped = collect(&mm, &mut slots, &Order::to(TierId(1)), &mut unlocked).unmap();
    /// assert!(matches!(mm.leaf(at), Leaf::Migration { .. }));
    /// drop(unmapped); // puts the page back
    /// assert!(matches!(mm.leaf(at), Leaf::Present { .. }));
    /// ```
    Unmapped
    /// Pages that are frozen: nobody refers to them but the migrator, and nobody can begin to.
    ///
    /// ```
    /// use pagelock::mm::migrate::{Order, Slot, collect};
    /// use pagelock::mm::drain::Unlocked;
    /// use pagelock_soft::TierId;
    /// # let (mm, at) = pagelock_soft::example();
    /// let mut slots = [Slot::at(at)];
    /// let mut unlocked = Unlocked::promise(); // the top of a thread
    /// let order = Order::to(TierId(1));
    /// let checked = collect(&mm, &mut slots, &order, &mut unlocked).unmap().check();
    /// assert!(mm.page(mm.frame_at(at).unwrap()).unwrap().is_frozen());
    /// drop(checked); // puts the page back
    /// ```
    Checked
    /// Pages whose bytes are in two places.
    ///
    /// ```
    /// use pagelock::mm::migrate::{Order, Slot, collect};
    /// use pagelock::mm::drain::Unlocked;
    /// use pagelock_soft::TierId;
    /// # let (mm, at) = pagelock_soft::example();
    /// let mut slots = [Slot::at(at)];
    /// let mut unlocked = Unlocked::promise(); // the top of a thread
    /// let copied =
    ///     collect(&mm, &mut slots, &Order::to(TierId(1)), &mut unlocked).unmap().check().copy();
    /// assert_eq!(copied.finalize().done, 1);
    /// ```
    Copied
}

/// Locks the pages in `slots` that are still [`Pending`](super::Outcome::Pending), as many as
/// [`Order::batch`] says, and takes down the entries that led to them.
///
/// Tries each lock and skips the pages whose lock it does not get. From here to the end the
/// migration has the thread's [`Unlocked`]: the thread can neither wait for a drain nor begin
/// another migration.
///
/// ```
/// use pagelock::mm::migrate::{Order, Slot, collect};
/// use pagelock::mm::drain::Unlocked;
/// use pagelock_soft::TierId;
/// # let (mm, at) = pagelock_soft::example();
/// let mut slots: Vec<_> = at.pages(8).map(Slot::at).collect();
/// let mut unlocked = Unlocked::promise(); // the top of a thread
/// let collected = collect(&mm, &mut slots, &Order::to(TierId(1)), &mut unlocked);
/// assert_eq!(collected.in_work(), 4); // the others are holes
/// ```
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
/// Moves that page if it is in `slots`, and others as far as their locks are free.
///
/// ```
/// use pagelock::mm::migrate::{FaultPage, Order, Slot, collect_for_fault};
/// use pagelock_soft::TierId;
/// # let (mm, at) = pagelock_soft::example();
/// let pfn = mm.frame_at(at).unwrap();
/// let mut fault = FaultPage::new(mm.page(pfn).unwrap().lock(), None);
/// let mut slots = [Slot::frame(pfn)];
/// let collected = collect_for_fault(&mm, &mut slots, &Order::to(TierId(1)), &mut fault);
/// assert_eq!(collected.unmap().check().copy().finalize().done, 1);
/// assert!(fault.is_owned()); // the lock is still the handler's
/// ```
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
    /// entries stay up meanwhile, except the one that led to it if that was by address: so collect
    /// the page by frame, and accesses go on during the wait. If the pins stay, the page is put
    /// back.
    ///
    /// If several pages are under way this does not wait: a thread that owns several pages sleeps
    /// for none (I23).
    ///
    /// ```
    /// use pagelock::mm::migrate::{Order, Slot, collect};
    /// use pagelock::mm::{Access, drain::Unlocked, pin::Term};
    /// use pagelock::{Limits, futex::MonotonicTime};
    /// use pagelock_soft::TierId;
    /// # let (mm, at) = pagelock_soft::example();
    /// let mut unlocked = Unlocked::promise(); // the top of a thread
    /// let pinned = mm.pin(at, Access::Read, Term::Short, &mut unlocked).unwrap();
    /// let mut slots = [Slot::frame(pinned.pfn())];
    /// let order = Order::to(TierId(1)).even_pinned();
    /// let collected = collect(&mm, &mut slots, &order, &mut unlocked);
    /// let soon = Limits::none().until(MonotonicTime::now());
    /// assert_eq!(collected.wait_unpinned(soon).in_work(), 0); // the pin stays
    /// ```
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
    ///
    /// ```
    /// # use pagelock::mm::migrate::{Order, Slot, collect};
    /// # let (mm, at) = pagelock_soft::example();
    /// # let mut slots = [Slot::at(at)];
    /// # let mut unlocked = pagelock::mm::drain::Unlocked::promise();
    /// # let order = Order::to(pagelock_soft::TierId(1));
    /// let child = mm.fork(at.space).unwrap(); // has entries for the same pages
    /// let unmapped = collect(&mm, &mut slots, &order, &mut unlocked).unmap();
    /// let leaf = mm.leaf(child.page(0));
    /// assert!(matches!(leaf, pagelock::leaf::Leaf::Migration { .. }));
    /// # drop(unmapped);
    /// ```
    pub fn unmap(mut self) -> Unmapped<'s, 'm, M> {
        unmap::unmap(&mut self.0);
        Unmapped(self.0)
    }
}

impl<'s, 'm, M: Mm> Unmapped<'s, 'm, M> {
    /// Empties this processor's batch, if nobody is using it, and waits for nobody. For the others
    /// call [`Drain::all`] when this migration is over.
    ///
    /// ```
    /// use pagelock::mm::migrate::{Order, Slot, collect};
    /// use pagelock::mm::drain::Unlocked;
    /// use pagelock_soft::TierId;
    /// # let (mm, at) = pagelock_soft::example();
    /// let mut slots = [Slot::at(at)];
    /// let mut unlocked = Unlocked::promise(); // the top of a thread
    /// let unmapped = collect(&mm, &mut slots, &Order::to(TierId(1)), &mut unlocked).unmap();
    /// assert_eq!(unmapped.drain_local(&mm).check().in_work(), 1);
    /// ```
    pub fn drain_local(self, drain: &impl Drain) -> Self {
        if self.0.in_work() > 0 {
            drain.local();
        }
        self
    }

    /// The stages that are left, with frames of the memory's choice.
    pub(super) fn finish(self, drain: &impl Drain) -> Summary {
        self.drain_local(drain).check().copy().finalize()
    }

    /// Freezes the pages that nobody else refers to, and puts the others back.
    ///
    /// ```
    /// use pagelock::mm::migrate::{Abort, Order, Outcome, Slot, collect};
    /// use pagelock::mm::drain::Unlocked;
    /// use pagelock_soft::TierId;
    /// # let (mm, at) = pagelock_soft::example();
    /// let pfn = mm.frame_at(at).unwrap();
    /// mm.get(pfn).unwrap(); // another reference
    /// let mut slots = [Slot::at(at)];
    /// let mut unlocked = Unlocked::promise(); // the top of a thread
    /// drop(collect(&mm, &mut slots, &Order::to(TierId(1)), &mut unlocked).unmap().check());
    /// let why = Abort::Referenced { refs: 3, expected: 2 };
    /// assert_eq!(slots[0].outcome(), Outcome::Aborted(why));
    /// # unsafe { mm.put(pfn) };
    /// ```
    pub fn check(mut self) -> Checked<'s, 'm, M> {
        check::check(&mut self.0);
        Checked(self.0)
    }
}

impl<'s, 'm, M: Mm> Checked<'s, 'm, M> {
    /// Allocates a frame for each page in the tier that the order names, and copies. Pages for
    /// which that fails are put back.
    ///
    /// ```
    /// # use pagelock::mm::migrate::{Abort, Order, Outcome, Slot, collect};
    /// # let (mm, at) = pagelock_soft::example();
    /// # let mut slots = [Slot::at(at)];
    /// # let mut unlocked = pagelock::mm::drain::Unlocked::promise();
    /// # let order = Order::to(pagelock_soft::TierId(1));
    /// mm.fail_allocations(pagelock_soft::TierId(1), 1);
    /// let _ = collect(&mm, &mut slots, &order, &mut unlocked).unmap().check().copy();
    /// assert_eq!(slots[0].outcome(), Outcome::Aborted(Abort::NoDestination));
    /// ```
    pub fn copy(self) -> Copied<'s, 'm, M> {
        let (mm, to) = (self.0.mm, self.0.order.to);
        self.copy_to(|from, order| mm.allocate_for(to, order, from).ok_or(Abort::NoDestination))
    }

    /// [`copy`](Self::copy), with frames of the caller's choice: `choose` is given the page's frame
    /// (`None` for a hole) and order, and returns a free frame (the first of a large page), or
    /// refuses, usually with [`Abort::Declined`]. A frame whose lock somebody has is kept until
    /// every page has its place, and `choose` is called again.
    ///
    /// ```
    /// use pagelock::mm::migrate::{Abort, Order, Outcome, Slot, collect};
    /// use pagelock::mm::{Tiers, drain::Unlocked};
    /// use pagelock_soft::TierId;
    /// # let (mm, at) = pagelock_soft::example();
    /// let mut slots: Vec<_> = at.pages(2).map(Slot::at).collect();
    /// let mut unlocked = Unlocked::promise(); // the top of a thread
    /// let order = Order::to(TierId(1));
    /// let checked = collect(&mm, &mut slots, &order, &mut unlocked).unmap().check();
    /// let mut frame = mm.allocate(TierId(1), 0);
    /// let copied = checked.copy_to(|_from, _order| frame.take().ok_or(Abort::Declined));
    /// assert_eq!(copied.finalize().done, 1);
    /// assert_eq!(slots[1].outcome(), Outcome::Aborted(Abort::Declined));
    /// ```
    pub fn copy_to(
        mut self,
        mut choose: impl FnMut(Option<u64>, u32) -> Result<u64, Abort>,
    ) -> Copied<'s, 'm, M> {
        place::place(&mut self.0, &mut choose);
        copy::copy(&mut self.0, choose);
        Copied(self.0)
    }

    /// [`copy`](Self::copy) by an engine that copies all pages at a time: `engine` is given the
    /// [`Jobs`], and reports each job when it is done. It may do them in any order and on as many
    /// threads as it likes. It returns when nothing of theirs is being written any more: a DMA
    /// engine waits for its last completion. What is not reported by then is put back.
    ///
    /// ```
    /// use pagelock::mm::migrate::{Order, Slot, collect};
    /// use pagelock::mm::drain::Unlocked;
    /// use pagelock_soft::TierId;
    /// # let (mm, at) = pagelock_soft::example();
    /// let mut slots: Vec<_> = at.pages(2).map(Slot::at).collect();
    /// let mut unlocked = Unlocked::promise(); // the top of a thread
    /// let order = Order::to(TierId(1));
    /// let checked = collect(&mm, &mut slots, &order, &mut unlocked).unmap().check();
    /// let copied = checked.copy_by(|jobs| {
    ///     let all: Vec<_> = jobs.iter().collect();
    ///     for job in all {
    ///         jobs.done(job.index, job.copy(&mm));
    ///     }
    /// });
    /// assert_eq!(copied.finalize().done, 2);
    /// ```
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
    /// Puts up the new entries, releases the locks, drops the references, frees what is left.
    /// Returns how many pages did what.
    ///
    /// The thread's [`Unlocked`] is free again, and so is the right to drain.
    ///
    /// ```
    /// # use pagelock::mm::migrate::{Order, Slot, collect};
    /// # let (mm, at) = pagelock_soft::example();
    /// # let mut slots = [Slot::at(at)];
    /// # let mut unlocked = pagelock::mm::drain::Unlocked::promise();
    /// # let order = Order::to(pagelock_soft::TierId(1));
    /// let copied = collect(&mm, &mut slots, &order, &mut unlocked).unmap().check().copy();
    /// assert_eq!(copied.finalize().done, 1);
    /// pagelock::mm::drain::Drain::all(&mm, &mut unlocked);
    /// ```
    pub fn finalize(mut self) -> Summary {
        finalize::finalize(&mut self.0);
        self.0.summary()
    }
}
