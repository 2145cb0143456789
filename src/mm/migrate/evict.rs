//! A page that has to go, even if it is pinned: one at a time, and with patience.

use super::pass::Pass;
use super::slot::Work;
use super::{Abort, Mode, Order, Outcome, Select, Slot, collect};
use crate::futex::{Futex, FutexTimed};
use crate::mm::drain::{Drain, Unlocked};
use crate::mm::{Memory, Mm};
use crate::wait::{Limits, Wait, Wake};

/// Moves the page at frame `pfn` out of it, and waits for its pins to be dropped, within `limits`:
/// for memory that is being taken away, where giving up is no choice. The page goes to another tier
/// or to another frame of its own, as `order` says. It leaves this frame, unless the order
/// [selects](Select) otherwise.
///
/// During the wait nobody can pin the page anew, and everybody can go on using it: its entries are
/// taken down only afterwards, so a pinner that accesses the page before it unpins does not wait
/// for itself. A thread that wants another reference has to wait as well, and so has one that makes
/// another entry for the page, by fork for instance: the counts can only fall. So a thread with a
/// pin of a page waits for no migration of it: [`pin_range`](crate::mm::pin::pin_range) drops what
/// it has before it waits, and a fork copies a pinned page.
///
/// References are not waited for; they make it try again, up to [`Order::tries`] times. Between two
/// tries it puts everything back, drains batches, waits for the page's owner, and gives the
/// processor away. Only the drain does not end at `limits`.
///
/// The caller has neither a page's lock nor a page-table lock, as `unlocked` promises, nor a pin of
/// this page, in whatever [`Order::mode`]: all of this sleeps.
///
/// ```
/// use pagelock::Limits;
/// use pagelock::mm::{Tiers, drain::Unlocked, migrate::{Order, evict}};
/// use pagelock_soft::TierId;
/// # let (mm, at) = pagelock_soft::example();
/// let pfn = mm.frame_at(at).unwrap();
/// let mut unlocked = Unlocked::promise(); // the top of a thread
/// let outcome = evict(&mm, pfn, &Order::to(TierId(1)), Limits::none(), &mm, &mut unlocked);
/// assert!(outcome.is_done());
/// assert_eq!(mm.tier(mm.frame_at(at).unwrap()), TierId(1));
/// ```
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

/// Waits for the page's owner, if it has one. An error says that the time is up.
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
