//! Pins over page tables, and a migrator that must win against them: a pinned page is never moved,
//! shared or copied away from its pinner, and pin against unmap, fork or migration has one winner
//! (I19); whether a page is pinned is known exactly (I20); a lost page is an error and no wait
//! (I25); whatever is waited for ends (I29, I37), and holds no lock (I38).

#![cfg(all(feature = "std", target_os = "linux", not(pagelock_loom)))]

mod common;

use common::machine::{
    DEVICE, FAR, Mm, RAM, check_all, is_migrating, machine, machine_with, move_one, written,
};
use common::own::{Own, within};
use common::{Lots, rounds, turns, watched};
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use pagelock::leaf::{Leaf, Marker, Rights};
use pagelock::mm::drain::{ThreadCpus, Unlocked};
use pagelock::mm::migrate::{Abort, Order, Outcome, Skip, Slot, collect, evict};
use pagelock::mm::pin::{
    Backing, NotPinnable, NotPinned, PinOrder, PinPolicy, PinSlot, Pinned, Term, long_term,
    pin_page, pin_range,
};
use pagelock::mm::{Access, FaultError, Tiers};
use pagelock::{Cancel, Limits, MAX_PINS};
use pagelock_soft::{
    AccessError, Area, AreaKind, At, Backed, Config, Kind, PinFailure, Soft, SoftEntry, TierConfig,
    TierId,
};
use std::thread;

fn bytes<const N: usize>(mm: &Mm, pfn: u64) -> [u8; N] {
    let mut bytes = [0; N];
    mm.read_frame(pfn, 0, &mut bytes);
    bytes
}

/// After everything: no pin is lost, every reference has its owner.
#[track_caller]
fn settled(mm: &Mm) {
    let balance = mm.pin_balance();
    assert!(balance.is_even() && balance.counted == 0, "{balance:?}");
    mm.audit().unwrap();
}

/// `hmm_gup_test`: a pin of a page in device memory has it brought back, short or long, to read or
/// to write; and what is in RAM is pinned where it is.
#[test]
fn a_pin_brings_a_device_page_back_and_leaves_others_where_they_are() {
    let unlocked = &mut Unlocked::promise();
    let (mm, _) = machine();
    let at = written(mm, mm.spawn().unwrap(), 8);
    for (n, (access, term)) in [Access::Read, Access::Write]
        .into_iter()
        .flat_map(|a| [(a, Term::Short), (a, Term::Long)])
        .enumerate()
    {
        let (far, there) = (at.space.page(n), at.space.page(n + 4));
        assert!(move_one(mm, far, &Order::to(DEVICE)).is_done());
        let pin = mm.pin(far, access, term, unlocked).unwrap();
        assert_eq!((mm.tier(pin.pfn()), mm.frame_at(far)), (RAM, Some(pin.pfn())));
        let before = mm.frame_at(there);
        let stays = mm.pin(there, access, term, unlocked).unwrap();
        assert_eq!((before, mm.frame_at(there)), (Some(stays.pfn()), Some(stays.pfn())));
        // It does not move any more, nor is it unpinned by the try.
        assert_eq!(
            move_one(mm, far, &Order::to(DEVICE).tries(1)),
            Outcome::Skipped(Skip::Pinned { pins: 1 })
        );
        drop(pin);
        assert!(move_one(mm, far, &Order::to(DEVICE)).is_done());
    }
    check_all(mm, at, 8);
    settled(mm);
}

/// Memory of a device that the processor can access: a short pin takes it as it is, a long one only
/// in RAM. And it says that it stays there.
#[test]
fn a_long_pin_moves_the_page_out_first() {
    let unlocked = &mut Unlocked::promise();
    let own = Own::new(64);
    let tier = |kind| TierConfig { kind, frames: 16 };
    let tiers = vec![tier(Kind::System), tier(Kind::Coherent { owner: 3 })];
    let config = Config { page_size: 256, pages: 16, spaces: 4, tiers, batches: 2 };
    let mm: &Mm = Box::leak(Box::new(Soft::on(own, ThreadCpus, config)));
    let at = mm.spawn().unwrap().page(0);
    mm.map(at, 1).unwrap();
    mm.write(at, 0, b"coherent").unwrap();
    // New pages are in a batch: that is drained, by the long pin too.
    assert!(
        move_one(mm, at, &Order::to(TierId(1)).mode(pagelock::mm::migrate::Mode::Sync)).is_done()
    );
    let short = mm.pin(at, Access::Write, Term::Short, unlocked).unwrap();
    assert_eq!(mm.tier(short.pfn()), TierId(1));
    // The short pin is in the way of the long one, and is waited for in vain.
    let error =
        mm.pin_within(at, Access::Write, Term::Long, within(own, 20), unlocked).unwrap_err();
    assert!(matches!(error, NotPinned::TimedOut), "{error:?}");
    drop(short);
    let long = mm.pin(at, Access::Write, Term::Long, unlocked).unwrap();
    assert_eq!(mm.tier(long.pfn()), RAM);
    assert_eq!(&bytes(mm, long.pfn()), b"coherent");
    drop(long);
    settled(mm);
}

