//! The fourth stage: a frame for each page, and its bytes.

use super::batch::Batch;
use super::dst::{Dst, NoDst};
use super::slot::{NO_FRAME, Src, Work};
use super::{Abort, Outcome};
use crate::mm::{CopyError, Mm, Span};

/// Gives each page a place to go. Those for which there is none are put back, or split.
pub(super) fn place<M: Mm>(
    batch: &mut Batch<'_, '_, M>,
    mut choose: impl FnMut(Option<u64>, u32) -> Result<u64, Abort>,
) {
    let mut later = Later::new(batch.mm);
    for index in 0..batch.slots.len() {
        let placed = match batch.slots[index].work {
            Work::Hole { order: 1.., dst: NO_FRAME, .. } => {
                super::hole::large(batch, index, &mut later, &mut choose)
            }
            _ => place_one(batch, index, &mut later, &mut choose),
        };
        match placed {
            Ok(()) => {}
            // Not as one, then.
            Err(Abort::NoDestination) if batch.order.split && is_large(batch, index) => {
                split(batch, index, &mut later, &mut choose);
            }
            Err(why) => batch.put_back(index, why),
        }
    }
}

/// Copies the bytes of each page that has a place.
pub(super) fn copy<M: Mm>(
    batch: &mut Batch<'_, '_, M>,
    mut choose: impl FnMut(Option<u64>, u32) -> Result<u64, Abort>,
) {
    let mut later = Later::new(batch.mm);
    for index in 0..batch.slots.len() {
        if let Some(job) = job(batch, index) {
            let copied = job.copy(batch.mm);
            settle(batch, index, copied, &mut later, &mut choose);
        }
    }
}

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
    pub(super) batch: &'b mut Batch<'s, 'm, M>,
}

impl<M: Mm> Jobs<'_, '_, '_, M> {
    /// What is to be copied and has not been reported.
    pub fn iter(&self) -> impl Iterator<Item = Job> + '_ {
        (0..self.batch.slots.len()).filter_map(|index| job(self.batch, index))
    }

    /// What has become of a job. A page that could not be copied is put back, or is lost, and the
    /// others go on.
    pub fn done(&mut self, index: usize, copied: Result<(), CopyError>) {
        if index < self.batch.slots.len() && job(self.batch, index).is_some() {
            let mut later = Later::new(self.batch.mm);
            settle(self.batch, index, copied, &mut later, &mut |_, _| Err(Abort::NoDestination));
        }
    }

    /// Those that are not reported were not copied.
    pub(super) fn end(self) {
        for index in 0..self.batch.slots.len() {
            if job(self.batch, index).is_some() {
                self.batch.put_back(index, Abort::CopyFailed);
            }
        }
    }
}

impl<M: Mm> core::fmt::Debug for Jobs<'_, '_, '_, M> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

pub(super) fn job<M: Mm>(batch: &Batch<'_, '_, M>, index: usize) -> Option<Job> {
    match &batch.slots[index].work {
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

fn is_large<M: Mm>(batch: &Batch<'_, '_, M>, index: usize) -> bool {
    matches!(&batch.slots[index].work, Work::Frozen { src, .. } if src.order > 0)
}

/// So many frames in a row that cannot be had are enough.
const MOST: usize = 8;

/// Frames that are free and could not be had: given back when the batch has its places, so that
/// none is handed out again at once.
pub(super) struct Later<'m, M: Mm> {
    mm: &'m M,
    frames: [u64; MOST],
    len: usize,
}

impl<'m, M: Mm> Later<'m, M> {
    fn new(mm: &'m M) -> Self {
        Self { mm, frames: [0; MOST], len: 0 }
    }

    fn has(&self, pfn: u64) -> bool {
        self.frames.iter().take(self.len).any(|&frame| frame == pfn)
    }

    /// `false`, with the frame given back, if there are too many.
    fn keep(&mut self, pfn: u64) -> bool {
        let Some(place) = self.frames.get_mut(self.len) else {
            self.mm.free(pfn);
            return false;
        };
        *place = pfn;
        self.len += 1;
        true
    }
}

impl<M: Mm> Drop for Later<'_, M> {
    fn drop(&mut self) {
        self.frames.iter().take(self.len).for_each(|&pfn| self.mm.free(pfn));
    }
}

pub(super) fn place_one<M: Mm>(
    batch: &mut Batch<'_, '_, M>,
    index: usize,
    later: &mut Later<'_, M>,
    choose: &mut impl FnMut(Option<u64>, u32) -> Result<u64, Abort>,
) -> Result<(), Abort> {
    let (from, order, counted) = match &batch.slots[index].work {
        Work::Hole { order, dst: NO_FRAME, .. } => (None, u32::from(*order), 0),
        Work::Frozen { src, dst: NO_FRAME } => {
            (Some(src.head), u32::from(src.order), src.counted())
        }
        _ => return Ok(()),
    };
    let new = find(batch, from, order, counted, later, choose)?;
    // Into the slot before anything can go wrong: what is there is given back.
    if let Work::Hole { dst, .. } | Work::Frozen { dst, .. } = &mut batch.slots[index].work {
        *dst = new.into_raw();
    }
    Ok(())
}

