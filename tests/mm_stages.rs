//! What others see and do while a page is on its way: waiters, forks, moves, unmaps, writers, other
//! migrators.

#![cfg(all(feature = "std", not(pagelock_loom)))]

mod common;

use common::machine::{
    DEVICE, FAR, Mm, RAM, check_all, exclusive, is_migrating, machine, machine_with, move_one,
    picture, written,
};
use common::watched;
use core::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use pagelock::leaf::{Leaf, Rights};
use pagelock::mm::drain::{Drain, Unlocked};
use pagelock::mm::exclusive::ExclusiveError;
use pagelock::mm::migrate::{Abort, Mode, Order, Outcome, Skip, Slot, collect, migrate};
use pagelock::mm::{Faulter, Strategy, Tiers};
use pagelock::{Cancel, GetError, PinError, Wake};
use pagelock_soft::{AccessError, At};
use std::thread;
use std::time::{Duration, Instant};

fn order() -> Order<Mm> {
    Order::to(DEVICE).tries(1)
}

/// I12, I13, I15: from the first entry that is taken down to the last that is put up.
#[test]
fn a_page_is_locked_as_long_as_it_has_a_migration_entry() {
    let unlocked = &mut Unlocked::promise();
    let (mm, _) = machine();
    let parent = mm.spawn().unwrap();
    let at = written(mm, parent, 1);
    let child = mm.fork(parent).unwrap().page(0);
    let page = mm.page(mm.frame_at(at).unwrap()).unwrap();
    let mut slots = [Slot::at(at)];
    let collected = collect(mm, &mut slots, &order(), unlocked);
    assert!(is_migrating(mm, at) && !is_migrating(mm, child));
    assert!(page.is_locked() && page.is_migrating() && !page.is_frozen());
    assert_eq!(
        page.refs(),
        3,
        "the other entry's, the migrator's, and that of the entry which he has in hand"
    );
    assert!(matches!(page.try_pin(), Err(PinError::Migrating)));
    let unmapped = collected.unmap();
    assert!(is_migrating(mm, at) && is_migrating(mm, child));
    assert_eq!(page.refs(), 3, "migration entries own none: the migrator has those");
    assert!(!page.is_frozen());
    let checked = unmapped.check();
    assert!(page.is_locked() && page.is_frozen());
    assert!(matches!(page.try_get(), Err(GetError::Frozen)));
    let copied = checked.copy();
    assert!(is_migrating(mm, at) && is_migrating(mm, child) && page.is_locked());
    let _ = copied.finalize();
    assert!(!page.is_locked() && page.refs() == 0);
    assert_eq!(mm.frame_at(at), mm.frame_at(child));
    mm.audit().unwrap();
}

/// I14: whose the references are, step by step, with one of every kind; and what the freeze expects
/// are those of the migrator.
#[test]
fn every_reference_has_an_owner_at_every_step() {
    let unlocked = &mut Unlocked::promise();
    let (mm, _) = machine();
    let parent = mm.spawn().unwrap();
    let at = written(mm, parent, 1);
    let child = mm.fork(parent).unwrap().page(0);
    let old = mm.frame_at(at).unwrap();
    mm.cache(5, old).unwrap();
    let owned = |pfn| {
        mm.balance().unwrap();
        pagelock::mm::ledger::OWNERS.map(|owner| mm.owned(pfn, owner))
    };
    // Mapping, entry, cache, batch, get.
    assert_eq!(owned(old), [2, 0, 1, 0, 0]);
    let mut slots = [Slot::at(at)];
    let collected = collect(mm, &mut slots, &order(), unlocked);
    assert_eq!(
        owned(old),
        [1, 0, 1, 0, 2],
        "that of an entry is the migrator's until it is up again"
    );
    let unmapped = collected.unmap();
    assert_eq!(owned(old), [0, 0, 1, 0, 3]);
    let checked = unmapped.check();
    assert_eq!((owned(old), checked.in_work()), ([0, 0, 1, 0, 3], 1));
    let copied = checked.copy();
    assert_eq!(owned(old), [0, 0, 1, 0, 3]);
    let _ = copied.finalize();
    let new = mm.frame_at(child).unwrap();
    assert_eq!((owned(old), owned(new)), ([0; 5], [0, 2, 1, 0, 0]));
    assert_eq!(mm.cached_at(5), Some(new));
    // And back, put back at the last moment.
    let copied = collect(mm, &mut [Slot::at(child)], &Order::to(RAM), unlocked)
        .unmap()
        .check()
        .copy()
        .in_work();
    assert_eq!((copied, owned(new)), (1, [0, 2, 1, 0, 0]));
    mm.audit().unwrap();
}

