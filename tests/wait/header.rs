//! A sleeper has neither a reference nor a pin, so the header may be freed while it sleeps: nobody
//! touches it afterwards (I5 to I7; L1, L10).

use crate::common::own::Own;
use crate::common::page_on;
use crate::common::sim::{Call, Sim};
use crate::common::{OnDrop, rounds, watched, with_threads};
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use core::time::Duration;
use pagelock::{Claim, FreezeRule, Futex, PageGuard, PageLock, Wake};
use std::sync::Barrier;
use std::thread;

#[test]
fn sleepers_hold_neither_reference_nor_pin_at_any_moment() {
    const SLEEPERS: usize = 16;
    let page = PageLock::with_futex(Own::new(1));
    page.activate(3).unwrap();
    let (over, start) = (AtomicBool::new(false), Barrier::new(2));
    with_threads(&[&page], |s| {
        let sampler = s.spawn(|| {
            start.wait();
            let mut samples = 0u64;
            while samples == 0 || !over.load(SeqCst) {
                assert_eq!((page.refs(), page.pins(), page.is_frozen()), (3, 0, false));
                samples += 1;
                if samples % 50 == 0 {
                    thread::yield_now();
                }
            }
            samples
        });
        let waiters: Vec<_> = (0..SLEEPERS)
            .map(|_| {
                s.spawn(|| {
                    while !over.load(SeqCst) {
                        if page.wait_unlocked(()) == Wake::NotLocked {
                            thread::yield_now();
                        }
                    }
                })
            })
            .collect();
        start.wait();
        for _ in 0..rounds(100) {
            let guard = page.lock();
            thread::yield_now();
            drop(guard);
        }
        over.store(true, SeqCst);
        waiters.into_iter().for_each(|w| w.join().unwrap());
        assert!(sampler.join().unwrap() > 0);
    });
}

#[test]
fn a_migration_is_frozen_with_sixty_four_sleepers_on_it() {
    const SLEEPERS: usize = 64;
    let own = Own::new(1);
    let page = PageLock::with_futex(own);
    page.activate(2).unwrap();
    with_threads(&[&page], |s| {
        let migration = page.lock().begin_migration();
        let waiters: Vec<_> =
            (0..SLEEPERS)
                .map(|n| {
                    let page = &page;
                    s.spawn(move || {
                        if n % 2 == 0 { page.wait_unlocked(()) } else { page.wait_migration(()) }
                    })
                })
                .collect();
        own.until_asleep(SLEEPERS);
        let frozen =
            migration.freeze(FreezeRule::ExactRefs(2)).expect("sleepers hold no reference");
        frozen.commit_in_place();
        for waiter in waiters {
            assert_eq!(waiter.join().unwrap(), Wake::Released);
        }
    });
    assert_eq!((page.refs(), page.pins()), (2, 0));
}

/// A pointer to a header that another thread frees.
#[derive(Clone, Copy)]
struct Borrowed<F: Futex>(*const PageLock<F>);

// SAFETY: the tests that use it free the header only when they may.
unsafe impl<F: Futex + Send> Send for Borrowed<F> {}

impl<F: Futex> Borrowed<F> {
    /// Waits, and signals through `ptl` when it has registered.
    ///
    /// # Safety
    ///
    /// The header is alive until `ptl` is dropped.
    unsafe fn wait_unlocked<G>(self, ptl: G) -> Wake {
        // SAFETY: the caller's promise; after the drop of `ptl` the wait does not touch the page,
        // which is what is tested.
        unsafe { &*self.0 }.wait_unlocked(ptl)
    }

    /// # Safety
    ///
    /// It was a Box's, and nobody touches it any more.
    unsafe fn free(self) {
        // SAFETY: the caller's promise.
        drop(unsafe { Box::from_raw(self.0.cast_mut()) });
    }
}

#[test]
fn the_header_may_be_freed_while_sleepers_return() {
    const SLEEPERS: usize = 8;
    let own = Own::new(1);
    watched(&[], || {
        for _ in 0..rounds(100) {
            let page: *mut PageLock<Own> = Box::into_raw(Box::new(PageLock::with_futex(own)));
            let registered = AtomicUsize::new(0);
            // SAFETY: freed at the end of the round only.
            let guard = unsafe { &*page }.lock();
            thread::scope(|s| {
                for _ in 0..SLEEPERS {
                    let (page, registered) = (Borrowed(page), &registered);
                    s.spawn(move || {
                        let ptl = OnDrop(|| _ = registered.fetch_add(1, SeqCst));
                        // SAFETY: the header is freed once all have registered.
                        assert_eq!(unsafe { page.wait_unlocked(ptl) }, Wake::Released);
                    });
                }
                while registered.load(SeqCst) < SLEEPERS {
                    thread::yield_now();
                }
                drop(guard);
                // SAFETY: it is a Box's, the guard is gone, and sleepers do not touch it.
                drop(unsafe { Box::from_raw(page) });
            });
        }
    });
}

/// A header in a memory page of its own, which can be made inaccessible.
#[cfg(all(target_os = "linux", not(miri)))]
mod guarded {
    use super::*;

    pub(super) struct Header<F: Futex>(pub(super) *mut PageLock<F>);

    const SIZE: usize = 4096;

