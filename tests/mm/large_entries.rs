//! Large entries: one for all pages of a large page, with one reference, that is moved by one
//! visit; and split by whatever concerns a part.

use crate::common::{
    Lots,
    machine::{DEVICE, FAR, Mm, RAM, check_all, machine, move_one, write_all},
    rounds, with_threads,
};
use core::sync::atomic::{AtomicBool, Ordering::SeqCst};
use pagelock::leaf::{Leaf, Rights};
use pagelock::mm::drain::Unlocked;
use pagelock::mm::exclusive::{ExclusiveError, make_exclusive};
use pagelock::mm::migrate::{Order, Outcome, Slot, collect, evict, migrate};
use pagelock::mm::pin::{Backing, PinOrder, PinSlot, Term, pin_range};
use pagelock::mm::range::{self, Found, Page, Want, snapshot};
use pagelock::mm::{Access, Entry, Span, Tiers};
use pagelock::{Limits, MAX_REFS};
use pagelock_soft::{AccessError, At, Backed, Config, Kind, MapError, Soft, TierConfig, TierId};

pub(crate) const ORDER: u32 = 3;
pub(crate) const PAGES: usize = 1 << ORDER;

/// A large page with something in it, by one entry.
fn large() -> (&'static Mm, At, u64) {
    let (mm, _) = machine();
    let at = mm.spawn().unwrap().page(PAGES);
    let head = mm.map_large(at, ORDER, RAM).unwrap();
    write_all(mm, at, PAGES);
    assert_eq!((mm.page(head).unwrap().refs(), order_of(mm, at)), (1, ORDER));
    mm.audit().unwrap();
    (mm, at, head)
}

pub(crate) fn order_of(mm: &Mm, at: At) -> u32 {
    mm.entry(at).order()
}

pub(crate) fn order() -> Order<Mm> {
    Order::to(DEVICE).tries(1)
}

/// One visit in each direction, whichever of its pages is named; and each page is where it should
/// be in it.
#[test]
fn a_large_page_is_moved_by_one_entry() {
    for named in [0, 5] {
        let (mm, at, _) = large();
        let before = mm.counted();
        let Outcome::Moved { pfn } = move_one(mm, At { page: at.page + named, ..at }, &order())
        else {
            panic!()
        };
        let walks = 2 - u64::from(named == 0);
        let counted = mm.counted().since(before);
        // Named by another page it is not known for the entry that is down already, and looked at
        // once more.
        let again = u64::from(named > 0 && counted.walks == 2);
        assert!(counted.walks <= walks && counted.flushes == 1, "{counted:?}");
        assert_eq!((counted.locks, counted.invalidations), (2 + again, 1 + again));
        assert_eq!(
            (mm.span(pfn), mm.page(pfn).unwrap().refs()),
            (Span { head: pfn, order: ORDER }, 1)
        );
        for (n, at) in at.pages(PAGES).enumerate() {
            assert!(
                matches!(mm.leaf(at), Leaf::DevicePrivate { pfn: of, .. } if of == pfn + n as u64),
                "{:?}",
                mm.leaf(at)
            );
        }
        mm.audit().unwrap();
        mm.read(At { page: at.page + 6, ..at }, 0, &mut [0]).unwrap();
        assert_eq!((order_of(mm, at), mm.tier(mm.frame_at(at).unwrap())), (ORDER, RAM));
        check_all(mm, at, PAGES);
        mm.audit().unwrap();
        mm.exit(at.space);
        mm.audit().unwrap();
        assert_eq!(mm.free_frames(RAM), 127);
    }
}

