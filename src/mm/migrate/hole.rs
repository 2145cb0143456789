//! A large entry that says that nothing is here, or a frame of zeroes: it gets a large page, or one
//! of its addresses gets a small one.

use super::jobs::job;
use super::pass::Pass;
use super::place::{Later, place_one};
use super::slot::{PageName, Work};
use super::{Abort, Outcome};
use crate::leaf::Leaf;
use crate::mm::{Entry, Mm};

/// Finishes the hole before the next slot is begun: other addresses of the entry may be in the
/// batch as well, and find it filled.
pub(super) fn large<M: Mm>(
    pass: &mut Pass<'_, '_, M>,
    index: usize,
    later: &mut Later<'_, M>,
    choose: &mut impl FnMut(Option<u64>, u32) -> Result<u64, Abort>,
) -> Result<(), Abort> {
    let (Work::Hole { was, .. }, PageName::At(at)) =
        (&pass.slots[index].work, pass.slots[index].what)
    else {
        return Ok(());
    };
    let was = *was;
    match look(pass.mm, at, was) {
        Look::Hole(order) => set_order(pass, index, order),
        Look::Page(pfn) if pass.mm.tier(pfn) == pass.order.to => {
            pass.set(index, Outcome::AlreadyThere, 0);
            return Ok(());
        }
        Look::Page(_) | Look::Other => return Err(Abort::HoleFilled),
    }
    match place_one(pass, index, later, choose) {
        Err(Abort::NoDestination) if pass.order.split && split(pass.mm, at, was) => {
            set_order(pass, index, 0);
            place_one(pass, index, later, choose)?;
        }
        placed => placed?,
    }
    if let Some(job) = job(pass, index).filter(|job| job.to.order > 0) {
        // A copy of zeroes, which cannot fail.
        let _ = job.copy(pass.mm);
        super::finalize::finalize_one(pass, index);
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

/// Whether there is one entry for each page from now on. Nothing is gained or lost by that, so
/// nobody is told.
fn split<M: Mm>(mm: &M, at: M::Address, was: Leaf) -> bool {
    mm.lock(at)
        .is_some_and(|mut entry| entry.get() == Ok(was) && (entry.order() == 0 || entry.split()))
}

fn set_order<M: Mm>(pass: &mut Pass<'_, '_, M>, index: usize, new: u32) {
    if let Work::Hole { order, .. } = &mut pass.slots[index].work {
        *order = u8::try_from(new).unwrap_or(u8::MAX);
    }
}
