//! What each thread does in a turn. Whatever is refused is counted: failures are ordered all the
//! time.

use super::common::Lots;
use super::common::own::within;
use super::world::{END, LARGE, LARGE_ORDER, Mm, PAGES, PRIVATE, SHARED, TIERS, World, count};
use pagelock::leaf::{Leaf, Rights};
use pagelock::mm::drain::Unlocked;
use pagelock::mm::exclusive::make_exclusive;
use pagelock::mm::migrate::{Mode, Order, Outcome, Slot, evict, migrate};
use pagelock::mm::pin::{Backing, PinOrder, PinSlot, Term, pin_range};
use pagelock::mm::range::{self, Page, Want, fault_range, snapshot};
use pagelock::mm::{Access, Faulter, Strategy, condemn};
use pagelock_soft::{AccessError, At, Backed, MapError, SpaceId};
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

fn pick<T: Copy>(lots: &mut Lots, from: &[T]) -> T {
    from[lots.draw(from.len() as u64) as usize]
}

/// A page of the root's, which may be a hole.
fn anywhere(world: &World, lots: &mut Lots) -> At {
    world.root.page(lots.draw(END as u64) as usize)
}

/// A page that additions go to, by the number that the root has for it, and an address of it.
fn counted(world: &World, lots: &mut Lots) -> (usize, At) {
    let region = &[SHARED, PRIVATE, LARGE][lots.draw(3) as usize];
    let page = region.start + lots.draw(region.len() as u64) as usize;
    let space = if SHARED.contains(&page) { pick(lots, &world.kin) } else { world.root };
    (page, space.page(page))
}

fn tally(world: &World, outcome: Outcome<pagelock_soft::Refusal>) {
    match outcome {
        Outcome::Moved { .. } => count(&world.counts.moved),
        Outcome::Split { .. } => count(&world.counts.split),
        Outcome::Skipped(_) => count(&world.counts.passed),
        Outcome::Aborted(_) => count(&world.counts.put_back),
        Outcome::Pending | Outcome::Uncounted { .. } => panic!("{outcome:?}"),
        _ => {}
    }
}

fn order(lots: &mut Lots) -> Order<Mm> {
    let order =
        Order::to(pick(lots, &TIERS)).mode(pick(lots, &[Mode::Async, Mode::SyncLight, Mode::Sync]));
    let order = order.tries(1 + lots.draw(3) as u32).batch(1 + lots.draw(8) as usize);
    if lots.draw(4) == 0 { order.whole() } else { order }
}

fn migrate_some(world: &'static World, lots: &mut Lots, is_reversed: bool) {
    let (space, first) = (pick(lots, &world.kin), lots.draw(PAGES as u64 - 12) as usize);
    let mut slots: Vec<_> = space.page(first).pages(12).map(Slot::at).collect();
    if is_reversed {
        slots.reverse();
    }
    let _ = migrate(world.mm, &mut slots, &order(lots), world.mm, &mut Unlocked::promise());
    slots.iter().for_each(|slot| tally(world, slot.outcome()));
}

pub(crate) fn migrate_upwards(world: &'static World, lots: &mut Lots) {
    migrate_some(world, lots, false);
}

pub(crate) fn migrate_downwards(world: &'static World, lots: &mut Lots) {
    migrate_some(world, lots, true);
}

/// As compaction scans memory: frame by frame, owned or not.
pub(crate) fn scan(world: &'static World, lots: &mut Lots) {
    let frames = world.mm.frames_of(pick(lots, &TIERS));
    let first = frames.start.max(1) + lots.draw(frames.end - frames.start - 16);
    let mut slots: Vec<_> = (first..first + 16).map(Slot::frame).collect();
    let _ = migrate(
        world.mm,
        &mut slots,
        &order(lots).out_of(first..first + 16),
        world.mm,
        &mut Unlocked::promise(),
    );
    slots.iter().for_each(|slot| tally(world, slot.outcome()));
}

pub(crate) fn evict_one(world: &'static World, lots: &mut Lots) {
    let Some(pfn) = world.mm.frame_at(anywhere(world, lots)).filter(|&pfn| pfn > 0) else { return };
    let limits = within(world.own, 1 + lots.draw(20));
    let outcome = evict(world.mm, pfn, &order(lots), limits, world.mm, &mut Unlocked::promise());
    tally(world, outcome);
    count(if outcome.is_done() { &world.counts.evicted } else { &world.counts.not_evicted });
}