/// 2 MiB with more mappers than there are references for their pages; and forks on its way are no
/// loss.
#[test]
fn a_large_page_counts_mappings_of_the_whole() {
    const SIZE: u32 = 9;
    let frames = 2048;
    let tiers = vec![
        TierConfig { kind: Kind::System, frames },
        TierConfig { kind: Kind::Device { owner: 1 }, frames },
    ];
    let mm = Soft::new(Config { page_size: 8, pages: 512, spaces: 1200, tiers, batches: 0 });
    let parent = mm.spawn().unwrap();
    let at = parent.page(0);
    let head = mm.map_large(at, SIZE, TierId(0)).unwrap();
    mm.write(parent.page(511), 0, &[42]).unwrap();
    let mut all: Vec<_> =
        [parent].into_iter().chain((0..1190).map(|_| mm.fork(parent).unwrap())).collect();
    assert_eq!(mm.page(head).unwrap().refs() as usize, all.len());
    let (unlocked, order) = (&mut Unlocked::promise(), Order::to(TierId(1)));
    let mut slots = [Slot::at(at)];
    let before = mm.counted();
    let checked = collect(&mm, &mut slots, &order, unlocked).unmap().check();
    assert_eq!(
        (checked.in_work(), mm.counted().since(before).locks as usize),
        (1, all.len()),
        "an entry each"
    );
    all.extend((0..3).map(|_| mm.fork(parent).unwrap()));
    let summary = checked.copy().finalize();
    assert_eq!((summary.done, summary.poisoned), (1, 0));
    let pfn = mm.frame_at(at).unwrap();
    for space in all {
        assert!(
            matches!(mm.leaf(space.page(511)), Leaf::DevicePrivate { pfn: of, .. } if of == pfn + 511)
        );
    }
    let mut byte = [0];
    mm.read(parent.page(511), 0, &mut byte).unwrap();
    assert_eq!(byte, [42]);
    mm.audit().unwrap();
}

/// And pins: it can be registered as often as there are pins.
#[test]
fn a_large_page_is_pinned_as_a_whole() {
    let (mm, at, head) = large();
    let unlocked = &mut Unlocked::promise();
    let (order, policy) =
        (PinOrder::new(Access::Write, Term::Short, Limits::none()), Backed(|_| Backing::Anonymous));
    let mut registered: Vec<Vec<PinSlot<'_, Mm>>> = Vec::new();
    for _ in 0..1000 {
        let mut slots: Vec<_> = at.pages(PAGES).map(PinSlot::new).collect();
        pin_range(mm, &mut slots, &order, &policy, mm, unlocked).unwrap();
        assert!(slots.iter().enumerate().all(|(n, slot)| slot.pfn == Some(head + n as u64)));
        registered.push(slots);
    }
    assert_eq!(mm.page(head).unwrap().pins(), 1000);
    drop(registered);
    assert_eq!(mm.page(head).unwrap().pins(), 0);
    assert!(mm.pin_balance().is_even());
}

