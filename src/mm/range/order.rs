//! How a range is read.

use super::Log;
use crate::futex::FutexTimed;
use crate::mm::{Strategy, Tiers};
use crate::wait::Limits;
use core::fmt;
use core::ops::Range;

/// How a range is read.
pub struct RangeOrder<'c, M: Tiers>
where
    M::Futex: FutexTimed,
{
    /// How long it may take.
    pub limits: Limits<'c, M::Futex>,
    /// How often it may be tried. An attempt is over when the range is found to have changed, or
    /// pages had to be brought in.
    pub attempts: u32,
    /// The reader's own tier: pages there are where they should be, though the processor cannot
    /// access them.
    pub own: Option<M::Tier>,
    /// How faults wait. A strategy that sleeps for a page's lock, where no limit ends it, is taken
    /// as [`Strategy::Wait`]: [`Strategy::WaitThenLock`] and [`Strategy::ReferenceAndSleep`].
    pub strategy: Strategy,
    /// How often one page may be faulted on in one attempt.
    pub patience: u32,
    /// What the range is in the numbers of a log of the notifier's: invalidations of other parts do
    /// not disturb.
    pub part: Option<(&'c Log, usize, usize)>,
}

impl<'c, M: Tiers> RangeOrder<'c, M>
where
    M::Futex: FutexTimed,
{
    /// Within `limits`, 1024 attempts, no tier of one's own, [`Strategy::Wait`].
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
    #[must_use]
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts;
        self
    }

    /// The same, for a reader who has `tier` to itself.
    #[must_use]
    pub fn own(mut self, tier: M::Tier) -> Self {
        self.own = Some(tier);
        self
    }

    /// The same, for a range that is `pages` in `log`: what is invalidated elsewhere, if the log
    /// says so, does not disturb the reader. The ticket that it gets is then [kept](Log::keeps) in
    /// the same way.
    #[must_use]
    pub fn part(mut self, log: &'c Log, pages: Range<usize>) -> Self {
        self.part = Some((log, pages.start, pages.end));
        self
    }

    /// The same, with so much patience for one page in one attempt.
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
