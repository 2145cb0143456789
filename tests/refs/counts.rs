//! References and pins: every refusal, that it says what was seen and changes nothing, and who is
//! told that it was the last (I9, I15, I20).

use crate::common::{rounds, with_threads};
use core::sync::atomic::{AtomicU32, Ordering::SeqCst};
use pagelock::{
    CountError, FreezeRule, GetError, MAX_PINS, MAX_REFS, PageLock, PagePin, PageRef, PinError, Put,
};
use std::sync::Barrier;

/// A page with `refs` references, which belong to the test.
fn live(refs: u32) -> PageLock {
    let page = PageLock::new();
    page.activate(refs).unwrap();
    page
}

/// `attempt` fails with `error`, whose text has all of `says`, and `page` is as it was.
fn refuses<T: core::fmt::Debug, E>(
    page: &PageLock,
    attempt: impl FnOnce() -> Result<T, E>,
    error: E,
    says: &[&str],
) where
    E: core::error::Error + PartialEq,
{
    let before = format!("{page:?}");
    let seen = attempt().expect_err("should be refused");
    assert_eq!(format!("{page:?}"), before, "after {seen:?}");
    assert!(seen == error, "{seen:?} instead of {error:?}");
    let text = seen.to_string();
    assert!(says.iter().all(|s| text.contains(s)), "{text:?} does not say {says:?}");
}

#[test]
fn a_page_is_free_until_it_is_made_live() {
    let page = PageLock::new();
    assert_eq!((page.refs(), page.pins()), (0, 0));
    refuses(&page, || page.try_get(), GetError::Free, &["free"]);
    refuses(&page, || page.try_pin(), PinError::Free, &["free"]);
    page.activate(2).unwrap();
    assert_eq!((page.refs(), page.pins()), (2, 0));
    let (reference, pin) = (page.try_get().unwrap(), page.try_pin().unwrap());
    assert_eq!((page.refs(), page.pins()), (3, 1));
    assert!(core::ptr::eq(reference.page(), &page) && core::ptr::eq(pin.page(), &page));
    drop(reference);
    drop(pin);
    assert_eq!((page.refs(), page.pins()), (2, 0));
}

#[test]
fn making_a_page_live_is_refused_with_none_or_too_many_references() {
    let page = PageLock::new();
    refuses(&page, || page.activate(0), CountError::Zero, &["at least one", "0"]);
    for asked in [MAX_REFS + 1, u32::MAX] {
        let says = [asked.to_string(), MAX_REFS.to_string()];
        let error = CountError::Overflow { have: 0, asked };
        refuses(&page, || page.activate(asked), error, &[&says[0], &says[1]]);
    }
    page.activate(MAX_REFS).unwrap();
    assert_eq!(page.refs(), MAX_REFS);
}

#[test]
fn making_a_live_page_live_is_refused() {
    let page = live(3);
    let pin = page.try_pin().unwrap();
    refuses(
        &page,
        || page.activate(1),
        CountError::Live { refs: 3, pins: 1 },
        &["live", "3 references", "1 pins"],
    );
    // A pin alone keeps a page live.
    // SAFETY: the three that `live` made.
    (0..3).for_each(|_| assert_eq!(unsafe { page.put_raw() }, Put::Kept));
    refuses(
        &page,
        || page.activate(1),
        CountError::Live { refs: 0, pins: 1 },
        &["0 references", "1 pins"],
    );
    assert_eq!(pin.unpin(), Put::Last);
    page.activate(1).unwrap();
}

#[test]
fn a_frozen_free_page_cannot_be_made_live() {
    let page = PageLock::new();
    let frozen = page.lock().begin_migration().freeze(FreezeRule::ExactRefs(0)).unwrap();
    refuses(&page, || page.activate(1), CountError::Frozen, &["frozen"]);
    drop(frozen);
    page.activate(1).unwrap();
}