/// I14: the same with a batch's reference and somebody else's, which put the page back; with a
/// faulter's; with a hole that is filled; and with a page that is lost on the way.
#[test]
fn every_kind_of_reference_has_an_owner_at_every_step() {
    let unlocked = &mut Unlocked::promise();
    // New pages are in a batch.
    let (mm, _) = machine_with(1);
    let parent = mm.spawn().unwrap();
    let at = written(mm, parent, 1);
    let child = mm.fork(parent).unwrap().page(0);
    let old = mm.frame_at(at).unwrap();
    mm.cache(5, old).unwrap();
    mm.get(old).unwrap();
    let owned = move |pfn| {
        mm.balance().unwrap();
        pagelock::mm::ledger::OWNERS.map(|owner| mm.owned(pfn, owner))
    };
    // Mapping, entry, cache, batch, get.
    assert_eq!(owned(old), [2, 0, 1, 1, 1]);
    let mut slots = [Slot::at(at)];
    let collected = collect(mm, &mut slots, &order(), unlocked);
    assert_eq!(owned(old), [1, 0, 1, 1, 3]);
    let unmapped = collected.unmap();
    assert_eq!(owned(old), [0, 0, 1, 1, 4]);
    let unmapped = unmapped.drain_local(mm);
    assert_eq!(owned(old), [0, 0, 1, 0, 4]);
    let checked = unmapped.check();
    assert_eq!((owned(old), checked.in_work()), ([2, 0, 1, 0, 1], 0));
    let _ = checked.copy().finalize();
    // SAFETY: got above.
    unsafe { mm.put(old) };
    assert!(move_one(mm, at, &order()).is_done());
    let new = mm.frame_at(at).unwrap();
    mm.get(new).unwrap();
    assert_eq!((owned(old), owned(new)), ([0; 5], [0, 2, 1, 0, 1]));
    // SAFETY: got above.
    unsafe { mm.put(new) };

    // A faulter has one of its own, and so has the migrator.
    let seen = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let note = seen.clone();
    mm.on_prepare(move |pfn| note.lock().unwrap().push(owned(pfn)));
    mm.read(child, 0, &mut [0]).unwrap();
    assert_eq!(*seen.lock().unwrap(), [[0, 2, 1, 0, 2]]);
    let back = mm.frame_at(at).unwrap();
    assert_eq!((owned(new), owned(back)), ([0; 5], [2, 0, 1, 0, 0]));

    // A hole.
    mm.on_prepare(|_| ());
    let hole = parent.page(1);
    mm.map(hole, 1).unwrap();
    let mut slots = [Slot::at(hole)];
    let order = Order::to(DEVICE).tries(1).filling_holes();
    let copied = collect(mm, &mut slots, &order, unlocked).unmap().check().copy();
    mm.balance().unwrap();
    let _ = copied.finalize();
    assert_eq!(owned(mm.frame_at(hole).unwrap()), [0, 1, 0, 0, 0]);

    // And a loss.
    mm.set_lost(back, true);
    let mut slots = [Slot::at(child)];
    let copied = collect(mm, &mut slots, &order, unlocked).unmap().check().copy();
    mm.balance().unwrap();
    let _ = copied.finalize();
    assert_eq!(slots[0].outcome(), Outcome::Poisoned);
    assert_eq!(owned(back), [0, 0, 1, 0, 0], "the cache still has it");
    mm.audit().unwrap();
}

