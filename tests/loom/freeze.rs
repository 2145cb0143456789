//! A freeze against gets, pins, puts and unpins.

use crate::counts::live;
use crate::{DEAF, Page, explore, explore_with, misused, on};
use pagelock::{FreezeRule, GetError, UserBits};

/// A pin against the freeze: the pinner's access and the copy never overlap, and the copy sees all
/// that was written.
#[test]
fn a_pin_against_a_freeze() {
    explore_with(3, || {
        let page = live(1);
        let pinner = on(&page, |page| match page.lock.try_pin() {
            Ok(pin) => {
                page.add();
                drop(pin);
                true
            }
            Err(_) => false,
        });
        let migration = page.lock.lock().begin_migration();
        match migration.freeze(FreezeRule::Unpinned) {
            Ok(frozen) => {
                page.add();
                frozen.commit_in_place();
                pinner.join().unwrap();
            }
            Err(busy) => {
                assert_eq!(busy.pins(), 1);
                drop(busy);
                assert!(pinner.join().unwrap());
            }
        }
        assert!(!page.lock.is_frozen() && page.lock.pins() == 0);
    });
}

/// The same with a reference under the rule that counts references, and with two holders.
#[test]
fn a_reference_against_a_freeze() {
    explore(|| {
        let page = live(1);
        let holder = |page: &Page| {
            if let Ok(reference) = page.lock.try_get() {
                page.read();
                drop(reference);
            }
        };
        let (a, b) = (on(&page, holder), on(&page, holder));
        let migration = page.lock.lock().begin_migration();
        match migration.freeze(FreezeRule::ExactRefs(1)) {
            Ok(frozen) => {
                page.add();
                frozen.commit_in_place();
            }
            Err(busy) => assert!(busy.refs() > 1),
        }
        a.join().unwrap();
        b.join().unwrap();
        assert_eq!(page.lock.refs(), 1);
    });
}

/// Two migrators in a row, and a holder that can only have been before, between, or after.
#[test]
fn a_pin_between_two_migrations() {
    explore(|| {
        let page = live(1);
        let migrate = |page: &Page| {
            if let Ok(frozen) = page.lock.lock().begin_migration().freeze(FreezeRule::Unpinned) {
                page.add();
                drop(frozen);
            }
        };
        let a = on(&page, migrate);
        let b = on(&page, |page: &Page| {
            if let Ok(pin) = page.lock.try_pin() {
                page.read();
                drop(pin);
            }
        });
        migrate(&page);
        a.join().unwrap();
        b.join().unwrap();
        page.assert_idle();
    });
}

/// A get against freeze and thaw, of a page whose only reference the migrator counts on.
#[test]
fn a_get_against_a_freeze_sees_before_or_after() {
    explore_with(3, || {
        let page = live(1);
        let getter = on(&page, |page| match page.lock.try_get() {
            Ok(reference) => {
                let seen = page.read();
                drop(reference);
                seen
            }
            Err(e) => {
                assert_eq!(e, GetError::Frozen);
                0
            }
        });
        let moved = match page.lock.lock().begin_migration().freeze(FreezeRule::ExactRefs(1)) {
            Ok(frozen) => {
                page.add();
                frozen.commit_in_place();
                true
            }
            Err(busy) => {
                assert_eq!((busy.refs(), busy.pins()), (2, 0));
                false
            }
        };
        assert!(getter.join().unwrap() <= u32::from(moved));
    });
}

/// References that move to another header: a get of the new page sees what the migrator copied
/// there.
#[test]
fn references_move_with_the_data() {
    explore_with(3, || {
        let (src, there) = (live(1), Page::<0>::new());
        let getter = on(&there, |page| {
            if let Ok(reference) = page.lock.try_get() {
                assert_eq!(page.read(), 1);
                drop(reference);
            }
        });
        let guard = there.lock.lock();
        let frozen = src.lock.lock().begin_migration().freeze(FreezeRule::ExactRefs(1)).unwrap();
        there.add();
        // SAFETY: the reference that the page was made with.
        let _ = unsafe { frozen.commit_to_moving(guard, 1) }.unwrap();
        getter.join().unwrap();
        assert_eq!((src.lock.refs(), there.lock.refs()), (0, 1));
    });
}

/// A copy that fails halfway: nobody gets the page between that and its being known as poisoned.
#[test]
fn lost_contents_are_never_got() {
    explore_with(3, || {
        let page = live(1);
        let getter = on(&page, |page| {
            if let Ok(reference) = page.lock.try_get() {
                assert_eq!(page.read(), 0, "got lost contents");
                drop(reference);
            }
        });
        let migration = page.lock.lock().begin_migration();
        if let Ok(frozen) = migration.freeze(FreezeRule::ExactRefs(1)) {
            page.add();
            frozen.poison();
        }
        getter.join().unwrap();
    });
}

/// An unpin of a pin that is not there: the counts of a frozen page do not move.
#[test]
fn an_unpin_too_many_thaws_nothing() {
    explore_with(3, || {
        let page = live(1);
        let frozen = page.lock.lock().begin_migration().freeze(FreezeRule::Unpinned).unwrap();
        // SAFETY: none; that is the point.
        let stale = on(&page, |page| misused(|| unsafe { page.lock.unpin_raw() }));
        assert_eq!(page.lock.try_get().map(drop), Err(GetError::Frozen));
        stale.join().unwrap();
        frozen.commit_in_place();
        assert_eq!((page.lock.refs(), page.lock.pins()), (1, 0));
    });
}

/// The order in which a commit ends its source, which tells a survivor of a death in between what
/// is left to do: as long as the source is frozen, it has its bits.
#[test]
fn a_source_without_its_bits_is_not_frozen() {
    explore_with(3, || {
        let (src, dst) = (live(1), Page::<0>::new());
        src.lock.lock().set_user(UserBits::new(1));
        let frozen = src.lock.lock().begin_migration().freeze(FreezeRule::Unpinned).unwrap();
        let survivor = on(&src, |page| {
            let bits = page.lock.user();
            assert!(bits == UserBits::new(1) || !page.lock.is_frozen());
        });
        let _ = frozen.commit_to(dst.lock.lock()).unwrap();
        survivor.join().unwrap();
        assert_eq!(dst.lock.user(), UserBits::new(1));
    });
}

/// A release whose caller dies before it has woken anybody, and is told again: nobody sleeps on.
#[test]
fn a_release_that_dies_is_told_again() {
    explore(|| {
        let page = Page::<0>::new();
        let guard = page.lock.lock();
        let locker = on(&page, |page| {
            let guard = page.lock.lock();
            page.add();
            drop(guard);
        });
        let waiter = on(&page, |page| _ = page.lock.wait_unlocked(()));
        DEAF.set(true);
        drop(guard);
        DEAF.set(false);
        // SAFETY: this thread does not own the page.
        unsafe { page.lock.retell() };
        locker.join().unwrap();
        waiter.join().unwrap();
        page.assert_idle();
    });
}