#[test]
fn nothing_new_is_given_of_a_poisoned_page() {
    let page = live(2);
    page.lock().poison();
    refuses(&page, || page.try_get(), GetError::Poisoned, &["poisoned"]);
    refuses(&page, || page.try_pin(), PinError::Poisoned, &["poisoned"]);
    refuses(&page, || page.activate(1), CountError::Poisoned, &["poisoned"]);
    // What there was can be given back.
    // SAFETY: the two that `live` made.
    assert_eq!(unsafe { [page.put_raw(), page.put_raw()] }, [Put::Kept, Put::Last]);
    refuses(&page, || page.activate(1), CountError::Poisoned, &["poisoned"]);
}

#[test]
fn a_migrating_page_gives_references_and_no_pins() {
    let page = live(1);
    let migration = page.lock().begin_migration();
    refuses(&page, || page.try_pin(), PinError::Migrating, &["migrated"]);
    assert_eq!(page.try_get().unwrap().put(), Put::Kept);
    drop(migration.cancel());
    assert!(page.try_pin().is_ok());
}

#[test]
fn a_frozen_page_gives_neither() {
    let page = live(1);
    let frozen = page.lock().begin_migration().freeze(FreezeRule::Unpinned).unwrap();
    refuses(&page, || page.try_get(), GetError::Frozen, &["frozen"]);
    refuses(&page, || page.try_pin(), PinError::Frozen, &["frozen"]);
    frozen.commit_in_place();
    assert!(page.try_get().is_ok() && page.try_pin().is_ok());
}

#[test]
fn a_locked_page_gives_both() {
    let page = live(1);
    let _guard = page.lock();
    assert!(page.try_get().is_ok() && page.try_pin().is_ok());
}

#[test]
fn one_reference_more_than_can_be_counted_is_refused() {
    let page = live(MAX_REFS - 1);
    let last = page.try_get().unwrap();
    assert_eq!(page.refs(), MAX_REFS);
    refuses(&page, || page.try_get(), GetError::Overflow, &[&MAX_REFS.to_string()]);
    refuses(&page, || last.try_clone(), GetError::Overflow, &[&MAX_REFS.to_string()]);
    // Pins have room of their own.
    assert_eq!(page.try_pin().unwrap().unpin(), Put::Kept);
    drop(last);
    assert!(page.try_get().is_ok());
}

#[test]
fn one_pin_more_than_can_be_counted_is_refused() {
    let page = live(1);
    let mut pins: Vec<_> = (0..MAX_PINS).map(|_| page.try_pin().unwrap()).collect();
    assert_eq!((page.refs(), page.pins()), (1, MAX_PINS));
    refuses(&page, || page.try_pin(), PinError::Overflow, &[&MAX_PINS.to_string()]);
    assert!(!page.is_frozen(), "the field has not reached into its neighbour");
    let reference = page.try_get().unwrap();
    drop(pins.pop());
    assert!(page.try_pin().is_ok());
    drop((pins, reference));
    assert_eq!((page.refs(), page.pins()), (1, 0));
}

#[test]
fn references_and_pins_can_be_raw() {
    let page = live(1);
    let same = page.try_get().unwrap().into_raw();
    assert!(core::ptr::eq(same, &page));
    assert!(core::ptr::eq(page.try_pin().unwrap().into_raw(), &page));
    assert_eq!((page.refs(), page.pins()), (2, 1));
    // SAFETY: the three that were made above, once each.
    unsafe {
        assert_eq!(PageRef::from_raw(&page).put(), Put::Kept);
        assert_eq!(page.put_raw(), Put::Kept);
        assert_eq!(PagePin::from_raw(&page).unpin(), Put::Last);
    }
    page.activate(1).unwrap();
    page.try_pin().unwrap().into_raw();
    // SAFETY: the two that were made above.
    unsafe {
        assert_eq!(page.unpin_raw(), Put::Kept);
        assert_eq!(page.put_raw(), Put::Last);
    }
}

