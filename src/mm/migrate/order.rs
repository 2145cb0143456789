//! What to move where, and how hard to try.

use crate::mm::{Span, Tiers};
use core::fmt;
use core::ops::Range;

/// How much a migration may wait.
///
/// ```
/// use pagelock::mm::migrate::Mode;
/// assert_eq!(Mode::default(), Mode::Async);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[non_exhaustive]
pub enum Mode {
    /// For nothing and nobody. Other processors' batches are not drained.
    #[default]
    Async,
    /// For locks, one at a time, and for drains. Not for the things that
    /// [`prepare`](Tiers::prepare) waits for.
    SyncLight,
    /// For those too.
    Sync,
}

/// Which pages an order is for.
///
/// ```
/// use pagelock::mm::migrate::{Order, Select};
/// use pagelock_soft::{Soft, TierId};
/// let order: Order<Soft> = Order::to(TierId(1));
/// assert!(matches!(order.select, Select::Elsewhere));
/// assert!(matches!(order.out_of(8..16).select, Select::Frames(8, 16)));
/// ```
#[non_exhaustive]
pub enum Select<M: Tiers> {
    /// Pages that are not in the tier that the order moves to.
    Elsewhere,
    /// Pages in this tier, which may be the one that the order moves to: there they go to another
    /// frame.
    Tier(M::Tier),
    /// What is in these frames, in whatever tier, and leaves them for others: compaction, taking
    /// memory offline. The tier should not hand out frames of these; if it does, they are passed
    /// over.
    Frames(u64, u64),
    /// Pages for which this says so, asked without the page's lock.
    If(fn(&M, Span) -> bool),
}

impl<M: Tiers> Select<M> {
    /// Whether some frame of the page is among those that the order empties.
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
///
/// ```
/// use pagelock::mm::migrate::{Mode, Order};
/// use pagelock_soft::{Soft, TierId};
/// let order: Order<Soft> = Order::to(TierId(1)).mode(Mode::SyncLight).tries(3).batch(64);
/// assert_eq!((order.tries, order.batch), (3, 64));
/// ```
#[non_exhaustive]
pub struct Order<M: Tiers> {
    /// The tier to move to.
    pub to: M::Tier,
    /// The pages to move.
    pub select: Select<M>,
    /// Whether a hole, or a page of zeroes that was never written to, becomes a page in `to`.
    pub fill_holes: bool,
    /// How much it may wait.
    pub mode: Mode,
    /// Whether pinned pages are collected too: for
    /// [`Collected::wait_unpinned`](super::Collected::wait_unpinned).
    pub even_pinned: bool,
    /// Whether a large page is split if it finds no place as a whole, or if a frame of it is lost,
    /// and if there is a place for a frame of it.
    pub split: bool,
    /// How often to try; 0 is taken as 1. Before each further try everything is put back and
    /// released.
    pub tries: u32,
    /// How many pages are locked at a time; 0 is taken as 1. More of them share a flush, and are
    /// locked for longer.
    pub batch: usize,
    /// On whose behalf: see [`Notice`](crate::mm::Notice).
    pub owner: u64,
}

impl<M: Tiers> Order<M> {
    /// To `to`, from anywhere, without holes, [`Mode::Async`], split if necessary, ten tries, 512
    /// pages a batch.
    ///
    /// ```
    /// use pagelock::mm::migrate::{Mode, Order};
    /// use pagelock_soft::{Soft, TierId};
    /// let order: Order<Soft> = Order::to(TierId(1));
    /// assert_eq!((order.to, order.mode, order.tries), (TierId(1), Mode::Async, 10));
    /// ```
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
    ///
    /// ```
    /// use pagelock::mm::migrate::{Order, Outcome, Skip, Slot, migrate};
    /// use pagelock::mm::drain::Unlocked;
    /// use pagelock_soft::TierId;
    /// # let (mm, at) = pagelock_soft::example();
    /// let mut slots = [Slot::at(at)];
    /// let order = Order::to(TierId(0)).from(TierId(1)); // out of the device
    /// let mut unlocked = Unlocked::promise(); // the top of a thread
    /// let _ = migrate(&mm, &mut slots, &order, &mm, &mut unlocked);
    /// assert_eq!(slots[0].outcome(), Outcome::AlreadyThere);
    /// ```
    #[must_use]
    pub fn from(mut self, from: M::Tier) -> Self {
        self.select = Select::Tier(from);
        self
    }

