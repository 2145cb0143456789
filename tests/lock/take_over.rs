//! After a death: every word that it can leave becomes the stage that its owner was in, and whoever
//! sleeps because of it is woken.

#![cfg(all(feature = "std", target_os = "linux", not(pagelock_shuttle)))]

use crate::common::{own::Own, with_threads};
use core::mem::forget;
use pagelock::word::count::{FROZEN, PINS_SHIFT};
use pagelock::word::state::{LOCKED, MIGRATING, POISONED};
use pagelock::{
    Claim, CountError, FreezeRule, GetError, Limits, PageGuard, PageLock, PinError, Put, TakenOver,
    UserBits, Wake,
};
use std::thread;
use std::time::Duration;

/// A header of these two words, as a dead owner may have left it.
fn left_as(state: u32, count: u32) -> PageLock {
    let page = PageLock::new();
    // SAFETY: a header is two words, and nobody else knows this one.
    unsafe { core::ptr::from_ref(&page).cast_mut().cast::<[u32; 2]>().write([state, count]) };
    page
}

/// The words of a header at rest.
fn words(page: &PageLock) -> [u32; 2] {
    // SAFETY: as above.
    unsafe { core::ptr::from_ref(page).cast::<[u32; 2]>().read_volatile() }
}

/// A live page with `refs` references, which belong to the test.
fn live(refs: u32) -> PageLock {
    let page = PageLock::new();
    page.activate(refs).unwrap();
    page
}