#[test]
fn the_last_is_said_exactly_once_among_many_threads() {
    const THREADS: u32 = 4;
    const EACH: u32 = 2;
    for round in 0..rounds(400) {
        let page = live(THREADS * EACH - 1);
        let last = AtomicU32::new(0);
        let start = Barrier::new(THREADS as usize);
        let pin = page.try_pin().unwrap().into_raw();
        with_threads(&[&page], |s| {
            for t in 0..THREADS {
                let (page, last, start) = (&page, &last, &start);
                s.spawn(move || {
                    start.wait();
                    for i in 0..EACH {
                        // SAFETY: as many as there are: one pin, and the rest are references.
                        let put = unsafe {
                            if (t, i) == (0, 0) { pin.unpin_raw() } else { page.put_raw() }
                        };
                        last.fetch_add((put == Put::Last).into(), SeqCst);
                    }
                });
            }
        });
        assert_eq!(last.into_inner(), 1, "round {round}");
        assert_eq!((page.refs(), page.pins()), (0, 0));
        page.activate(1).unwrap();
    }
}

#[test]
fn gets_and_puts_of_many_threads_balance() {
    const THREADS: usize = 4;
    let page = live(1);
    with_threads(&[&page], |s| {
        for _ in 0..THREADS {
            s.spawn(|| {
                for _ in 0..rounds(5_000) {
                    let (reference, pin) = (page.try_get().unwrap(), page.try_pin().unwrap());
                    let clone = reference.try_clone().unwrap();
                    assert_eq!(pin.unpin(), Put::Kept);
                    drop((reference, clone));
                }
            });
        }
    });
    assert_eq!((page.refs(), page.pins()), (1, 0));
}

/// An unbalanced put or unpin, which only a broken promise of an unsafe call can make, changes
/// nothing, and is not said to be the last.
#[test]
fn a_put_or_unpin_too_many_changes_nothing() {
    let quietly = |release: &dyn Fn() -> Put| {
        // A debug build panics, once it has found that there is nothing to give back.
        if let Ok(put) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(release)) {
            assert_eq!(put, Put::Kept);
        }
    };
    for (refs, pins) in [(0, 0), (0, 1), (0, 3), (1, 0), (5, 0)] {
        let page = live(refs + 1);
        (0..pins).for_each(|_| _ = page.try_pin().unwrap().into_raw());
        // SAFETY: one of those that `live` made.
        let _ = unsafe { page.put_raw() };
        let before = format!("{page:?}");
        if refs == 0 {
            // SAFETY: none; that is the point.
            quietly(&|| unsafe { page.put_raw() });
        }
        if pins == 0 {
            // SAFETY: as above.
            quietly(&|| unsafe { page.unpin_raw() });
        }
        assert_eq!(format!("{page:?}"), before);
    }
}

/// A reference or a pin that its guard drops, and that was the last, is told to the platform, with
/// the page's address and once. A caller that asks for the answer has it, and the platform is not
/// told.
#[test]
fn a_last_reference_that_its_guard_drops_reaches_the_platform() {
    use core::sync::atomic::AtomicUsize;
    use pagelock::OsFutex;
    use pagelock::futex::Adapt;

    static TOLD: [AtomicUsize; 2] = [const { AtomicUsize::new(0) }; 2];
    #[derive(Clone, Copy)]
    struct Frees;
    impl Adapt for Frees {
        type Base = OsFutex;
        fn base(&self) -> &OsFutex {
            &OsFutex
        }
        fn last_put(&self, page: usize) {
            TOLD[0].fetch_add(1, SeqCst);
            TOLD[1].store(page, SeqCst);
        }
    }
    let page = PageLock::with_futex(Frees);
    let told = || (TOLD[0].load(SeqCst), TOLD[1].load(SeqCst) == (&raw const page).addr());
    page.activate(1).unwrap();
    let (reference, pin) = (page.try_get().unwrap(), page.try_pin().unwrap());
    // SAFETY: the one that the page was made with.
    assert_eq!(unsafe { page.put_raw() }, Put::Kept);
    drop(reference);
    assert_eq!(told(), (0, false), "there is a pin");
    drop(pin);
    assert_eq!(told(), (1, true));
    page.activate(1).unwrap();
    // SAFETY: as above.
    drop(unsafe { PageRef::from_raw(&page) });
    assert_eq!(told(), (2, true));
    page.activate(1).unwrap();
    // SAFETY: as above.
    assert_eq!(unsafe { PageRef::from_raw(&page) }.put(), Put::Last);
    assert_eq!(told().0, 2, "it was answered");
}

