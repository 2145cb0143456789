//! A filter refuses system calls, as sandboxes and emulators do: that costs speed, and nobody's
//! life.
//!
//! A filter is for the thread that installs it, and for the words of the page and the slot in
//! question. The C library has locks of its own, which a thread that ends uses too, and does not
//! take a refusal so well: a wake that it loses is another page's.

#![cfg(all(target_os = "linux", target_endian = "little", not(miri), not(pagelock_loom)))]

mod common;

use common::{page_on, with_threads};
use core::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use core::time::Duration;
use pagelock::futex::{Adapt, EventSlot, FutexTimed, MonotonicTime, SharedFutex, SharedSlot};
use pagelock::{Futex, Limits, LockError, OsFutex, PageLock, Wait, Wake};
use std::sync::Mutex;
use std::thread;

/// What is refused: operations of `futex`, and whether `sched_yield` is.
#[derive(Clone, Copy, Debug)]
struct Refused {
    operations: &'static [libc::c_int],
    sched_yield: bool,
    with: libc::c_int,
}

const SETS: [(&[libc::c_int], bool); 6] = [
    (&[libc::FUTEX_WAKE_BITSET], false),
    (&[libc::FUTEX_WAIT_BITSET], false),
    (&[libc::FUTEX_WAIT_BITSET, libc::FUTEX_WAKE_BITSET], true),
    (&[libc::FUTEX_WAKE], false),
    (&[libc::FUTEX_WAIT, libc::FUTEX_WAIT_BITSET], false),
    (&[libc::FUTEX_WAIT, libc::FUTEX_WAIT_BITSET, libc::FUTEX_WAKE, libc::FUTEX_WAKE_BITSET], true),
];

/// Refusals that mean something else to a sleeper.
const ERRORS: [libc::c_int; 6] =
    [libc::ENOSYS, libc::EPERM, libc::EINVAL, libc::EAGAIN, libc::EINTR, libc::ETIMEDOUT];

fn each(test: impl Fn(Refused)) {
    for (operations, sched_yield) in SETS {
        for with in ERRORS {
            test(Refused { operations, sched_yield, with });
        }
    }
}

impl Refused {
    /// From now on, for this thread and the words of `page`, whose event slot is `slot`.
    fn install<F: Futex>(self, page: &PageLock<F>, slot: &EventSlot<F>) {
        let places = [
            (core::ptr::from_ref(page).addr(), size_of_val(page)),
            (core::ptr::from_ref(slot).addr(), size_of_val(slot)),
        ];
        const LOAD: u16 = 0x20;
        const AND: u16 = 0x54;
        const IS: u16 = 0x15;
        const AT_LEAST: u16 = 0x35;
        const RETURN: u16 = 0x06;
        let step = |code: u16, k: u32, then: u8, otherwise: u8| libc::sock_filter {
            code,
            jt: then,
            jf: otherwise,
            k,
        };
        let refuse = step(RETURN, 0x0005_0000 | self.with as u32, 0, 0);
        let allow = step(RETURN, 0x7fff_0000, 0, 0);
        // The number of the call; the halves of the first argument, which is where; and the low
        // half of the second, which is what.
        let mut program = vec![step(LOAD, 0, 0, 0)];
        if self.sched_yield {
            program.extend([step(IS, libc::SYS_sched_yield as u32, 0, 1), refuse]);
        }
        program.extend([step(IS, libc::SYS_futex as u32, 1, 0), allow]);
        let mut what = vec![step(LOAD, 24, 0, 0), step(AND, 0x7f, 0, 0)];
        for &operation in self.operations {
            what.extend([step(IS, operation as u32, 0, 1), refuse]);
        }
        what.push(allow);
        for (at, size) in places {
            let (high, low) = ((at as u64 >> 32) as u32, at as u32);
            program.extend([
                step(LOAD, 20, 0, 0),
                step(IS, high, 0, what.len() as u8 + 3),
                step(LOAD, 16, 0, 0),
            ]);
            program.extend([
                step(AT_LEAST, low, 0, what.len() as u8 + 1),
                step(AT_LEAST, low.saturating_add(size as u32), what.len() as u8, 0),
            ]);
            program.extend(&what);
        }
        program.push(allow);
        let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
        // SAFETY: the first only takes rights from this thread. The second copies the program,
        // which is alive.
        let done = unsafe {
            (
                libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
                libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program),
            )
        };
        assert_eq!(done, (0, 0), "{}", std::io::Error::last_os_error());
    }
}

/// Pages of one test would end waits of another, where their slots are the same.
static ALONE: Mutex<()> = Mutex::new(());

/// The same for headers and slots in memory that processes share.
#[derive(Clone, Copy)]
struct Shared;

