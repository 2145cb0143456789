//! Moving pages: collect, unmap, check, copy, finalize, and drain when everything is let go of.
//!
//! ```text
//!  slots ──collect──▶ Collected ──unmap──▶ Unmapped ──check──▶ Checked ──copy──▶ Copied ──finalize──▶ Summary ──▶ drain
//!         try-lock,               every     (local   freeze:             allocate,         entries,             no lock is held
//!         own reference,          other      drain)  exactly the         copy              then locks,
//!         first entry down        entry              references in                         then references
//!                                 down               the hand
//! ```
//!
//! Each stage has the thread's [`Unlocked`], so that nothing is waited for, by a drain or by
//! another batch, before the last is gone. Each arrow consumes the stage before, so none can be
//! left out or done twice. It is best effort, page by page: whatever stands in a page's way at any
//! step is its [`Outcome`], the page is put back as it was, and the others go on. Dropping a stage
//! puts everything back, also while a panic unwinds.
//!
//! What holds, and where:
//!
//! * From the first entry that is taken down to the last that is put up the page is locked (I12),
//!   and as many migration entries as are put up are found again: `finalize` walks the reverse map,
//!   which also has those that fork and move have made meanwhile (I13).
//! * A page's lock is tried while another is held, never waited for (I23). [`Mode::SyncLight`] and
//!   [`Mode::Sync`] go on, one page at a time, with what is left; one lock may be waited for,
//!   because none is held.
//! * Waiters have no references, so they cannot make a migration fail (I9, I31). References that
//!   others have can: the page is put back, *all* locks are released, the batches are drained, and
//!   then it is tried again (I30, I32).
//! * A fault handler that owns a page passes it in as [`FaultPage`], by [`collect_for_fault`]: it
//!   is neither locked nor unlocked here (I22), and there is no [`Unlocked`], and no drain.
//!
//! The caller owns the work list: one [`Slot`] a page. What the caller implements may fail, and
//! must not panic where entries are put up (reverse map, tables): elsewhere a panic puts everything
//! back.
//!
//! # What the kernel has for it
//!
//! | there | here |
//! |---|---|
//! | `migrate_vma_collect`: hole, zero page, swap, migration, poison, marker, exclusive entries | [`Skip::Hole`] or filled, [`Skip::Swapped`], [`Skip::Migrating`], [`Skip::Poisoned`], [`Skip::Marker`], [`Skip::Exclusive`] unless it may be waited for |
//! | not of the selected kind or owner; no page; lock not had | [`Skip::NotSelected`], [`Skip::NoFrame`], [`Skip::Locked`] |
//! | anonymous, exclusive and maybe pinned; unevictable, private data, writeback | [`Skip::Pinned`], [`Abort::Pinned`]; [`Skip::Refused`] |
//! | still mapped; unexpected references; freeze lost; slot of the cache changed | [`Abort::StillMapped`], [`Abort::Referenced`] (both), [`Abort::CacheChanged`] |
//! | no destination, left out by the driver, its lock busy, of another size, of no use | [`Abort::NoDestination`], [`Abort::Declined`], [`Abort::DestinationBusy`], [`Abort::SizeMismatch`], [`Abort::BadDestination`] |
//! | a fault came first where a hole was | [`Abort::HoleFilled`] |
//! | large page, split, failed | [`Outcome::Split`], [`Abort::SplitFailed`] |
//! | source unreadable | [`Outcome::Poisoned`] |
//! | reference count of one at the start | [`Outcome::Freed`] |
//! | arguments (`-EINVAL`), cgroup, address space going away | the caller's: there are no areas here; [`Entry::hole`](super::Entry::hole) says no |

mod batch;
mod check;
mod collect;
mod copy;
mod dst;
mod evict;
mod finalize;
mod hole;
mod outcome;
mod run;
mod slot;
mod split;
mod unmap;

pub use copy::{Job, Jobs};
pub use evict::evict;
pub use outcome::{Abort, Outcome, Skip, Summary};
pub use run::{FaultPage, bring_back, migrate};
pub use slot::{Slot, What};

use super::drain::{Drain, Unlocked};
use super::{Memory, Mm, Tiers};
use crate::futex::FutexTimed;
use crate::wait::Limits;
use batch::Batch;
use core::fmt;
use core::ops::Range;

/// How much a migration may wait.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Mode {
    /// For nothing and nobody. Batches of other processors are not drained.
    #[default]
    Async,
    /// For locks, one at a time, and for batches to be drained. Not for whatever
    /// [`prepare`](super::Tiers::prepare) waits for.
    SyncLight,
    /// For that too.
    Sync,
}

/// Which pages an order is for.
pub enum Select<M: Tiers> {
    /// Whatever is elsewhere than where it is to go.
    Elsewhere,
    /// What is in this tier now, which may be the one that it is to stay in: there it goes to
    /// another frame.
    Tier(M::Tier),
    /// What is in these frames, in whatever tier, and leaves them for others: compaction, taking
    /// memory offline. The tier should not hand out frames of these; if it does, they are passed
    /// over.
    Frames(u64, u64),
    /// What this says, asked without the page's lock.
    If(fn(&M, super::Span) -> bool),
}

impl<M: Tiers> Select<M> {
    /// Whether some frame of the page is among those that are to be left.
    fn is_left(&self, span: super::Span) -> bool {
        matches!(*self, Self::Frames(first, end) if span.head < end && first < span.frames().end)
    }
}

impl<M: Tiers> Clone for Select<M> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<M: Tiers> Copy for Select<M> {}

