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

#![cfg(all(feature = "std", target_os = "linux", not(pagelock_loom)))]

mod common;

use common::machine::{DEVICE, FAR, Mm, RAM, check_all, machine, move_one, write_all, written};
use common::own::Own;
use common::{Lots, turns, watched};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use pagelock::leaf::{Leaf, Rights};
use pagelock::mm::drain::{ThreadCpus, Unlocked};
use pagelock::mm::migrate::{Abort, Mode, Order, Outcome, Skip, Slot, collect, migrate};
use pagelock::mm::pin::{
    Backing, NotPinnable, NotPinned, PinOrder, PinSlot, Pinned, Term, pin_page, pin_range,
};
use pagelock::mm::{Access, Tiers};
use pagelock::wait::Limits;
use pagelock_soft::{
    Area, AreaKind, At, Backed, Config, Kind, PinFailure, Soft, SpaceId, TierConfig, TierId,
};
use std::thread;

/// In [`machine_with_coherent`], a device's memory that the processor can access: it faults in
/// nothing, and nothing may stay there for long.
const COHERENT: TierId = TierId(2);

/// [`machine`], with [`COHERENT`] for its third tier.
fn machine_with_coherent() -> &'static Mm {
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
const OLD: Text = *b"what was before.";
const NEW: Text = *b"and what is now.";

fn put(mm: &Mm, at: At, text: Text) {
    mm.write(at, 0, &text).unwrap();
}

fn seen(mm: &Mm, at: At) -> Text {
    let mut text = [0; 16];
    mm.read(at, 0, &mut text).unwrap();
    text
}

/// What is in a frame, past all tables: what whoever holds on to the page sees.
fn held(mm: &Mm, pfn: u64) -> Text {
    let mut text = [0; 16];
    mm.read_frame(pfn, 0, &mut text);
    text
}

/// How a page is pinned.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Way {
    Slow,
    Fast,
}

fn pin(
    mm: &'static Mm,
    way: Way,
    at: At,
    access: Access,
    term: Term,
) -> Result<Pinned<'static, Mm>, PinFailure> {
    pin_backed(mm, way, at, access, term, Backing::Anonymous)
}

