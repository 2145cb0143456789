//! The kernel's tests of references and pins of user pages, re-expressed: `gup_test`,
//! `gup_longterm`, `cow.c`, and the two numbers of vmstat that have to be equal.
//!
//! | the kernel's | here |
//! |---|---|
//! | `gup_test` GUP_BASIC, PIN_BASIC, DUMP_USER_PAGES | [`gup_basic_test`], [`pin_basic_test`], [`dump_user_pages_test`] |
//! | `gup_test` GUP_FAST, PIN_FAST, PIN_LONGTERM benchmarks | the balance: [`gup_and_pin_balance`]. How fast it is: `cargo bench -p pagelock-benches --bench counts` |
//! | `gup_test` PIN_LONGTERM_TEST_START, STOP, READ | [`pin_longterm_test`] |
//! | `gup_longterm`, all of the matrix | [`gup_longterm`], the rows of io_uring [`gup_longterm_io_uring`] |
//! | `cow.c` basic | [`basic_cow_after_fork`] |
//! | `cow.c` vmsplice | [`vmsplice_and_unmap_in_child`], [`vmsplice_before_fork_unmap_in_parent`], [`vmsplice_and_unmap_in_parent_after_fork`] |
//! | `cow.c` io_uring fixed buffer | [`ro_mapping_a_fixed_buffer`], [`fork_with_a_fixed_buffer`] |
//! | `cow.c` R/O pin on a shared, previously shared, exclusive page | [`ro_pin_on_shared_page`], [`ro_pin_on_previously_shared_page`], [`ro_pin_on_exclusive_page`] |
//! | `cow.c` R/O pin on the zero page | [`ro_pin_on_zero_page`] |
//! | vmstat `nr_foll_pin_acquired` == `nr_foll_pin_released` | at the end of each of them |
//!
//! Each row of `cow.c` is run on a page by itself, on one that was evicted before (the kernel's
//! swapped out), on one of a large page (THP mapped by single entries, and huge pages of a pool:
//! one kind here), and on the last that is left of a large page; with a short pin and with a long
//! one; and by the slow way, one page, as well as by the fast one, which is a range at a time here:
//! there is no way past the page-table lock.
//!
//! All of it is memory in software, for most of it is about forks, and real memory with userfaultfd
//! has none that the memory manager here could follow: each frame is in one place at a time, and
//! what a fork or a write to a shared page does to the tables is the kernel's doing. What is left,
//! a pin that brings a page back by real faults and keeps it in its frame, is `hmm`'s
//! `real::a_pinned_page_stays`.
//!
//! Not here: `cow.c`'s collapse of pages into a large one, because nothing collapses pages;
//! vmsplice as a system call, of which what it does is left, a reference of which nobody else
//! knows.

#![cfg(target_os = "linux")]

use crate::common::{
    Lots,
    machine::{DEVICE, FAR, Mm, RAM, check_all, machine, write_all, written},
    own::Own,
    turns, with_threads,
};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use pagelock::leaf::Rights;
use pagelock::mm::drain::{ThreadCpus, Unlocked};
use pagelock::mm::migrate::{Mode, Order, Outcome, Skip, Slot, migrate};
use pagelock::mm::pin::{Backing, PinOrder, PinSlot, Pinned, Term, pin_page, pin_range};
use pagelock::mm::{Access, Tiers};
use pagelock::wait::Limits;
use pagelock_soft::{At, Backed, Config, Kind, PinFailure, Soft, SpaceId, TierConfig, TierId};
use std::thread;

/// In [`machine_with_coherent`], a device's memory that the processor can access: it faults in
/// nothing, and nothing may stay there for long.
pub(crate) const COHERENT: TierId = TierId(2);

/// [`machine`], with [`COHERENT`] for its third tier.
pub(crate) fn machine_with_coherent() -> &'static Mm {
    let tier = |kind| TierConfig { kind, frames: 128 };
    let tiers = vec![
        tier(Kind::System),
        tier(Kind::Device { owner: 1 }),
        tier(Kind::Coherent { owner: 2 }),
    ];
    let config = Config { page_size: 256, pages: 128, spaces: 16, tiers, batches: 0 };
    Box::leak(Box::new(Soft::on(Own::new(64), ThreadCpus, config)))
}