/// I14: and with a large page that is split on the way. Most of its frames move, one is put back
/// and one is lost.
#[test]
fn every_reference_of_a_page_that_is_split_has_an_owner_at_every_step() {
    const SIZE: u32 = 2;
    let unlocked = &mut Unlocked::promise();
    let (mm, _) = machine();
    let parent = mm.spawn().unwrap();
    let at = parent.page(0);
    let head = mm.map_large_by_pages(at, SIZE, RAM).unwrap();
    let frames = head..head + (1 << SIZE);
    let owned = move |pfn| {
        mm.balance().unwrap();
        pagelock::mm::ledger::OWNERS.map(|owner| mm.owned(pfn, owner))
    };
    // Mapping, entry, cache, batch, get.
    assert_eq!(owned(head), [4, 0, 0, 0, 0]);
    mm.fork(parent).unwrap();
    assert_eq!(owned(head), [8, 0, 0, 0, 0]);
    mm.set_lost(head + 3, true);
    let mut slots = [Slot::at(at)];
    let collected = collect(mm, &mut slots, &order(), unlocked);
    assert_eq!(owned(head), [7, 0, 0, 0, 2]);
    let unmapped = collected.unmap();
    assert_eq!(owned(head), [0, 0, 0, 0, 9]);
    let checked = unmapped.check();
    assert_eq!((owned(head), checked.in_work()), ([0, 0, 0, 0, 9], 1));
    let mut new = Vec::new();
    let copied = checked.copy_to(|from, size| {
        let from = from.unwrap();
        if size > 0 {
            assert_eq!(owned(head), [0, 0, 0, 0, 9], "with one header");
            return Err(Abort::NoDestination);
        }
        // Those before this one are through, this one and those after it have the migrator's.
        for pfn in frames.clone() {
            let expected = match pfn.checked_sub(head) {
                // Not split before there is a place for the first.
                _ if from == head => [0, 0, 0, 0, 9],
                Some(1) if pfn < from => [2, 0, 0, 0, 0],
                _ if pfn < from => [0; 5],
                _ => [0, 0, 0, 0, 1],
            };
            assert_eq!(owned(pfn), expected, "frame {pfn} when {from} is to be copied");
        }
        for &pfn in &new {
            assert_eq!(owned(pfn), [0, 2, 0, 0, 0], "a frame that has arrived");
        }
        if from == head + 1 {
            return Err(Abort::Declined);
        }
        let pfn = mm.allocate(DEVICE, 0).ok_or(Abort::NoDestination)?;
        if from != head + 3 {
            new.push(pfn);
        }
        Ok(pfn)
    });
    assert_eq!(copied.in_work(), 0);
    let _ = copied.finalize();
    assert_eq!((slots[0].outcome(), slots[0].lost()), (Outcome::Split { moved: 2, of: 4 }, 1));
    assert_eq!(frames.map(owned).collect::<Vec<_>>(), [[0; 5], [2, 0, 0, 0, 0], [0; 5], [0; 5]]);
    assert_eq!(new.into_iter().map(owned).collect::<Vec<_>>(), [[0, 2, 0, 0, 0]; 2]);
    mm.audit().unwrap();
}

/// I9, I31, I35: sleepers change no count, and a migration that comes to nothing wakes the same
/// ones as one that does not.
#[test]
fn sleepers_are_invisible_and_all_are_told_either_way() {
    let unlocked = &mut Unlocked::promise();
    for succeeds in [true, false] {
        let (mm, own) = machine();
        let parent = mm.spawn().unwrap();
        let at = written(mm, parent, 1);
        let mappings: Vec<At> =
            [at].into_iter().chain((0..3).map(|_| mm.fork(parent).unwrap().page(0))).collect();
        let pfn = mm.frame_at(at).unwrap();
        let page = mm.page(pfn).unwrap();
        watched(&[page], || {
            thread::scope(|s| {
                let mut slots = [Slot::at(at)];
                let unmapped = collect(mm, &mut slots, &order(), unlocked).unmap();
                for i in 0..12 {
                    let at = mappings[i % mappings.len()];
                    s.spawn(move || check_all(mm, at, 1));
                }
                own.until_asleep(12);
                assert_eq!((page.refs(), page.pins()), (5, 0), "the migrator's");
                let copied = unmapped.check().copy();
                assert_eq!(copied.in_work(), 1, "nobody was in the way");
                if succeeds {
                    let _ = copied.finalize();
                } else {
                    drop(copied);
                }
            });
        });
        mm.audit().unwrap();
    }
}

fn tier_of(mm: &Mm, at: At) -> pagelock_soft::TierId {
    mm.tier(mm.frame_at(at).unwrap())
}

/// A faulter of a mapping that is still to be taken down finds a device's page that is locked. It
/// waits for that, too, and is not in the way: the window in which the kernel's livelock was.
#[test]
fn a_faulter_of_another_mapping_waits_before_that_is_taken_down() {
    let unlocked = &mut Unlocked::promise();
    let (mm, own) = machine();
    let parent = mm.spawn().unwrap();
    let at = written(mm, parent, 1);
    let child = mm.fork(parent).unwrap().page(0);
    move_one(mm, at, &order());
    let page = mm.page(mm.frame_at(at).unwrap()).unwrap();
    watched(&[page], || {
        thread::scope(|s| {
            let mut slots = [Slot::at(at)];
            let collected = collect(mm, &mut slots, &Order::to(RAM), unlocked);
            assert!(matches!(mm.leaf(child), Leaf::DevicePrivate { .. }));
            s.spawn(move || check_all(mm, child, 1));
            own.until_asleep(1);
            let _ = collected.unmap().check().copy().finalize();
            assert!(slots[0].outcome().is_done(), "{slots:?}");
        });
    });
    mm.audit().unwrap();
}

