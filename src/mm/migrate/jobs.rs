//! The list of copies, for an engine that copies by itself.

use super::Abort;
use super::copy::settle;
use super::pass::Pass;
use super::place::Later;
use super::slot::{NO_FRAME, Work};
use crate::mm::{CopyError, Mm, Span};

/// One copy to make. The bytes are the copier's alone until it is done.
///
/// ```
/// # use pagelock::mm::migrate::{Job, Order, Slot, collect};
/// # let (mm, at) = pagelock_soft::example();
/// # let mut slots = [Slot::at(at)];
/// # let mut unlocked = pagelock::mm::drain::Unlocked::promise();
/// # let order = Order::to(pagelock_soft::TierId(1));
/// let checked = collect(&mm, &mut slots, &order, &mut unlocked).unmap().check();
/// let _ = checked.copy_by(|jobs| {
///     let job: Job = jobs.iter().next().unwrap();
///     assert_eq!(job.from.map(|span| span.head), mm.frame_at(at));
///     assert!(mm.frames_of(pagelock_soft::TierId(1)).contains(&job.to.head));
/// });
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Job {
    /// The page's index, for [`Jobs::done`].
    pub index: usize,
    /// The frames to copy. `None`: make a page of zeroes.
    pub from: Option<Span>,
    /// The frames to copy to: as many.
    pub to: Span,
}

impl Job {
    /// Does it, frame by frame, as the memory does.
    ///
    /// ```
    /// # use pagelock::mm::migrate::{Order, Slot, collect};
    /// # let (mm, at) = pagelock_soft::example();
    /// # let mut slots = [Slot::at(at)];
    /// # let mut unlocked = pagelock::mm::drain::Unlocked::promise();
    /// # let order = Order::to(pagelock_soft::TierId(1));
    /// let checked = collect(&mm, &mut slots, &order, &mut unlocked).unmap().check();
    /// let copied = checked.copy_by(|jobs| {
    ///     let job = jobs.iter().next().unwrap();
    ///     jobs.done(job.index, job.copy(&mm));
    /// });
    /// assert_eq!(copied.finalize().done, 1);
    /// ```
    ///
    /// # Errors
    ///
    /// The memory's.
    pub fn copy<M: Mm>(&self, mm: &M) -> Result<(), CopyError> {
        let Some(from) = self.from else {
            self.to.frames().for_each(|pfn| mm.zero(pfn));
            return Ok(());
        };
        from.frames().zip(self.to.frames()).try_for_each(|(from, to)| mm.copy(from, to))
    }
}

/// The copies that a migration needs, and where an engine reports them.
///
/// ```
/// # use pagelock::mm::migrate::{Jobs, Order, Slot, collect};
/// use pagelock_soft::Soft;
/// # let (mm, at) = pagelock_soft::example();
/// # let mut slots = [Slot::at(at)];
/// # let mut unlocked = pagelock::mm::drain::Unlocked::promise();
/// # let order = Order::to(pagelock_soft::TierId(1));
/// /// Copies on the caller's thread, the last first.
/// fn engine(mm: &Soft, jobs: &mut Jobs<'_, '_, '_, Soft>) {
///     while let Some(job) = jobs.iter().last() {
///         jobs.done(job.index, job.copy(mm));
///     }
/// }
/// let checked = collect(&mm, &mut slots, &order, &mut unlocked).unmap().check();
/// assert_eq!(checked.copy_by(|jobs| engine(&mm, jobs)).finalize().done, 1);
/// ```
pub struct Jobs<'b, 's, 'm, M: Mm> {
    pub(super) pass: &'b mut Pass<'s, 'm, M>,
}

impl<M: Mm> Jobs<'_, '_, '_, M> {
    /// The jobs that have not been reported.
    ///
    /// ```
    /// # use pagelock::mm::migrate::{Order, Slot, collect};
    /// # let (mm, at) = pagelock_soft::example();
    /// # let mut slots = [Slot::at(at)];
    /// # let mut unlocked = pagelock::mm::drain::Unlocked::promise();
    /// # let order = Order::to(pagelock_soft::TierId(1));
    /// let checked = collect(&mm, &mut slots, &order, &mut unlocked).unmap().check();
    /// let copied = checked.copy_by(|jobs| assert_eq!(jobs.iter().count(), 1));
    /// assert_eq!(copied.in_work(), 0); // nothing was reported
    /// ```
    pub fn iter(&self) -> impl Iterator<Item = Job> + '_ {
        (0..self.pass.slots.len()).filter_map(|index| job(self.pass, index))
    }

    /// Reports what has become of a job. A page that could not be copied is put back, or is lost,
    /// and the others go on.
    ///
    /// ```
    /// # use pagelock::mm::migrate::{Abort, Order, Outcome, Slot, collect};
    /// # use pagelock::mm::CopyError;
    /// # let (mm, at) = pagelock_soft::example();
    /// # let mut slots = [Slot::at(at)];
    /// # let mut unlocked = pagelock::mm::drain::Unlocked::promise();
    /// # let order = Order::to(pagelock_soft::TierId(1));
    /// let checked = collect(&mm, &mut slots, &order, &mut unlocked).unmap().check();
    /// let _ = checked.copy_by(|jobs| jobs.done(0, Err(CopyError::Failed))).finalize();
    /// assert_eq!(slots[0].outcome(), Outcome::Aborted(Abort::CopyFailed));
    /// ```
    pub fn done(&mut self, index: usize, copied: Result<(), CopyError>) {
        if index < self.pass.slots.len() && job(self.pass, index).is_some() {
            let mut later = Later::new(self.pass.mm);
            settle(self.pass, index, copied, &mut later, &mut |_, _| Err(Abort::NoDestination));
        }
    }

    /// The jobs that were not reported were not copied.
    pub(super) fn end(self) {
        for index in 0..self.pass.slots.len() {
            if job(self.pass, index).is_some() {
                self.pass.put_back(index, Abort::CopyFailed);
            }
        }
    }
}

impl<M: Mm> core::fmt::Debug for Jobs<'_, '_, '_, M> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

pub(super) fn job<M: Mm>(pass: &Pass<'_, '_, M>, index: usize) -> Option<Job> {
    match &pass.slots[index].work {
        Work::Hole { order, dst: head, .. } if *head != NO_FRAME => {
            Some(Job { index, from: None, to: Span { head: *head, order: u32::from(*order) } })
        }
        Work::Frozen { src, dst } if *dst != NO_FRAME && !src.is_copied => Some(Job {
            index,
            from: Some(src.span()),
            to: Span { head: *dst, order: u32::from(src.order) },
        }),
        _ => None,
    }
}
