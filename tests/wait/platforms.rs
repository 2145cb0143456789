//! What holds whatever platforms there are beside each other, and whatever they do (I24): nobody
//! sleeps on after a release because another's is slow, wakes in another way, or panics.

#![cfg(all(target_os = "linux", not(miri)))]

use crate::common::{own::Sleepers, watched, with_threads};
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use core::time::Duration;
use pagelock::futex::{Adapt, EventSlot, FutexTimed, MonotonicTime, Sleep, SpinFutex};
use pagelock::sync::AtomicU32;
use pagelock::{Cancel, Claim, Futex, Limits, OsFutex, PageLock, Wait, Wake};
use std::sync::{Condvar, Mutex};
use std::thread;

/// The system's futex with slots of its own, and a thing to do before each wake or after it.
#[derive(Clone, Copy)]
pub(crate) struct Odd(&'static Inner);

pub(crate) struct Inner {
    pub(crate) slots: Box<[EventSlot<Odd>]>,
    pub(crate) sleepers: Sleepers,
    pub(crate) wakes: AtomicUsize,
    pub(crate) at_wake: fn(&'static Inner, Kind, Before),
    pub(crate) armed: AtomicBool,
    /// Whether the stalled thread may go on.
    pub(crate) open: Mutex<bool>,
    pub(crate) opened: Condvar,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    One,
    All,
    Class,
    Tell,
}

pub(crate) type Before = bool;

impl Odd {
    pub(crate) fn new(slots: usize, at_wake: fn(&'static Inner, Kind, Before)) -> Self {
        Self(Box::leak(Box::new(Inner {
            slots: (0..slots).map(|_| EventSlot::new()).collect(),
            sleepers: Sleepers::default(),
            wakes: AtomicUsize::new(0),
            at_wake,
            armed: AtomicBool::new(false),
            open: Mutex::new(false),
            opened: Condvar::new(),
        })))
    }

    pub(crate) fn arm(self) {
        self.0.armed.store(true, SeqCst);
    }

    pub(crate) fn until_asleep(self, n: usize) {
        self.0.sleepers.until(n, || false);
    }

    pub(crate) fn wake<R>(self, kind: Kind, wake: impl FnOnce() -> R) -> R {
        self.0.wakes.fetch_add(1, SeqCst);
        (self.0.at_wake)(self.0, kind, true);
        let woken = wake();
        (self.0.at_wake)(self.0, kind, false);
        woken
    }
}

// SAFETY: the words that it is shown are shown to the system alone.
unsafe impl Futex for Odd {
    const CLASSES: bool = OsFutex::CLASSES;

    fn wait(&self, word: &AtomicU32, expected: u32) -> Sleep {
        self.0.sleepers.sleep(word, || OsFutex.wait(word, expected))
    }

    fn wake_one(&self, word: *const AtomicU32) {
        self.wake(Kind::One, || OsFutex.wake_one(word));
    }

    fn wake_all(&self, word: *const AtomicU32) {
        self.wake(Kind::All, || OsFutex.wake_all(word));
    }

    fn wait_class(&self, word: &AtomicU32, expected: u32, class: u32) -> Sleep {
        self.0.sleepers.sleep(word, || OsFutex.wait_class(word, expected, class))
    }

    fn wake_class(&self, word: *const AtomicU32, n: u32, class: u32) -> u32 {
        self.wake(Kind::Class, || OsFutex.wake_class(word, n, class))
    }

    fn event(&self, index: usize) -> &EventSlot<Self> {
        &self.0.slots[index]
    }

    fn events(&self) -> usize {
        self.0.slots.len()
    }

    fn tell(&self, page: usize) {
        (self.0.at_wake)(self.0, Kind::Tell, true);
        self.tell_event(page);
    }
}

impl FutexTimed for Odd {
    fn now(&self) -> MonotonicTime {
        OsFutex.now()
    }

    fn wait_until(&self, word: &AtomicU32, expected: u32, class: u32, at: MonotonicTime) -> Sleep {
        self.0.sleepers.sleep(word, || OsFutex.wait_until(word, expected, class, at))
    }
}

thread_local! {
    static STALLS: core::cell::Cell<bool> = const { core::cell::Cell::new(false) };
}

pub(crate) fn leaked<T>(value: T) -> &'static T {
    Box::leak(Box::new(value))
}

fn index_of<F: Futex>(futex: F, page: &PageLock<F>) -> usize {
    futex.event_index(core::ptr::from_ref(page).addr())
}

#[test]
fn a_release_of_a_spinning_platforms_page_takes_no_wake_from_the_systems() {
    let page = leaked(PageLock::new());
    let spins: Box<[_]> = (0..4096).map(|_| PageLock::with_futex(SpinFutex)).collect();
    with_threads(&[page], |s| {
        let owner = page.lock();
        let slot = OsFutex.event(index_of(OsFutex, page));
        let waiter = s.spawn(|| page.wait_unlocked(()));
        while slot.sleepers() == 0 {
            thread::yield_now();
        }
        let before = slot.sequence();
        for spin in &spins {
            let guard = spin.lock();
            assert!(matches!(spin.claim(), Claim::InFlight));
            drop(guard);
        }
        assert_eq!(slot.sequence(), before, "another table");
        drop(owner);
        assert_eq!(waiter.join().unwrap(), Wake::Released);
    });
}

/// A platform that adapts another shares its table, and wakes as that does: a chain goes through
/// the sleepers of both.
#[test]
fn sleepers_of_an_adapted_platform_pass_wakes_on() {
    #[derive(Clone, Copy)]
    struct Adapted(Odd);
    impl Adapt for Adapted {
        type Base = Odd;
        fn base(&self) -> &Odd {
            &self.0
        }
    }
    const EACH: usize = 40;
    let odd = Odd::new(1, |_, _, _| ());
    let (plain, adapted) =
        (leaked(PageLock::with_futex(odd)), leaked(PageLock::with_futex(Adapted(odd))));
    with_threads(&[plain], |s| {
        let (owner, other_owner) = (plain.lock(), adapted.lock());
        let others: Vec<_> = (0..EACH).map(|_| s.spawn(|| adapted.wait_unlocked(()))).collect();
        odd.until_asleep(EACH);
        let ours: Vec<_> = (0..EACH).map(|_| s.spawn(|| plain.wait_unlocked(()))).collect();
        odd.until_asleep(2 * EACH);
        drop(owner);
        for waiter in ours.into_iter().chain(others) {
            assert_eq!(waiter.join().unwrap(), Wake::Released);
        }
        drop(other_owner);
    });
    assert_eq!(odd.event(0).sleepers(), 0, "each is taken off once");
}

#[test]
fn a_waiter_does_not_depend_on_another_pages_releaser() {
    let odd = Odd::new(1, |inner, kind, before| {
        if kind == Kind::Class && before && STALLS.get() {
            let mut open = inner.open.lock().unwrap();
            while !*open {
                open = inner.opened.wait(open).unwrap();
            }
        }
    });
    let (ours, other) = (leaked(PageLock::with_futex(odd)), leaked(PageLock::with_futex(odd)));
    with_threads(&[ours, other], |s| {
        let owner = ours.lock();
        let waiter = s.spawn(|| ours.wait_unlocked(()));
        odd.until_asleep(1);
        let stalled = s.spawn(|| {
            STALLS.set(true);
            let guard = other.lock();
            assert!(matches!(other.claim(), Claim::InFlight));
            drop(guard);
        });
        while odd.0.wakes.load(SeqCst) == 0 {
            thread::yield_now();
        }
        drop(owner);
        assert_eq!(
            waiter.join().unwrap(),
            Wake::Released,
            "while the other one has bumped and not woken"
        );
        *odd.0.open.lock().unwrap() = true;
        odd.0.opened.notify_all();
        stalled.join().unwrap();
    });
    assert_eq!(odd.event(0).sleepers(), 0);
}

/// The second to throw a switch does not return before all are told, however long the first
/// takes; and so a switch whose thrower has died can be thrown again.
#[test]
fn a_switch_that_is_thrown_twice_tells_twice() {
    let odd = Odd::new(1, |inner, kind, before| {
        if kind == Kind::Class && before && STALLS.get() {
            let mut open = inner.open.lock().unwrap();
            while !*open {
                open = inner.opened.wait(open).unwrap();
            }
        }
    });
    let (page, switch) = (leaked(PageLock::with_futex(odd)), Cancel::with_futex(odd));
    with_threads(&[page], |s| {
        let owner = page.lock();
        let waiter =
            s.spawn(|| page.wait_with((), Wait::unlocked().within(Limits::none().unless(&switch))));
        odd.until_asleep(1);
        let stalled = s.spawn(|| {
            STALLS.set(true);
            switch.cancel();
        });
        while odd.0.wakes.load(SeqCst) == 0 {
            thread::yield_now();
        }
        switch.cancel();
        assert_eq!(waiter.join().unwrap(), Wake::Cancelled);
        *odd.0.open.lock().unwrap() = true;
        odd.0.opened.notify_all();
        stalled.join().unwrap();
        drop(owner);
    });
}

/// It looks for nearly an hour before it sleeps, but within limits.
#[test]
fn a_platform_that_looks_for_long_is_late_in_time() {
    #[derive(Clone, Copy)]
    struct Awake;
    impl Adapt for Awake {
        type Base = OsFutex;
        const SPINS: u32 = u32::MAX;
        fn base(&self) -> &OsFutex {
            &OsFutex
        }
    }
    let (page, switch) = (leaked(PageLock::with_futex(Awake)), Cancel::with_futex(Awake));
    watched(&[page], || {
        let owner = page.lock();
        assert!(page.try_lock_for(Duration::from_millis(5)).is_none());
        thread::scope(|s| {
            let locker = s.spawn(|| page.lock_within(Limits::none().unless(&switch)).map(drop));
            thread::sleep(Duration::from_millis(5));
            switch.cancel();
            assert!(locker.join().unwrap().is_err());
            let locker = s.spawn(|| drop(page.lock()));
            thread::sleep(Duration::from_millis(5));
            drop(owner);
            locker.join().unwrap();
        });
    });
}

/// The interrupted code's own.
#[test]
fn nothing_that_sleeps_or_wakes_changes_errno() {
    let page = PageLock::with_futex(Odd::new(1, |_, _, _| ()));
    let guard = page.lock();
    // SAFETY: the address of this thread's errno, valid as long as it runs.
    let errno = unsafe { &mut *libc::__errno_location() };
    *errno = 77;
    assert_eq!(page.wait_unlocked_for((), Duration::from_millis(1)), Wake::TimedOut);
    assert!(page.try_lock_for(Duration::from_millis(1)).is_none());
    assert_eq!(OsFutex.wait(&AtomicU32::new(1), 0), Sleep::Changed);
    // An address that the kernel does not like.
    OsFutex.wake_one(core::ptr::without_provenance(1));
    OsFutex.wake_all(core::ptr::without_provenance(1));
    assert_eq!(OsFutex.wake_class(core::ptr::without_provenance(1), 1, 1), 0);
    OsFutex.relax();
    drop(guard);
    assert_eq!(*errno, 77);
}

#[test]
fn a_platform_without_a_clock_can_wait_within_limits() {
    let (page, switch) = (PageLock::with_futex(SpinFutex), Cancel::with_futex(SpinFutex));
    assert_eq!(page.wait_with((), Wait::unlocked().within(Limits::none())), Wake::NotLocked);
    let guard = page.lock_within(Limits::none().unless(&switch)).unwrap();
    switch.cancel();
    assert_eq!(
        page.wait_with((), Wait::unlocked().within(Limits::none().unless(&switch))),
        Wake::Cancelled
    );
    assert!(page.lock_within(Limits::none().unless(&switch)).is_err());
    drop(guard);
}

#[test]
fn deadlines_compare_add_and_subtract() {
    let (a, b) = (MonotonicTime::now(), MonotonicTime::now() + Duration::from_secs(1));
    assert!(a < b && a.min(b) == a && b - a >= Duration::from_secs(1));
    assert_eq!(a - b, Duration::ZERO);
    assert_eq!((a + Duration::from_secs(1)) - a, Duration::from_secs(1));
    assert_eq!(a + Duration::MAX, MonotonicTime::MAX);
    assert_eq!((a.checked_add(Duration::MAX), OsFutex.after(Duration::MAX)), (None, None));
    assert!(Limits::<OsFutex>::none().until(b).deadline() == Some(b));
}

/// They can stand in a signature of C's: the compiler warns of what cannot, and here a warning is
/// an error.
#[deny(improper_ctypes, improper_ctypes_definitions)]
mod c {
    use super::*;

    unsafe extern "C" {
        #[allow(dead_code)]
        fn frame_header(pfn: u64) -> *const PageLock<SpinFutex>;
        #[allow(dead_code)]
        fn frame_header_os(pfn: u64) -> *const PageLock;
        #[allow(dead_code)]
        fn switch_of(thread: u64) -> *const Cancel;
    }

    extern "C" fn is_locked(page: &PageLock) -> bool {
        page.is_locked()
    }

    #[test]
    fn headers_and_switches_can_stand_in_a_c_signature() {
        assert!(!is_locked(&PageLock::new()));
    }
}