/// `gup_longterm`: which mappings may be pinned for long, all rows. A refused pin has changed
/// nothing.
#[test]
fn the_table_of_what_may_be_pinned() {
    let unlocked = &mut Unlocked::promise();
    use Access::{Read, Write};
    use Backing::{Anonymous, Device, MemoryFile, Storage, TrackedFile};
    let (private, shared) = (false, true);
    for (backing, is_shared, access, yes) in [
        (Anonymous, private, Read, true),
        (Anonymous, private, Write, true),
        (Anonymous, shared, Read, true),
        (Anonymous, shared, Write, true),
        (MemoryFile, private, Read, true),
        (MemoryFile, private, Write, true),
        (MemoryFile, shared, Read, true),
        (MemoryFile, shared, Write, true),
        (TrackedFile, private, Read, true),
        (TrackedFile, private, Write, true),
        (TrackedFile, shared, Read, true),
        (TrackedFile, shared, Write, false),
        (Storage, private, Read, true),
        (Storage, private, Write, true),
        (Storage, shared, Read, false),
        (Storage, shared, Write, false),
        (Device, private, Read, false),
        (Device, private, Write, false),
        (Device, shared, Read, false),
        (Device, shared, Write, false),
    ] {
        let row = (backing, is_shared, access);
        assert_eq!(long_term(backing, is_shared, access, Term::Long).is_ok(), yes, "{row:?}");
        assert_eq!(
            long_term(backing, is_shared, access, Term::Short).is_ok(),
            backing != Device,
            "{row:?}"
        );

        let (mm, _) = machine();
        let at = mm.spawn().unwrap().page(0);
        if is_shared {
            mm.map_shared(at, 1).unwrap()
        } else {
            mm.map(at, 1).unwrap()
        }
        mm.write(at, 0, b"x").unwrap();
        assert!(is_shared || move_one(mm, at, &Order::to(DEVICE)).is_done());
        let before = mm.leaf(at);
        let order = PinOrder::new(access, Term::Long, Limits::none());
        match pin_page(mm, at, &order, &Backed(|_| backing), mm, unlocked) {
            Ok(pin) => assert!(yes && mm.tier(pin.pfn()) == RAM, "{row:?}"),
            Err(error) => {
                assert!(!yes, "{row:?}");
                assert_eq!(error, NotPinned::Refused(NotPinnable { backing }));
                assert_eq!(mm.leaf(at), before, "{row:?}");
            }
        }
        settled(mm);
    }
}

/// A policy of one's own: asked with the entry locked, and its answer is the error.
#[test]
fn a_policy_can_refuse_and_choose() {
    let unlocked = &mut Unlocked::promise();
    struct OnlyFar;
    impl PinPolicy<Mm> for OnlyFar {
        type Refused = &'static str;
        fn permit(
            &self,
            _: &Mm,
            at: At,
            entry: &SoftEntry<'_, Own, ThreadCpus>,
            _: Access,
            term: Term,
        ) -> Result<(), Self::Refused> {
            assert_eq!(entry.at(), at);
            if term == Term::Short { Err("long pins only") } else { Ok(()) }
        }
        fn home(&self, _: &Mm, _: TierId) -> Option<TierId> {
            Some(FAR)
        }
    }
    let (mm, _) = machine();
    let at = written(mm, mm.spawn().unwrap(), 1);
    let order = |term| PinOrder::new(Access::Read, term, Limits::none());
    assert_eq!(
        pin_page(mm, at, &order(Term::Short), &OnlyFar, mm, unlocked).unwrap_err(),
        NotPinned::Refused("long pins only")
    );
    let pin = pin_page(mm, at, &order(Term::Long), &OnlyFar, mm, unlocked).unwrap();
    assert_eq!(mm.tier(pin.pfn()), FAR);
    drop(pin);
    check_all(mm, at, 1);
    settled(mm);
}

