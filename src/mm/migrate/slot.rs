//! The work list: which pages to move, how far each has come, what became of it.

use super::Outcome;
use crate::leaf::Leaf;
use crate::lock::PageGuard;
use crate::migration::{Frozen, Migration};
use crate::mm::ledger::Hand;
use crate::mm::{Mm, Span};
use crate::page::PageLock;
use core::fmt;
use core::mem::ManuallyDrop;

/// Which page a slot is for.
///
/// ```
/// use pagelock::mm::migrate::{PageName, Slot};
/// use pagelock_soft::Soft;
/// let slot: Slot<'_, Soft> = Slot::frame(7);
/// assert_eq!(slot.what(), PageName::Frame(7));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PageName<A> {
    /// The page of the entry at this address.
    At(A),
    /// The page in this frame.
    Frame(u64),
}

/// One page of a migration: which page to move, and afterwards what became of it.
///
/// At most 64 bytes, for addresses of at most 16.
///
/// ```
/// use pagelock::mm::drain::Unlocked;
/// use pagelock::mm::migrate::{Order, Slot, migrate};
/// use pagelock_soft::TierId;
/// # let (mm, at) = pagelock_soft::example();
/// let mut slots: Vec<_> = at.pages(4).map(Slot::at).collect();
/// let mut unlocked = Unlocked::promise(); // the top of a thread
/// let _ = migrate(&mm, &mut slots, &Order::to(TierId(1)), &mm, &mut unlocked);
/// assert!(slots.iter().all(|slot| slot.outcome().is_done()));
/// ```
pub struct Slot<'m, M: Mm> {
    pub(super) what: PageName<M::Address>,
    pub(super) work: Work<'m, M>,
}

impl<M: Mm> Slot<'_, M> {
    /// The page at an address.
    ///
    /// ```
    /// use pagelock::mm::migrate::{PageName, Slot};
    /// # let (mm, at) = pagelock_soft::example();
    /// assert_eq!(Slot::<pagelock_soft::Soft>::at(at).what(), PageName::At(at));
    /// ```
    #[must_use]
    pub fn at(at: M::Address) -> Self {
        Self { what: PageName::At(at), work: Work::PENDING }
    }

    /// The page at a frame.
    ///
    /// ```
    /// use pagelock::mm::migrate::{Outcome, Slot};
    /// assert_eq!(Slot::<pagelock_soft::Soft>::frame(7).outcome(), Outcome::Pending);
    /// ```
    #[must_use]
    pub fn frame(pfn: u64) -> Self {
        Self { what: PageName::Frame(pfn), work: Work::PENDING }
    }

    /// Which page it is for.
    ///
    /// ```
    /// use pagelock::mm::migrate::{PageName, Slot};
    /// assert_eq!(Slot::<pagelock_soft::Soft>::frame(7).what(), PageName::Frame(7));
    /// ```
    #[must_use]
    pub fn what(&self) -> PageName<M::Address> {
        self.what
    }

    /// What became of it.
    ///
    /// ```
    /// use pagelock::mm::migrate::{Outcome, Slot};
    /// assert_eq!(Slot::<pagelock_soft::Soft>::frame(7).outcome(), Outcome::Pending);
    /// ```
    #[must_use]
    pub fn outcome(&self) -> Outcome<M::Refusal> {
        match self.work {
            Work::Idle { outcome, .. } => outcome,
            _ => Outcome::Pending,
        }
    }

    /// How many frames were found lost: 1 if the page was poisoned, and any number if it was
    /// [split](Outcome::Split), whose outcome does not say why a frame has not moved; or how many
    /// [entries could not be counted](Outcome::Uncounted).
    ///
    /// ```
    /// use pagelock::mm::drain::Unlocked;
    /// use pagelock::mm::migrate::{Order, Outcome, Slot, migrate};
    /// use pagelock_soft::TierId;
    /// # let (mm, at) = pagelock_soft::example();
    /// mm.set_lost(mm.frame_at(at).unwrap(), true); // cannot be read
    /// let mut slots = [Slot::at(at)];
    /// let mut unlocked = Unlocked::promise(); // the top of a thread
    /// let _ = migrate(&mm, &mut slots, &Order::to(TierId(1)), &mm, &mut unlocked);
    /// assert_eq!((slots[0].outcome(), slots[0].lost()), (Outcome::Poisoned, 1));
    /// ```
    #[must_use]
    pub fn lost(&self) -> u32 {
        match self.work {
            Work::Idle { lost, .. } => lost,
            _ => 0,
        }
    }

    pub(super) fn set(&mut self, outcome: Outcome<M::Refusal>) {
        self.work = Work::Idle { outcome, lost: 0 };
    }
}