/// I17: what is written while the page is on its way is written to where it goes.
#[test]
fn a_writer_waits_and_writes_to_the_new_page() {
    let unlocked = &mut Unlocked::promise();
    for succeeds in [true, false] {
        let (mm, own) = machine();
        let at = written(mm, mm.spawn().unwrap(), 1);
        watched(&[], || {
            thread::scope(|s| {
                let mut slots = [Slot::at(at)];
                let copied =
                    collect(mm, &mut slots, &Order::to(FAR), unlocked).unmap().check().copy();
                let pfn = mm.frame_at(at).unwrap();
                s.spawn(move || mm.write(at, 100, b"late").unwrap());
                own.until_asleep(1);
                let mut bytes = [0; 4];
                mm.read_frame(pfn, 100, &mut bytes);
                assert_eq!(bytes, [0; 4], "a write to the source while it is copied");
                if succeeds {
                    let _ = copied.finalize();
                } else {
                    drop(copied);
                }
            });
        });
        let mut bytes = [0; 4];
        mm.read(at, 100, &mut bytes).unwrap();
        assert_eq!(&bytes, b"late");
        assert_eq!(tier_of(mm, at) == FAR, succeeds);
        check_all(mm, at, 1);
        mm.audit().unwrap();
    }
}

/// I13, I18: a fork in the middle. The child's entry is found again, and neither may write without
/// a copy.
#[test]
fn a_fork_in_the_middle_is_followed() {
    let unlocked = &mut Unlocked::promise();
    for (stage, succeeds) in [(0, true), (1, true), (2, true), (3, true), (1, false), (3, false)] {
        let (mm, _) = machine();
        let parent = mm.spawn().unwrap();
        let at = written(mm, parent, 1);
        let mut slots = [Slot::at(at)];
        let mut child = None;
        let mut fork = |now| {
            if now == stage {
                child = Some(mm.fork(parent).unwrap());
            }
        };
        let collected = collect(mm, &mut slots, &Order::to(FAR), unlocked);
        fork(0);
        let unmapped = collected.unmap();
        fork(1);
        let checked = unmapped.check();
        fork(2);
        let copied = checked.copy();
        fork(3);
        if succeeds {
            let _ = copied.finalize();
        } else {
            drop(copied);
        }
        let child = child.unwrap();
        for at in [at, child.page(0)] {
            assert!(
                matches!(mm.leaf(at), Leaf::Present { rights: Rights::Read, .. }),
                "{:?}",
                mm.leaf(at)
            );
        }
        assert_eq!(mm.frame_at(at), mm.frame_at(child.page(0)));
        mm.audit().unwrap();
        mm.write(child.page(0), 8, &[0]).unwrap();
        check_all(mm, at, 1);
        mm.audit().unwrap();
    }
}

/// I18: what is taken away while the page is on its way is not there when it arrives.
#[test]
fn protection_in_the_middle_holds_on_arrival() {
    let unlocked = &mut Unlocked::promise();
    for succeeds in [true, false] {
        let (mm, _) = machine();
        let at = written(mm, mm.spawn().unwrap(), 1);
        let mut slots = [Slot::at(at)];
        let copied = collect(mm, &mut slots, &Order::to(FAR), unlocked).unmap().check().copy();
        mm.protect(at, 1, Some(Rights::Read)).unwrap();
        if succeeds {
            let _ = copied.finalize();
        } else {
            drop(copied);
        }
        assert_eq!(mm.leaf(at).rights(), Some(Rights::ReadExclusive));
        assert_eq!(mm.write(at, 0, &[1]), Err(AccessError::NotAllowed));
        check_all(mm, at, 1);
        // Given back, it is nobody else's still, and needs no copy.
        let pfn = mm.frame_at(at);
        mm.protect(at, 1, Some(Rights::Write)).unwrap();
        mm.write(at, 100, &[1]).unwrap();
        assert_eq!(mm.frame_at(at), pfn);
        mm.audit().unwrap();
    }
}

