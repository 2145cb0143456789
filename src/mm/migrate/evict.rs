//! A page that has to go, whoever has pinned it: one at a time, and with patience.

use super::pass::Pass;
use super::slot::Work;
use super::{Abort, Mode, Order, Outcome, Select, Slot, collect};
use crate::futex::{Futex, FutexTimed};
use crate::mm::drain::{Drain, Unlocked};
use crate::mm::{Memory, Mm};
use crate::wait::{Limits, Wait, Wake};

/// Moves the page at frame `pfn` out of it, and waits for its pins to be dropped, within `limits`:
/// for memory that is to be taken away, where giving up is no choice. To another tier or to another
/// frame of its own, as `order` says: it leaves this frame, unless the order [selects](Select)
/// otherwise.
///
/// While it waits nobody can pin the page anew, and everybody can go on using it: its entries are
/// taken down only afterwards, so that a pinner who accesses the page before it unpins does not
/// wait for itself. What has to wait as well is whoever wants another reference, and so whoever
/// makes another entry for the page, by fork for instance: the counts can only fall. So whoever has
/// a pin of a page waits for no migration of it: [`pin_range`](crate::mm::pin::pin_range) drops
/// what it has before it waits, and a fork copies a page that is pinned.
///
/// References, which are not waited for, make it try again, up to [`Order::tries`] times. Between
/// two tries everything is put back, batches are drained, whoever owns the page is waited for, and
/// the processor is given away. The drain is the one of these that `limits` do not end.
///
/// The caller has neither a page's lock, nor a page-table lock, which `unlocked` is its word for,
/// nor a pin of this page, whatever the
/// [`Order::mode`]: all of this sleeps.
pub fn evict<M, D>(
    mm: &M,
    pfn: u64,
    order: &Order<M>,
    limits: Limits<'_, M::Futex>,
    drain: &D,
    unlocked: &mut Unlocked,
) -> Outcome<M::Refusal>
where
    M: Mm + Memory<Futex: FutexTimed>,
    D: Drain,
{
    let mut order = order.even_pinned();
    if matches!(order.select, Select::Elsewhere) {
        order = order.out_of(pfn..pfn.saturating_add(1));
    }
    if order.mode == Mode::Async {
        order.mode = Mode::SyncLight;
    }
    let mut slots = [Slot::frame(pfn)];
    for _ in 0..order.tries.max(1) {
        slots[0].set(Outcome::Pending);
        let collected = collect(mm, &mut slots, &order, unlocked).wait_unpinned(limits);
        if collected.unmap().finish(drain).transient == 0 {
            break;
        }
        drain.all(unlocked);
        if wait(mm, pfn, limits).is_err() {
            break;
        }
    }
    slots[0].outcome()
}

/// Waits for the pins of the one page under way, and puts it back if they stay.
pub(super) fn wait_unpinned<M>(pass: &mut Pass<'_, '_, M>, limits: Limits<'_, M::Futex>)
where
    M: Mm + Memory<Futex: FutexTimed>,
{
    for index in 0..pass.slots.len() {
        let Work::Locked(src) = &mut pass.slots[index].work else { continue };
        src.is_followed = true;
        if pass.fault.is_some() && !src.is_fault {
            // The faulter's page is locked as well.
            continue;
        }
        if let Err(still) = src.migration().wait_unpinned(limits) {
            pass.put_back(index, Abort::Pinned { pins: still.pins });
        }
    }
}

/// Waits for whoever owns the page, if anybody does. An error says that it has been long enough.
fn wait<M>(mm: &M, pfn: u64, limits: Limits<'_, M::Futex>) -> Result<(), Wake>
where
    M: Mm + Memory<Futex: FutexTimed>,
{
    let Some(page) = mm.header(pfn) else { return Ok(()) };
    let futex = page.futex;
    // Without a reference, as ever; headers stay where they are.
    match page.wait_with((), Wait::unlocked().within(limits)) {
        Wake::Released | Wake::NotLocked => {}
        cut_short => return Err(cut_short),
    }
    match limits.over(futex) {
        Some(over) => Err(over),
        None => {
            futex.relax();
            Ok(())
        }
    }
}