/// `cow.c`: a pin to read of a page that is shared by copy on write gets a page of its own first,
/// so that it sees what its space writes later; with one that nobody shares any more, and with
/// zeroes. Rights are not widened by it (I18).
#[test]
fn a_pin_to_read_stays_with_the_page_that_is_written_to() {
    let unlocked = &mut Unlocked::promise();
    let (mm, _) = machine();
    let space = mm.spawn().unwrap();
    let at = written(mm, space, 2);
    let child = mm.fork(space).unwrap();
    for (parent, other) in [(at, child.page(0)), (child.page(1), space.page(1))] {
        let pin = mm.pin(parent, Access::Read, Term::Long, unlocked).unwrap();
        assert_ne!(mm.frame_at(other), Some(pin.pfn()));
        assert_eq!(mm.leaf(parent).rights(), Some(Rights::ReadExclusive));
        mm.write(parent, 0, b"after").unwrap();
        assert_eq!(&bytes(mm, pin.pfn()), b"after");
        assert_eq!(mm.frame_at(parent), Some(pin.pfn()));
        mm.write(other, 0, b"other").unwrap();
        assert_eq!(&bytes(mm, pin.pfn()), b"after");
    }
    mm.exit(child);

    // Of zeroes that were never written to.
    mm.map(space.page(4), 2).unwrap();
    mm.read(space.page(4), 0, &mut [0]).unwrap();
    for n in [4, 5] {
        let pin = mm.pin(space.page(n), Access::Read, Term::Short, unlocked).unwrap();
        assert!(pin.pfn() != 0);
        mm.write(space.page(n), 0, b"late").unwrap();
        assert_eq!(&bytes(mm, pin.pfn()), b"late");
    }

    // A page that may not be written to stays one.
    mm.protect(space.page(5), 1, Some(Rights::Read)).unwrap();
    drop(mm.pin(space.page(5), Access::Read, Term::Long, unlocked).unwrap());
    assert_eq!(mm.write(space.page(5), 0, b"no"), Err(AccessError::NotAllowed));
    settled(mm);
}

/// A fork after the pin: the pinned page stays the parent's, the child gets the copy (I19).
#[test]
fn a_pinned_page_stays_its_space_s_page_across_a_fork() {
    let unlocked = &mut Unlocked::promise();
    let (mm, _) = machine();
    let space = mm.spawn().unwrap();
    let at = written(mm, space, 1);
    for access in [Access::Read, Access::Write] {
        let pin = mm.pin(at, access, Term::Long, unlocked).unwrap();
        let child = mm.fork(space).unwrap();
        mm.write(at, 0, b"parent").unwrap();
        assert_eq!(mm.frame_at(at), Some(pin.pfn()));
        assert_eq!(&bytes(mm, pin.pfn()), b"parent");
        assert_ne!(mm.frame_at(child.page(0)), Some(pin.pfn()));
        mm.exit(child);
    }
    settled(mm);
}

/// A pin of a page on its way waits for that, without a reference or anything else that could stop
/// it (I9, I31), with the entry let go of (I38), and gets the page where it arrives.
#[test]
fn a_pin_waits_out_a_migration_without_disturbing_it() {
    let unlocked = &mut Unlocked::promise();
    let (mm, own) = machine();
    let at = written(mm, mm.spawn().unwrap(), 1);
    let page = mm.page(mm.frame_at(at).unwrap()).unwrap();
    watched(&[page], || {
        let order = Order::to(FAR);
        thread::scope(|s| {
            let mut slots = [Slot::at(at)];
            let collected = collect(mm, &mut slots, &order, unlocked);
            let refs = page.refs();
            let pinners: Vec<_> = [Term::Short, Term::Long, Term::Short]
                .into_iter()
                .map(|term| {
                    s.spawn(move || {
                        mm.pin(at, Access::Write, term, &mut Unlocked::promise()).unwrap()
                    })
                })
                .collect();
            own.until_asleep(3);
            assert_eq!((page.refs(), page.pins()), (refs, 0));
            drop(mm.entry(at));
            let _ = collected.unmap().check().copy().finalize();
            let Outcome::Moved { pfn } = slots[0].outcome() else { panic!("{slots:?}") };
            for pinner in pinners {
                assert_eq!(pinner.join().unwrap().pfn(), pfn);
            }
        });
    });
    check_all(mm, at, 1);
    settled(mm);
}