#[test]
fn a_page_that_is_moved_to_another_address_in_the_middle_is_found_there() {
    let unlocked = &mut Unlocked::promise();
    for (to, succeeds) in [(1, true), (100, true), (1, false), (100, false)] {
        let (mm, _) = machine();
        let at = written(mm, mm.spawn().unwrap(), 1);
        let new = at.space.page(to);
        let mut slots = [Slot::at(at)];
        let copied = collect(mm, &mut slots, &Order::to(FAR), unlocked).unmap().check().copy();
        mm.remap(at, new, 1, false).unwrap();
        if succeeds {
            let _ = copied.finalize();
        } else {
            drop(copied);
        }
        assert_eq!(mm.leaf(at), Leaf::None);
        mm.remap(new, at, 1, false).unwrap();
        check_all(mm, at, 1);
        assert_eq!(tier_of(mm, at) == FAR, succeeds);
        mm.audit().unwrap();
    }
}

#[test]
fn a_waiter_that_is_cancelled_is_gone_without_a_trace() {
    let unlocked = &mut Unlocked::promise();
    let (mm, own) = machine();
    let at = written(mm, mm.spawn().unwrap(), 1);
    let kill = Cancel::with_futex(own);
    watched(&[], || {
        thread::scope(|s| {
            let mut slots = [Slot::at(at)];
            let unmapped = collect(mm, &mut slots, &Order::to(FAR), unlocked).unmap();
            let waiter = s.spawn(|| {
                mm.read_with(at, 0, &mut [0], &mut Faulter::new(Strategy::Wait).cancellable(&kill))
            });
            own.until_asleep(1);
            kill.cancel();
            assert_eq!(waiter.join().unwrap(), Err(AccessError::Cancelled));
            let _ = unmapped.check().copy().finalize();
            assert!(slots[0].outcome().is_done());
        });
    });
    mm.audit().unwrap();
}

/// Waiters of a page whose contents are lost get the error and do not sleep for ever (I25).
#[test]
fn waiters_of_a_page_that_is_lost_are_told() {
    let unlocked = &mut Unlocked::promise();
    let (mm, own) = machine();
    let at = written(mm, mm.spawn().unwrap(), 1);
    let pfn = mm.frame_at(at).unwrap();
    watched(&[mm.page(pfn).unwrap()], || {
        thread::scope(|s| {
            let mut slots = [Slot::at(at)];
            let checked = collect(mm, &mut slots, &order(), unlocked).unmap().check();
            let waiters: Vec<_> =
                (0..4).map(|_| s.spawn(move || mm.read(at, 0, &mut [0]))).collect();
            own.until_asleep(4);
            mm.set_lost(pfn, true);
            let _ = checked.copy().finalize();
            for waiter in waiters {
                assert_eq!(waiter.join().unwrap(), Err(AccessError::Poisoned { pfn }));
            }
        });
    });
    mm.audit().unwrap();
}

// ---- other migrators, and how long to try

/// I23: with another page in hand, a lock is tried; the one that is waited for is waited for with
/// none.
#[test]
fn a_lock_is_waited_for_with_empty_hands() {
    for by_frame in [false, true] {
        let (mm, own) = machine();
        let at = written(mm, mm.spawn().unwrap(), 3);
        let pages: Vec<_> = at.pages(3).map(|at| mm.frame_at(at).unwrap()).collect();
        let busy = mm.page(pages[1]).unwrap();
        watched(&[busy], || {
            thread::scope(|s| {
                let guard = busy.lock();
                let (refs, mode) = (busy.refs(), Mode::SyncLight);
                let mover = s.spawn({
                    let pages = pages.clone();
                    move || {
                        let unlocked = &mut Unlocked::promise();
                        let mut slots: Vec<_> = if by_frame {
                            pages.iter().copied().map(Slot::frame).collect()
                        } else {
                            at.pages(3).map(Slot::at).collect()
                        };
                        migrate(mm, &mut slots, &order().mode(mode).tries(3), mm, unlocked)
                    }
                });
                own.until_asleep(1);
                assert_eq!(busy.refs(), refs, "and without a reference");
                for (i, &pfn) in pages.iter().enumerate() {
                    let page = mm.page(pfn).unwrap();
                    assert_eq!(page.is_locked(), i == 1, "{page:?}");
                }
                drop(guard);
                let summary = mover.join().unwrap();
                assert_eq!((summary.done, summary.left), (3, 0));
            });
        });
        mm.audit().unwrap();
    }
}

