//! Pins over page tables, and a migrator that must win against them: a pinned page is never moved,
//! shared or copied away from its pinner, and pin against unmap, fork or migration has one winner
//! (I19); whether a page is pinned is known exactly (I20); a lost page is an error and no wait
//! (I25); whatever is waited for ends (I29, I37), and holds no lock (I38).

#![cfg(target_os = "linux")]

use crate::common::{
    machine::{DEVICE, FAR, Mm, RAM, check_all, is_migrating, machine, move_one, written},
    own::{Own, within},
    watched,
};
use pagelock::Limits;
use pagelock::leaf::{Leaf, Marker, Rights};
use pagelock::mm::drain::{ThreadCpus, Unlocked};
use pagelock::mm::migrate::{Order, Outcome, Skip, Slot, collect};
use pagelock::mm::pin::{
    Backing, NotPinnable, NotPinned, PinOrder, PinPolicy, PinSlot, Pinned, Term, long_term,
    pin_page, pin_range,
};
use pagelock::mm::{Access, Tiers};
use pagelock_soft::{
    AccessError, Area, AreaKind, At, Backed, Config, Kind, Soft, SoftEntry, TierConfig, TierId,
};
use std::thread;

pub(crate) fn bytes<const N: usize>(mm: &Mm, pfn: u64) -> [u8; N] {
    let mut bytes = [0; N];
    mm.read_frame(pfn, 0, &mut bytes);
    bytes
}

/// After everything: no pin is lost, every reference has its owner.
#[track_caller]
pub(crate) fn settled(mm: &Mm) {
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