impl<M: Mm> fmt::Debug for Slot<'_, M>
where
    M::Address: fmt::Debug,
    M::Refusal: fmt::Debug,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot")
            .field("what", &self.what)
            .field("outcome", &self.outcome())
            .field("lost", &self.lost())
            .finish_non_exhaustive()
    }
}

/// No destination yet.
pub(super) const NO_FRAME: u64 = u64::MAX;

/// How far a slot has come.
pub(super) enum Work<'m, M: Mm> {
    /// Nothing is held.
    Idle { outcome: Outcome<M::Refusal>, lost: u32 },
    /// Nothing is held but `dst`. The entry was `was`, for `1 << order` pages, and a new page takes
    /// its place if it still is.
    Hole { was: Leaf, order: u8, dst: u64 },
    /// Locked and migrating, and some or all entries are taken down.
    Locked(Src<'m, M>),
    /// Frozen, all entries are taken down, and there may be a place to go.
    Frozen { src: Src<'m, M>, dst: u64 },
}

impl<M: Mm> Work<'_, M> {
    pub(super) const PENDING: Self = Self::Idle { outcome: Outcome::Pending, lost: 0 };

    pub(super) fn is_idle(&self) -> bool {
        matches!(self, Self::Idle { .. })
    }
}

/// A page that is being moved, and what is held of it: its lock, as a stage of a migration, and the
/// references in the hand. In raw form, so that a slot is small. Only the code that takes it out of
/// the slot makes a stage of the page from it.
pub(super) struct Src<'m, M: Mm> {
    pub(super) page: &'m PageLock<M::Futex>,
    pub(super) head: u64,
    pub(super) hand: Hand,
    pub(super) order: u8,
    /// Whether its lock is a faulter's.
    pub(super) is_fault: bool,
    /// Whether the faulter has a reference.
    pub(super) has_faulters: bool,
    /// Whether the entry that led to it is taken down.
    pub(super) is_first_down: bool,
    /// Whether its destination has the bytes.
    pub(super) is_copied: bool,
    /// Whether it was part of a large page: its entries' references were counted with that one's.
    pub(super) is_part: bool,
    /// Whether there may be migration entries that others have made: a faulter, or a fork that
    /// found the page frozen.
    pub(super) is_followed: bool,
}

impl<M: Mm> Clone for Src<'_, M> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<M: Mm> Copy for Src<'_, M> {}

impl<'m, M: Mm> Src<'m, M> {
    pub(super) fn new(page: &'m PageLock<M::Futex>, span: Span, hand: Hand) -> Self {
        let order = u8::try_from(span.order).unwrap_or(u8::MAX);
        Self {
            page,
            head: span.head,
            hand,
            order,
            is_fault: false,
            has_faulters: false,
            is_first_down: false,
            is_copied: false,
            is_part: false,
            is_followed: false,
        }
    }

    /// How many references the page has if nobody else refers to it.
    pub(super) fn expected(&self) -> u32 {
        self.hand.expected() + u32::from(self.has_faulters)
    }

    pub(super) fn span(&self) -> Span {
        Span { head: self.head, order: u32::from(self.order) }
    }

    /// The stage of a page that was [`Work::Locked`] and has been taken out of its slot.
    pub(super) fn into_migration(self) -> Migration<'m, M::Futex> {
        // SAFETY: collecting and checking leave the stage raw when they put the page into the slot.
        // The caller has taken it out of the slot, and calls this once.
        unsafe { Migration::from_raw(self.page) }
    }

    /// The same stage for a call, while the page is in its slot.
    pub(super) fn migration(&self) -> ManuallyDrop<Migration<'m, M::Futex>> {
        // SAFETY: as above, and it is never ended: the slot keeps the right to do that.
        ManuallyDrop::new(unsafe { Migration::from_raw(self.page) })
    }

    /// The stage of a page that was [`Work::Frozen`] and has been taken out of its slot.
    pub(super) fn into_frozen(self) -> Frozen<'m, M::Futex> {
        // SAFETY: as for `into_migration`.
        unsafe { Frozen::from_raw(self.page) }
    }

    /// How many of its entries' references a destination counts.
    pub(super) fn counted(&self) -> u32 {
        if self.is_part { 0 } else { self.hand.taken }
    }
}

/// The lock of a destination, which is raw while the slot has it.
///
/// # Safety
///
/// The caller has taken the destination out of its slot.
pub(super) unsafe fn lock_of<F: crate::Futex>(page: &PageLock<F>) -> PageGuard<'_, F> {
    // SAFETY: `Dst` leaves it raw in the slot, from which the caller has taken it.
    unsafe { PageGuard::from_raw(page) }
}
