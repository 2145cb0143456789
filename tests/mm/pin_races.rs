//! Pins against migrations, unmaps, evictions and forks, at once.

#![cfg(target_os = "linux")]

use crate::common::machine::{
    DEVICE, FAR, RAM, check_all, machine, machine_with, move_one, written,
};
use crate::common::own::within;
use crate::common::{Lots, rounds, turns, watched, with_threads};
use crate::pins::{bytes, settled};
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use pagelock::leaf::Leaf;
use pagelock::mm::drain::Unlocked;
use pagelock::mm::migrate::{Abort, Order, Outcome, Skip, Slot, collect, evict};
use pagelock::mm::pin::{NotPinned, Term};
use pagelock::mm::{Access, Tiers};
use pagelock::{Cancel, Limits};
use std::thread;

/// Pinners, a migrator that plays ping-pong, unmap and fork: while a pin is there the page is where
/// it was pinned, and what the pinner writes past the tables is what the space reads (I17, I19).
#[test]
fn pins_against_everybody() {
    let (mm, own) = machine_with(2);
    let space = mm.spawn().unwrap();
    // Filled before the migrator, which may run first, looks for its frame.
    let at = written(mm, space, 2);
    let stop = AtomicBool::new(false);
    let (pinned, moved) = (AtomicUsize::new(0), AtomicUsize::new(0));
    with_threads(&[], |s| {
        let pinners: Vec<_> = (0..3)
            .map(|seed| {
                let pinned = &pinned;
                s.spawn(move || {
                    let unlocked = &mut Unlocked::promise();
                    let mut lots = Lots::of(seed);
                    for n in turns(1_500) {
                        let term = if lots.draw(2) == 0 { Term::Long } else { Term::Short };
                        match mm.pin_within(at, Access::Write, term, within(own, 200), unlocked) {
                            Ok(pin) => {
                                let value = [seed as u8 + 1, n as u8, (n >> 8) as u8];
                                mm.write_frame(pin.pfn(), seed * 8, &value);
                                thread::yield_now();
                                assert_eq!(
                                    mm.page(pin.pfn()).map(|page| page.pins() > 0),
                                    Some(true)
                                );
                                let mut read = [0; 3];
                                mm.read_frame(pin.pfn(), seed * 8, &mut read);
                                assert_eq!(read, value, "somebody else has the frame");
                                // Nobody throws the page away here, so it is where the space
                                // reads it.
                                assert_eq!(mm.frame_at(at), Some(pin.pfn()));
                                mm.read(at, seed * 8, &mut read).unwrap();
                                assert_eq!(read, value);
                                pinned.fetch_add(1, SeqCst);
                            }
                            Err(
                                NotPinned::TimedOut
                                | NotPinned::Busy { .. }
                                | NotPinned::NotMoved(_),
                            ) => {}
                            Err(error) => panic!("{error}"),
                        }
                    }
                })
            })
            .collect();
        s.spawn(|| {
            let unlocked = &mut Unlocked::promise();
            let mut lots = Lots::of(9);
            // It may not have got to run before.
            while !stop.load(SeqCst) || moved.load(SeqCst) == 0 {
                let order = Order::to([DEVICE, FAR, RAM][lots.draw(3) as usize]).tries(2);
                // Giving up when there are pins, or not.
                let outcome = match lots.draw(2) {
                    0 => move_one(mm, at, &order),
                    _ => {
                        evict(mm, mm.frame_at(at).unwrap(), &order, within(own, 100), mm, unlocked)
                    }
                };
                moved.fetch_add(usize::from(matches!(outcome, Outcome::Moved { .. })), SeqCst);
            }
        });
        s.spawn(|| {
            while !stop.load(SeqCst) {
                // The child has what the parent had, or a copy.
                if let Ok(child) = mm.fork(space) {
                    mm.write(child.page(0), 0, &[0xee; 24]).unwrap();
                    mm.exit(child);
                }
                thread::yield_now();
            }
        });
        for pinner in pinners {
            pinner.join().unwrap();
        }
        stop.store(true, SeqCst);
    });
    assert!(pinned.load(SeqCst) > 0 && moved.load(SeqCst) > 0, "{pinned:?} {moved:?}");
    mm.exit(space);
    mm.batches().drain_local(|_| {});
}