/// Batches that see what is held whenever they are drained.
struct Watching<'m> {
    mm: &'m Mm,
    at: At,
    pages: Vec<u64>,
    locals: AtomicUsize,
    alls: AtomicUsize,
}

impl Drain for Watching<'_> {
    fn local(&self) {
        self.locals.fetch_add(1, SeqCst);
        // All entries are taken down, the others' too.
        assert!(self.at.pages(2).all(|at| is_migrating(self.mm, at)));
    }

    fn all(&self, _unlocked: &mut Unlocked) {
        self.alls.fetch_add(1, SeqCst);
        for &pfn in &self.pages {
            let page = self.mm.page(pfn).unwrap();
            assert!(
                !page.is_locked() && !page.is_migrating() && !page.is_frozen(),
                "held across a drain: {page:?}"
            );
        }
        assert!(self.at.pages(2).all(|at| !is_migrating(self.mm, at)));
    }
}

/// I30, I32: everything is put back and let go of before others are waited for, and before it is
/// tried again.
#[test]
fn nothing_is_held_between_the_tries() {
    let unlocked = &mut Unlocked::promise();
    let (mm, _) = machine();
    let at = written(mm, mm.spawn().unwrap(), 2);
    let pages: Vec<_> = at.pages(2).map(|at| mm.frame_at(at).unwrap()).collect();
    for &pfn in &pages {
        mm.get(pfn).unwrap();
    }
    let drain = Watching {
        mm,
        at,
        pages: pages.clone(),
        locals: AtomicUsize::new(0),
        alls: AtomicUsize::new(0),
    };
    let before = [picture(mm, at), picture(mm, at.space.page(1))];
    for (mode, tries, locals, alls) in
        [(Mode::Async, 4, 4, 0), (Mode::SyncLight, 3, 3 + 1, 3), (Mode::Sync, 0, 1 + 1, 1)]
    {
        let mut slots: Vec<_> = at.pages(2).map(Slot::at).collect();
        // The last tries of a mode that may sleep are one by one, so `local` is asked with one page
        // in hand; not of interest here.
        let alone = mode != Mode::Async;
        let drain: &dyn DrainObject = if alone { &Counting(&drain) } else { &drain };
        let summary =
            migrate(mm, &mut slots, &order().mode(mode).tries(tries), &Forward(drain), unlocked);
        assert_eq!(summary.transient, 2);
        assert_eq!(summary.drains as usize, alls);
        assert_eq!(summary.tries as usize, locals);
        assert!(
            slots.iter().all(|s| matches!(s.outcome(), Outcome::Aborted(Abort::Referenced { .. }))),
            "{slots:?}"
        );
    }
    assert_eq!([picture(mm, at), picture(mm, at.space.page(1))], before);
    assert_eq!(drain.alls.load(SeqCst), 4);
    assert!(drain.locals.load(SeqCst) >= 4);
    for pfn in pages {
        // SAFETY: taken above.
        unsafe { mm.put(pfn) };
    }
    mm.audit().unwrap();
}

trait DrainObject {
    fn local(&self);
    fn all(&self, unlocked: &mut Unlocked);
}

impl DrainObject for Watching<'_> {
    fn local(&self) {
        Drain::local(self);
    }
    fn all(&self, unlocked: &mut Unlocked) {
        Drain::all(self, unlocked);
    }
}

struct Counting<'w, 'm>(&'w Watching<'m>);

impl DrainObject for Counting<'_, '_> {
    fn local(&self) {
        self.0.locals.fetch_add(1, SeqCst);
    }
    fn all(&self, unlocked: &mut Unlocked) {
        Drain::all(self.0, unlocked);
    }
}

struct Forward<'d>(&'d dyn DrainObject);

impl Drain for Forward<'_> {
    fn local(&self) {
        self.0.local();
    }
    fn all(&self, unlocked: &mut Unlocked) {
        self.0.all(unlocked);
    }
}