fn stage(taken: Option<&TakenOver<'_>>) -> &'static str {
    match taken {
        None => "none",
        Some(TakenOver::Locked(_)) => "locked",
        Some(TakenOver::Migrating(_)) => "migrating",
        Some(TakenOver::Frozen(_)) => "frozen",
        Some(TakenOver::Poisoning(_)) => "poisoning",
        Some(_) => "?",
    }
}

/// LOCKED, MIGRATING, POISONED, FROZEN, pins: the stage, and whether the page is poisoned once it
/// is ended.
const LEFT: [(u32, u32, &str, bool); 14] = [
    (0, 0, "none", false),
    (POISONED, FROZEN, "none", true),
    (LOCKED, 0, "locked", false),
    (LOCKED, 1 << PINS_SHIFT, "locked", false),
    (LOCKED | POISONED, FROZEN, "locked", true),
    (LOCKED | MIGRATING, 0, "migrating", false),
    (LOCKED | MIGRATING, 1 << PINS_SHIFT, "migrating", false),
    // A wait for pins ends with its waiter.
    (LOCKED | MIGRATING, FROZEN | 1 << PINS_SHIFT, "migrating", false),
    (LOCKED | MIGRATING, FROZEN | 2 << PINS_SHIFT, "migrating", false),
    (LOCKED | MIGRATING, FROZEN, "frozen", false),
    // Of a poisoned page, whose counts are frozen for good, nothing can be frozen.
    (LOCKED | MIGRATING | POISONED, FROZEN, "migrating", true),
    (LOCKED | MIGRATING | POISONED, FROZEN | 1 << PINS_SHIFT, "migrating", true),
    // In the middle of being poisoned, or unpoisoned.
    (LOCKED, FROZEN, "poisoning", true),
    (LOCKED, FROZEN | 1 << PINS_SHIFT, "poisoning", true),
];

#[test]
fn every_word_that_a_death_can_leave_becomes_its_stage() {
    for (state, count, expected, poisoned) in LEFT {
        for refs in [0, 1, 7] {
            let page = left_as(state, count | refs);
            let before = words(&page);
            // SAFETY: nobody has the page.
            let taken = unsafe { page.take_over() };
            assert_eq!(stage(taken.as_ref()), expected, "{page:?}");
            if let Some(taken) = &taken {
                assert!(core::ptr::eq(taken.page(), &page));
                assert!(format!("{taken:?}").contains("PageLock"), "{taken:?}");
            } else {
                assert_eq!(words(&page), before, "nothing was taken over");
            }
            drop(taken);
            // Ended: in use again, or known to be lost, and nothing was lost of the counts.
            assert!(
                !page.is_locked() && !page.is_migrating() && !page.is_frozen(),
                "{expected}: {page:?}"
            );
            assert_eq!((page.is_poisoned(), page.refs()), (poisoned, refs), "{expected}: {page:?}");
            assert_eq!(page.pins() << PINS_SHIFT, count & !FROZEN, "{expected}: {page:?}");
            assert_eq!(words(&page)[1] & FROZEN != 0, poisoned, "{expected}: {page:?}");
            drop(page.try_lock().expect("it can be had"));
        }
    }
}

/// The stage that was taken over is one like any other: it can go on where the dead have stopped.
#[test]
fn a_stage_that_was_taken_over_can_go_on() {
    let page = live(1);
    forget(page.lock().begin_migration().freeze(FreezeRule::ExactRefs(1)).unwrap());
    // SAFETY: its owner has forgotten it, here and below.
    let Some(TakenOver::Frozen(frozen)) = (unsafe { page.take_over() }) else { panic!("{page:?}") };
    frozen.commit_in_place();

    forget(page.lock().begin_migration());
    // SAFETY: as above.
    let Some(TakenOver::Migrating(migration)) = (unsafe { page.take_over() }) else {
        panic!("{page:?}")
    };
    drop(migration.freeze(FreezeRule::ExactRefs(1)).unwrap().thaw().cancel());

    let page = left_as(LOCKED, FROZEN | 1);
    // SAFETY: nobody has it.
    let Some(TakenOver::Poisoning(poisoning)) = (unsafe { page.take_over() }) else {
        panic!("{page:?}")
    };
    drop(poisoning.thaw());
    assert!(!page.is_poisoned() && page.try_pin().is_ok(), "its contents were good after all");
}

const STEPS: [&str; 6] = [
    "counted there",
    "taken from here",
    "bits there",
    "thawed",
    "bits cleared",
    "destination released",
];

/// A commit to another header that has died at any step: taken over, and finished as the
/// documentation says.
#[test]
fn a_commit_that_died_can_be_finished() {
    const REFS: u32 = 2;
    let bits = UserBits::new(3);
    for (died, step) in STEPS.iter().enumerate() {
        let at = |name| STEPS[..=died].contains(&name);
        let (src, dst) = (live(REFS), PageLock::new());
        let mut held = dst.lock();
        src.lock().set_user(bits);
        let mut frozen =
            Some(src.lock().begin_migration().freeze(FreezeRule::ExactRefs(REFS)).unwrap());
        dst.activate(REFS).unwrap();
        if at("taken from here") {
            // SAFETY: the two that `live` made.
            let _ = unsafe { (src.put_raw(), src.put_raw()) };
        }
        if at("bits there") {
            held.set_user(bits);
        }
        let mut migration = at("thawed").then(|| frozen.take().unwrap().thaw());
        if at("bits cleared") {
            migration.as_mut().unwrap().set_user(UserBits::default());
        }
        if at("destination released") {
            drop(held);
        } else {
            forget(held);
        }
        forget((frozen, migration));

        // SAFETY: both owners have forgotten them.
        let there = match unsafe { dst.take_over() } {
            Some(TakenOver::Locked(guard)) => Some(guard),
            None => None,
            other => panic!("{step}: {other:?}"),
        };
        // SAFETY: as above.
        match unsafe { src.take_over() } {
            Some(TakenOver::Frozen(frozen)) => {
                while src.refs() > 0 {
                    // SAFETY: counted twice.
                    let _ = unsafe { src.put_raw() };
                }
                let _ = frozen.commit_to(there.unwrap()).unwrap();
            }
            Some(TakenOver::Migrating(mut migration)) => {
                migration.set_user(UserBits::default());
                drop((there, migration));
            }
            other => panic!("{step}: {other:?}"),
        }
        assert_eq!(
            (src.refs(), src.user(), src.is_locked()),
            (0, UserBits::default(), false),
            "{step}"
        );
        assert_eq!((dst.refs(), dst.user(), dst.is_locked()), (REFS, bits, false), "{step}");
        src.activate(1).expect("it can be used again");
    }
}

/// The release has happened, and the releaser died before it woke anybody. Others take the page and
/// let go of it meanwhile, which wakes nobody either.
#[test]
fn whoever_sleeps_for_a_release_that_died_is_woken() {
    let own = Own::new(4);
    let page = PageLock::with_futex(own);
    with_threads(&[&page], |s| {
        let owner = page.lock();
        let waiter = s.spawn(|| page.wait_unlocked(()));
        let locker = s.spawn(|| drop(page.lock()));
        own.until_asleep(2);
        own.set_deaf(true);
        drop(owner);
        own.set_deaf(false);
        for _ in 0..1000 {
            drop(page.try_lock());
        }
        thread::sleep(Duration::from_millis(20));
        assert!(!waiter.is_finished() && !locker.is_finished(), "they have lost their wakes");
        // SAFETY: this thread does not own the page.
        unsafe { page.retell() };
        assert_eq!(waiter.join().unwrap(), Wake::Released);
        locker.join().unwrap();
    });
}

/// The same while another thread owns the page already: its release has nobody to wake but
/// for this.
#[test]
fn a_release_that_died_is_told_again_under_the_next_owner() {
    let own = Own::new(4);
    let page = PageLock::with_futex(own);
    with_threads(&[&page], |s| {
        let owner = page.lock();
        let locker = s.spawn(|| drop(page.lock()));
        own.until_asleep(1);
        own.set_deaf(true);
        drop(owner);
        own.set_deaf(false);
        let next = page.try_lock().expect("free");
        // SAFETY: nobody's `tell` waits for this page.
        unsafe { page.retell() };
        thread::sleep(Duration::from_millis(20));
        assert!(!locker.is_finished());
        drop(next);
        locker.join().unwrap();
    });
}

/// The last unpin was counted, and its caller died before it told the migrator.
#[test]
fn a_migrator_that_waits_for_an_unpin_that_died_is_woken() {
    let own = Own::new(4);
    let page = PageLock::with_futex(own);
    page.activate(1).unwrap();
    with_threads(&[&page], |s| {
        let pin = page.try_pin().unwrap();
        let migrator = s.spawn(|| page.lock().begin_migration().wait_unpinned(Limits::none()));
        own.until_asleep(1);
        own.set_deaf(true);
        // What the bump of the sequence does without its wake, a death before the bump does as
        // well.
        assert_eq!(pin.unpin(), Put::Kept);
        own.set_deaf(false);
        thread::sleep(Duration::from_millis(20));
        assert!(!migrator.is_finished());
        // SAFETY: this thread does not own the page.
        unsafe { page.retell() };
        migrator.join().unwrap().unwrap();
    });
}

/// A process that knows of it gives back what the dead one had.
#[test]
fn counts_of_the_dead_are_given_back() {
    let page = live(1);
    forget((page.try_get().unwrap(), page.try_pin().unwrap()));
    assert!(page.lock().begin_migration().freeze(FreezeRule::ExactRefs(1)).is_err());
    // SAFETY: those of the dead.
    assert_eq!(unsafe { (page.put_raw(), page.unpin_raw()) }, (Put::Kept, Put::Kept));
    page.lock().begin_migration().freeze(FreezeRule::ExactRefs(1)).unwrap().commit_in_place();
}

#[test]
fn memory_that_starts_a_new_life_is_as_new() {
    let page = live(3);
    forget(page.try_pin().unwrap());
    page.lock().poison();
    let mut guard = page.lock();
    // SAFETY: nobody has anything of the old life: the test knows all of it.
    unsafe { guard.unpoison() };
    assert!(!guard.is_poisoned() && page.is_locked());
    drop(guard);
    assert_eq!((page.refs(), page.pins(), page.is_frozen()), (0, 0, false), "{page:?}");
    assert_eq!(page.try_get().unwrap_err(), GetError::Free);
    assert_eq!(page.try_pin().unwrap_err(), PinError::Free);
    assert_eq!(page.wait_unlocked(()), Wake::NotLocked);
    assert!(matches!(page.claim(), Claim::Owner(_)));
    page.activate(1).unwrap();
    page.lock().begin_migration().freeze(FreezeRule::ExactRefs(1)).unwrap().commit_in_place();
    assert_eq!(page.activate(1).unwrap_err(), CountError::Live { refs: 1, pins: 0 });
}

/// To a page that is not poisoned it does nothing: its references are not struck out.
#[test]
fn a_page_that_is_not_poisoned_is_not_unpoisoned() {
    let page = live(2);
    let mut guard: PageGuard<'_> = page.lock();
    // SAFETY: there is nothing of an old life.
    unsafe { guard.unpoison() };
    drop(guard);
    assert_eq!(page.refs(), 2);
}
