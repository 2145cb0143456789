//! Signals: they end no wait, take no wake from anybody, and do not stretch a deadline (I27, I39).

#![cfg(all(target_os = "linux", not(pagelock_loom), not(miri)))]

mod common;

use common::own::Own;
use common::{page_on, watched};
use core::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use core::time::Duration;
use pagelock::{PageLock, Wake};
use std::os::unix::thread::JoinHandleExt as _;
use std::sync::Once;
use std::thread::{self, JoinHandle};
use std::time::Instant;

static SEEN: AtomicUsize = AtomicUsize::new(0);

/// A handler that does not ask for interrupted calls to be taken up again.
fn install() {
    extern "C" fn handler(_signal: libc::c_int) {
        SEEN.fetch_add(1, SeqCst);
    }
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        // SAFETY: an action of zeroes is a valid one (no flags, an empty mask), and the handler
        // only touches an atomic.
        let rc = unsafe {
            let mut action: libc::sigaction = core::mem::zeroed();
            action.sa_sigaction = handler as *const () as usize;
            libc::sigaction(libc::SIGUSR1, &action, core::ptr::null_mut())
        };
        assert_eq!(rc, 0);
    });
}

fn signal<T>(thread: &JoinHandle<T>) {
    // SAFETY: the thread has not been joined, so its handle is valid.
    unsafe { libc::pthread_kill(thread.as_pthread_t(), libc::SIGUSR1) };
}

fn page() -> (Own, &'static PageLock<Own>) {
    install();
    let own = Own::new(1);
    (own, page_on(own))
}

/// Disturbs a sleeping thread, and sees that it was disturbed and sleeps on.
fn disturb<T>(own: Own, thread: &JoinHandle<T>) {
    for _ in 0..50 {
        own.until_asleep(1);
        let before = SEEN.load(SeqCst);
        signal(thread);
        while SEEN.load(SeqCst) == before {
            thread::yield_now();
        }
        assert!(!thread.is_finished());
    }
    own.until_asleep(1);
}

#[test]
fn a_signal_does_not_end_a_wait() {
    let (own, page) = page();
    watched(&[page], || {
        let guard = page.lock();
        let waiter = thread::spawn(|| page.wait_unlocked(()));
        disturb(own, &waiter);
        drop(guard);
        assert_eq!(waiter.join().unwrap(), Wake::Released);
    });
}

#[test]
fn a_signal_does_not_give_a_locker_the_page() {
    let (own, page) = page();
    watched(&[page], || {
        let guard = page.lock();
        let locker = thread::spawn(|| drop(page.lock()));
        disturb(own, &locker);
        assert!(page.is_locked());
        drop(guard);
        locker.join().unwrap();
        assert_eq!(page.sleepers(), 0);
    });
}

#[test]
fn a_signal_does_not_stretch_a_deadline() {
    const LONG: Duration = Duration::from_millis(100);
    let (_, page) = page();
    watched(&[page], || {
        let guard = page.lock();
        let began = Instant::now();
        let waiter = thread::spawn(|| page.wait_unlocked_for((), LONG));
        // A wait that starts its time anew after each signal never ends here, and the watchdog
        // does.
        while !waiter.is_finished() {
            signal(&waiter);
            thread::sleep(LONG / 20);
        }
        assert_eq!(waiter.join().unwrap(), Wake::TimedOut);
        assert!(began.elapsed() >= LONG);
        drop(guard);
    });
}
