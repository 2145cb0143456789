//! A large entry that says that nothing is here, or a frame of zeroes: it gets a large page, or one
//! of its addresses gets one.

use super::batch::Batch;
use super::jobs::job;
use super::place::{Later, place_one};
use super::slot::{What, Work};
use super::{Abort, Outcome};
use crate::leaf::Leaf;
use crate::mm::{Entry, Mm};

/// Brings it to its end before the next slot is begun with: other addresses of the entry may be in
/// the batch as well, and find it filled.
pub(super) fn large<M: Mm>(
    batch: &mut Batch<'_, '_, M>,
    index: usize,
    later: &mut Later<'_, M>,
    choose: &mut impl FnMut(Option<u64>, u32) -> Result<u64, Abort>,
) -> Result<(), Abort> {
    let (Work::Hole { was, .. }, What::At(at)) =
        (&batch.slots[index].work, batch.slots[index].what)
    else {
        return Ok(());
    };
    let was = *was;
    match look(batch.mm, at, was) {
        Look::Hole(order) => set_order(batch, index, order),
        Look::Page(pfn) if batch.mm.tier(pfn) == batch.order.to => {
            batch.set(index, Outcome::AlreadyThere, 0);
            return Ok(());
        }
        Look::Page(_) | Look::Other => return Err(Abort::HoleFilled),
    }
    match place_one(batch, index, later, choose) {
        Err(Abort::NoDestination) if batch.order.split && split(batch.mm, at, was) => {
            set_order(batch, index, 0);
            place_one(batch, index, later, choose)?;
        }
        placed => placed?,
    }
    if let Some(job) = job(batch, index).filter(|job| job.to.order > 0) {
        // Of zeroes, which cannot fail.
        let _ = job.copy(batch.mm);
        super::finalize::finalize_one(batch, index);
    }
    Ok(())
}

/// What the entry says now.
enum Look {
    /// The same, for so many pages.
    Hole(u32),
    Page(u64),
    Other,
}

fn look<M: Mm>(mm: &M, at: M::Address, was: Leaf) -> Look {
    let Some(entry) = mm.lock(at) else { return Look::Other };
    match entry.get() {
        Ok(leaf) if leaf == was => Look::Hole(entry.order()),
        Ok(Leaf::Present { pfn, .. } | Leaf::DevicePrivate { pfn, .. }) => Look::Page(pfn),
        _ => Look::Other,
    }
}

/// Whether it is one entry for each page from now on. Nothing is gained or lost by that, so nobody
/// is told.
fn split<M: Mm>(mm: &M, at: M::Address, was: Leaf) -> bool {
    mm.lock(at)
        .is_some_and(|mut entry| entry.get() == Ok(was) && (entry.order() == 0 || entry.split()))
}

fn set_order<M: Mm>(batch: &mut Batch<'_, '_, M>, index: usize, new: u32) {
    if let Work::Hole { order, .. } = &mut batch.slots[index].work {
        *order = u8::try_from(new).unwrap_or(u8::MAX);
    }
}