/// A pin against an unmap: one is first. The pin's holder has the page, whole, until it is
/// dropped; nothing is left behind.
#[test]
fn a_pin_against_an_unmap() {
    let (mm, _) = machine();
    let space = mm.spawn().unwrap();
    let at = space.page(0);
    let won = AtomicUsize::new(0);
    watched(&[], || {
        for n in 0..rounds(2_000) {
            mm.map(at, 1).unwrap();
            mm.write(at, 0, &[n as u8; 4]).unwrap();
            thread::scope(|s| {
                s.spawn(|| match mm.pin(at, Access::Read, Term::Short, &mut Unlocked::promise()) {
                    Ok(pin) => {
                        assert_eq!(bytes(mm, pin.pfn()), [n as u8; 4]);
                        won.fetch_add(1, SeqCst);
                    }
                    Err(error) => assert_eq!(error, NotPinned::NotAllowed),
                });
                s.spawn(|| mm.unmap(at, 1).unwrap());
            });
        }
    });
    eprintln!("the pin won {won:?} of {} times", rounds(2_000));
    settled(mm);
}

/// A page that has to go: its pins are waited for, with the entries up so that accesses go on and
/// nobody waits for itself, while new pins and forks wait; and it arrives with all that the pinner
/// wrote. With the time up it is as it was, pinned still.
#[test]
fn an_eviction_waits_for_pins() {
    let unlocked = &mut Unlocked::promise();
    let (mm, own) = machine();
    let at = written(mm, mm.spawn().unwrap(), 2);
    let pfn = mm.frame_at(at).unwrap();
    let pin = mm.pin(at, Access::Write, Term::Long, unlocked).unwrap();
    watched(&[mm.page(pfn).unwrap()], || {
        let order = Order::to(FAR).tries(3);
        let outcome = evict(mm, pfn, &order, within(own, 20), mm, unlocked);
        assert_eq!(outcome, Outcome::Aborted(Abort::Pinned { pins: 1 }));
        assert_eq!((mm.frame_at(at), mm.page(pfn).unwrap().is_locked()), (Some(pfn), false));
        check_all(mm, at, 1);
        thread::scope(|s| {
            let evictor =
                s.spawn(|| evict(mm, pfn, &order, Limits::none(), mm, &mut Unlocked::promise()));
            own.until_asleep(1);
            // The pinner itself, through its own mapping.
            mm.write(at, 0, b"wrote").unwrap();
            let pinner = s.spawn(|| {
                drop(mm.pin(at, Access::Read, Term::Short, &mut Unlocked::promise()).unwrap())
            });
            own.until_asleep(2);
            mm.write_frame(pin.pfn(), 5, b" past the tables");
            drop(pin);
            assert!(
                matches!(evictor.join().unwrap(), Outcome::Moved { pfn } if mm.tier(pfn) == FAR)
            );
            let mut bytes = [0; 21];
            mm.read(at, 0, &mut bytes).unwrap();
            assert_eq!(&bytes, b"wrote past the tables");
            pinner.join().unwrap();
        });
        // A page that is locked for good; a reference that is never put; no frame.
        let order = Order::to(RAM).tries(3);
        let pfn = mm.frame_at(at).unwrap();
        let page = mm.page(pfn).unwrap();
        let guard = page.lock();
        assert_eq!(
            evict(mm, pfn, &order, within(own, 20), mm, unlocked),
            Outcome::Skipped(Skip::Locked)
        );
        drop(guard);
        mm.get(pfn).unwrap();
        let outcome = evict(mm, pfn, &order, Limits::none(), mm, unlocked);
        assert!(matches!(outcome, Outcome::Aborted(Abort::Referenced { .. })), "{outcome:?}");
        // SAFETY: the reference just taken.
        unsafe { mm.put(pfn) };
        assert_eq!(
            evict(mm, u64::MAX, &order, Limits::none(), mm, unlocked),
            Outcome::Skipped(Skip::NoFrame)
        );
        assert!(evict(mm, pfn, &order, Limits::none(), mm, unlocked).is_done());
    });
    check_all(mm, at.space.page(1), 1);
    settled(mm);
}

