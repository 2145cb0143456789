//! Owning a page, by eight threads in every way there is.

use crate::{In, Page, THREADS, below, explore, in_threads};
use pagelock::futex::MonotonicTime;
use pagelock::{Cancel, Claim, FreezeRule, Limits, PageGuard};
use std::sync::Arc;

/// Limits that the futex reaches now and then.
fn soon<'c>() -> Limits<'c, In> {
    Limits::none().until(MonotonicTime::MAX)
}

/// One step of a program that is drawn anew for each thread of each schedule. Says whether the
/// thread owned the page.
fn own(page: &Page, switch: &Cancel<In>) -> bool {
    let guard = match below(11) {
        0 => page.lock.try_lock(),
        1 => page.lock.lock_within(soon()).ok(),
        2 => page.lock.lock_within(Limits::none().unless(switch)).ok(),
        3 => page.lock.lock_within(soon().unless(switch)).ok(),
        4 => Some(page.lock.lock_releasing(())),
        5 => page.lock.lock_releasing_within((), soon()).ok(),
        6 => page.lock.lock_releasing_within((), Limits::none().unless(switch)).ok(),
        7 => match page.lock.claim() {
            Claim::Owner(guard) => Some(guard),
            _ => None,
        },
        8 => match page.lock.claim_told() {
            Claim::Owner(guard) => Some(guard),
            _ => None,
        },
        _ => Some(page.lock.lock()),
    };
    let Some(guard) = guard else { return false };
    page.touch();
    match below(5) {
        0 => _ = guard.unlock_fair(),
        1 => _ = guard.begin_migration().abort(),
        2 => drop(guard.begin_migration().cancel()),
        3 => {
            let hold = guard.into_raw();
            // SAFETY: the guard was turned raw just now.
            drop(unsafe { PageGuard::from_raw_of(&page.lock, hold) });
        }
        _ => drop(guard),
    }
    true
}

/// One owner at a time, nobody stranded, and nothing left behind: with more lockers than can be
/// counted as sleepers.
#[test]
fn eight_threads_own_a_page_in_every_way() {
    explore(|| {
        let shared = Arc::new((
            Page::new(0),
            Cancel::with_futex(In(0)),
            std::sync::atomic::AtomicU32::new(0),
        ));
        in_threads(THREADS, &shared, |(page, switch, owned), i| {
            for turn in 0..3 {
                if i == 0 && turn == 1 && below(2) == 0 {
                    switch.cancel();
                }
                if own(page, switch) {
                    owned.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                }
            }
        });
        let (page, _, owned) = &*shared;
        assert_eq!(page.touched(), owned.load(std::sync::atomic::Ordering::Relaxed));
        page.assert_idle();
    });
}

/// Two pages in one event slot, lockers of both: each one's crowd and waiters are told.
#[test]
fn two_pages_on_one_slot_with_a_crowd_each() {
    explore(|| {
        let shared = Arc::new(([Page::new(1), Page::new(1)], Cancel::with_futex(In(1))));
        in_threads(THREADS, &shared, |(pages, switch), i| {
            let page = &pages[i % 2];
            if i < 2 {
                let _ = page.lock.wait_unlocked(());
            }
            own(page, switch);
            own(&pages[below(2)], switch);
            if i == 7 {
                switch.cancel();
            }
        });
        shared.0.iter().for_each(Page::assert_idle);
    });
}

/// References, pins and migrations beside lockers: no copy while there is a pin, no reference while
/// the counts stand still.
#[test]
fn pins_and_references_against_migrations() {
    explore(|| {
        let page = Arc::new(Page::new(0));
        page.lock.activate(1).unwrap();
        in_threads(THREADS, &page, |page, i| {
            for _ in 0..2 {
                match i % 4 {
                    0 => {
                        if let Ok(frozen) =
                            page.lock.lock().begin_migration().freeze(FreezeRule::Unpinned)
                        {
                            page.touch();
                            match below(3) {
                                0 => drop(frozen),
                                1 => _ = frozen.abort(),
                                _ => _ = frozen.commit_in_place(),
                            }
                        }
                    }
                    1 => {
                        if let Ok(frozen) =
                            page.lock.lock().begin_migration().freeze(FreezeRule::ExactRefs(1))
                        {
                            assert_eq!((page.lock.refs(), page.lock.pins()), (1, 0));
                            page.touch();
                            assert_eq!((page.lock.refs(), page.lock.pins()), (1, 0));
                            frozen.commit_in_place();
                        }
                    }
                    2 => match page.lock.try_pin() {
                        Ok(pin) => {
                            let before = page.touched();
                            shuttle::thread::yield_now();
                            // It may have been locked and touched by nobody: pins keep every freeze
                            // away.
                            assert_eq!(page.touched(), before, "moved under a pin");
                            drop(pin);
                        }
                        Err(_) => _ = page.lock.wait_migration(()),
                    },
                    _ => {
                        if let Ok(reference) = page.lock.try_get() {
                            shuttle::thread::yield_now();
                            drop(reference);
                        }
                    }
                }
            }
        });
        assert_eq!((page.lock.refs(), page.lock.pins()), (1, 0));
        page.assert_idle();
    });
}
