//! The fourth stage: the bytes of each page, in another place.

use super::dst::Dst;
use super::jobs::job;
use super::parts::split;
use super::pass::Pass;
use super::place::Later;
use super::slot::{NO_FRAME, Work};
use super::{Abort, Outcome};
use crate::mm::{CopyError, Mm};

/// Copies the bytes of each page that has a place.
pub(super) fn copy<M: Mm>(
    pass: &mut Pass<'_, '_, M>,
    mut choose: impl FnMut(Option<u64>, u32) -> Result<u64, Abort>,
) {
    let mut later = Later::new(pass.mm);
    for index in 0..pass.slots.len() {
        if let Some(job) = job(pass, index) {
            let copied = job.copy(pass.mm);
            settle(pass, index, copied, &mut later, &mut choose);
        }
    }
}

/// A copy is done, or has failed.
pub(super) fn settle<M: Mm>(
    pass: &mut Pass<'_, '_, M>,
    index: usize,
    copied: Result<(), CopyError>,
    later: &mut Later<'_, M>,
    choose: &mut impl FnMut(Option<u64>, u32) -> Result<u64, Abort>,
) {
    match copied {
        Ok(()) => {
            if let Work::Frozen { src, .. } = &mut pass.slots[index].work {
                src.is_copied = true;
            }
        }
        Err(CopyError::Failed) => pass.put_back(index, Abort::CopyFailed),
        Err(CopyError::SourceLost) => {
            let Work::Frozen { src, dst } = &mut pass.slots[index].work else { return };
            let (order, counted, head) =
                (u32::from(src.order), src.counted(), core::mem::replace(dst, NO_FRAME));
            // SAFETY: taken out of the slot just now.
            drop(unsafe { Dst::from_raw(pass.mm, head, order, counted) });
            if order == 0 {
                poison(pass, index);
            } else {
                // One frame cannot be read, not all of them.
                split(pass, index, later, choose);
            }
        }
    }
}

/// The source is lost, and with it the page: every entry says so, before anybody is woken (I25).
/// Other pages go on.
fn poison<M: Mm>(pass: &mut Pass<'_, '_, M>, index: usize) {
    let Work::Frozen { src, .. } = pass.take(index) else { return };
    super::finalize::condemn(pass.mm, src.span());
    super::finalize::let_go_of_lost(pass, src);
    pass.set(index, Outcome::Poisoned, 1);
}
