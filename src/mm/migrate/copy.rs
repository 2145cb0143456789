//! The fourth stage: the bytes of each page, in another place.

use super::batch::Batch;
use super::dst::Dst;
use super::jobs::job;
use super::parts::split;
use super::place::Later;
use super::slot::{NO_FRAME, Work};
use super::{Abort, Outcome};
use crate::mm::{CopyError, Mm};

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

/// The bytes are in two places, or are not.
pub(super) fn settle<M: Mm>(
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