/// What an access may be refused for: what was made to fail, for as long as anybody has patience.
fn refused(world: &World, error: AccessError) {
    match error {
        AccessError::NoMemory | AccessError::Busy { .. } | AccessError::NotBrought(_) => {
            count(&world.counts.refused)
        }
        other => panic!("{other}"),
    }
}

fn add_by(world: &World, lots: &mut Lots, strategy: Strategy) {
    let (page, at) = counted(world, lots);
    let mut faulter = Faulter::new(strategy).patience(50);
    match world.mm.fault(at, Access::Write, &mut faulter).and_then(|_| world.mm.add(at, 0, 1)) {
        Ok(_) => world.added(page),
        Err(error) => refused(world, error),
    }
}

pub(crate) fn add(world: &'static World, lots: &mut Lots) {
    add_by(world, lots, Strategy::Wait);
}

pub(crate) fn add_and_queue(world: &'static World, lots: &mut Lots) {
    add_by(world, lots, Strategy::WaitThenLock { after: 1 });
}

/// A device's driver, which mirrors a part of the table.
pub(crate) fn read_range(world: &'static World, lots: &mut Lots) {
    let (mm, first) = (world.mm, lots.draw(END as u64 - 8) as usize);
    let want = pick(lots, &[Want::Nothing, Want::Read, Want::Write]);
    let mut pages: Vec<_> = world.root.page(first).pages(8).map(|at| Page::new(at, want)).collect();
    let notifier = mm.notifier(world.root).unwrap();
    let order = range::RangeOrder::new(within(world.own, 1 + lots.draw(20))).patience(50);
    let order = if lots.draw(2) == 0 {
        order.part(mm.log(world.root).unwrap(), first..first + 8)
    } else {
        order
    };
    let read = match lots.draw(2) {
        0 => snapshot(mm, notifier, &mut pages, &order),
        _ => fault_range(mm, notifier, &mut pages, &order),
    };
    count(if read.is_ok() { &world.counts.looked } else { &world.counts.late });
}

/// A transfer into pages that stay where they are for as long.
pub(crate) fn pin_some(world: &'static World, lots: &mut Lots) {
    let (first, _) = counted(world, lots);
    let region =
        [SHARED, PRIVATE, LARGE].into_iter().find(|region| region.contains(&first)).unwrap();
    let pages = first..region.end.min(first + 4);
    let mut slots: Vec<_> = pages.clone().map(|page| PinSlot::new(world.root.page(page))).collect();
    let term = pick(lots, &[Term::Short, Term::Long]);
    let order =
        PinOrder::new(Access::Write, term, within(world.own, 1 + lots.draw(20))).patience(20);
    let policy = Backed(|_| Backing::Anonymous);
    if pin_range(world.mm, &mut slots, &order, &policy, world.mm, &mut Unlocked::promise()).is_err()
    {
        return count(&world.counts.not_pinned);
    }
    for (page, slot) in pages.zip(&slots) {
        world.mm.add_frame(slot.pfn.unwrap(), 0, 1);
        world.added(page);
    }
    if lots.draw(8) == 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
    for slot in &slots {
        let leads = world.mm.frame_at(slot.at);
        assert!(
            leads.is_none() || leads == slot.pfn,
            "a pinned page has moved: {slot:?}, {:?}",
            world.mm.leaf(slot.at)
        );
    }
    count(&world.counts.pinned);
}

/// Has a page to itself for a moment, in which it adds to it.
pub(crate) fn device(world: &'static World, lots: &mut Lots) {
    let (page, at) = counted(world, lots);
    let Ok(exclusive) = make_exclusive(world.mm, at) else {
        return count(&world.counts.not_exclusive);
    };
    world.mm.add_frame(exclusive.pfn(), 0, 1);
    world.added(page);
    drop(exclusive);
    count(&world.counts.exclusive);
}

fn forked(world: &'static World, lots: &mut Lots, then: impl FnOnce(SpaceId, &mut Lots)) {
    match world.mm.fork(world.root) {
        Ok(child) => {
            count(&world.counts.forks);
            then(child, lots);
            world.mm.exit(child);
        }
        Err(_) => count(&world.counts.not_forked),
    }
}

/// A child that reads what its parent had, and adds to what they share.
pub(crate) fn fork(world: &'static World, lots: &mut Lots) {
    forked(world, lots, |child, lots| {
        for _ in 0..8 {
            let (page, _) = counted(world, lots);
            let mut word = [0; 8];
            match world.mm.read(child.page(page), 8, &mut word) {
                Ok(()) => assert_eq!(usize::from_ne_bytes(word), page),
                Err(error) => refused(world, error),
            }
            if SHARED.contains(&page) {
                match world.mm.add(child.page(page), 0, 1) {
                    Ok(_) => world.added(page),
                    Err(error) => refused(world, error),
                }
            }
        }
    });
}

