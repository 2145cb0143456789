//! A large page that cannot move as one: its frames, one after the other.

use super::copy::settle;
use super::dst::Dst;
use super::jobs::job;
use super::pass::Pass;
use super::place::{Later, find, place_one};
use super::slot::{NO_FRAME, Src, Work};
use super::{Abort, Outcome};
use crate::mm::Mm;

/// Splits a large page and finishes its frames one after the other: the slot has room for one.
///
/// Never for nothing: the first frame has a place before the page is split. A fault moves only the
/// frame that it wants; the others stay where they are.
pub(super) fn split<M: Mm>(
    pass: &mut Pass<'_, '_, M>,
    index: usize,
    later: &mut Later<'_, M>,
    choose: &mut impl FnMut(Option<u64>, u32) -> Result<u64, Abort>,
) {
    let mm = pass.mm;
    let Work::Frozen { src, .. } = &pass.slots[index].work else { return };
    let (span, mut head) = (src.span(), *src);
    let wanted = pass.wanted.filter(|&pfn| span.contains(pfn));
    let first = wanted.unwrap_or(span.head);
    // A cache finds all of the page by its first frame.
    if head.hand.cached > 0 || !pass.order.split {
        return pass.put_back(index, Abort::SplitFailed);
    }
    let mut place = match find(pass, Some(first), 0, 0, later, choose) {
        Ok(place) => Some(place),
        Err(why) => return pass.put_back(index, why),
    };
    let Some(tails) = super::split::split(mm, span) else {
        return pass.put_back(index, Abort::SplitFailed);
    };
    head.order = 0;
    head.is_part = true;
    let (mut moved, mut lost) = (0, 0);
    let mut part = |pass: &mut Pass<'_, '_, M>, src: Src<'_, M>, place: Option<Dst<'_, M>>| {
        one_of_many(pass, index, src.head == first, wanted.is_some(), place, later, choose);
        moved += u32::from(pass.slots[index].outcome().is_done());
        lost += pass.slots[index].lost();
    };
    pass.slots[index].work = Work::Frozen { src: head, dst: NO_FRAME };
    part(pass, head, if first == span.head { place.take() } else { None });
    for src in tails {
        pass.slots[index].work = Work::Frozen { src, dst: NO_FRAME };
        part(pass, src, if first == src.head { place.take() } else { None });
    }
    pass.set(
        index,
        Outcome::Split { moved, of: u32::try_from(span.len()).unwrap_or(u32::MAX) },
        lost,
    );
}

/// Finishes the one frame that is in the slot.
fn one_of_many<M: Mm>(
    pass: &mut Pass<'_, '_, M>,
    index: usize,
    is_first: bool,
    is_fault: bool,
    place: Option<Dst<'_, M>>,
    later: &mut Later<'_, M>,
    choose: &mut impl FnMut(Option<u64>, u32) -> Result<u64, Abort>,
) {
    if let (Some(place), Work::Frozen { dst, .. }) = (place, &mut pass.slots[index].work) {
        *dst = place.into_raw();
    } else if is_fault && !is_first {
        return pass.put_back(index, Abort::Declined);
    } else if let Err(why) = place_one(pass, index, later, choose) {
        return pass.put_back(index, why);
    }
    let Some(job) = job(pass, index) else { return };
    let copied = job.copy(pass.mm);
    settle(pass, index, copied, later, choose);
    super::finalize::finalize_one(pass, index);
}
