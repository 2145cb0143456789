//! At most one owner at a time, whatever way the page was taken and whatever way it is released
//! (I1, I2).
//!
//! The counters in here are plain memory. If two threads ever owned a page at once, counts would be
//! lost.

use crate::common::{Lots, Unprotected, own::Own, rounds, turns, watched, with_threads};
use core::time::Duration;
use pagelock::{Cancel, Claim, Futex, Limits, OsFutex, PageGuard, PageLock, Wake};
use std::sync::{Barrier, mpsc};

/// Counts under the page's lock.
fn count<F: Futex>(owner: &PageGuard<'_, F>, counter: &Unprotected) {
    assert!(owner.page().is_locked());
    // SAFETY: the counter belongs to the page, and `owner` owns it.
    unsafe { counter.add_one() };
}

#[test]
fn many_threads_that_lock_and_drop() {
    const THREADS: usize = 8;
    let each = rounds(40_000);
    let (page, mut counter, start) = (PageLock::new(), Unprotected::new(), Barrier::new(THREADS));
    with_threads(&[&page], |s| {
        for _ in 0..THREADS {
            s.spawn(|| {
                start.wait();
                for _ in 0..each {
                    count(&page.lock(), &counter);
                }
            });
        }
    });
    assert_eq!(counter.get(), (THREADS * each) as u64);
    assert!(!page.is_locked());
}

/// Any way to take a page, by number; `None` if this way did not succeed.
#[cfg(target_os = "linux")]
fn take_somehow<'a>(page: &'a PageLock, lots: &mut Lots) -> Option<PageGuard<'a>> {
    use pagelock::FutexTimed;
    let soon = Limits::none().until(OsFutex.after(Duration::from_micros(lots.draw(60))).unwrap());
    let never_thrown = Cancel::new();
    match lots.draw(11) {
        0 | 1 => Some(page.lock()),
        2 => page.try_lock(),
        3 => page.try_lock_for(Duration::from_micros(lots.draw(60))),
        4 => page.lock_within(soon).ok(),
        5 => Some(page.lock_releasing(())),
        6 => match page.claim() {
            Claim::Owner(guard) => Some(guard),
            _ => None,
        },
        7 => page.lock_within(soon.unless(&never_thrown)).ok(),
        8 => page.lock_releasing_within((), soon).ok(),
        9 => match page.claim_told() {
            Claim::Owner(guard) => Some(guard),
            _ => None,
        },
        _ => match page.wait_unlocked_for((), Duration::from_micros(lots.draw(60))) {
            Wake::Poisoned => unreachable!("nobody poisons it"),
            _ => page.try_lock(),
        },
    }
}

#[test]
#[cfg(target_os = "linux")]
fn every_way_to_take_with_every_way_to_release() {
    const THREADS: usize = 8;
    let (page, mut counter, start) = (PageLock::new(), Unprotected::new(), Barrier::new(THREADS));
    page.activate(1).unwrap();
    let taken: u64 = with_threads(&[&page], |s| {
        let threads: Vec<_> = (0..THREADS)
            .map(|t| {
                let (page, counter, start) = (&page, &counter, &start);
                s.spawn(move || {
                    start.wait();
                    let (mut lots, mut taken) = (Lots::of(t), 0);
                    for _ in turns(30_000) {
                        let Some(guard) = take_somehow(page, &mut lots) else { continue };
                        count(&guard, counter);
                        taken += 1;
                        match lots.draw(7) {
                            0 => drop(guard),
                            1 => _ = guard.unlock(),
                            2 => _ = guard.unlock_fair(),
                            3 => {
                                let hold = guard.into_raw();
                                // SAFETY: the hold has just been made raw, here.
                                drop(unsafe { PageGuard::from_raw_of(page, hold) });
                            }
                            4 => _ = guard.begin_migration().abort(),
                            5 => drop(guard.begin_migration().cancel()),
                            _ => {
                                let frozen = guard
                                    .begin_migration()
                                    .freeze(pagelock::FreezeRule::ExactRefs(1))
                                    .unwrap();
                                frozen.commit_in_place();
                            }
                        }
                    }
                    taken
                })
            })
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).sum()
    });
    assert_eq!(counter.get(), taken);
    let left = format!("{page:?}");
    assert!(left.starts_with("PageLock { free, generation "), "{left}");
    assert!(left.ends_with("; 1 references, 0 pins }"), "{left}");
}

#[test]
fn a_guard_may_be_released_by_another_thread() {
    let each = rounds(2_000);
    let (page, mut counter) = (PageLock::new(), Unprotected::new());
    with_threads(&[&page], |s| {
        let (finish, finished) = mpsc::channel::<PageGuard<'_>>();
        for _ in 0..3 {
            let finish = finish.clone();
            let (page, counter) = (&page, &counter);
            s.spawn(move || {
                for _ in 0..each {
                    let guard = page.lock();
                    count(&guard, counter);
                    finish.send(guard).unwrap();
                }
            });
        }
        drop(finish);
        for guard in finished {
            count(&guard, &counter);
        }
    });
    assert_eq!(counter.get(), 2 * 3 * each as u64);
}

