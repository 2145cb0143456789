//! How a page is pinned.

use super::Term;
use crate::futex::FutexTimed;
use crate::mm::Access;
use crate::wait::Limits;
use core::fmt;

/// How pages are pinned: what for, how long, and with how much patience.
///
/// ```
/// use pagelock::mm::pin::{Backing, PinOrder, Term, pin_page};
/// use pagelock::mm::{Access, drain::Unlocked};
/// use pagelock::{Limits, OsFutex};
/// use pagelock_soft::Backed;
/// # let (mm, at) = pagelock_soft::example();
/// let order = PinOrder::new(Access::Write, Term::Short, Limits::<OsFutex>::none());
/// let policy = Backed(|_| Backing::Anonymous);
/// let mut unlocked = Unlocked::promise(); // the top of a thread
/// let pinned = pin_page(&mm, at, &order, &policy, &mm, &mut unlocked).unwrap();
/// ```
#[non_exhaustive]
pub struct PinOrder<'c, F: FutexTimed> {
    /// What the pin is for.
    pub access: Access,
    /// How long the pin will last.
    pub term: Term,
    /// How long the call may wait for pages and their owners. Draining [batches](crate::mm::drain),
    /// before a page is moved or faulted in once more, takes as long as it takes.
    pub limits: Limits<'c, F>,
    /// How many rounds of faulting, moving or waiting to make.
    pub patience: u32,
}

impl<'c, F: FutexTimed> PinOrder<'c, F> {
    /// Within `limits`, with patience for 1024 rounds.
    ///
    /// ```
    /// use pagelock::mm::{Access, pin::{PinOrder, Term}};
    /// use pagelock::{Limits, OsFutex};
    /// let order = PinOrder::new(Access::Read, Term::Long, Limits::<OsFutex>::none());
    /// assert_eq!(order.patience, 1024);
    /// ```
    #[must_use]
    pub fn new(access: Access, term: Term, limits: Limits<'c, F>) -> Self {
        Self { access, term, limits, patience: 1024 }
    }

    /// The same, with patience for `rounds`; 0 is taken as 1.
    ///
    /// ```
    /// use pagelock::mm::{Access, pin::{PinOrder, Term}};
    /// use pagelock::{Limits, OsFutex};
    /// let order = PinOrder::new(Access::Read, Term::Long, Limits::<OsFutex>::none()).patience(8);
    /// assert_eq!(order.patience, 8);
    /// ```
    #[must_use]
    pub fn patience(mut self, rounds: u32) -> Self {
        self.patience = rounds;
        self
    }
}

impl<F: FutexTimed> Clone for PinOrder<'_, F> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<F: FutexTimed> Copy for PinOrder<'_, F> {}

impl<F: FutexTimed> fmt::Debug for PinOrder<'_, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PinOrder")
            .field("access", &self.access)
            .field("term", &self.term)
            .finish_non_exhaustive()
    }
}