/// A place for the page at `from`, or for a hole.
fn find<'m, M: Mm>(
    batch: &Batch<'_, 'm, M>,
    from: Option<u64>,
    order: u32,
    counted: u32,
    later: &mut Later<'_, M>,
    choose: &mut impl FnMut(Option<u64>, u32) -> Result<u64, Abort>,
) -> Result<Dst<'m, M>, Abort> {
    let mut busy = Abort::NoDestination;
    loop {
        let pfn = match choose(from, order) {
            Ok(pfn) if later.has(pfn) => return Err(Abort::DestinationBusy),
            Ok(pfn) => pfn,
            Err(Abort::NoDestination) => return Err(busy),
            Err(why) => return Err(why),
        };
        match Dst::new(batch.mm, pfn, order, counted, &batch.order.select) {
            Ok(dst) => return Ok(dst),
            Err(NoDst::Abort(why)) => return Err(why),
            Err(NoDst::Later(pfn, why)) => {
                busy = why;
                if !later.keep(pfn) {
                    return Err(why);
                }
            }
        }
    }
}

/// The bytes are in two places, or are not.
fn settle<M: Mm>(
    batch: &mut Batch<'_, '_, M>,
    index: usize,
    copied: Result<(), CopyError>,
    later: &mut Later<'_, M>,
    choose: &mut impl FnMut(Option<u64>, u32) -> Result<u64, Abort>,
) {
    match copied {
        Ok(()) => {
            if let Work::Frozen { src, .. } = &mut batch.slots[index].work {
                src.is_copied = true;
            }
        }
        Err(CopyError::Failed) => batch.put_back(index, Abort::CopyFailed),
        Err(CopyError::SourceLost) => {
            let Work::Frozen { src, dst } = &mut batch.slots[index].work else { return };
            let (order, counted, head) =
                (u32::from(src.order), src.counted(), core::mem::replace(dst, NO_FRAME));
            // SAFETY: taken out of the slot just now.
            drop(unsafe { Dst::from_raw(batch.mm, head, order, counted) });
            if order == 0 {
                poison(batch, index);
            } else {
                // What cannot be read is one frame, not all of them.
                split(batch, index, later, choose);
            }
        }
    }
}

/// The source is lost, and with it the page: every entry says so, before anybody is woken (I25).
/// Others are not concerned.
fn poison<M: Mm>(batch: &mut Batch<'_, '_, M>, index: usize) {
    let Work::Frozen { src, .. } = batch.take(index) else { return };
    super::finalize::condemn(batch.mm, src.span());
    super::finalize::let_go_of_lost(batch, src);
    batch.set(index, Outcome::Poisoned, 1);
}

/// Splits a large page and brings its frames to the end one after the other: the slot has room for
/// one.
///
/// Not for nothing: there is a place for the first before it is split. A faulter has the frame that
/// it wants moved, and the others stay where they are, for those who want them.
fn split<M: Mm>(
    batch: &mut Batch<'_, '_, M>,
    index: usize,
    later: &mut Later<'_, M>,
    choose: &mut impl FnMut(Option<u64>, u32) -> Result<u64, Abort>,
) {
    let mm = batch.mm;
    let Work::Frozen { src, .. } = &batch.slots[index].work else { return };
    let (span, mut head) = (src.span(), *src);
    let wanted = batch.wanted.filter(|&pfn| span.contains(pfn));
    let first = wanted.unwrap_or(span.head);
    // A cache finds all of the page by its first frame.
    if head.hand.cached > 0 || !batch.order.split {
        return batch.put_back(index, Abort::SplitFailed);
    }
    let mut place = match find(batch, Some(first), 0, 0, later, choose) {
        Ok(place) => Some(place),
        Err(why) => return batch.put_back(index, why),
    };
    let Some(tails) = super::split::split(mm, span) else {
        return batch.put_back(index, Abort::SplitFailed);
    };
    head.order = 0;
    head.is_part = true;
    let (mut moved, mut lost) = (0, 0);
    let mut part = |batch: &mut Batch<'_, '_, M>, src: Src<'_, M>, place: Option<Dst<'_, M>>| {
        one_of_many(batch, index, src.head == first, wanted.is_some(), place, later, choose);
        moved += u32::from(batch.slots[index].outcome().is_done());
        lost += batch.slots[index].lost();
    };
    batch.slots[index].work = Work::Frozen { src: head, dst: NO_FRAME };
    part(batch, head, if first == span.head { place.take() } else { None });
    for src in tails {
        batch.slots[index].work = Work::Frozen { src, dst: NO_FRAME };
        part(batch, src, if first == src.head { place.take() } else { None });
    }
    batch.set(
        index,
        Outcome::Split { moved, of: u32::try_from(span.len()).unwrap_or(u32::MAX) },
        lost,
    );
}

/// Brings the one frame that is in the slot to its end.
fn one_of_many<M: Mm>(
    batch: &mut Batch<'_, '_, M>,
    index: usize,
    is_first: bool,
    is_fault: bool,
    place: Option<Dst<'_, M>>,
    later: &mut Later<'_, M>,
    choose: &mut impl FnMut(Option<u64>, u32) -> Result<u64, Abort>,
) {
    if let (Some(place), Work::Frozen { dst, .. }) = (place, &mut batch.slots[index].work) {
        *dst = place.into_raw();
    } else if is_fault && !is_first {
        return batch.put_back(index, Abort::Declined);
    } else if let Err(why) = place_one(batch, index, later, choose) {
        return batch.put_back(index, why);
    }
    let Some(job) = job(batch, index) else { return };
    let copied = job.copy(batch.mm);
    settle(batch, index, copied, later, choose);
    super::finalize::finalize_one(batch, index);
}