#[test]
fn one_thread_takes_raw_and_another_releases() {
    let each = rounds(2_000);
    let (page, mut counter) = (PageLock::new(), Unprotected::new());
    with_threads(&[&page], |s| {
        let (submit, submitted) = mpsc::channel();
        let (page, counter) = (&page, &counter);
        s.spawn(move || {
            for _ in 0..each {
                let guard = page.lock();
                count(&guard, counter);
                submit.send(guard.into_raw()).unwrap();
            }
        });
        s.spawn(move || {
            for hold in submitted {
                // SAFETY: the other thread gave up this hold, and sent each once.
                let guard = unsafe { PageGuard::from_raw_of(page, hold) };
                count(&guard, counter);
                guard.unlock();
            }
        });
    });
    assert_eq!(counter.get(), 2 * each as u64);
}

#[test]
fn pages_of_one_event_slot_are_locked_apart() {
    const THREADS: usize = 4;
    let each = rounds(4_000);
    let pages: Vec<PageLock> = (0..1024).map(|_| PageLock::new()).collect();
    let slot = |page: &PageLock| OsFutex.event_index(core::ptr::from_ref(page).addr());
    let a = &pages[0];
    let b = pages[1..].iter().find(|p| slot(p) == slot(a)).expect("1024 pages on fewer slots");

    let held = a.lock();
    assert!(b.try_lock().is_some(), "another page of the slot is free");
    drop(held);

    let counters = [Unprotected::new(), Unprotected::new()];
    with_threads(&[a, b], |s| {
        for t in 0..THREADS {
            let counters = &counters;
            s.spawn(move || {
                for i in 0..each {
                    let which = (t + i) % 2;
                    let page = [a, b][which];
                    // Half by waiting, so that the slot they share is in use.
                    let guard = if i % 3 == 0 {
                        loop {
                            match page.try_lock() {
                                Some(guard) => break guard,
                                None => _ = page.wait_unlocked(()),
                            }
                        }
                    } else {
                        page.lock()
                    };
                    count(&guard, &counters[which]);
                }
            });
        }
    });
    let [mut x, mut y] = counters;
    assert_eq!(x.get() + y.get(), (THREADS * each) as u64);
    assert_eq!(x.get(), y.get());
}

#[test]
fn what_one_owner_wrote_the_next_sees() {
    // Each owner checks that all the slots say the same, and writes the next number: a torn or
    // stale view would show.
    const THREADS: u64 = 4;
    let each = rounds(3_000) as u64;
    let page = PageLock::new();
    let data: [Unprotected; 16] = Default::default();
    with_threads(&[&page], |s| {
        for _ in 0..THREADS {
            s.spawn(|| {
                for _ in 0..each {
                    let guard = page.lock();
                    data.iter().for_each(|d| count(&guard, d));
                }
            });
        }
    });
    for mut d in data {
        assert_eq!(d.get(), THREADS * each);
    }
}

#[test]
fn a_page_that_is_owned_cannot_be_taken() {
    watched(&[], || {
        let page = PageLock::new();
        let guard = page.try_lock().unwrap();
        assert!(page.is_locked());
        let before = format!("{page:?}");
        assert!(page.try_lock().is_none());
        #[cfg(target_os = "linux")]
        assert!(page.try_lock_for(Duration::from_millis(1)).is_none());
        assert_eq!(format!("{page:?}"), before, "failing to take it changed nothing");
        drop(guard);
        assert!(!page.is_locked());
        assert!(page.try_lock().is_some());
    });
}

#[test]
fn a_poisoned_page_can_be_owned() {
    watched(&[], || {
        let page = PageLock::new();
        page.lock().poison();
        let guard = page.lock();
        assert!(guard.is_poisoned() && page.is_locked());
        assert!(page.try_lock().is_none());
    });
}

#[test]
fn a_platform_that_cannot_tell_how_sleeps_end_excludes_as_well() {
    const THREADS: usize = 4;
    let each = rounds(3_000);
    let page = PageLock::with_futex(Own::without_classes(1));
    let mut counter = Unprotected::new();
    with_threads(&[&page], |s| {
        for _ in 0..THREADS {
            s.spawn(|| (0..each).for_each(|_| count(&page.lock(), &counter)));
        }
    });
    assert_eq!(counter.get(), (THREADS * each) as u64);
}

#[test]
fn a_platform_that_spins_excludes_as_well() {
    let each = rounds(2_000);
    let page = PageLock::with_futex(pagelock::futex::SpinFutex);
    let mut counter = Unprotected::new();
    with_threads(&[&page], |s| {
        for _ in 0..2 {
            s.spawn(|| (0..each).for_each(|_| count(&page.lock(), &counter)));
        }
    });
    assert_eq!(counter.get(), 2 * each as u64);
}
