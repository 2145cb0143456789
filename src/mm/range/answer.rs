//! What reading a range has come to.

#[allow(unused_imports)] // The documentation links to it.
use super::Notifier;
use super::Ticket;
use crate::mm::{Areas, FaultError, Memory};
use core::fmt;

/// What reading a range has come to so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Progress {
    /// How many attempts were begun.
    pub attempts: u32,
    /// How many of them ended because the range had changed meanwhile.
    pub invalidated: u32,
    /// How many pages were brought to where they were wanted. They stay there, until somebody takes
    /// them away.
    pub faults: usize,
}

/// A range that was read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use = "what was found is true as long as the ticket is good"]
pub struct Read {
    /// What was found is true as long as [this is good](Notifier::is_good).
    pub ticket: Ticket,
    /// What it took.
    pub progress: Progress,
}

/// Why a range was not read.
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
    /// What the fault path leaves to the caller has failed.
    Unsettled(S),
}

/// A range that was not read, and how far it got.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RangeError<E, S> {
    /// Why.
    pub why: Stop<E, S>,
    /// How many pages, from the first, were as wanted when last looked at. If one page is to blame,
    /// it is the next.
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
