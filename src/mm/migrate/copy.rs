//! The fourth stage: a frame for each page, and its bytes.

use super::slot::{Batch, Dst, Work};
use super::{Abort, Outcome};
use crate::mm::{CopyError, Mm};

pub(super) fn copy<M: Mm>(batch: &mut Batch<'_, '_, M>, mut choose: impl FnMut(Option<u64>, u32) -> Result<u64, Abort>) {
    for index in 0..batch.slots.len() {
        let mm = batch.mm;
        let (from, order) = match &batch.slots[index].work {
            Work::Hole { .. } => (None, 0),
            Work::Frozen { src, .. } => (Some(src.span), src.span.order),
            _ => continue,
        };
        let dst = choose(from.map(|span| span.head), order).and_then(|pfn| Dst::new(mm, pfn, order));
        let new = match dst {
            Ok(dst) => dst,
            Err(why) => {
                batch.put_back(index, why);
                continue;
            }
        };
        let to = new.span;
        // Into the slot before anything can go wrong: what is there is given back, also if the copy panics.
        match &mut batch.slots[index].work {
            Work::Hole { dst, .. } | Work::Frozen { dst, .. } => *dst = Some(new),
            _ => {}
        }
        let copied = match from {
            None => {
                mm.zero(to.head);
                Ok(())
            }
            Some(from) => from.frames().zip(to.frames()).try_for_each(|(from, to)| mm.copy(from, to)),
        };
        match copied {
            Ok(()) => {}
            Err(CopyError::Failed) => batch.put_back(index, Abort::CopyFailed),
            Err(CopyError::SourceLost) => poison(batch, index),
        }
    }
}

/// The source is lost, and with it the page: every entry says so, before anybody is woken (I25). Others are not concerned.
fn poison<M: Mm>(batch: &mut Batch<'_, '_, M>, index: usize) {
    let Work::Frozen { src, page, dst } = batch.take(index) else { return };
    if let Some(dst) = dst {
        dst.discard(batch.mm);
    }
    super::finalize::condemn(batch.mm, src.span);
    batch.slots[index].outcome = Outcome::Poisoned;
    super::finalize::let_go_of_lost(batch, src, page);
}