    /// The same, for pages in `frames` only, which leave those.
    ///
    /// ```
    /// use pagelock::mm::migrate::{Order, Slot, migrate};
    /// use pagelock::mm::drain::Unlocked;
    /// use pagelock_soft::TierId;
    /// # let (mm, at) = pagelock_soft::example();
    /// let pfn = mm.frame_at(at).unwrap();
    /// let order = Order::to(TierId(0)).out_of(pfn..pfn + 1); // compaction: the same tier
    /// let mut unlocked = Unlocked::promise(); // the top of a thread
    /// let _ = migrate(&mm, &mut [Slot::at(at)], &order, &mm, &mut unlocked);
    /// assert_ne!(mm.frame_at(at), Some(pfn));
    /// ```
    #[must_use]
    pub fn out_of(mut self, frames: Range<u64>) -> Self {
        self.select = Select::Frames(frames.start, frames.end);
        self
    }

    /// The same, for pages that `chosen` chooses, in whatever tier they are.
    ///
    /// ```
    /// use pagelock::mm::migrate::{Order, Outcome, Skip, Slot, migrate};
    /// use pagelock::mm::drain::Unlocked;
    /// use pagelock_soft::TierId;
    /// # let (mm, at) = pagelock_soft::example();
    /// let order = Order::to(TierId(1)).only(|_, span| span.order > 0); // large pages
    /// let mut slots = [Slot::at(at)];
    /// let mut unlocked = Unlocked::promise(); // the top of a thread
    /// let _ = migrate(&mm, &mut slots, &order, &mm, &mut unlocked);
    /// assert_eq!(slots[0].outcome(), Outcome::Skipped(Skip::NotSelected));
    /// ```
    #[must_use]
    pub fn only(mut self, chosen: fn(&M, Span) -> bool) -> Self {
        self.select = Select::If(chosen);
        self
    }

    /// The same, and holes are filled. A hole with a large entry gets a large page or, if there is
    /// none and the order may split, one page for each address.
    ///
    /// ```
    /// use pagelock::mm::migrate::{Order, Outcome, Slot, migrate};
    /// use pagelock::mm::drain::Unlocked;
    /// use pagelock_soft::TierId;
    /// # let (mm, at) = pagelock_soft::example();
    /// let mut slots = [Slot::at(at.space.page(7))];
    /// let order = Order::to(TierId(1)).filling_holes();
    /// let mut unlocked = Unlocked::promise(); // the top of a thread
    /// let _ = migrate(&mm, &mut slots, &order, &mm, &mut unlocked);
    /// assert!(matches!(slots[0].outcome(), Outcome::Filled { .. }));
    /// ```
    #[must_use]
    pub fn filling_holes(mut self) -> Self {
        self.fill_holes = true;
        self
    }

    /// The same, in another mode.
    ///
    /// ```
    /// use pagelock::mm::migrate::{Mode, Order};
    /// use pagelock_soft::{Soft, TierId};
    /// assert_eq!(Order::<Soft>::to(TierId(1)).mode(Mode::Sync).mode, Mode::Sync);
    /// ```
    #[must_use]
    pub fn mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// The same, and pinned pages are collected too.
    ///
    /// ```
    /// use pagelock::mm::migrate::Order;
    /// use pagelock_soft::{Soft, TierId};
    /// assert!(Order::<Soft>::to(TierId(1)).even_pinned().even_pinned);
    /// ```
    #[must_use]
    pub fn even_pinned(mut self) -> Self {
        self.even_pinned = true;
        self
    }

    /// The same, and large pages move as a whole or not at all.
    ///
    /// ```
    /// use pagelock::mm::migrate::Order;
    /// use pagelock_soft::{Soft, TierId};
    /// assert!(!Order::<Soft>::to(TierId(1)).whole().split);
    /// ```
    #[must_use]
    pub fn whole(mut self) -> Self {
        self.split = false;
        self
    }

    /// The same, with so many tries.
    ///
    /// ```
    /// use pagelock::mm::migrate::Order;
    /// use pagelock_soft::{Soft, TierId};
    /// assert_eq!(Order::<Soft>::to(TierId(1)).tries(1).tries, 1);
    /// ```
    #[must_use]
    pub fn tries(mut self, tries: u32) -> Self {
        self.tries = tries;
        self
    }

    /// The same, with so many pages locked at a time.
    ///
    /// ```
    /// use pagelock::mm::migrate::Order;
    /// use pagelock_soft::{Soft, TierId};
    /// assert_eq!(Order::<Soft>::to(TierId(1)).batch(32).batch, 32);
    /// ```
    #[must_use]
    pub fn batch(mut self, pages: usize) -> Self {
        self.batch = pages;
        self
    }

    /// The same, on behalf of `owner`: see [`Notice`](crate::mm::Notice).
    ///
    /// ```
    /// use pagelock::mm::migrate::Order;
    /// use pagelock_soft::{Soft, TierId};
    /// assert_eq!(Order::<Soft>::to(TierId(1)).owner(7).owner, 7);
    /// ```
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
