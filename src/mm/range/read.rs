//! Reading a range: look at every page, bring in what is missing, ask whether the ticket is good.

use super::answer::StopOf;
use super::{
    Notifier, Page, Progress, RangeError, RangeErrorOf, RangeOrder, Read, Stop, Ticket, found,
    is_allowed,
};
use crate::futex::{Futex, FutexTimed};
use crate::mm::pause::pause;
use crate::mm::{
    Access, Areas, Fault, FaultError, Faulter, Memory, Strategy, Tiers, Why, fault_within,
};
use crate::wait::Wake;

/// Reads the entries of `pages`, brings in those that are not as [wanted](super::Want), and answers
/// with what was [found](super::Found) as of one time: nothing of the range was invalidated through
/// `notifier` while it was read.
///
/// A caller that goes on to use the findings asks once more whether the ticket is good, with a lock
/// held that invalidators take.
///
/// The caller holds no page-table lock and has no invalidation on. The [module](super) has a longer
/// example.
///
/// ```
/// use pagelock::Limits;
/// use pagelock::mm::range::{Found, Page, RangeOrder, Want, fault_range};
/// # let (mm, at) = pagelock_soft::example();
/// let notifier = mm.notifier(at.space).unwrap();
/// let mut pages: Vec<_> = at.pages(8).map(|at| Page::new(at, Want::Write)).collect();
/// let read = fault_range(&mm, notifier, &mut pages, &RangeOrder::new(Limits::none())).unwrap();
/// assert!(pages.iter().all(|page| matches!(page.found, Found::Local { .. })));
/// assert_eq!(read.progress.faults, 4); // the holes
/// ```
///
/// # Errors
///
/// [`RangeError`]. A page that cannot be had as wanted ends the call; those before it were brought
/// in.
pub fn fault_range<M>(
    mm: &M,
    notifier: &Notifier<M::Futex>,
    pages: &mut [Page<M::Address>],
    order: &RangeOrder<'_, M>,
) -> Result<Read, RangeErrorOf<M>>
where
    M: Areas + Tiers + Memory<Futex: FutexTimed>,
{
    Reader { mm, notifier, order, progress: Progress::default() }.finish(pages, true)
}

/// [`fault_range`] that takes pages as they are, whatever is wanted: it faults nothing in, and
/// waits for no page.
///
/// ```
/// use pagelock::Limits;
/// use pagelock::mm::range::{Found, Page, RangeOrder, Want, snapshot};
/// # let (mm, at) = pagelock_soft::example();
/// let notifier = mm.notifier(at.space).unwrap();
/// let mut pages = [at, at.space.page(7)].map(|at| Page::new(at, Want::Write));
/// let _ = snapshot(&mm, notifier, &mut pages, &RangeOrder::new(Limits::none())).unwrap();
/// assert!(matches!(pages[0].found, Found::Local { .. }));
/// assert_eq!(pages[1].found, Found::Hole);
/// ```
///
/// # Errors
///
/// [`RangeError`]: only if time or attempts run out.
pub fn snapshot<M>(
    mm: &M,
    notifier: &Notifier<M::Futex>,
    pages: &mut [Page<M::Address>],
    order: &RangeOrder<'_, M>,
) -> Result<Read, RangeErrorOf<M>>
where
    M: Areas + Tiers + Memory<Futex: FutexTimed>,
{
    Reader { mm, notifier, order, progress: Progress::default() }.finish(pages, false)
}

struct Reader<'r, 'c, M: Tiers>
where
    M::Futex: FutexTimed,
{
    mm: &'r M,
    notifier: &'r Notifier<M::Futex>,
    order: &'r RangeOrder<'c, M>,
    progress: Progress,
}

/// How many pages the reader looks at before it checks the time and the ticket.
const LOOKS: usize = 64;

impl<M> Reader<'_, '_, M>
where
    M: Areas + Tiers + Memory<Futex: FutexTimed>,
{
    fn finish(
        mut self,
        pages: &mut [Page<M::Address>],
        may_fault: bool,
    ) -> Result<Read, RangeErrorOf<M>> {
        self.read(pages, may_fault).map_err(|why| self.failed(pages, why))
    }

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
                // No further than is of use. Missing pages have to be brought in all the same.
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
            pause(self.notifier.futex, self.progress.invalidated);
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
