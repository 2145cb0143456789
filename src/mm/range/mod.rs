//! A range of pages for a reader that keeps copies of the entries: a device with a table of its
//! own, a tracer, a dirty log.
//!
//! The reader wants to know, of each page, where it is and what may be done with it; of some pages
//! it wants more, namely that they be where they can be read or written. And it wants to know all
//! of this at one time, although entries change while it reads. So it reads against a [`Notifier`]:
//!
//! 1. take a ticket, having waited for what invalidations there are;
//! 2. look at every page, one page-table lock at a time;
//! 3. if some are not as wanted, bring those in, each by the [fault path](fn@super::fault) and in
//!    no matter which state the tickets are, for faults invalidate by themselves when they copy;
//!    and begin again;
//! 4. otherwise, if the ticket is still good, that is the answer; if not, yield, and begin again.
//!
//! The kernel's `hmm_range_fault` does this with a fault for each failed look and leaves the loop
//! to its callers, who spun in it: without a pause, for as long as it took, with waits that nobody
//! could end. Here every wait for a page or for an invalidation ends at the [limits](Limits),
//! within an attempt as well as between attempts (what the memory itself does to bring a page in
//! takes as long as it takes); attempts are counted; between two of them the processor is given
//! away; and a fault waits for a page's owner without a reference, like all others. No page-table
//! lock is held across any of it.
//!
//! What an error leaves behind is not lost: pages that were brought in stay where they are, and
//! [`RangeError`] says how far it got. A second call begins with them.
//!
//! ```
//! use pagelock::Limits;
//! use pagelock::mm::range::{Found, Order, Page, Want, fault_range};
//! use pagelock_soft::{Config, Soft};
//!
//! let mm = Soft::new(Config::ram_and_device(16, 16));
//! let space = mm.spawn().unwrap();
//! mm.map(space.page(0), 2).unwrap();
//! let notifier = mm.notifier(space).unwrap();
//!
//! let mut pages = [Page::new(space.page(0), Want::Write), Page::new(space.page(1), Want::Nothing)];
//! let read = fault_range(&mm, notifier, &mut pages, &Order::new(Limits::none())).unwrap();
//! assert!(matches!(pages[0].found, Found::Local { .. }));
//! assert_eq!(pages[1].found, Found::Hole);
//!
//! // With the lock held that whoever invalidates takes to tell the device:
//! assert!(notifier.is_good(read.ticket));
//! ```

mod found;
mod invalidate;
mod log;
mod notifier;

pub(super) use found::is_allowed;
pub use found::{Found, Page, Want};
pub(super) use invalidate::{invalidating, notice};
pub use log::Log;
pub use notifier::{Invalidation, Notifier, Ticket};

use super::{Access, Areas, Fault, FaultError, Faulter, Strategy, Tiers, Why, fault_within};
use crate::futex::{Futex, FutexTimed};
use crate::wait::{Limits, Wake};
use core::fmt;
use core::ops::Range;

/// How a range is read.
pub struct Order<'c, M: Tiers>
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

impl<'c, M: Tiers> Order<'c, M>
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

impl<M: Tiers> fmt::Debug for Order<'_, M>
where
    M::Futex: FutexTimed,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Order")
            .field("attempts", &self.attempts)
            .field("strategy", &self.strategy)
            .field("patience", &self.patience)
            .finish_non_exhaustive()
    }
}

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
pub type RangeErrorOf<M> = RangeError<<M as super::Memory>::Error, <M as Areas>::Failure>;
type StopOf<M> = Stop<<M as super::Memory>::Error, <M as Areas>::Failure>;

/// Reads the entries of `pages`, brings in those that are not as [wanted](Want), and answers with
/// what was [found](Found), all of it at one time: nothing of the range was invalidated through
/// `notifier` while it was read.
///
/// Whoever goes on to use what was found asks once more whether the ticket is good, with a lock
/// held that invalidators take.
///
/// No page-table lock may be held by the caller, nor an invalidation be on by this thread.
///
/// # Errors
///
/// [`RangeError`]. A page that cannot be had as wanted ends the call; those before it were brought
/// in.
pub fn fault_range<M>(
    mm: &M,
    notifier: &Notifier<M::Futex>,
    pages: &mut [Page<M::Address>],
    order: &Order<'_, M>,
) -> Result<Read, RangeErrorOf<M>>
where
    M: Areas + Tiers + super::Memory<Futex: FutexTimed>,
{
    let mut reader = Reader { mm, notifier, order, progress: Progress::default() };
    reader.read(pages, true).map_err(|why| reader.failed(pages, why))
}

/// [`fault_range`] that takes pages as they are, whatever is wanted: nothing is faulted in, and no
/// page is waited for.
///
/// # Errors
///
/// [`RangeError`]: only for want of time or attempts.
pub fn snapshot<M>(
    mm: &M,
    notifier: &Notifier<M::Futex>,
    pages: &mut [Page<M::Address>],
    order: &Order<'_, M>,
) -> Result<Read, RangeErrorOf<M>>
where
    M: Areas + Tiers + super::Memory<Futex: FutexTimed>,
{
    let mut reader = Reader { mm, notifier, order, progress: Progress::default() };
    reader.read(pages, false).map_err(|why| reader.failed(pages, why))
}