/// Whatever concerns a part of it makes it an entry for each page.
#[test]
fn what_concerns_a_part_splits_the_entry() {
    type Part = fn(&'static Mm, At);
    let parts: [(&str, Part); 5] = [
        ("unmap", |mm, at| mm.unmap(at, 2).unwrap()),
        ("discard", |mm, at| mm.discard(at, 2).unwrap()),
        ("protect", |mm, at| mm.protect(at, 2, Some(Rights::Read)).unwrap()),
        ("remap", |mm, at| mm.remap(at, at.space.page(100), 2, false).unwrap()),
        ("replace", |mm, at| mm.replace(at, Leaf::Marker(pagelock::leaf::Marker::Guard))),
    ];
    for (name, part) in parts {
        for away in [false, true] {
            let (mm, at, _) = large();
            if away {
                assert!(move_one(mm, at, &order()).is_done());
            }
            part(mm, At { page: at.page + 3, ..at });
            assert!(at.pages(PAGES).all(|at| order_of(mm, at) == 0), "{name}");
            mm.audit().unwrap();
            check_all(mm, at, 3);
            check_all(mm, At { page: at.page + 5, ..at }, 3);
            mm.audit().unwrap();
            mm.exit(at.space);
            mm.audit().unwrap();
            assert_eq!((mm.free_frames(RAM), mm.free_frames(DEVICE)), (127, 128), "{name}");
        }
    }
    // What concerns all of it does not.
    let (mm, at, _) = large();
    mm.protect(at, PAGES, Some(Rights::Read)).unwrap();
    assert_eq!(order_of(mm, at), ORDER);
    assert!(at.pages(PAGES).all(|at| mm.write(at, 0, &[1]) == Err(AccessError::NotAllowed)));
    mm.unmap(at, PAGES).unwrap();
    assert!(at.pages(PAGES).all(|at| order_of(mm, at) == 0));
    mm.audit().unwrap();
    assert_eq!(mm.free_frames(RAM), 127);
}

/// A copy of one page, and the others shared as before. Alone again, it is written to as a whole.
#[test]
fn a_fork_shares_the_whole_and_a_write_copies_one_page() {
    let (mm, at, head) = large();
    let child = mm.fork(at.space).unwrap();
    let there = At { space: child, ..at };
    assert_eq!((mm.page(head).unwrap().refs(), order_of(mm, there)), (2, ORDER));
    mm.write(At { page: there.page + 2, ..there }, 0, &[7]).unwrap();
    assert_eq!((order_of(mm, at), order_of(mm, there)), (ORDER, 0));
    mm.audit().unwrap();
    check_all(mm, at, PAGES);
    mm.exit(child);
    mm.write(at, 0, &[7]).unwrap();
    assert_eq!(order_of(mm, at), ORDER, "it is nobody else's");
    // Pinned, it is copied at once.
    let pin = mm.pin(at, Access::Write, Term::Short, &mut Unlocked::promise()).unwrap();
    let child = mm.fork(at.space).unwrap();
    assert!(at.pages(PAGES).all(|at| mm.frame_at(at) != mm.frame_at(At { space: child, ..at })));
    check_all(mm, At { space: child, ..at }, PAGES);
    drop(pin);
    mm.audit().unwrap();
}

/// To an aligned place as one, elsewhere page by page; also while it is on its way.
#[test]
fn a_large_entry_is_moved_to_another_address() {
    for (to, is_large) in [(4 * PAGES, true), (4 * PAGES + 1, false)] {
        for is_moving in [false, true] {
            let unlocked = &mut Unlocked::promise();
            let (mm, at, _) = large();
            let to = at.space.page(to);
            if is_moving {
                let mut slots = [Slot::at(at)];
                let order = order();
                let unmapped = collect(mm, &mut slots, &order, unlocked).unmap();
                mm.remap(at, to, PAGES, false).unwrap();
                assert!(to.pages(PAGES).all(|at| matches!(mm.leaf(at), Leaf::Migration { .. })));
                assert_eq!(unmapped.check().copy().finalize().done, 1);
            } else {
                mm.remap(at, to, PAGES, false).unwrap();
            }
            assert_eq!(order_of(mm, to) == ORDER, is_large);
            mm.audit().unwrap();
            for n in 0..PAGES {
                let mut bytes = [0];
                mm.read(At { page: to.page + n, ..to }, 8, &mut bytes).unwrap();
                assert_eq!(bytes, [((at.page + n) * 7) as u8]);
                assert_eq!(
                    mm.read(At { page: at.page + n, ..at }, 0, &mut bytes),
                    Err(AccessError::NotMapped)
                );
            }
            mm.audit().unwrap();
        }
    }
}

/// There is no place for it as a whole: its entries are those of its pages before it is split, in
/// every space.
#[test]
fn a_page_that_is_split_on_its_way_has_an_entry_for_each() {
    for room in [PAGES, 3] {
        let (mm, at, _) = large();
        let child = mm.fork(at.space).unwrap();
        let mut taken: Vec<u64> = std::iter::from_fn(|| mm.allocate(DEVICE, 0)).collect();
        let mut free = 0;
        taken.retain(|&pfn| {
            let is_free = pfn % 2 == 1 && free < room;
            if is_free {
                mm.free(pfn);
                free += 1;
            }
            !is_free
        });
        assert_eq!(
            move_one(mm, at, &order()),
            Outcome::Split { moved: room as u32, of: PAGES as u32 }
        );
        for space in [at.space, child] {
            assert!(At { space, ..at }.pages(PAGES).all(|at| order_of(mm, at) == 0));
        }
        taken.into_iter().for_each(|pfn| mm.free(pfn));
        check_all(mm, at, PAGES);
        check_all(mm, At { space: child, ..at }, PAGES);
        mm.audit().unwrap();
    }
}

/// More references than can be counted: refused to every caller, before anything is changed.
#[test]
fn what_cannot_be_counted_is_not_split() {
    let (mm, at, head) = large();
    let page = mm.page(head).unwrap();
    for _ in 0..MAX_REFS - 3 {
        page.try_get().unwrap().into_raw();
    }
    let part = At { page: at.page + 1, ..at };
    let refused = Err(MapError::Uncountable(pagelock::GetError::Overflow));
    assert_eq!(mm.split_at(part), refused);
    assert_eq!(mm.unmap(part, 1), refused);
    assert_eq!((page.refs(), order_of(mm, at)), (MAX_REFS - 2, ORDER));
    for _ in 0..MAX_REFS - 3 {
        // SAFETY: got above.
        let _ = unsafe { page.put_raw() };
    }
    mm.unmap(part, 1).unwrap();
    mm.audit().unwrap();
}

/// A part is to go while somebody waits for the page's pins, perhaps those of the one who asks: he
/// does not wait.
#[test]
fn a_part_of_a_page_whose_pins_are_waited_for_can_be_unmapped() {
    let (mm, own) = machine();
    let at = mm.spawn().unwrap().page(PAGES);
    let head = mm.map_large(at, ORDER, RAM).unwrap();
    write_all(mm, at, PAGES);
    let pin = mm.pin(at, Access::Write, Term::Long, &mut Unlocked::promise()).unwrap();
    with_threads(&[mm.page(head).unwrap()], |s| {
        let evictor = s.spawn(|| {
            evict(mm, head, &Order::to(FAR), Limits::none(), mm, &mut Unlocked::promise())
        });
        own.until_asleep(1);
        mm.unmap(At { page: at.page + 7, ..at }, 1).unwrap();
        drop(pin);
        assert!(evictor.join().unwrap().is_done());
    });
    check_all(mm, at, PAGES - 1);
    mm.audit().unwrap();
}

#[test]
fn a_reader_of_a_range_is_told_of_large_entries() {
    let (mm, at, head) = large();
    let notifier = mm.notifier(at.space).unwrap();
    let mut pages: Vec<_> = at.pages(PAGES).map(|at| Page::new(at, Want::Nothing)).collect();
    #[cfg(target_os = "linux")]
    {
        let _ =
            snapshot(mm, notifier, &mut pages, &range::RangeOrder::new(Limits::none())).unwrap();
        for (n, page) in pages.iter().enumerate() {
            assert_eq!(
                (page.found, page.order),
                (Found::Local { pfn: head + n as u64, rights: Rights::Write }, ORDER)
            );
        }
    }
    assert_eq!(make_exclusive(mm, at).map(|_| ()), Err(ExclusiveError::Large));
    mm.split_at(at).unwrap();
    drop(make_exclusive(mm, at).unwrap());
    mm.audit().unwrap();
}

/// Everything at once, and in the end it adds up.
#[test]
fn large_entries_against_everybody() {
    let (mm, at, _) = large();
    let stop = AtomicBool::new(false);
    let (stop, at) = (&stop, at);
    let additions = std::sync::atomic::AtomicUsize::new(0);
    with_threads(&[], |s| {
        for seed in 0..2 {
            s.spawn(move || {
                let (mut lots, unlocked) = (Lots::of(seed), &mut Unlocked::promise());
                while !stop.load(SeqCst) {
                    let tier = [RAM, DEVICE, FAR][lots.draw(3) as usize];
                    let page = At { page: at.page + lots.draw(PAGES as u64) as usize, ..at };
                    let _ =
                        migrate(mm, &mut [Slot::at(page)], &Order::to(tier).tries(2), mm, unlocked);
                }
            });
        }
        s.spawn(move || {
            let mut lots = Lots::of(7);
            while !stop.load(SeqCst) {
                if let Ok(child) = mm.fork(at.space) {
                    let there =
                        At { space: child, page: at.page + lots.draw(PAGES as u64) as usize };
                    let _ = mm.add(there, 10, 1);
                    match lots.draw(3) {
                        0 => drop(mm.unmap(there, 2)),
                        1 => drop(mm.protect(there, 1, Some(Rights::Read))),
                        _ => drop(mm.remap(
                            At { page: at.page, ..there },
                            At { page: 100, ..there },
                            PAGES,
                            false,
                        )),
                    }
                    mm.exit(child);
                }
            }
        });
        for n in 0..rounds(20_000) {
            mm.add(At { page: at.page + n % PAGES, ..at }, 10, 1).unwrap();
            additions.fetch_add(1, SeqCst);
        }
        stop.store(true, SeqCst);
    });
    let sum: usize = at.pages(PAGES).map(|at| mm.add(at, 10, 0).unwrap()).sum();
    assert_eq!(sum, additions.into_inner());
    mm.audit().unwrap();
}