type Text = [u8; 16];
pub(crate) const OLD: Text = *b"what was before.";
pub(crate) const NEW: Text = *b"and what is now.";

pub(crate) fn put(mm: &Mm, at: At, text: Text) {
    mm.write(at, 0, &text).unwrap();
}

pub(crate) fn seen(mm: &Mm, at: At) -> Text {
    let mut text = [0; 16];
    mm.read(at, 0, &mut text).unwrap();
    text
}

/// What is in a frame, past all tables: what a holder of the page sees.
pub(crate) fn held(mm: &Mm, pfn: u64) -> Text {
    let mut text = [0; 16];
    mm.read_frame(pfn, 0, &mut text);
    text
}

/// How a page is pinned.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Way {
    Slow,
    Fast,
}

pub(crate) fn pin(
    mm: &'static Mm,
    way: Way,
    at: At,
    access: Access,
    term: Term,
) -> Result<Pinned<'static, Mm>, PinFailure> {
    pin_backed(mm, way, at, access, term, Backing::Anonymous)
}

pub(crate) fn pin_backed(
    mm: &'static Mm,
    way: Way,
    at: At,
    access: Access,
    term: Term,
    backing: Backing,
) -> Result<Pinned<'static, Mm>, PinFailure> {
    let unlocked = &mut Unlocked::promise();
    let (order, policy) = (PinOrder::<Own>::new(access, term, Limits::none()), Backed(|_| backing));
    match way {
        Way::Slow => pin_page(mm, at, &order, &policy, mm, unlocked),
        Way::Fast => {
            let mut slots = [PinSlot::new(at)];
            pin_range(mm, &mut slots, &order, &policy, mm, unlocked).map_err(|e| e.why)?;
            let [slot] = slots;
            Ok(slot.pinned.unwrap())
        }
    }
}

/// All spaces end: nothing is left, no frame, no reference, and as many pins were dropped as were
/// taken.
pub(crate) fn finish(mm: &Mm, spaces: &[SpaceId]) {
    mm.audit().unwrap();
    spaces.iter().for_each(|&space| mm.exit(space));
    mm.audit().unwrap();
    let pins = mm.pin_balance();
    assert!(pins.is_even() && pins.counted == 0 && pins.taken == pins.dropped, "{pins:?}");
    assert_eq!(
        [RAM, DEVICE, FAR].map(|tier| mm.free_frames(tier)),
        [127, 128, 128],
        "frames are left"
    );
}

// ---- gup_test

const PAGES: usize = 8;

#[test]
fn gup_basic_test() {
    let (mm, _) = machine();
    let space = mm.spawn().unwrap();
    let at = written(mm, space, PAGES);
    let pfns: Vec<_> = at.pages(PAGES).map(|at| mm.frame_at(at).unwrap()).collect();
    for n in 1..=3 {
        pfns.iter().for_each(|&pfn| mm.get(pfn).unwrap());
        assert!(
            pfns.iter()
                .all(|&pfn| mm.page(pfn).unwrap().refs() == 1 + n
                    && mm.page(pfn).unwrap().pins() == 0)
        );
    }
    // A reference keeps the page a page when nobody maps it any more.
    mm.unmap(at, PAGES).unwrap();
    assert_eq!(mm.free_frames(RAM), 127 - PAGES);
    mm.audit().unwrap();
    for _ in 0..3 {
        // SAFETY: taken above, as many.
        pfns.iter().for_each(|&pfn| unsafe { mm.put(pfn) });
    }
    finish(mm, &[space]);
}