/// The page is announced to move and its entry is still up: through another mapping the pin finds
/// the page migrating, and waits.
#[test]
fn a_pin_through_another_mapping_waits_as_well() {
    let unlocked = &mut Unlocked::promise();
    let (mm, own) = machine();
    let space = mm.spawn().unwrap();
    let at = written(mm, space, 1);
    let other = space.page(100);
    mm.share(at, other, Area { kind: AreaKind::Shared, rights: Some(Rights::Write) }).unwrap();
    let page = mm.page(mm.frame_at(at).unwrap()).unwrap();
    watched(&[page], || {
        let order = Order::to(FAR);
        thread::scope(|s| {
            let mut slots = [Slot::at(at)];
            let collected = collect(mm, &mut slots, &order, unlocked);
            assert!(is_migrating(mm, at) && !is_migrating(mm, other));
            let pinner = s.spawn(|| {
                mm.pin(other, Access::Write, Term::Short, &mut Unlocked::promise()).unwrap()
            });
            own.until_asleep(1);
            assert_eq!(page.pins(), 0);
            let pinned = mm.pin_within(
                other,
                Access::Write,
                Term::Short,
                within(own, 20),
                &mut Unlocked::promise(),
            );
            let error = pinned.unwrap_err();
            assert!(matches!(error, NotPinned::TimedOut), "{error:?}");
            let _ = collected.unmap().check().copy().finalize();
            assert!(slots[0].outcome().is_done(), "{slots:?}");
            drop(pinner.join().unwrap());
        });
    });
    settled(mm);
}

/// Every way to fail, with the page as it was.
#[test]
fn what_cannot_be_pinned() {
    watched(&[], every_failure);
}

fn every_failure() {
    let unlocked = &mut Unlocked::promise();
    let (mm, own) = machine();
    let space = mm.spawn().unwrap();
    written(mm, space, 8);
    let p = |n| space.page(n);
    let fails = |at: At, access, term| {
        let unlocked = &mut Unlocked::promise();
        mm.pin_within(at, access, term, within(own, 5_000), unlocked).unwrap_err()
    };
    let not_pinned: [(At, PinFailure); 5] = [
        (p(20), NotPinned::NotAllowed),
        (p(usize::MAX), NotPinned::NotAllowed),
        (p(1), NotPinned::Fault(FaultError::Poisoned { pfn: 7 })),
        (p(2), NotPinned::Unsettled(AccessError::Marker(Marker::Guard))),
        (p(3), NotPinned::Unsettled(AccessError::Swapped { slot: 3 })),
    ];
    mm.replace(p(1), Leaf::Poison { pfn: 7 });
    mm.replace(p(2), Leaf::Marker(Marker::Guard));
    mm.replace(p(3), Leaf::Swap { slot: 3, tracking: Default::default() });
    for (at, why) in not_pinned {
        assert_eq!(fails(at, Access::Read, Term::Short), why);
        assert!(!why.to_string().is_empty());
    }
    mm.protect(p(0), 1, Some(Rights::Read)).unwrap();
    assert_eq!(fails(p(0), Access::Write, Term::Short), NotPinned::NotAllowed);
    mm.protect(p(0), 1, None).unwrap();
    assert_eq!(fails(p(0), Access::Read, Term::Short), NotPinned::NotAllowed);

    // No frame for a copy, or to come back to.
    let child = mm.fork(space).unwrap();
    mm.fail_allocations(RAM, 1);
    assert_eq!(
        fails(p(4), Access::Write, Term::Short),
        NotPinned::Unsettled(AccessError::NoMemory)
    );
    mm.fail_allocations(RAM, 1);
    assert_eq!(fails(p(4), Access::Read, Term::Short), NotPinned::Unsettled(AccessError::NoMemory));
    mm.exit(child);
    assert!(move_one(mm, p(4), &Order::to(DEVICE)).is_done());
    mm.fail_allocations(RAM, 1);
    let error = fails(p(4), Access::Write, Term::Long);
    assert_eq!(error, NotPinned::Fault(FaultError::NoMemory));

    // As many pins as can be counted.
    let all: Vec<Pinned<'_, Mm>> =
        (0..MAX_PINS).map(|_| mm.pin(p(5), Access::Read, Term::Short, unlocked).unwrap()).collect();
    assert_eq!(fails(p(5), Access::Read, Term::Short), NotPinned::Overflow);
    drop(all);

    // A page whose lock is somebody's: that is nothing to a pin of a page that is there.
    let guard = mm.page(mm.frame_at(p(6)).unwrap()).unwrap().lock();
    drop(mm.pin(p(6), Access::Write, Term::Short, unlocked).unwrap());
    drop(guard);
    // But a device's has to be waited for, and no longer than that.
    assert!(move_one(mm, p(6), &Order::to(DEVICE)).is_done());
    let guard = mm.page(mm.frame_at(p(6)).unwrap()).unwrap().lock();
    assert_eq!(
        mm.pin_within(p(6), Access::Write, Term::Short, within(own, 20), unlocked).unwrap_err(),
        NotPinned::TimedOut
    );
    let cancel = Cancel::with_futex(own);
    cancel.cancel();
    let limits = Limits::none().unless(&cancel);
    assert_eq!(
        mm.pin_within(p(6), Access::Write, Term::Short, limits, unlocked).unwrap_err(),
        NotPinned::Cancelled
    );
    drop(guard);
    settled(mm);
}