/// What to move where, and how hard to try.
pub struct Order<M: Tiers> {
    /// Where to.
    pub to: M::Tier,
    /// What.
    pub select: Select<M>,
    /// Whether a hole, or a page of zeroes that was never written to, is made a page in `to`.
    pub fill_holes: bool,
    /// What may be waited for.
    pub mode: Mode,
    /// Whether pinned pages are collected too: for [`Collected::wait_unpinned`].
    pub even_pinned: bool,
    /// Whether a large page that finds no place as a whole, or of which a frame is lost, is split,
    /// if there is a place for a frame of it.
    pub split: bool,
    /// How often to try; 0 is taken as 1. Before each further try everything is put back and let go
    /// of.
    pub tries: u32,
    /// How many pages are locked at a time; 0 is taken as 1. More of them share a flush, and are
    /// kept from everybody for longer.
    pub batch: usize,
    /// Who has ordered it: see [`Notice`](super::Notice).
    pub owner: u64,
}

impl<M: Tiers> Order<M> {
    /// To `to`, from wherever, without holes, [`Mode::Async`], split if need be, ten tries, 512
    /// pages a batch.
    #[must_use]
    pub fn to(to: M::Tier) -> Self {
        Self {
            to,
            select: Select::Elsewhere,
            fill_holes: false,
            mode: Mode::Async,
            even_pinned: false,
            split: true,
            tries: 10,
            batch: 512,
            owner: 0,
        }
    }

    /// The same, for pages in `from` only, which may be the tier that they go to.
    #[must_use]
    pub fn from(mut self, from: M::Tier) -> Self {
        self.select = Select::Tier(from);
        self
    }

    /// The same, for pages in `frames` only, which leave those.
    #[must_use]
    pub fn out_of(mut self, frames: Range<u64>) -> Self {
        self.select = Select::Frames(frames.start, frames.end);
        self
    }

    /// The same, for pages that `chosen` chooses, whatever tier they are in.
    #[must_use]
    pub fn only(mut self, chosen: fn(&M, super::Span) -> bool) -> Self {
        self.select = Select::If(chosen);
        self
    }

    /// The same, and holes are filled: one for which there is a large entry by a large page, or, if
    /// none is to be had and the order is to split, by one page for each address.
    #[must_use]
    pub fn filling_holes(mut self) -> Self {
        self.fill_holes = true;
        self
    }

    /// The same, in another mode.
    #[must_use]
    pub fn mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// The same, and pages are collected though they are pinned.
    #[must_use]
    pub fn even_pinned(mut self) -> Self {
        self.even_pinned = true;
        self
    }

    /// The same, and large pages move as a whole or not at all.
    #[must_use]
    pub fn whole(mut self) -> Self {
        self.split = false;
        self
    }

    /// The same, with so many tries.
    #[must_use]
    pub fn tries(mut self, tries: u32) -> Self {
        self.tries = tries;
        self
    }

    /// The same, with so many pages locked at a time.
    #[must_use]
    pub fn batch(mut self, pages: usize) -> Self {
        self.batch = pages;
        self
    }

    /// The same, on behalf of `owner`.
    #[must_use]
    pub fn owner(mut self, owner: u64) -> Self {
        self.owner = owner;
        self
    }
}

impl<M: Tiers> Clone for Order<M> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<M: Tiers> Copy for Order<M> {}

impl<M: Tiers> fmt::Debug for Select<M>
where
    M::Tier: fmt::Debug,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Elsewhere => f.write_str("Elsewhere"),
            Self::Tier(tier) => f.debug_tuple("Tier").field(tier).finish(),
            Self::Frames(first, end) => f.debug_tuple("Frames").field(first).field(end).finish(),
            Self::If(_) => f.write_str("If(..)"),
        }
    }
}

impl<M: Tiers> fmt::Debug for Order<M>
where
    M::Tier: fmt::Debug,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { to, select, fill_holes, mode, even_pinned, split, tries, batch, owner } = self;
        f.debug_struct("Order")
            .field("to", to)
            .field("select", select)
            .field("fill_holes", fill_holes)
            .field("mode", mode)
            .field("even_pinned", even_pinned)
            .field("split", split)
            .field("tries", tries)
            .field("batch", batch)
            .field("owner", owner)
            .finish()
    }
}

macro_rules! stages {
    ($($(#[$attr:meta])* $name:ident)*) => {$(
        $(#[$attr])*
        #[must_use = "everything is put back when this is dropped"]
        pub struct $name<'s, 'm, M: Mm>(Batch<'s, 'm, M>);

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
    let mut batch = Batch::new(mm, slots, order, unlocked);
    collect::collect(&mut batch);
    Collected(batch)
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
    let mut batch = Batch::for_fault(mm, slots, order, fault);
    collect::collect(&mut batch);
    Collected(batch)
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
        copy::place(&mut self.0, &mut choose);
        copy::copy(&mut self.0, choose);
        Copied(self.0)
    }

    /// [`copy`](Self::copy) by an engine that does it for all pages at a time: `engine` is handed
    /// the [`Jobs`], and reports each of them when it is done. It may go about them in any order
    /// and on as many threads as it likes, and returns when nothing of theirs is written any more:
    /// a DMA engine waits for its last completion. What is not reported by then is put back.
    pub fn copy_by(mut self, engine: impl FnOnce(&mut Jobs<'_, 's, 'm, M>)) -> Copied<'s, 'm, M> {
        let (mm, to) = (self.0.mm, self.0.order.to);
        copy::place(&mut self.0, |from, order| {
            mm.allocate_for(to, order, from).ok_or(Abort::NoDestination)
        });
        let mut jobs = Jobs { batch: &mut self.0 };
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
