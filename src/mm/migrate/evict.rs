//! A page that has to go, whoever has pinned it: one at a time, and with patience.

use super::{Order, Outcome, Slot, What, collect};
use crate::futex::{Futex, FutexTimed};
use crate::leaf::Leaf;
use crate::mm::drain::Drain;
use crate::mm::{Entry, Memory, Mm};
use crate::wait::{Limits, Wait, Wake};

/// Moves one page, and waits for its pins to be dropped, within `limits`: for memory that is to be taken away, where giving up is no choice.
///
/// Its entries are down meanwhile, so whoever accesses it waits as well, without a reference; nobody can pin it anew. References, which are
/// not waited for, make it try again, up to [`Order::tries`] times. Between two tries everything is put back, batches are drained, and the
/// processor is given away.
///
/// The outcome is the slot's too: pinned still, if the time was up.
pub fn evict<'m, M, D>(
    mm: &'m M,
    slot: &mut Slot<'m, M>,
    order: &Order<M>,
    limits: Limits<'_, M::Futex>,
    drain: &D,
) -> Outcome<M::Refusal>
where
    M: Mm + Memory<Futex: FutexTimed>,
    D: Drain,
{
    let order = order.even_pinned();
    for _ in 0..order.tries.max(1) {
        slot.outcome = Outcome::Pending;
        let slots = core::slice::from_mut(slot);
        let mut finished = collect(mm, slots, &order, None).unmap().drain_local(drain).check_unpinned(limits).copy().finalize();
        if finished.summary().transient == 0 {
            break;
        }
        if let Some(permit) = finished.permit() {
            drain.all(permit);
        }
        if wait(mm, slot.what, limits).is_err() {
            break;
        }
    }
    slot.outcome
}

/// Waits for whoever owns the page, if anybody does. An error says that it has been long enough.
fn wait<M>(mm: &M, what: What<M::Address>, limits: Limits<'_, M::Futex>) -> Result<(), Wake>
where
    M: Mm + Memory<Futex: FutexTimed>,
{
    let (pfn, entry) = match what {
        What::Frame(pfn) => (Some(pfn), None),
        What::At(at) => {
            let entry = mm.lock(at);
            (Leaf::decode(entry.get()).ok().and_then(Leaf::pfn), Some(entry))
        }
    };
    let Some(page) = pfn.and_then(|pfn| mm.header(pfn)) else { return Ok(()) };
    let futex = page.futex;
    // Without a reference, as ever; the page is not touched once the entry is let go of.
    match page.wait_with(entry, Wait::unlocked().within(limits)) {
        Ok(Wake::Released | Wake::NotLocked) => {}
        Ok(cut_short) => return Err(cut_short),
        Err(_) => return Err(Wake::TimedOut),
    }
    match limits.over(futex) {
        Some(over) => Err(over),
        None => {
            futex.relax();
            Ok(())
        }
    }
}
