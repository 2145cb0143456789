//! The kernel's `gup_longterm`: which pages may be pinned for long; see [`crate::gup`].

#![cfg(target_os = "linux")]

use crate::common::machine::{Mm, RAM, machine, move_one};
use crate::common::own::Own;
use crate::gup::{
    COHERENT, NEW, OLD, Way, finish, held, machine_with_coherent, pin, pin_backed, put, seen,
};
use pagelock::leaf::Rights;
use pagelock::mm::drain::Unlocked;
use pagelock::mm::migrate::{Order, Slot, migrate};
use pagelock::mm::pin::{Backing, NotPinnable, NotPinned, PinOrder, PinSlot, Term, pin_range};
use pagelock::mm::{Access, Tiers};
use pagelock::wait::Limits;
use pagelock_soft::{Area, AreaKind, At, Backed};

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
