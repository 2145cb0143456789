//! What to move where, and how hard to try.

#[allow(unused_imports)] // The documentation links to it.
use super::Collected;
use crate::mm::{Span, Tiers};
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
    If(fn(&M, Span) -> bool),
}

impl<M: Tiers> Select<M> {
    /// Whether some frame of the page is among those that are to be left.
    pub(super) fn is_left(&self, span: Span) -> bool {
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
    /// Who has ordered it: see [`Notice`](crate::mm::Notice).
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
    pub fn only(mut self, chosen: fn(&M, Span) -> bool) -> Self {
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