/// A page that cannot be moved to where it may stay: a reference that is never put, a copy that
/// always fails. Each has an end, without a deadline too (I37).
#[test]
fn a_long_pin_of_a_page_that_never_moves_ends() {
    let unlocked = &mut Unlocked::promise();
    struct Away;
    impl PinPolicy<Mm> for Away {
        type Refused = NotPinnable;
        fn permit(
            &self,
            _: &Mm,
            _: At,
            _: &SoftEntry<'_, Own, ThreadCpus>,
            _: Access,
            _: Term,
        ) -> Result<(), NotPinnable> {
            Ok(())
        }
        fn home(&self, _: &Mm, _: TierId) -> Option<TierId> {
            Some(FAR)
        }
    }
    let (mm, own) = machine_with(2);
    let at = written(mm, mm.spawn().unwrap(), 2);
    let pfn = mm.frame_at(at).unwrap();
    let order = |limits| PinOrder::new(Access::Read, Term::Long, limits).patience(30);
    let pin = |limits| {
        pin_page(mm, at, &order(limits), &Away, mm, &mut Unlocked::promise()).map(|pin| pin.pfn())
    };
    mm.get(pfn).unwrap();
    watched(&[mm.page(pfn).unwrap()], || {
        thread::scope(|s| {
            for _ in 0..3 {
                s.spawn(|| {
                    let error = pin(Limits::none()).unwrap_err();
                    let is_typed = match error {
                        NotPinned::NotMoved(outcome) => outcome.is_transient(),
                        NotPinned::Busy { rounds } => rounds == 30,
                        _ => false,
                    };
                    assert!(is_typed, "{error:?}");
                });
            }
        });
        let error =
            pin_page(mm, at, &order(within(own, 10)).patience(u32::MAX), &Away, mm, unlocked)
                .unwrap_err();
        assert_eq!(error, NotPinned::TimedOut);
    });
    // SAFETY: the reference taken above.
    unsafe { mm.put(pfn) };
    mm.fail_copies(FAR, usize::MAX);
    assert_eq!(pin(Limits::none()), Err(NotPinned::NotMoved(Outcome::Aborted(Abort::CopyFailed))));
    mm.fail_copies(FAR, 0);
    mm.set_immovable(true);
    assert!(matches!(
        pin(Limits::none()),
        Err(NotPinned::NotMoved(Outcome::Skipped(Skip::Refused(_))))
    ));
    mm.set_immovable(false);
    // No patience is one round: enough to move, not to pin as well.
    let none = order(Limits::none()).patience(0);
    assert_eq!(
        pin_page(mm, at, &none, &Away, mm, unlocked).unwrap_err(),
        NotPinned::Busy { rounds: 1 }
    );
    assert_eq!(mm.tier(pin(Limits::none()).unwrap()), FAR);
    check_all(mm, at, 2);
    settled(mm);
}

/// A range of pins ends at the first page that cannot be, keeps what it has, and goes on from
/// there.
#[test]
fn a_range_keeps_what_it_has() {
    let unlocked = &mut Unlocked::promise();
    let (mm, _) = machine();
    let space = mm.spawn().unwrap();
    let at = written(mm, space, 6);
    assert!(move_one(mm, space.page(1), &Order::to(DEVICE)).is_done());
    mm.replace(space.page(3), Leaf::Marker(Marker::UffdWp));
    let order = PinOrder::new(Access::Write, Term::Long, Limits::none());
    let policy = Backed(|_| Backing::Anonymous);
    let mut slots: Vec<_> = at.pages(6).map(PinSlot::new).collect();
    let error = pin_range(mm, &mut slots, &order, &policy, mm, unlocked).unwrap_err();
    assert_eq!(
        (error.pinned, error.why),
        (3, NotPinned::Unsettled(AccessError::Marker(Marker::UffdWp)))
    );
    assert!(
        slots[..3].iter().all(|slot| slot.pinned.is_some())
            && slots[3..].iter().all(|slot| slot.pinned.is_none())
    );
    assert_eq!(mm.pin_balance().counted, 3);
    mm.replace(space.page(3), Leaf::None);
    pin_range(mm, &mut slots, &order, &policy, mm, unlocked).unwrap();
    assert_eq!(mm.pin_balance().counted, 6, "those before are not pinned twice");
    pin_range(mm, &mut [], &order, &policy, mm, unlocked).unwrap();
    drop(slots);
    settled(mm);
}