#[test]
fn pin_basic_test() {
    for way in [Way::Slow, Way::Fast] {
        let (mm, _) = machine();
        let space = mm.spawn().unwrap();
        let at = written(mm, space, PAGES);
        let mut pins = Vec::new();
        for n in 1..=3 {
            pins.extend(
                at.pages(PAGES).map(|at| pin(mm, way, at, Access::Write, Term::Short).unwrap()),
            );
            for pin in &pins {
                let page = mm.page(pin.pfn()).unwrap();
                assert_eq!(
                    (page.refs(), page.pins()),
                    (1, n),
                    "a pin is no reference, and the other way round"
                );
            }
        }
        assert_eq!(mm.pin_balance().counted, 3 * PAGES as u64);
        mm.unmap(at, PAGES).unwrap();
        assert_eq!(mm.free_frames(RAM), 127 - PAGES, "pinned pages outlive their mappings");
        mm.audit().unwrap();
        drop(pins);
        finish(mm, &[space]);
    }
}

/// What a pinned page looks like from outside.
#[test]
fn dump_user_pages_test() {
    let (mm, _) = machine();
    let space = mm.spawn().unwrap();
    let at = written(mm, space, 1);
    let pinned = pin(mm, Way::Slow, at, Access::Read, Term::Long).unwrap();
    let page = mm.page(pinned.pfn()).unwrap();
    let dump = format!("{page:?}");
    assert!(dump.contains('1') && dump.contains("pins"), "{dump}");
    assert_eq!(
        (page.refs(), page.pins(), page.is_locked(), page.is_migrating()),
        (1, 1, false, false)
    );
    assert_eq!(format!("{pinned:?}"), format!("Pinned {{ pfn: {}, .. }}", pinned.pfn()));
    drop(pinned);
    finish(mm, &[space]);
}

/// Threads take references and pins of all kinds, while a migrator moves the pages about and
/// parents fork. What is pinned is the page at the address for as long, and at the end nothing is
/// left.
#[test]
fn gup_and_pin_balance() {
    let (mm, _) = machine();
    let space = mm.spawn().unwrap();
    let at = written(mm, space, PAGES);
    let (stop, moved) = (AtomicBool::new(false), AtomicU64::new(0));
    with_threads(&[], |s| {
        s.spawn(|| {
            let unlocked = &mut Unlocked::promise();
            let mut lots = Lots::of(1);
            while !stop.load(SeqCst) || moved.load(SeqCst) == 0 {
                let mut slots: Vec<_> = at.pages(PAGES).map(Slot::at).collect();
                let to = [RAM, DEVICE, FAR][lots.draw(3) as usize];
                let done = migrate(
                    mm,
                    &mut slots,
                    &Order::to(to).mode(Mode::SyncLight).tries(2),
                    mm,
                    unlocked,
                )
                .done;
                moved.fetch_add(u64::from(done), SeqCst);
            }
        });
        let forker = s.spawn(|| {
            for _ in turns(60) {
                let child = mm.fork(space).unwrap();
                for at in child.page(0).pages(PAGES) {
                    mm.write(at, 100, &[0xff]).unwrap();
                }
                mm.exit(child);
            }
        });
        let workers: Vec<_> =
            (0..3_usize).map(|n| s.spawn(move || getter_and_pinner(mm, at, n))).collect();
        workers.into_iter().for_each(|worker| worker.join().unwrap());
        forker.join().unwrap();
        stop.store(true, SeqCst);
    });
    assert!(mm.pin_balance().taken > 0);
    check_all(mm, at, PAGES);
    finish(mm, &[space]);
}