struct Reader<'r, 'c, M: Tiers>
where
    M::Futex: FutexTimed,
{
    mm: &'r M,
    notifier: &'r Notifier<M::Futex>,
    order: &'r Order<'c, M>,
    progress: Progress,
}

/// How many pages are looked at before the reader asks whether it goes on: the time, and the
/// ticket.
const LOOKS: usize = 64;

/// The longest pause between two attempts, as a power of two of [relaxations](Futex::relax).
const PAUSE: u32 = 6;

impl<M> Reader<'_, '_, M>
where
    M: Areas + Tiers + super::Memory<Futex: FutexTimed>,
{
    fn read(&mut self, pages: &mut [Page<M::Address>], may_fault: bool) -> Result<Read, StopOf<M>> {
        loop {
            self.progress.attempts += 1;
            let mut ticket = self.notifier.ticket(self.order.limits).map_err(cut_short)?;
            let (mut is_complete, mut is_good) = (true, true);
            for (number, pages) in pages.chunks_mut(LOOKS).enumerate() {
                if number > 0 {
                    self.is_in_time()?;
                }
                for page in pages {
                    found::look(self.mm, page, self.order.own);
                    is_complete &= page.is_as_wanted();
                }
                // No further than it is of use. What is missing has to be brought in all the same.
                is_good = self.is_good(&mut ticket);
                if !is_good && is_complete {
                    break;
                }
            }
            if may_fault && !is_complete {
                for page in pages.iter_mut().filter(|page| !page.is_as_wanted()) {
                    self.bring_in(page)?;
                }
            } else if is_good {
                return Ok(Read { ticket, progress: self.progress });
            } else {
                self.progress.invalidated += 1;
            }
            if self.progress.attempts >= self.order.attempts {
                return Err(Stop::Attempts);
            }
            self.is_in_time()?;
            for _ in 0..1 << self.progress.invalidated.min(PAUSE) {
                self.notifier.futex.relax();
            }
        }
    }

    /// Whether nothing of the range was invalidated. If so, the ticket may be a later one.
    fn is_good(&self, ticket: &mut Ticket) -> bool {
        match self.order.part {
            Some((log, first, end)) => log.keeps(self.notifier, ticket, &(first..end)),
            None => self.notifier.is_good(*ticket),
        }
    }

    /// Faults on a page until it is as wanted.
    fn bring_in(&mut self, page: &mut Page<M::Address>) -> Result<(), StopOf<M>> {
        let Some(access) = page.want.access() else { return Ok(()) };
        let strategy = match self.order.strategy {
            Strategy::WaitThenLock { .. } | Strategy::ReferenceAndSleep => Strategy::Wait,
            strategy => strategy,
        };
        let mut faulter = Faulter::new(strategy).patience(self.order.patience);
        let mut rounds = 0;
        loop {
            found::look(self.mm, page, self.order.own);
            if page.is_as_wanted() {
                self.progress.faults += 1;
                return Ok(());
            }
            if !is_allowed(self.mm, page.at, self.mm.lock(page.at).as_ref(), access) {
                return Err(Stop::NotAllowed);
            }
            if rounds == self.order.patience {
                return Err(Stop::Fault(FaultError::Busy { rounds }));
            }
            rounds += 1;
            self.fault(page.at, access, &mut faulter)?;
            self.is_in_time()?;
        }
    }

    fn fault(
        &self,
        at: M::Address,
        access: Access,
        faulter: &mut Faulter<'_, M::Futex>,
    ) -> Result<(), StopOf<M>> {
        match fault_within(self.mm, at, access, faulter, self.order.limits) {
            Ok(Fault::Resolved | Fault::Present) => {}
            Ok(Fault::Retry(Why::Locked)) => self.notifier.futex.relax(),
            Ok(Fault::Retry(_)) => {}
            Ok(left) => self.mm.settle(at, access, left).map_err(Stop::Unsettled)?,
            Err(FaultError::TimedOut) => return Err(Stop::TimedOut),
            Err(FaultError::Cancelled) => return Err(Stop::Cancelled),
            Err(e) => return Err(Stop::Fault(e)),
        }
        Ok(())
    }

    fn is_in_time(&self) -> Result<(), StopOf<M>> {
        self.order.limits.over(self.notifier.futex).map_or(Ok(()), |wake| Err(cut_short(wake)))
    }

    fn failed(&self, pages: &[Page<M::Address>], why: StopOf<M>) -> RangeErrorOf<M> {
        let done = pages.iter().take_while(|page| page.is_as_wanted()).count();
        RangeError { why, done, progress: self.progress }
    }
}

fn cut_short<E, S>(wake: Wake) -> Stop<E, S> {
    if wake == Wake::Cancelled { Stop::Cancelled } else { Stop::TimedOut }
}