static SLOTS: [SharedSlot; 4] = [const { EventSlot::new() }; 4];
static SHARED: SharedFutex<'static> = SharedFutex::new(&SLOTS, 0).unwrap();

impl Adapt for Shared {
    type Base = SharedFutex<'static>;

    fn base(&self) -> &SharedFutex<'static> {
        &SHARED
    }
}

/// The waiters sleep behind a filter, and the release is behind one.
fn all_return<F: FutexTimed + Sync + Send + 'static>(futex: F, refused: Refused, waiters: usize) {
    let _alone = ALONE.lock();
    let page: &PageLock<F> = page_on(futex);
    let slot = futex.event(futex.event_index(core::ptr::from_ref(page).addr()));
    let begun = AtomicUsize::new(0);
    with_threads(&[page], |s| {
        let owner = page.lock();
        let waiters: Vec<_> = (0..waiters)
            .map(|_| {
                s.spawn(|| {
                    refused.install(page, slot);
                    begun.fetch_add(1, SeqCst);
                    page.wait_unlocked(())
                })
            })
            .collect();
        let locker = s.spawn(|| {
            refused.install(page, slot);
            begun.fetch_add(1, SeqCst);
            drop(page.lock());
        });
        while begun.load(SeqCst) <= waiters.len() || (slot.sleepers() as usize) < waiters.len() {
            thread::sleep(Duration::from_millis(1));
        }
        thread::sleep(Duration::from_millis(5));
        let releaser = s.spawn(move || {
            refused.install(page, slot);
            drop(owner);
        });
        releaser.join().unwrap();
        locker.join().unwrap();
        for waiter in waiters {
            assert_eq!(waiter.join().unwrap(), Wake::Released, "{refused:?}");
        }
    });
}

#[test]
fn whatever_is_refused_a_release_reaches_its_waiters_and_lockers() {
    each(|refused| all_return(OsFutex, refused, 2));
}

#[test]
fn a_refused_wake_of_a_few_wakes_all_of_many() {
    let refused =
        Refused { operations: &[libc::FUTEX_WAKE_BITSET], sched_yield: false, with: libc::ENOSYS };
    all_return(OsFutex, refused, 40);
}

#[test]
fn whatever_is_refused_processes_that_share_memory_wake_each_other() {
    each(|refused| all_return(Shared, refused, 2));
}

fn times_out<F: FutexTimed + Sync + Send + 'static>(futex: F, refused: Refused) {
    const MOMENT: Duration = Duration::from_millis(3);
    let _alone = ALONE.lock();
    let page = PageLock::with_futex(futex);
    let slot = futex.event(futex.event_index(core::ptr::from_ref(&page).addr()));
    with_threads(&[&page], |s| {
        let owner = page.lock();
        let timed = s.spawn(|| {
            refused.install(&page, slot);
            let limits = || Limits::none().until(futex.after(MOMENT).unwrap());
            let (began, mut spans) = (MonotonicTime::now(), [Duration::ZERO; 2]);
            let wake = page.wait_with((), Wait::unlocked().within(limits()));
            let between = MonotonicTime::now();
            let locked = page.lock_within(limits()).err();
            spans[0] = between - began;
            spans[1] = MonotonicTime::now() - between;
            (wake, locked, spans)
        });
        let (wake, locked, spans) = timed.join().unwrap();
        assert_eq!((wake, locked), (Wake::TimedOut, Some(LockError::TimedOut)), "{refused:?}");
        assert!(spans.iter().all(|&span| span >= MOMENT), "{refused:?}: {spans:?}");
        drop(owner);
    });
}

#[test]
fn whatever_is_refused_deadlines_are_kept() {
    each(|refused| times_out(OsFutex, refused));
    each(|refused| times_out(Shared, refused));
}

#[test]
fn a_refusal_does_not_change_errno() {
    let refused = Refused { operations: SETS[5].0, sched_yield: true, with: libc::EPERM };
    let _alone = ALONE.lock();
    let page = PageLock::new();
    let _guard = page.lock();
    let slot = OsFutex.event(OsFutex.event_index(core::ptr::from_ref(&page).addr()));
    let errno = thread::scope(|s| {
        let changes = s.spawn(|| {
            refused.install(&page, slot);
            // SAFETY: the address of this thread's errno, valid as long as it runs.
            let errno = unsafe { &mut *libc::__errno_location() };
            *errno = 77;
            let _ = page.wait_unlocked_for((), Duration::from_millis(1));
            OsFutex.wake_one(core::ptr::from_ref(&page).cast());
            OsFutex.relax();
            *errno
        });
        changes.join().unwrap()
    });
    assert_eq!(errno, 77);
}