/// Worker `n` alone writes to byte `200 + n` of each page.
fn getter_and_pinner(mm: &'static Mm, at: At, n: usize) {
    let mut lots = Lots::of(10 + n);
    for round in turns(400) {
        let at = at.space.page(lots.draw(PAGES as u64) as usize);
        if lots.draw(4) == 0 {
            let got = {
                let entry = mm.entry(at);
                // With the lock held: while the entry is there, its reference is.
                entry.leaf().pfn().filter(|&pfn| mm.get(pfn).is_ok())
            };
            if let Some(pfn) = got {
                thread::yield_now();
                // SAFETY: taken above.
                unsafe { mm.put(pfn) };
            }
            continue;
        }
        let way = [Way::Slow, Way::Fast][lots.draw(2) as usize];
        let access = [Access::Read, Access::Write][lots.draw(2) as usize];
        let term = [Term::Short, Term::Long][lots.draw(2) as usize];
        let pinned = pin(mm, way, at, access, term).unwrap();
        // As the processor writes, so the device reads, and the other way round, for as long as the
        // pin lasts.
        let byte = [round as u8];
        mm.write(at, 200 + n, &byte).unwrap();
        let mut bytes = [0];
        mm.read_frame(pinned.pfn(), 200 + n, &mut bytes);
        assert_eq!(
            bytes,
            byte,
            "the pinned page is not the page any more: {pinned:?}, {:?}",
            mm.leaf(at)
        );
        mm.write_frame(pinned.pfn(), 200 + n, &[!byte[0]]);
        mm.read(at, 200 + n, &mut bytes).unwrap();
        assert_eq!(
            bytes,
            [!byte[0]],
            "the pinned page is not the page any more: {pinned:?}, {:?}",
            mm.leaf(at)
        );
    }
}

/// Started: pages are pinned for long, wherever they were. Read: through the pins, while everybody
/// does what they can to move them. Stopped: they move.
#[test]
fn pin_longterm_test() {
    let unlocked = &mut Unlocked::promise();
    for way in [Way::Slow, Way::Fast] {
        let mm = machine_with_coherent();
        let space = mm.spawn().unwrap();
        let at = written(mm, space, PAGES);
        // Half of them in devices' memories, where nothing is pinned for long: one that a fault
        // brings back, and one that none does.
        for (first, to) in [(0, DEVICE), (PAGES / 4, COHERENT)] {
            let mut slots: Vec<_> = space.page(first).pages(PAGES / 4).map(Slot::at).collect();
            assert_eq!(
                migrate(mm, &mut slots, &Order::to(to), mm, unlocked).done,
                PAGES as u32 / 4
            );
        }
        let pins: Vec<_> = at
            .pages(PAGES)
            .map(|at| pin(mm, way, at, Access::Write, Term::Long).unwrap())
            .collect();
        assert!(pins.iter().all(|pin| mm.tier(pin.pfn()) == RAM));

        for mode in [Mode::Async, Mode::SyncLight, Mode::Sync] {
            let by_address = at.pages(PAGES).map(Slot::at);
            let mut slots: Vec<_> =
                by_address.chain(pins.iter().map(|pin| Slot::frame(pin.pfn()))).collect();
            let summary =
                migrate(mm, &mut slots, &Order::to(COHERENT).mode(mode).tries(2), mm, unlocked);
            assert_eq!((summary.done, summary.transient), (0, 2 * PAGES as u32), "{slots:?}");
            assert!(
                slots
                    .iter()
                    .all(|slot| slot.outcome() == Outcome::Skipped(Skip::Pinned { pins: 1 })),
                "{slots:?}"
            );
        }
        let child = mm.fork(space).unwrap();
        write_all(mm, at, PAGES);
        mm.protect(at, PAGES, Some(Rights::Read)).unwrap();
        mm.protect(at, PAGES, Some(Rights::Write)).unwrap();
        for (n, (pin, at)) in pins.iter().zip(at.pages(PAGES)).enumerate() {
            put(mm, child.page(n), OLD);
            put(mm, at, NEW);
            assert_eq!((mm.frame_at(at), held(mm, pin.pfn())), (Some(pin.pfn()), NEW));
        }
        // One end of it: the address is gone, the page is not.
        mm.unmap(at, 1).unwrap();
        assert_eq!(held(mm, pins[0].pfn()), NEW);
        mm.audit().unwrap();

        drop(pins);
        let mut slots: Vec<_> = space.page(1).pages(PAGES - 1).map(Slot::at).collect();
        assert_eq!(
            migrate(mm, &mut slots, &Order::to(COHERENT), mm, unlocked).done,
            PAGES as u32 - 1,
            "{slots:?}"
        );
        assert!(space.page(1).pages(PAGES - 1).all(|at| seen(mm, at) == NEW));
        finish(mm, &[space, child]);
    }
}
