//! A platform that panics while it sleeps, wakes or tells strands nobody.

#![cfg(all(target_os = "linux", not(miri)))]

use crate::common::with_threads;
use crate::platforms::{Before, Inner, Kind, Odd, leaked};
use core::sync::atomic::Ordering::SeqCst;
use pagelock::futex::{EventSlot, Sleep};
use pagelock::sync::AtomicU32;
use pagelock::{Cancel, Futex, Limits, PageLock, Wait, Wake};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A release with `waiters` sleepers and, if asked for, a locker; the first wake for which the
/// platform is armed panics. All return, and the panic reaches the caller.
fn strands_nobody(
    at_wake: fn(&'static Inner, Kind, Before),
    waiters: usize,
    locker: bool,
) -> usize {
    let odd = Odd::new(1, at_wake);
    let page = leaked(PageLock::with_futex(odd));
    with_threads(&[page], |s| {
        let owner = page.lock();
        let locker = locker.then(|| s.spawn(|| drop(page.lock())));
        let waiters: Vec<_> = (0..waiters)
            .map(|_| s.spawn(|| catch_unwind(AssertUnwindSafe(|| page.wait_unlocked(())))))
            .collect();
        odd.until_asleep(waiters.len() + usize::from(locker.is_some()));
        odd.arm();
        let mut panics = usize::from(catch_unwind(AssertUnwindSafe(|| drop(owner))).is_err());
        for waiter in waiters {
            match waiter.join().unwrap() {
                Ok(wake) => assert_eq!(wake, Wake::Released),
                Err(_) => panics += 1,
            }
        }
        if let Some(locker) = locker {
            locker.join().unwrap();
        }
        panics
    })
}

fn panics_once(inner: &Inner, what: &str) {
    if inner.armed.swap(false, SeqCst) {
        std::panic::resume_unwind(Box::new(what.to_owned()));
    }
}

#[test]
fn a_platform_that_panics_as_it_wakes_a_locker_strands_no_waiter() {
    let after = |inner: &'static Inner, kind, before: Before| {
        if kind == Kind::One && !before {
            panics_once(inner, "after the wake");
        }
    };
    assert_eq!(strands_nobody(after, 3, true), 1);
}

#[test]
fn a_platform_that_panics_as_it_tells_strands_no_waiter() {
    assert_eq!(
        strands_nobody(
            |inner, kind, _| if kind == Kind::Tell {
                panics_once(inner, "tell")
            },
            40,
            false
        ),
        1
    );
}

#[test]
fn a_platform_that_panics_before_or_after_a_wake_of_many_strands_no_waiter() {
    let before: fn(&'static Inner, Kind, Before) = |inner, kind, before| {
        if kind == Kind::Class && before {
            panics_once(inner, "before")
        }
    };
    let after: fn(&'static Inner, Kind, Before) = |inner, kind, before| {
        if kind == Kind::Class && !before {
            panics_once(inner, "after")
        }
    };
    for at_wake in [before, after] {
        for waiters in [1, 3, 40] {
            assert_eq!(strands_nobody(at_wake, waiters, false), 1);
        }
    }
}

/// The first wake is the release's. All others are those of links, and each panics.
#[test]
fn a_platform_that_panics_in_the_middle_of_a_chain_strands_no_waiter() {
    fn link(inner: &'static Inner, kind: Kind, before: Before) {
        if kind == Kind::Class && before && inner.wakes.load(SeqCst) >= 2 {
            std::panic::resume_unwind(Box::new("a link"));
        }
    }
    assert!(strands_nobody(link, 60, false) >= 1);
}

/// The switch goes on to the other slots.
#[test]
fn a_platform_that_panics_as_a_switch_wakes_strands_nobody_under_it() {
    const PAGES: usize = 8;
    let odd = Odd::new(4, |inner, _, before| {
        if before {
            panics_once(inner, "the first of them")
        }
    });
    let pages: &[PageLock<Odd>] =
        Box::leak((0..PAGES).map(|_| PageLock::with_futex(odd)).collect());
    let switch = Cancel::with_futex(odd);
    with_threads(&[&pages], |s| {
        let guards: Vec<_> = pages.iter().map(PageLock::lock).collect();
        let limits = Limits::none().unless(&switch);
        let waiters: Vec<_> = pages
            .iter()
            .map(|page| s.spawn(move || page.wait_with((), Wait::unlocked().within(limits))))
            .collect();
        odd.until_asleep(PAGES);
        odd.arm();
        assert!(catch_unwind(AssertUnwindSafe(|| switch.cancel())).is_err());
        for waiter in waiters {
            assert_eq!(waiter.join().unwrap(), Wake::Cancelled);
        }
        drop(guards);
    });
}

/// A sleeper whose sleep panics is not counted any more.
#[test]
fn a_sleep_that_panics_leaves_no_sleeper() {
    #[derive(Clone, Copy)]
    struct Restless;
    static SLOT: EventSlot<Restless> = EventSlot::new();
    // SAFETY: it looks at no word.
    unsafe impl Futex for Restless {
        fn wait(&self, _word: &AtomicU32, _expected: u32) -> Sleep {
            std::panic::resume_unwind(Box::new("an assertion of the platform's"))
        }
        fn wake_one(&self, _word: *const AtomicU32) {}
        fn wake_all(&self, _word: *const AtomicU32) {}
        fn event(&self, _index: usize) -> &EventSlot<Self> {
            &SLOT
        }
        fn events(&self) -> usize {
            1
        }
    }
    let page = PageLock::with_futex(Restless);
    let guard = page.lock();
    assert!(catch_unwind(AssertUnwindSafe(|| page.wait_unlocked(()))).is_err());
    assert_eq!(SLOT.sleepers(), 0);
    assert!(guard.unlock().event_waiters, "the flag is left, for one needless wake");
    assert!(page.try_lock().is_some());
}