/// A debug build notices a release that nothing was taken for, before it does anything.
#[cfg(debug_assertions)]
mod unbalanced {
    use super::*;
    use crate::common::panic_of;
    use pagelock::{Frozen, Migration, PageGuard};

    /// `release` panics with a text that says so, and `page` is as it was.
    fn is_noticed(page: &PageLock, says: &str, release: impl FnOnce()) {
        let before = format!("{page:?}");
        let text = panic_of(release);
        assert!(text.contains(says), "{text:?} does not say {says:?}");
        assert!(text.contains(&before), "{text:?} does not show {before:?}");
        assert_eq!(format!("{page:?}"), before);
    }

    #[test]
    fn a_put_too_many_is_noticed() {
        let page = PageLock::new();
        // SAFETY: none; that is the point. A debug build stops before anything happens.
        is_noticed(&page, "without references", || _ = unsafe { page.put_raw() });
        // SAFETY: as above.
        is_noticed(&page, "without references", || drop(unsafe { PageRef::from_raw(&page) }));
    }

    /// A commit moves a reference that has a guard, against its contract. As
    /// long as the header is not live again, that is noticed.
    #[test]
    fn a_put_of_what_has_moved_is_noticed() {
        let (src, dst) = (live(1), PageLock::new());
        let guarded = src.try_get().unwrap();
        let frozen = src.lock().begin_migration().freeze(FreezeRule::ExactRefs(2)).unwrap();
        // SAFETY: not all of it holds: one of them has a guard.
        assert_eq!(unsafe { frozen.commit_to_moving(dst.lock(), 2) }.unwrap().source, Put::Last);
        let text = panic_of(|| drop(guarded));
        assert!(text.contains("without references"), "{text}");
        assert_eq!((src.refs(), dst.refs()), (0, 2), "and nothing has changed");
    }

    #[test]
    fn an_unpin_too_many_is_noticed() {
        let page = live(1);
        // SAFETY: none; that is the point. A debug build stops before anything happens.
        is_noticed(&page, "without pins", || _ = unsafe { page.unpin_raw() });
        // SAFETY: as above.
        is_noticed(&page, "without pins", || drop(unsafe { PagePin::from_raw(&page) }));
    }

    #[test]
    fn an_unlock_too_many_is_noticed() {
        let page = PageLock::new();
        // SAFETY: none; that is the point. A debug build stops before anything happens.
        is_noticed(&page, "not locked", || drop(unsafe { PageGuard::from_raw(&page) }));
        let hold = page.lock().into_raw();
        // SAFETY: this hold is ours.
        drop(unsafe { PageGuard::from_raw_of(&page, hold) });
        assert!(!page.is_locked());
    }

    #[test]
    fn a_stale_unlock_is_noticed() {
        let page = PageLock::new();
        let stale = page.lock().into_raw();
        // SAFETY: this hold is ours.
        drop(unsafe { PageGuard::from_raw_of(&page, stale) });
        let _somebody_elses = page.lock();
        // SAFETY: none; the hold is over. A debug build stops before anything happens.
        is_noticed(&page, "stale", || drop(unsafe { PageGuard::from_raw_of(&page, stale) }));
    }

    #[test]
    fn the_end_of_a_migration_that_never_began_is_noticed() {
        let page = live(1);
        let guard = page.lock();
        // SAFETY: none; that is the point. A debug build stops before anything happens.
        is_noticed(&page, "not migrating", || drop(unsafe { Migration::from_raw(&page) }));
        guard.begin_migration().freeze(FreezeRule::ExactRefs(1)).unwrap().into_raw();
        // SAFETY: made raw just now.
        let migration = unsafe { Frozen::from_raw(&page) }.thaw();
        // SAFETY: none; it was used already.
        is_noticed(&page, "not frozen", || drop(unsafe { Frozen::from_raw(&page) }));
        drop(migration);
    }
}