/// A shared page, which a fork does not copy though it is pinned: the child's reference is not
/// given while the pins are waited for. The fork does not wait for that, because the pin may be the
/// forker's: the child finds the page on its way, and then where it is.
#[test]
fn a_fork_by_whoever_has_pinned_the_page_does_not_wait_for_its_eviction() {
    let unlocked = &mut Unlocked::promise();
    let (mm, own) = machine();
    let space = mm.spawn().unwrap();
    let at = space.page(0);
    mm.map_shared(at, 1).unwrap();
    mm.write(at, 0, b"shared").unwrap();
    let pfn = mm.frame_at(at).unwrap();
    let pin = mm.pin(at, Access::Write, Term::Long, unlocked).unwrap();
    with_threads(&[mm.page(pfn).unwrap()], |s| {
        let evictor = s.spawn(|| {
            evict(mm, pfn, &Order::to(FAR), Limits::none(), mm, &mut Unlocked::promise())
        });
        own.until_asleep(1);
        let child = mm.fork(space).unwrap();
        assert!(matches!(mm.leaf(child.page(0)), Leaf::Migration { .. }));
        let reader = s.spawn(move || {
            let mut bytes = [0; 6];
            mm.read(child.page(0), 0, &mut bytes).unwrap();
            bytes
        });
        own.until_asleep(2);
        drop(pin);
        assert!(evictor.join().unwrap().is_done());
        assert_eq!(&reader.join().unwrap(), b"shared");
        assert_eq!(mm.frame_at(child.page(0)), mm.frame_at(at));
    });
    settled(mm);
}

/// The fork found the page frozen. The pins stay, the migrator gives up without having taken
/// anything down, and the child's entry is put up all the same.
#[test]
fn an_eviction_that_gives_up_puts_up_what_a_fork_has_made() {
    let unlocked = &mut Unlocked::promise();
    let (mm, own) = machine();
    let space = mm.spawn().unwrap();
    let at = space.page(0);
    mm.map_shared(at, 1).unwrap();
    mm.write(at, 0, b"shared").unwrap();
    let pfn = mm.frame_at(at).unwrap();
    let pin = mm.pin(at, Access::Write, Term::Long, unlocked).unwrap();
    let cancel = &Cancel::with_futex(own);
    let child = with_threads(&[mm.page(pfn).unwrap()], |s| {
        let limits = Limits::none().unless(cancel);
        let evictor = s.spawn(move || {
            evict(mm, pfn, &Order::to(FAR).tries(1), limits, mm, &mut Unlocked::promise())
        });
        own.until_asleep(1);
        let child = mm.fork(space).unwrap();
        cancel.cancel();
        assert_eq!(evictor.join().unwrap(), Outcome::Aborted(Abort::Pinned { pins: 1 }));
        child
    });
    assert_eq!(mm.leaf(child.page(0)), mm.leaf(at));
    mm.audit().unwrap();
    drop(pin);
    settled(mm);
}

/// With several pages under way nobody sleeps for the pins of one (I23).
#[test]
fn several_pages_are_not_kept_for_the_pins_of_one() {
    let unlocked = &mut Unlocked::promise();
    let (mm, _) = machine();
    let at = written(mm, mm.spawn().unwrap(), 2);
    let pin = mm.pin(at, Access::Read, Term::Short, unlocked).unwrap();
    let mut slots: Vec<_> = at.pages(2).map(Slot::at).collect();
    let order = Order::to(FAR).even_pinned();
    watched(&[], || {
        let collected = collect(mm, &mut slots, &order, unlocked).wait_unpinned(Limits::none());
        assert_eq!(collected.in_work(), 2);
        let _ = collected.unmap().check().copy().finalize();
    });
    assert_eq!(slots[0].outcome(), Outcome::Aborted(Abort::Pinned { pins: 1 }));
    assert!(slots[1].outcome().is_done());
    drop(slots);
    drop(pin);
    check_all(mm, at, 2);
    settled(mm);
}
