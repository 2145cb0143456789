//! The result of reading a range, and how far it got.

use super::Ticket;
use crate::mm::{Areas, FaultError, Memory};
use core::fmt;

/// How far reading a range got.
///
/// ```
/// use pagelock::Limits;
/// use pagelock::mm::range::{Page, RangeOrder, Want, fault_range};
/// # let (mm, at) = pagelock_soft::example();
/// let mut pages = [Page::new(at.space.page(7), Want::Write)]; // a hole
/// let notifier = mm.notifier(at.space).unwrap();
/// let read = fault_range(&mm, notifier, &mut pages, &RangeOrder::new(Limits::none())).unwrap();
/// assert_eq!((read.progress.attempts, read.progress.faults), (2, 1));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Progress {
    /// How many attempts were begun.
    pub attempts: u32,
    /// How many of them ended because the range had changed meanwhile.
    pub invalidated: u32,
    /// How many pages were brought to where they were wanted. They stay there until another thread
    /// takes them away.
    pub faults: usize,
}

/// A range that was read.
///
/// ```
/// use pagelock::Limits;
/// use pagelock::mm::range::{Page, RangeOrder, Want, snapshot};
/// # let (mm, at) = pagelock_soft::example();
/// let notifier = mm.notifier(at.space).unwrap();
/// let mut pages = [Page::new(at, Want::Nothing)];
/// let read = snapshot(&mm, notifier, &mut pages, &RangeOrder::new(Limits::none())).unwrap();
/// mm.unmap(at, 1).unwrap();
/// assert!(!notifier.is_good(read.ticket)); // what was found is no longer true
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use = "what was found is true as long as the ticket is good"]
#[non_exhaustive]
pub struct Read {
    /// The findings are true as long as [this is good](super::Notifier::is_good).
    pub ticket: Ticket,
    /// What it took.
    pub progress: Progress,
}

/// Why a range was not read.
///
/// ```
/// use pagelock::Limits;
/// use pagelock::mm::range::{Page, RangeOrder, Stop, Want, fault_range};
/// # let (mm, at) = pagelock_soft::example();
/// let mut pages = [Page::new(at.space.page(20), Want::Read)]; // not mapped
/// let notifier = mm.notifier(at.space).unwrap();
/// let order = RangeOrder::new(Limits::none());
/// let error = fault_range(&mm, notifier, &mut pages, &order).unwrap_err();
/// assert_eq!(error.why, Stop::NotAllowed);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Stop<E, S> {
    /// The time was up.
    TimedOut,
    /// It was cancelled.
    Cancelled,
    /// The range did not keep still for as many attempts as were ordered.
    Attempts,
    /// The page may not be accessed as wanted.
    NotAllowed,
    /// The page could not be brought in: its contents are lost, it was busy for too long, or the
    /// memory failed.
    Fault(FaultError<E>),
    /// The caller's part of a fault failed: [`Areas::settle`].
    Unsettled(S),
}

/// A range that was not read, and how far it got.
///
/// ```
/// use pagelock::Limits;
/// use pagelock::mm::range::{Page, RangeOrder, Want, fault_range};
/// # let (mm, at) = pagelock_soft::example();
/// let mut pages = [at, at.space.page(20)].map(|at| Page::new(at, Want::Read));
/// let notifier = mm.notifier(at.space).unwrap();
/// let order = RangeOrder::new(Limits::none());
/// let error = fault_range(&mm, notifier, &mut pages, &order).unwrap_err();
/// assert_eq!(error.done, 1); // the second is to blame
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct RangeError<E, S> {
    /// Why.
    pub why: Stop<E, S>,
    /// How many pages, from the first, were as wanted at the last look. If one page is to blame, it
    /// is the next.
    pub done: usize,
    /// What was done. None of it is undone.
    pub progress: Progress,
}

impl<E: fmt::Display, S: fmt::Display> fmt::Display for RangeError<E, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { why, done, progress } = self;
        match why {
            Stop::TimedOut => f.write_str("the time was up")?,
            Stop::Cancelled => f.write_str("it was cancelled")?,
            Stop::Attempts => f.write_str("the range did not keep still")?,
            Stop::NotAllowed => f.write_str("the access is not allowed")?,
            Stop::Fault(e) => e.fmt(f)?,
            Stop::Unsettled(e) => e.fmt(f)?,
        }
        write!(f, "; {done} pages are as wanted after {} attempts", progress.attempts)
    }
}

impl<E: core::error::Error, S: core::error::Error> core::error::Error for RangeError<E, S> {}

/// [`RangeError`] over memory `M`.
pub type RangeErrorOf<M> = RangeError<<M as Memory>::Error, <M as Areas>::Failure>;
pub(super) type StopOf<M> = Stop<<M as Memory>::Error, <M as Areas>::Failure>;