    impl<F: Futex> Header<F> {
        pub(super) fn new(futex: F) -> Self {
            // SAFETY: a fresh private mapping; nothing else is affected.
            let at = unsafe {
                libc::mmap(
                    core::ptr::null_mut(),
                    SIZE,
                    libc::PROT_READ | libc::PROT_WRITE,
                    libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                    -1,
                    0,
                )
            };
            assert_ne!(at, libc::MAP_FAILED);
            let page = at.cast::<PageLock<F>>();
            // SAFETY: the mapping is writable, large enough and aligned.
            unsafe { page.write(PageLock::with_futex(futex)) };
            Self(page)
        }

        /// From now on any access is a fault.
        pub(super) fn forbid(at: *mut PageLock<F>) {
            // SAFETY: changes the protection of the mapping that `new` made.
            assert_eq!(unsafe { libc::mprotect(at.cast(), SIZE, libc::PROT_NONE) }, 0);
        }
    }
}

#[test]
#[cfg(all(target_os = "linux", not(miri)))]
fn a_sleeper_does_not_touch_the_header_after_it_dropped_the_ptl() {
    let own = Own::new(1);
    let page = guarded::Header::new(own).0;
    watched(&[], || {
        // SAFETY: it is accessible until `forbid`.
        let guard = unsafe { &*page }.lock();
        thread::scope(|s| {
            let borrowed = Borrowed(page);
            // SAFETY: it is accessible until all have registered.
            let waiters: Vec<_> =
                (0..4).map(|_| s.spawn(move || unsafe { borrowed.wait_unlocked(()) })).collect();
            own.until_asleep(4);
            drop(guard);
            guarded::Header::forbid(page);
            for waiter in waiters {
                assert_eq!(waiter.join().unwrap(), Wake::Released);
            }
        });
    });
}

/// A waiter registers, and the header goes away in the very drop of the PTL.
#[test]
#[cfg(all(target_os = "linux", not(miri)))]
fn not_even_when_the_header_goes_with_the_ptl() {
    watched(&[], || {
        let own = Own::new(1);
        for timed in [false, true] {
            let page = guarded::Header::new(own).0;
            // SAFETY: it is accessible until `forbid`.
            let header = unsafe { &*page };
            let mut held = Some(header.lock());
            let ptl = OnDrop(|| {
                drop(held.take());
                guarded::Header::forbid(page);
            });
            let wake = if timed {
                header.wait_unlocked_for(ptl, Duration::from_secs(20))
            } else {
                header.wait_unlocked(ptl)
            };
            assert_eq!(wake, Wake::Released);
        }
    });
}

/// Once the page is released it may have another owner, or be gone: a release wakes by address.
#[test]
#[cfg(all(target_os = "linux", not(miri)))]
fn a_release_does_not_touch_the_header_after_it_let_go() {
    type Release = fn(PageGuard<'_, Sim>);
    const RELEASES: [Release; 6] = [
        |guard| drop(guard),
        |guard| _ = guard.unlock(),
        |guard| _ = guard.unlock_fair(),
        |guard| _ = guard.poison(),
        |guard| _ = guard.begin_migration().abort(),
        |guard| _ = guard.begin_migration().freeze(FreezeRule::Unpinned).unwrap().commit_in_place(),
    ];
    for release in RELEASES {
        let sim = Sim::new(1);
        let at = guarded::Header::new(sim).0;
        // SAFETY: it is accessible until `forbid`.
        let page = unsafe { &*at };
        with_threads(&[], |s| {
            let guard = page.lock();
            let waiter = s.spawn(|| page.wait_unlocked(()));
            sim.until_asleep(1);
            let borrowed = at.addr();
            sim.at_wake(move || {
                guarded::Header::<Sim>::forbid(core::ptr::with_exposed_provenance_mut(borrowed))
            });
            release(guard);
            assert_eq!(waiter.join().unwrap(), Wake::Released);
        });
    }
}

/// As `a_release_does_not_touch_the_header_after_it_let_go`, but the header is freed, for a
/// sanitizer to see. Not for Miri: this platform is a plain field of the header, and that may not
/// go while a function has a reference to it.
#[test]
#[cfg(not(miri))]
fn the_header_may_be_freed_before_anybody_is_woken() {
    let sim = Sim::new(1);
    let page = Box::into_raw(Box::new(PageLock::with_futex(sim)));
    with_threads(&[], |s| {
        // SAFETY: freed when the guard has let go and the waiter is asleep.
        let guard = unsafe { &*page }.lock();
        let borrowed = Borrowed(page);
        // SAFETY: as above.
        let waiter = s.spawn(move || unsafe { borrowed.wait_unlocked(()) });
        sim.until_asleep(1);
        let freed = Borrowed(page);
        // SAFETY: the release has let go of the page, and the waiter has registered and sleeps.
        sim.at_wake(move || unsafe { freed.free() });
        drop(guard);
        assert_eq!(waiter.join().unwrap(), Wake::Released);
    });
}

#[test]
fn a_release_tells_the_platform_which_page_it_was() {
    let sim = Sim::new(1);
    let (a, b) = (page_on(sim), page_on(sim));
    drop(a.lock());
    assert_eq!(sim.calls(), [], "nobody waits");
    for page in [a, b] {
        let guard = page.lock();
        assert!(matches!(page.claim(), Claim::InFlight));
        drop(guard);
        assert_eq!(sim.calls()[0], Call::Tell { page: core::ptr::from_ref(page).addr() });
    }
}