/// A pin outlives everything else: unmapped, the page is the pinner's alone, and free when that is
/// done. One that has no guard is counted until it gets one again.
#[test]
fn a_pin_outlives_the_mapping() {
    let unlocked = &mut Unlocked::promise();
    let (mm, _) = machine();
    let at = written(mm, mm.spawn().unwrap(), 2);
    let free = mm.free_frames(RAM);
    let pin = mm.pin(at, Access::Write, Term::Long, unlocked).unwrap();
    mm.unmap(at, 1).unwrap();
    assert_eq!(mm.free_frames(RAM), free);
    let pfn = pin.into_raw();
    let balance = mm.pin_balance();
    assert!(balance.is_even() && balance.counted == 1, "{balance:?}");
    // SAFETY: the pin just made raw.
    let pin = unsafe { Pinned::from_raw(mm, pfn) }.unwrap();
    // SAFETY: there is no such frame, and so no guard.
    assert!(unsafe { Pinned::from_raw(mm, u64::MAX) }.is_none());
    drop(pin);
    assert_eq!(mm.free_frames(RAM), free + 1);
    settled(mm);

    // An unpin too many, or too few, shows.
    let pin = mm.pin(at.space.page(1), Access::Read, Term::Short, unlocked).unwrap();
    let page = mm.page(pin.pfn()).unwrap();
    // SAFETY: not ours, which is the point; given back below.
    let _ = unsafe { page.unpin_raw() };
    assert!(!mm.pin_balance().is_even());
    page.try_pin().unwrap().into_raw();
    drop(pin);
    settled(mm);
}

/// Pinners, a migrator that plays ping-pong, unmap and fork: while a pin is there the page is where
/// it was pinned, and what the pinner writes past the tables is what the space reads (I17, I19).
#[test]
fn pins_against_everybody() {
    let (mm, own) = machine_with(2);
    let space = mm.spawn().unwrap();
    // Filled before the migrator, who may be the first to run, looks for its frame.
    let at = written(mm, space, 2);
    let stop = AtomicBool::new(false);
    let (pinned, moved) = (AtomicUsize::new(0), AtomicUsize::new(0));
    watched(&[], || {
        thread::scope(|s| {
            let pinners: Vec<_> = (0..3)
                .map(|seed| {
                    let pinned = &pinned;
                    s.spawn(move || {
                        let unlocked = &mut Unlocked::promise();
                        let mut lots = Lots::of(seed);
                        for n in turns(1_500) {
                            let term = if lots.draw(2) == 0 { Term::Long } else { Term::Short };
                            match mm.pin_within(at, Access::Write, term, within(own, 200), unlocked)
                            {
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
                        _ => evict(
                            mm,
                            mm.frame_at(at).unwrap(),
                            &order,
                            within(own, 100),
                            mm,
                            unlocked,
                        ),
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
    });
    assert!(pinned.load(SeqCst) > 0 && moved.load(SeqCst) > 0, "{pinned:?} {moved:?}");
    mm.exit(space);
    mm.batches().drain_local(|_| {});
}

/// A pin against an unmap: one is first. Whoever has the pin has the page, whole, until it is
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
    watched(&[mm.page(pfn).unwrap()], || {
        thread::scope(|s| {
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
    let child = watched(&[mm.page(pfn).unwrap()], || {
        thread::scope(|s| {
            let limits = Limits::none().unless(cancel);
            let evictor = s.spawn(move || {
                evict(mm, pfn, &Order::to(FAR).tries(1), limits, mm, &mut Unlocked::promise())
            });
            own.until_asleep(1);
            let child = mm.fork(space).unwrap();
            cancel.cancel();
            assert_eq!(evictor.join().unwrap(), Outcome::Aborted(Abort::Pinned { pins: 1 }));
            child
        })
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