/// I36, step by step: each has what the other wants. By the entries, which say that the page is on
/// its way, and by the frames, whose entries are still there: so it is the lock that tells.
#[test]
fn migrators_in_opposite_orders_pass_over_each_others_pages() {
    // Two migrators, in two threads of control that take turns.
    let (unlocked, other) = (&mut Unlocked::promise(), &mut Unlocked::promise());
    for by_frame in [false, true] {
        let (mm, _) = machine();
        let at = written(mm, mm.spawn().unwrap(), 2);
        let pages = [at, at.space.page(1)].map(|at| mm.frame_at(at).unwrap());
        let slot =
            |n: usize| if by_frame { Slot::frame(pages[n]) } else { Slot::at(at.space.page(n)) };
        let (mut one, mut two) = ([slot(0)], [slot(1), slot(0)]);
        watched(&[mm.page(pages[0]).unwrap(), mm.page(pages[1]).unwrap()], || {
            let first = collect(mm, &mut one, &order(), unlocked);
            let second = collect(mm, &mut two, &order(), other);
            assert_eq!(second.in_work(), 1);
            let _ = second.unmap().check().copy().finalize();
            let _ = first.unmap().check().copy().finalize();
        });
        let passed_over = if by_frame { Skip::Locked } else { Skip::Migrating };
        assert_eq!(two[1].outcome(), Outcome::Skipped(passed_over));
        assert!(two[0].outcome().is_done() && one[0].outcome().is_done());
        mm.audit().unwrap();
    }
}

/// I36 with threads, and modes that wait.
#[test]
fn migrators_in_opposite_orders_both_come_to_an_end() {
    let (mm, _) = machine();
    let at = written(mm, mm.spawn().unwrap(), 16);
    // Whoever has a page gives the other a chance to get its next.
    mm.on_prepare(|_| thread::yield_now());
    let began = Instant::now();
    watched(&[], || {
        thread::scope(|s| {
            for backwards in [false, true] {
                s.spawn(move || {
                    let unlocked = &mut Unlocked::promise();
                    for turn in 0..common::rounds(300) {
                        // On a busy machine a turn can take long.
                        if began.elapsed() > Duration::from_secs(2) {
                            return;
                        }
                        // Every other time by the frames, as far as pages have any at the moment,
                        // and then with the entries still up.
                        let slot = |at| match mm.frame_at(at) {
                            Some(pfn) if turn % 2 == 0 => Slot::frame(pfn),
                            _ => Slot::at(at),
                        };
                        let mut slots: Vec<_> = at.pages(16).map(slot).collect();
                        if backwards {
                            slots.reverse();
                        }
                        let to = [DEVICE, RAM, FAR][(turn + usize::from(backwards)) % 3];
                        let mode = [Mode::Async, Mode::SyncLight, Mode::Sync][turn % 3];
                        let summary = migrate(
                            mm,
                            &mut slots,
                            &Order::to(to).mode(mode).tries(2),
                            mm,
                            unlocked,
                        );
                        assert_eq!(summary.done + summary.left, 16);
                    }
                });
            }
        });
    });
    check_all(mm, at, 16);
    mm.audit().unwrap();
}

// ---- exclusive entries

#[test]
fn a_device_has_a_page_to_itself_until_somebody_wants_it() {
    let (mm, _) = machine();
    let at = written(mm, mm.spawn().unwrap(), 1);
    let pfn = exclusive(mm, at).unwrap();
    assert!(matches!(mm.leaf(at), Leaf::DeviceExclusive { rights: Rights::Write, .. }));
    mm.audit().unwrap();
    let revoked = std::sync::Arc::new(AtomicUsize::new(0));
    let told = revoked.clone();
    mm.on_revoke(move |of| {
        assert_eq!(of, pfn);
        told.fetch_add(1, SeqCst);
    });
    mm.write_frame(pfn, 100, b"device");
    let mut bytes = [0; 6];
    mm.read(at, 100, &mut bytes).unwrap();
    assert_eq!((&bytes, revoked.load(SeqCst)), (b"device", 1));
    assert!(matches!(mm.leaf(at), Leaf::Present { rights: Rights::Write, .. }));
    mm.audit().unwrap();
}

/// A device may take its time to stop: the page is locked meanwhile, and no page table.
#[test]
fn a_device_is_told_without_a_page_table_lock() {
    let (mm, _) = machine();
    let at = written(mm, mm.spawn().unwrap(), 2);
    let pfn = exclusive(mm, at).unwrap();
    mm.on_revoke(move |_| {
        assert!(mm.page(pfn).unwrap().is_locked());
        // From another thread, which would wait for a page-table lock for ever.
        thread::scope(|s| {
            s.spawn(move || assert!(matches!(mm.leaf(at), Leaf::DeviceExclusive { .. })))
                .join()
                .unwrap()
        });
    });
    watched(&[], || check_all(mm, at, 2));
    assert!(matches!(mm.leaf(at), Leaf::Present { rights: Rights::Write, .. }));
    mm.audit().unwrap();
}