/// A child that does with its private pages what it likes, and changes nobody else's by it.
pub(crate) fn fork_and_change(world: &'static World, lots: &mut Lots) {
    forked(world, lots, |child, lots| {
        for _ in 0..8 {
            let at = child.page(PRIVATE.start + lots.draw((END - PRIVATE.start) as u64) as usize);
            let spare = child.page(END + lots.draw((PAGES - END) as u64) as usize);
            // Whether any of it may be done does not matter: it must not do what it may not.
            let _ = match lots.draw(7) {
                6 => fill_large(world, child, lots),
                0 => world.mm.remap(at, spare, 1, false),
                1 => world.mm.unmap(at, 1),
                2 => world.mm.protect(at, 1, Some(Rights::Read)),
                3 => world.mm.discard(at, 1),
                4 => world.mm.remap(spare, at, 1, true),
                _ => world.mm.write(at, 0, &[255; 16]).or(Ok(())),
            };
            count(&world.counts.changed);
        }
    });
}

/// Where nothing is yet by one large entry, a page of zeroes is made in some tier, large if there
/// is one.
fn fill_large(world: &'static World, child: SpaceId, lots: &mut Lots) -> Result<(), MapError> {
    let at = child.page(END + 8 * lots.draw(2) as usize);
    world.mm.map_large_hole(at, LARGE_ORDER)?;
    let mut slots: Vec<_> = at.pages(8).skip(lots.draw(8) as usize).map(Slot::at).collect();
    let _ = migrate(
        world.mm,
        &mut slots,
        &order(lots).filling_holes(),
        world.mm,
        &mut Unlocked::promise(),
    );
    slots.iter().for_each(|slot| {
        if let Outcome::Filled { .. } = slot.outcome() {
            count(&world.counts.filled);
        }
    });
    let mut byte = [1];
    match world.mm.read(At { page: at.page + lots.draw(8) as usize, ..at }, 9, &mut byte) {
        Ok(()) => assert_eq!(byte, [0], "the page is not of zeroes"),
        Err(error) => refused(world, error),
    }
    Ok(())
}

/// Has something fail, and then not; now and then a page is lost for good.
pub(crate) fn fail(world: &'static World, lots: &mut Lots) {
    let (mm, tier, n) = (world.mm, pick(lots, &TIERS), 1 + lots.draw(3) as usize);
    match lots.draw(8) {
        0 => mm.fail_allocations(tier, n),
        1 | 2 => mm.fail_large_allocations(tier, n),
        3 => mm.fail_copies(tier, n),
        4 => mm.fail_cache(n),
        5 => mm.set_immovable(true),
        6 => world.is_refusing.store(true, SeqCst),
        _ if world.may_lose() && lots.draw(16) == 0 => lose(world),
        _ => {}
    }
    count(&world.counts.failures);
    std::thread::sleep(Duration::from_micros(lots.draw(1000)));
    mm.set_immovable(false);
    world.is_refusing.store(false, SeqCst);
}

/// A page that two have mapped is found lost: neither can access it any more, and nobody else
/// notices.
fn lose(world: &'static World) {
    let mm = world.mm;
    let Ok(space) = mm.spawn() else { return };
    let at = space.page(0);
    let child = mm
        .map(at, 1)
        .ok()
        .and_then(|()| mm.write(at, 0, &[1]).ok())
        .and_then(|()| mm.fork(space).ok());
    if let Some(child) = child {
        // Until the lock is that of the page which the entries name.
        let (pfn, guard) = loop {
            let Some(pfn) = mm.frame_at(at) else { continue };
            let guard = mm.page(pfn).unwrap().lock();
            match mm.leaf(at) {
                Leaf::Present { pfn: now, .. } | Leaf::DevicePrivate { pfn: now, .. }
                    if now == pfn =>
                {
                    break (pfn, guard);
                }
                _ => {}
            }
        };
        assert_eq!(condemn(mm, pfn, guard).entries, 2);
        for space in [space, child] {
            assert_eq!(mm.read(space.page(0), 0, &mut [0]), Err(AccessError::Poisoned { pfn }));
        }
        count(&world.counts.lost);
        mm.exit(child);
    }
    mm.exit(space);
}
