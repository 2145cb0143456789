//! What is to be copied, for an engine that does it by itself.

use super::Abort;
use super::copy::settle;
use super::pass::Pass;
use super::place::Later;
use super::slot::{NO_FRAME, Work};
use crate::mm::{CopyError, Mm, Span};

/// The bytes of a page, which are to be in another place, and are the copier's alone meanwhile.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Job {
    /// Which of the pages this is, for [`Jobs::done`].
    pub index: usize,
    /// Where they are. `None`: a page of zeroes is to be made.
    pub from: Option<Span>,
    /// Where they go: as many frames.
    pub to: Span,
}

impl Job {
    /// Does it, frame by frame, as the memory does.
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

/// What an engine that copies by itself is handed, and where it says what has become of it.
pub struct Jobs<'b, 's, 'm, M: Mm> {
    pub(super) pass: &'b mut Pass<'s, 'm, M>,
}

impl<M: Mm> Jobs<'_, '_, '_, M> {
    /// What is to be copied and has not been reported.
    pub fn iter(&self) -> impl Iterator<Item = Job> + '_ {
        (0..self.pass.slots.len()).filter_map(|index| job(self.pass, index))
    }

    /// What has become of a job. A page that could not be copied is put back, or is lost, and the
    /// others go on.
    pub fn done(&mut self, index: usize, copied: Result<(), CopyError>) {
        if index < self.pass.slots.len() && job(self.pass, index).is_some() {
            let mut later = Later::new(self.pass.mm);
            settle(self.pass, index, copied, &mut later, &mut |_, _| Err(Abort::NoDestination));
        }
    }

    /// Those that are not reported were not copied.
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