/// The entry has changed when the device has stopped: it is left as it is.
#[test]
fn an_entry_that_changed_while_a_device_was_told_is_left_alone() {
    let (mm, _) = machine();
    let at = written(mm, mm.spawn().unwrap(), 1);
    exclusive(mm, at).unwrap();
    mm.on_revoke(move |_| {
        let Leaf::DeviceExclusive { pfn, rights, tracking } = mm.leaf(at) else { panic!() };
        assert_eq!(rights, Rights::Write);
        let read = Leaf::DeviceExclusive { pfn, rights: Rights::Read, tracking };
        let other = read.to_present(pfn).unwrap();
        mm.entry(at).set_leaf(other);
    });
    watched(&[], || mm.read(at, 0, &mut [0]).unwrap());
    assert!(matches!(mm.leaf(at), Leaf::Present { rights: Rights::Read, .. }), "{:?}", mm.leaf(at));
}

/// Through another entry the processor would write past the device.
#[test]
fn a_page_with_other_mappings_is_not_a_devices_alone() {
    let (mm, _) = machine();
    let space = mm.spawn().unwrap();
    let at = space.page(0);
    mm.map_shared(at, 1).unwrap();
    mm.write(at, 0, &[1]).unwrap();
    let other = mm.fork(space).unwrap();
    mm.write(other.page(0), 0, &[2]).unwrap();
    mm.write(at, 0, &[1]).unwrap();
    let before = (picture(mm, at), picture(mm, other.page(0)));
    for at in [at, other.page(0)] {
        assert_eq!(exclusive(mm, at), Err(ExclusiveError::Shared));
    }
    assert_eq!((picture(mm, at), picture(mm, other.page(0))), before);
    mm.audit().unwrap();
    mm.exit(other);
    exclusive(mm, at).unwrap();
    mm.audit().unwrap();
}

/// Those who want it wait without a reference, so the page can be moved as soon as it is nobody's
/// for itself.
#[test]
fn those_who_want_an_exclusive_page_are_not_in_the_way() {
    let (mm, own) = machine();
    let at = written(mm, mm.spawn().unwrap(), 1);
    let pfn = exclusive(mm, at).unwrap();
    let page = mm.page(pfn).unwrap();
    watched(&[page], || {
        thread::scope(|s| {
            let guard = page.lock();
            let waiters: Vec<_> = (0..8).map(|_| s.spawn(move || check_all(mm, at, 1))).collect();
            own.until_asleep(8);
            assert_eq!((page.refs(), page.pins()), (1, 0), "the entry's own");
            drop(guard);
            waiters.into_iter().for_each(|w| w.join().unwrap());
        });
    });
    assert!(move_one(mm, at, &order()).is_done());
    mm.audit().unwrap();
}

#[test]
fn what_cannot_be_a_devices_alone_is_refused() {
    let (mm, own) = machine();
    let space = mm.spawn().unwrap();
    let at = space.page(0);
    mm.map(at, 2).unwrap();
    assert_eq!(exclusive(mm, at), Err(ExclusiveError::NotPresent));
    mm.read(at, 0, &mut [0]).unwrap();
    assert_eq!(exclusive(mm, at), Err(ExclusiveError::NotWritable));
    mm.write(at, 0, &[1]).unwrap();
    let pfn = mm.frame_at(at).unwrap();
    let page = mm.page(pfn).unwrap();
    let pin = page.try_pin().unwrap();
    assert_eq!(exclusive(mm, at), Err(ExclusiveError::Pinned { pins: 1 }));
    drop(pin);
    let before = picture(mm, at);
    watched(&[page], || {
        thread::scope(|s| {
            let guard = page.lock();
            let made = s.spawn(move || exclusive(mm, at));
            own.until_asleep(1);
            drop(guard);
            assert_eq!(made.join().unwrap(), Err(ExclusiveError::Waited(Wake::Released)));
        });
    });
    assert_eq!(picture(mm, at), before);
    // A fork has it back first.
    exclusive(mm, at).unwrap();
    let child = mm.fork(space).unwrap();
    assert!(matches!(mm.leaf(at), Leaf::Present { rights: Rights::Read, .. }));
    assert_eq!(mm.leaf(child.page(0)), mm.leaf(at));
    mm.audit().unwrap();
}
