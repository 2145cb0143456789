//! The kernel's `cow.c`: pins and copy-on-write; see [`crate::gup`].

#![cfg(target_os = "linux")]

use crate::common::machine::{DEVICE, FAR, Mm, RAM, machine, move_one};
use crate::common::watched;
use crate::gup::{NEW, OLD, Way, finish, held, pin, put, seen};
use pagelock::leaf::{Leaf, Rights};
use pagelock::mm::Access;
use pagelock::mm::drain::Unlocked;
use pagelock::mm::migrate::{Abort, Order, Outcome, Slot, collect};
use pagelock::mm::pin::{Pinned, Term};
use pagelock_soft::{At, SpaceId};

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
