//! Why a page, or a range, is not pinned.

use super::PinPolicy;
use crate::mm::migrate::Outcome;
use crate::mm::{Areas, FaultError, Memory, Tiers};
use core::fmt;

/// Why a page was not pinned. The parameters are the memory's error `E`, why the caller's part of a
/// fault failed (`S`), why the page was not moved (`O`), and why the policy refused (`R`).
///
/// ```
/// use pagelock::mm::{Access, drain::Unlocked, pin::{NotPinned, Term}};
/// # let (mm, at) = pagelock_soft::example();
/// let mut unlocked = Unlocked::promise(); // the top of a thread
/// let unmapped = at.space.page(20);
/// let error = mm.pin(unmapped, Access::Read, Term::Short, &mut unlocked).unwrap_err();
/// assert_eq!(error, NotPinned::NotAllowed);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum NotPinned<E, S, O, R> {
    /// The address is not mapped, or not for this.
    NotAllowed,
    /// The policy refused it.
    Refused(R),
    /// The page could not be brought in, or its contents are lost.
    Fault(FaultError<E>),
    /// The caller's part of the fault failed: [`Areas::settle`] or [`Areas::unshare`].
    Unsettled(S),
    /// The page could not be moved to where it may stay.
    NotMoved(Outcome<O>),
    /// The page has as many [pins](crate::MAX_PINS) as can be counted.
    Overflow,
    /// The time was up.
    TimedOut,
    /// It was cancelled.
    Cancelled,
    /// Something was in the way in every round.
    Busy {
        /// How many rounds there were.
        rounds: u32,
    },
}

impl<E, S, O, R> fmt::Display for NotPinned<E, S, O, R>
where
    E: fmt::Display,
    S: fmt::Display,
    O: fmt::Display,
    R: fmt::Display,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAllowed => f.write_str("the access is not allowed"),
            Self::Refused(why) => write!(f, "pinning was refused: {why}"),
            Self::Fault(e) => e.fmt(f),
            Self::Unsettled(e) => e.fmt(f),
            Self::NotMoved(outcome) => {
                write!(f, "the page could not be moved to where it may stay: {outcome}")
            }
            Self::Overflow => f.write_str("the page has as many pins as can be counted"),
            Self::TimedOut => f.write_str("the time was up"),
            Self::Cancelled => f.write_str("it was cancelled"),
            Self::Busy { rounds } => write!(f, "there was something in the way, {rounds} times"),
        }
    }
}

impl<E, S, O, R> core::error::Error for NotPinned<E, S, O, R>
where
    E: core::error::Error,
    S: core::error::Error,
    O: fmt::Debug + fmt::Display,
    R: core::error::Error,
{
}

/// [`NotPinned`] over memory `M` with policy `P`.
pub type NotPinnedOf<M, P> = NotPinned<
    <M as Memory>::Error,
    <M as Areas>::Failure,
    <M as Tiers>::Refusal,
    <P as PinPolicy<M>>::Refused,
>;

/// A range of which not all is pinned; the error of [`pin_range`](super::pin_range).
///
/// ```
/// use pagelock::mm::pin::{Backing, NotPinned, PinOrder, PinSlot, Term, pin_range};
/// use pagelock::mm::{Access, drain::Unlocked};
/// use pagelock::{Limits, OsFutex};
/// use pagelock_soft::Backed;
/// # let (mm, at) = pagelock_soft::example();
/// let mut slots: Vec<_> = at.pages(9).map(PinSlot::new).collect(); // the ninth is not mapped
/// let order = PinOrder::new(Access::Read, Term::Short, Limits::<OsFutex>::none());
/// let policy = Backed(|_| Backing::Anonymous);
/// let mut unlocked = Unlocked::promise(); // the top of a thread
/// let error = pin_range(&mm, &mut slots, &order, &policy, &mm, &mut unlocked).unwrap_err();
/// assert_eq!((error.pinned, error.why), (8, NotPinned::NotAllowed));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct PinRangeError<E> {
    /// How many pages are pinned, from the first: they stay so until their slots are emptied.
    pub pinned: usize,
    /// Why the next one is not.
    pub why: E,
}

impl<E: fmt::Display> fmt::Display for PinRangeError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {} pages are pinned", self.why, self.pinned)
    }
}

impl<E: core::error::Error> core::error::Error for PinRangeError<E> {}
