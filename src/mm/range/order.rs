//! How a range is read.

use super::Log;
use crate::futex::FutexTimed;
use crate::mm::{Strategy, Tiers};
use crate::wait::Limits;
use core::fmt;
use core::ops::Range;

/// How a range is read.
///
/// ```
/// use pagelock::Limits;
/// use pagelock::mm::range::RangeOrder;
/// use pagelock_soft::{Soft, TierId};
/// let order = RangeOrder::<Soft>::new(Limits::none()).attempts(16).own(TierId(1));
/// assert_eq!((order.attempts, order.own), (16, Some(TierId(1))));
/// ```
#[non_exhaustive]
pub struct RangeOrder<'c, M: Tiers>
where
    M::Futex: FutexTimed,
{
    /// How long it may take.
    pub limits: Limits<'c, M::Futex>,
    /// How many attempts to make. An attempt is over when the range has changed, or pages had to be
    /// brought in.
    pub attempts: u32,
    /// The reader's own tier: pages there are where they should be, though the processor cannot
    /// access them.
    pub own: Option<M::Tier>,
    /// How faults wait. A strategy that sleeps for a page's lock, where no limit ends it, is taken
    /// as [`Strategy::Wait`]: [`Strategy::WaitThenLock`] and [`Strategy::ReferenceAndSleep`].
    pub strategy: Strategy,
    /// How often one page may be faulted on in one attempt.
    pub patience: u32,
    /// The notifier's log and the range in its numbers: invalidations of other parts do not
    /// disturb.
    pub part: Option<(&'c Log, usize, usize)>,
}

impl<'c, M: Tiers> RangeOrder<'c, M>
where
    M::Futex: FutexTimed,
{
    /// Within `limits`, 1024 attempts, no tier of its own, [`Strategy::Wait`].
    ///
    /// ```
    /// use pagelock::Limits;
    /// use pagelock::mm::range::RangeOrder;
    /// use pagelock_soft::Soft;
    /// assert_eq!(RangeOrder::<Soft>::new(Limits::none()).attempts, 1024);
    /// ```
    #[must_use]
    pub fn new(limits: Limits<'c, M::Futex>) -> Self {
        Self {
            limits,
            attempts: 1024,
            own: None,
            strategy: Strategy::Wait,
            patience: 1 << 16,
            part: None,
        }
    }

    /// The same, with so many attempts; 0 is taken as 1.
    ///
    /// ```
    /// use pagelock::Limits;
    /// use pagelock::mm::range::RangeOrder;
    /// use pagelock_soft::Soft;
    /// assert_eq!(RangeOrder::<Soft>::new(Limits::none()).attempts(8).attempts, 8);
    /// ```
    #[must_use]
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts;
        self
    }

    /// The same, for a reader with `tier` to itself.
    ///
    /// ```
    /// use pagelock::Limits;
    /// use pagelock::mm::range::RangeOrder;
    /// use pagelock_soft::{Soft, TierId};
    /// let order = RangeOrder::<Soft>::new(Limits::none()).own(TierId(1));
    /// assert_eq!(order.own, Some(TierId(1)));
    /// ```
    #[must_use]
    pub fn own(mut self, tier: M::Tier) -> Self {
        self.own = Some(tier);
        self
    }

    /// The same, for a range that is `pages` in `log`: what is invalidated elsewhere, if the log
    /// says so, does not disturb the reader. The reader [keeps](Log::keeps) its ticket in the same
    /// way.
    ///
    /// ```
    /// use pagelock::Limits;
    /// use pagelock::mm::range::{Page, RangeOrder, Want, snapshot};
    /// # let (mm, at) = pagelock_soft::example();
    /// let (notifier, log) = (mm.notifier(at.space).unwrap(), mm.log(at.space).unwrap());
    /// let order = RangeOrder::new(Limits::none()).part(log, 0..4);
    /// let mut pages = [Page::new(at, Want::Nothing)];
    /// let mut read = snapshot(&mm, notifier, &mut pages, &order).unwrap();
    /// mm.unmap(at.space.page(6), 1).unwrap(); // elsewhere
    /// assert!(log.keeps(notifier, &mut read.ticket, &(0..4)));
    /// ```
    #[must_use]
    pub fn part(mut self, log: &'c Log, pages: Range<usize>) -> Self {
        self.part = Some((log, pages.start, pages.end));
        self
    }

    /// The same, with patience for so many faults on one page in one attempt.
    ///
    /// ```
    /// use pagelock::Limits;
    /// use pagelock::mm::range::RangeOrder;
    /// use pagelock_soft::Soft;
    /// assert_eq!(RangeOrder::<Soft>::new(Limits::none()).patience(3).patience, 3);
    /// ```
    #[must_use]
    pub fn patience(mut self, rounds: u32) -> Self {
        self.patience = rounds;
        self
    }
}

impl<M: Tiers> fmt::Debug for RangeOrder<'_, M>
where
    M::Futex: FutexTimed,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RangeOrder")
            .field("attempts", &self.attempts)
            .field("strategy", &self.strategy)
            .field("patience", &self.patience)
            .finish_non_exhaustive()
    }
}
