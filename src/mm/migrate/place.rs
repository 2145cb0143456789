//! Before the copy: a frame for each page.

use super::Abort;
use super::dst::{Dst, NoDst};
use super::parts::split;
use super::pass::Pass;
use super::slot::{NO_FRAME, Work};
use crate::mm::Mm;

/// Gives each page a frame to go to. Pages without one are put back, or split.
pub(super) fn place<M: Mm>(
    pass: &mut Pass<'_, '_, M>,
    mut choose: impl FnMut(Option<u64>, u32) -> Result<u64, Abort>,
) {
    let mut later = Later::new(pass.mm);
    for index in 0..pass.slots.len() {
        let placed = match pass.slots[index].work {
            Work::Hole { order: 1.., dst: NO_FRAME, .. } => {
                super::hole::large(pass, index, &mut later, &mut choose)
            }
            _ => place_one(pass, index, &mut later, &mut choose),
        };
        match placed {
            Ok(()) => {}
            // Not as one page, then.
            Err(Abort::NoDestination) if pass.order.split && is_large(pass, index) => {
                split(pass, index, &mut later, &mut choose);
            }
            Err(why) => pass.put_back(index, why),
        }
    }
}

fn is_large<M: Mm>(pass: &Pass<'_, '_, M>, index: usize) -> bool {
    matches!(&pass.slots[index].work, Work::Frozen { src, .. } if src.order > 0)
}

/// The search for a frame ends after so many in a row that are busy.
const MOST: usize = 8;

/// Frames that are free and busy: given back when every page of the batch has its place, so that
/// none is handed out again at once.
pub(super) struct Later<'m, M: Mm> {
    mm: &'m M,
    frames: [u64; MOST],
    len: usize,
}

impl<'m, M: Mm> Later<'m, M> {
    pub(super) fn new(mm: &'m M) -> Self {
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
    pass: &mut Pass<'_, '_, M>,
    index: usize,
    later: &mut Later<'_, M>,
    choose: &mut impl FnMut(Option<u64>, u32) -> Result<u64, Abort>,
) -> Result<(), Abort> {
    let (from, order, counted) = match &pass.slots[index].work {
        Work::Hole { order, dst: NO_FRAME, .. } => (None, u32::from(*order), 0),
        Work::Frozen { src, dst: NO_FRAME } => {
            (Some(src.head), u32::from(src.order), src.counted())
        }
        _ => return Ok(()),
    };
    let new = find(pass, from, order, counted, later, choose)?;
    // Into the slot before anything can go wrong: dropping the pass gives it back.
    if let Work::Hole { dst, .. } | Work::Frozen { dst, .. } = &mut pass.slots[index].work {
        *dst = new.into_raw();
    }
    Ok(())
}

/// A frame for the page at `from`, or for a hole.
pub(super) fn find<'m, M: Mm>(
    pass: &Pass<'_, 'm, M>,
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
        match Dst::new(pass.mm, pfn, order, counted, &pass.order.select) {
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