fn pin_backed(
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
fn finish(mm: &Mm, spaces: &[SpaceId]) {
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
    watched(&[], || {
        thread::scope(|s| {
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

// ---- gup_longterm

const FILES: [(&str, Backing); 6] = [
    ("memfd", Backing::MemoryFile),
    ("tmpfile", Backing::MemoryFile),
    ("local tmpfile", Backing::TrackedFile),
    ("memfd hugetlb", Backing::MemoryFile),
    ("file that is storage", Backing::Storage),
    ("io memory", Backing::Device),
];

fn may_be_pinned_for_long(name: &str, kind: AreaKind, access: Access) -> bool {
    match (name, kind) {
        ("io memory", _) => false,
        ("local tmpfile", AreaKind::Shared) => access == Access::Read,
        ("file that is storage", AreaKind::Shared) => false,
        _ => true,
    }
}

/// Pages of such a file: really large ones are so by one entry, shared or not.
fn map_file(mm: &Mm, at: At, name: &str, kind: AreaKind, pages: usize) {
    if name == "memfd hugetlb" {
        mm.map_large(at, 3, RAM).unwrap();
        mm.set_kind(at, 8, kind).unwrap();
    } else {
        mm.map_as(at, pages, Area { kind, rights: Some(Rights::Write) }).unwrap();
    }
}

/// The rows of io_uring: a buffer of several pages is registered at once, to be written to and for
/// good; transfers go by its frames; and it is taken out again. Over memory that traps, and by the
/// system's io_uring: `hmm`'s `real::a_buffer_that_io_uring_has_stays`.
#[test]
fn gup_longterm_io_uring() {
    const BUFFER: usize = 8;
    let unlocked = &mut Unlocked::promise();
    for (name, backing) in FILES {
        for kind in [AreaKind::Shared, AreaKind::Private] {
            let mm = machine_with_coherent();
            let space = mm.spawn().unwrap();
            let at = space.page(0);
            map_file(mm, at, name, kind, BUFFER);
            at.pages(BUFFER).for_each(|at| put(mm, at, OLD));
            let other = mm.fork(space).unwrap();
            let mut pages: Vec<_> = at.pages(BUFFER).map(Slot::at).collect();
            assert_eq!(migrate(mm, &mut pages, &Order::to(COHERENT), mm, unlocked).left, 0);
            let before = mm.frame_at(at);
            let mut slots: Vec<_> = at.pages(BUFFER).map(PinSlot::new).collect();
            let order = PinOrder::<Own>::new(Access::Write, Term::Long, Limits::none());
            let registered = pin_range(mm, &mut slots, &order, &Backed(|_| backing), mm, unlocked);
            if may_be_pinned_for_long(name, kind, Access::Write) {
                registered.unwrap_or_else(|e| panic!("{name}, {kind:?}: {e}"));
                for slot in &slots {
                    let pfn = slot.pfn.unwrap();
                    assert_eq!(
                        (mm.tier(pfn), mm.frame_at(slot.at)),
                        (RAM, Some(pfn)),
                        "{name}, {kind:?}"
                    );
                    mm.write_frame(pfn, 0, &NEW);
                    assert_eq!(seen(mm, slot.at), NEW, "a transfer into the buffer");
                    put(mm, slot.at, OLD);
                    assert_eq!(held(mm, pfn), OLD, "and out of it");
                    mm.write_frame(pfn, 0, &NEW);
                }
                let mut pages: Vec<_> = at.pages(BUFFER).map(Slot::at).collect();
                assert_eq!(
                    migrate(mm, &mut pages, &Order::to(COHERENT), mm, unlocked).done,
                    0,
                    "registered pages stay"
                );
                let expected = if kind == AreaKind::Shared { NEW } else { OLD };
                assert!(
                    other.page(0).pages(BUFFER).all(|at| seen(mm, at) == expected),
                    "{name}, {kind:?}"
                );
            } else {
                let why = registered.unwrap_err();
                assert_eq!(
                    (why.pinned, why.why),
                    (0, NotPinned::Refused(NotPinnable { backing })),
                    "{name}, {kind:?}"
                );
                assert_eq!(mm.frame_at(at), before);
            }
            slots.clear();
            finish(mm, &[space, other]);
        }
    }
}

/// {read-write, read-only} x {slow, fast} x {shared, private} x what is mapped.
#[test]
fn gup_longterm() {
    for (name, backing) in FILES {
        for kind in [AreaKind::Shared, AreaKind::Private] {
            for access in [Access::Read, Access::Write] {
                for way in [Way::Slow, Way::Fast] {
                    let is_allowed = may_be_pinned_for_long(name, kind, access);
                    let mm = machine_with_coherent();
                    let space = mm.spawn().unwrap();
                    let at = space.page(0);
                    map_file(mm, at, name, kind, 1);
                    put(mm, at, OLD);
                    // Another process maps it as well: what is private is shared until it is
                    // written to.
                    let other = mm.fork(space).unwrap();
                    // In a tier where it can be accessed and may not stay.
                    assert!(move_one(mm, at, &Order::to(COHERENT)).is_done());
                    let before = mm.frame_at(at);
                    // To read, what may only be read by then; after that it may be written to
                    // again.
                    let pages = if name == "memfd hugetlb" { 8 } else { 1 };
                    let is_first = access == Access::Read;
                    if is_first {
                        mm.protect(at, pages, Some(Rights::Read)).unwrap();
                    }
                    let pinned = pin_backed(mm, way, at, access, Term::Long, backing);
                    let what = (name, kind, access, way);
                    match (pinned, is_allowed) {
                        (Ok(pinned), true) => {
                            assert_eq!(mm.tier(pinned.pfn()), RAM, "{what:?}");
                            if is_first {
                                mm.protect(at, pages, Some(Rights::Write)).unwrap();
                            }
                            put(mm, at, NEW);
                            assert_eq!(
                                (held(mm, pinned.pfn()), mm.frame_at(at)),
                                (NEW, Some(pinned.pfn())),
                                "{what:?}"
                            );
                            let expected = if kind == AreaKind::Shared { NEW } else { OLD };
                            assert_eq!(seen(mm, other.page(0)), expected, "{what:?}");
                        }
                        (Err(why), false) => {
                            assert_eq!(
                                why,
                                NotPinned::Refused(NotPinnable { backing }),
                                "{what:?}"
                            );
                            assert_eq!(mm.frame_at(at), before, "{what:?}");
                        }
                        (Ok(_), false) => panic!("{what:?}: pinned"),
                        (Err(why), true) => panic!("{what:?}: {why}"),
                    }
                    finish(mm, &[space, other]);
                }
            }
        }
    }
}

/// What may be pinned for a moment and what for long differ; what may not be accessed is not pinned
/// at all.
#[test]
fn what_is_not_pinned() {
    let (mm, _) = machine();
    let space = mm.spawn().unwrap();
    let at = space.page(0);
    mm.map_shared(at, 1).unwrap();
    for way in [Way::Slow, Way::Fast] {
        let short = pin_backed(mm, way, at, Access::Write, Term::Short, Backing::TrackedFile);
        assert!(short.is_ok(), "{short:?}");
        drop(short);
        mm.protect(at, 1, Some(Rights::Read)).unwrap();
        assert_eq!(
            pin(mm, way, at, Access::Write, Term::Short).unwrap_err(),
            NotPinned::NotAllowed
        );
        drop(pin(mm, way, at, Access::Read, Term::Short).unwrap());
        mm.protect(at, 1, None).unwrap();
        assert_eq!(pin(mm, way, at, Access::Read, Term::Short).unwrap_err(), NotPinned::NotAllowed);
        mm.protect(at, 1, Some(Rights::Write)).unwrap();
        assert_eq!(
            pin(mm, way, space.page(1), Access::Read, Term::Short).unwrap_err(),
            NotPinned::NotAllowed
        );
    }
    finish(mm, &[space]);
}

// ---- cow.c

/// What the page of a row is.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Page {
    /// One by itself.
    Base,
    /// One that was evicted: the next access brings it back.
    Evicted,
    /// One of a large page that is mapped as a whole.
    Large,
    /// The last that is mapped of a large page.
    LastOfLarge,
}

const ORDER: u32 = 3;

/// Each kind of page, each way and term of pinning: `row` gets an address with [`OLD`] at it, and
/// says which spaces there are.
fn each_case(
    row: impl Fn(&'static Mm, At, &dyn Fn(At, Access) -> Pinned<'static, Mm>) -> Vec<SpaceId>,
) {
    for page in [Page::Base, Page::Evicted, Page::Large, Page::LastOfLarge] {
        for way in [Way::Slow, Way::Fast] {
            for term in [Term::Short, Term::Long] {
                let (mm, _) = machine();
                let space = mm.spawn().unwrap();
                let at = space.page(2);
                match page {
                    Page::Base | Page::Evicted => mm.map(at, 1).unwrap(),
                    Page::Large | Page::LastOfLarge => {
                        mm.map_large_by_pages(space.page(0), ORDER, RAM).unwrap();
                    }
                }
                put(mm, at, OLD);
                match page {
                    Page::Evicted => assert!(move_one(mm, at, &Order::to(DEVICE)).is_done()),
                    Page::LastOfLarge => {
                        mm.unmap(space.page(0), 2).unwrap();
                        mm.unmap(space.page(3), 5).unwrap();
                    }
                    _ => {}
                }
                let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                    let spaces = row(mm, at, &|at, access| pin(mm, way, at, access, term).unwrap());
                    finish(mm, &spaces);
                }));
                assert!(result.is_ok(), "that was with {page:?}, {way:?}, {term:?}");
            }
        }
    }
}

/// What vmsplice does: a reference to what is at the address now, without a word to anybody.
fn splice(mm: &Mm, at: At) -> u64 {
    loop {
        mm.read(at, 0, &mut [0]).unwrap();
        let entry = mm.entry(at);
        if let Leaf::Present { pfn, .. } = entry.leaf() {
            mm.get(pfn).unwrap();
            return pfn;
        }
    }
}

/// Write protects and unprotects, after which a page that is shared must not be writable.
fn mprotect_to_and_fro(mm: &Mm, at: At) {
    mm.protect(at, 1, Some(Rights::Read)).unwrap();
    mm.protect(at, 1, Some(Rights::Write)).unwrap();
}

#[test]
fn basic_cow_after_fork() {
    for mprotect in [false, true] {
        for parent_writes in [false, true] {
            each_case(|mm, at, _| {
                let child = mm.fork(at.space).unwrap();
                let theirs = child.page(at.page);
                if mprotect {
                    mprotect_to_and_fro(mm, at);
                    mprotect_to_and_fro(mm, theirs);
                }
                let (writer, reader) = if parent_writes { (at, theirs) } else { (theirs, at) };
                put(mm, writer, NEW);
                assert_eq!((seen(mm, writer), seen(mm, reader)), (NEW, OLD));
                vec![at.space, child]
            });
        }
    }
}

/// What the parent writes after the fork does not get to the child by way of what the child holds
/// on to.
#[test]
fn vmsplice_and_unmap_in_child() {
    for mprotect in [false, true] {
        each_case(|mm, at, _| {
            let child = mm.fork(at.space).unwrap();
            let theirs = child.page(at.page);
            let pfn = splice(mm, theirs);
            mm.unmap(theirs, 1).unwrap();
            if mprotect {
                mprotect_to_and_fro(mm, at);
            }
            put(mm, at, NEW);
            assert_eq!(
                (held(mm, pfn), seen(mm, at)),
                (OLD, NEW),
                "the child sees what its parent has written"
            );
            // SAFETY: taken by `splice`.
            unsafe { mm.put(pfn) };
            vec![at.space, child]
        });
    }
}

/// What the child writes does not get to the parent by way of what that holds on to.
fn splice_in_parent(before_fork: bool) {
    each_case(|mm, at, _| {
        let before = before_fork.then(|| splice(mm, at));
        let child = mm.fork(at.space).unwrap();
        let pfn = before.unwrap_or_else(|| splice(mm, at));
        mm.unmap(at, 1).unwrap();
        put(mm, child.page(at.page), NEW);
        assert_eq!(
            (held(mm, pfn), seen(mm, child.page(at.page))),
            (OLD, NEW),
            "the parent sees what its child has written"
        );
        // SAFETY: taken by `splice`.
        unsafe { mm.put(pfn) };
        vec![at.space, child]
    });
}

#[test]
fn vmsplice_before_fork_unmap_in_parent() {
    splice_in_parent(true);
}

#[test]
fn vmsplice_and_unmap_in_parent_after_fork() {
    splice_in_parent(false);
}

/// The pinned page is the page: what either side writes the other reads.
fn is_the_page(mm: &Mm, at: At, pinned: &Pinned<'_, Mm>) {
    put(mm, at, NEW);
    assert_eq!(
        held(mm, pinned.pfn()),
        NEW,
        "the device does not see what the processor has written"
    );
    mm.write_frame(pinned.pfn(), 0, &OLD);
    assert_eq!(seen(mm, at), OLD, "the processor does not see what the device has written");
    assert_eq!(mm.frame_at(at), Some(pinned.pfn()));
}

#[test]
fn ro_mapping_a_fixed_buffer() {
    each_case(|mm, at, pin| {
        let buffer = pin(at, Access::Write);
        mprotect_to_and_fro(mm, at);
        is_the_page(mm, at, &buffer);
        vec![at.space]
    });
}

#[test]
fn fork_with_a_fixed_buffer() {
    each_case(|mm, at, pin| {
        let buffer = pin(at, Access::Write);
        let child = mm.fork(at.space).unwrap();
        let theirs = child.page(at.page);
        assert_ne!(mm.frame_at(theirs), Some(buffer.pfn()), "a pinned page is copied at once");
        put(mm, at, NEW);
        assert_eq!(seen(mm, theirs), OLD);
        is_the_page(mm, at, &buffer);
        put(mm, theirs, NEW);
        assert_eq!(
            (seen(mm, at), held(mm, buffer.pfn())),
            (OLD, OLD),
            "the child has written to its parent's buffer"
        );
        mm.exit(child);
        is_the_page(mm, at, &buffer);
        vec![at.space]
    });
}

/// A pin for reading has to be one of the page that a later write goes to.
fn ro_pin(prepare: impl Fn(&Mm, At) -> Vec<SpaceId>) {
    for mprotect in [false, true] {
        each_case(|mm, at, pin| {
            let mut spaces = prepare(mm, at);
            if mprotect {
                mm.protect(at, 1, Some(Rights::Read)).unwrap();
            }
            let pinned = pin(at, Access::Read);
            assert_eq!(held(mm, pinned.pfn()), OLD);
            if mprotect {
                mm.protect(at, 1, Some(Rights::Write)).unwrap();
            }
            is_the_page(mm, at, &pinned);
            // And stays it, whatever children do.
            let child = mm.fork(at.space).unwrap();
            put(mm, child.page(at.page), NEW);
            assert_eq!(held(mm, pinned.pfn()), OLD);
            is_the_page(mm, at, &pinned);
            for &other in &spaces {
                assert_eq!(seen(mm, other.page(at.page)), OLD);
            }
            spaces.extend([at.space, child]);
            spaces
        });
    }
}

#[test]
fn ro_pin_on_shared_page() {
    ro_pin(|mm, at| vec![mm.fork(at.space).unwrap()]);
}

#[test]
fn ro_pin_on_previously_shared_page() {
    ro_pin(|mm, at| {
        mm.exit(mm.fork(at.space).unwrap());
        vec![]
    });
}

#[test]
fn ro_pin_on_exclusive_page() {
    ro_pin(|_, _| vec![]);
}

#[test]
fn ro_pin_on_zero_page() {
    for way in [Way::Slow, Way::Fast] {
        for term in [Term::Short, Term::Long] {
            for is_read_before in [false, true] {
                let (mm, _) = machine();
                let space = mm.spawn().unwrap();
                let at = space.page(0);
                mm.map(at, 1).unwrap();
                if is_read_before {
                    assert_eq!(seen(mm, at), [0; 16]);
                }
                let pinned = pin(mm, way, at, Access::Read, term).unwrap();
                assert_ne!(pinned.pfn(), 0, "everybody's page of zeroes");
                assert_eq!(held(mm, pinned.pfn()), [0; 16]);
                is_the_page(mm, at, &pinned);
                drop(pinned);
                finish(mm, &[space]);
            }
        }
    }
}

/// A page that is pinned just before its entry is taken down for a migration, which will have to
/// give up: a fork in between copies it at once. Sharing what it finds would take the parent's
/// address away from the pinned page with the next write (I19).
#[test]
fn fork_while_a_pinned_page_is_taken_down() {
    let unlocked = &mut Unlocked::promise();
    let (mm, _) = machine();
    let space = mm.spawn().unwrap();
    let at = space.page(0);
    mm.map(at, 1).unwrap();
    put(mm, at, OLD);
    let (tell, told) = std::sync::mpsc::channel();
    mm.on_prepare(move |_| {
        tell.send(pin(mm, Way::Slow, at, Access::Write, Term::Long).unwrap()).unwrap()
    });
    // By frame: by address its entry would be locked then, which a pinner needs.
    let mut slots = [Slot::frame(mm.frame_at(at).unwrap())];
    let order = Order::to(FAR);
    let unmapped = collect(mm, &mut slots, &order, unlocked).unmap();
    let pinned = told.recv().unwrap();
    assert!(matches!(mm.leaf(at), Leaf::Migration { .. }));
    let child = watched(&[], || mm.fork(space).unwrap());
    let _ = unmapped.check().copy().finalize();
    assert_eq!(slots[0].outcome(), Outcome::Aborted(Abort::Pinned { pins: 1 }));
    is_the_page(mm, at, &pinned);
    put(mm, at, NEW);
    assert_eq!((held(mm, pinned.pfn()), seen(mm, child.page(0))), (NEW, OLD));
    drop(pinned);
    finish(mm, &[space, child]);
}
