//! Headers and event slots in memory that two processes share, each at an address of its own.
//!
//! The other process is a fork of this one. It calls nothing but locks, waits and system calls, for
//! a fork of a program with several threads may do no more; what it has to say it says with its
//! exit status.

#![cfg(all(target_os = "linux", not(miri)))]

use crate::common::{OnDrop, watched, with_threads};
use core::cell::UnsafeCell;
use core::mem::MaybeUninit;
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicUsize, Ordering::SeqCst};
use core::time::Duration;
use pagelock::futex::{Adapt, EventSlot, SharedFutex, SharedSlot, Sleep};
use pagelock::sync::AtomicU32 as Word;
use pagelock::{FreezeRule, Futex, PageLock, Wake};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What the processes share.
#[repr(C)]
struct Segment {
    events: [SharedSlot; 16],
    pages: [PageLock<Guest>; 8],
    counter: UnsafeCell<u64>,
    flag: AtomicU32,
}

// SAFETY: the counter is used by the owner of page 0 only.
unsafe impl Sync for Segment {}

/// Where this process sees the segment. (A fork has a copy of this, which it may change.)
static HERE: AtomicPtr<Segment> = AtomicPtr::new(ptr::null_mut());

/// A platform of no size that finds the segment of its process.
#[derive(Clone, Copy)]
struct Guest;

/// Where this process sees the segment, as a platform. A process that is forked has one of its own.
static PLATFORM: AtomicPtr<SharedFutex<'static>> = AtomicPtr::new(ptr::null_mut());

/// Says where the segment is. It must stay there as long as its pages are used; what this allocates
/// is leaked.
fn is_at(segment: *mut Segment, platform: *mut SharedFutex<'static>) {
    // SAFETY: the segment is live, and `platform` is memory for one.
    unsafe {
        let segment = &*segment;
        platform.write(SharedFutex::new(&segment.events, segment.pages.as_ptr().addr()).unwrap());
    }
    HERE.store(segment, SeqCst);
    PLATFORM.store(platform, SeqCst);
}

fn here() -> &'static SharedFutex<'static> {
    // SAFETY: set before any page in the segment is used.
    unsafe { &*PLATFORM.load(SeqCst) }
}

impl Adapt for Guest {
    type Base = SharedFutex<'static>;

    fn base(&self) -> &SharedFutex<'static> {
        here()
    }
}

const SIZE: usize = 4096;

/// The segment, mapped here. One test at a time has it.
struct Mapped {
    fd: libc::c_int,
    at: *mut Segment,
    _alone: MutexGuard<'static, ()>,
}

impl Mapped {
    fn new() -> Self {
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(size_of::<Segment>() <= SIZE && size_of::<PageLock<Guest>>() == 8);
        // SAFETY: a new file without a name, of zeroes.
        let fd = unsafe { libc::memfd_create(c"pages".as_ptr(), 0) };
        assert!(fd >= 0);
        // SAFETY: changes the size of that file.
        assert_eq!(unsafe { libc::ftruncate(fd, SIZE as libc::off_t) }, 0);
        let at = map(fd);
        is_at(at, Box::into_raw(Box::new(MaybeUninit::<SharedFutex<'static>>::uninit())).cast());
        Self { fd, at, _alone: alone }
    }

    fn segment(&self) -> &Segment {
        // SAFETY: it is mapped until drop, and all zeroes are a valid segment.
        unsafe { &*self.at }
    }

    /// Runs `body` in a fork, which sees the segment somewhere else, and exits with what `body`
    /// says.
    ///
    /// `body` must not allocate, panic, or take locks other than those in the segment.
    fn fork(&self, body: impl FnOnce(&Segment) -> u8) -> Child {
        // SAFETY: the child does nothing but what is allowed between fork and exec, as `body`
        // promises.
        match unsafe { libc::fork() } {
            -1 => panic!("fork: {}", std::io::Error::last_os_error()),
            0 => {
                // SAFETY: asks for the end of this process when the parent ends; it has no other
                // effect.
                unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
                let there = map(self.fd);
                let status = if there == self.at {
                    99
                } else {
                    let mut platform = MaybeUninit::uninit();
                    is_at(there, platform.as_mut_ptr());
                    // SAFETY: it was mapped just now and stays so.
                    body(unsafe { &*there })
                };
                // SAFETY: ends the process, without running anything of the parent's.
                unsafe { libc::_exit(status.into()) }
            }
            pid => Child(pid),
        }
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        HERE.store(ptr::null_mut(), SeqCst);
        // SAFETY: the mapping and the file are ours, and nobody uses them any more.
        unsafe {
            libc::munmap(self.at.cast(), SIZE);
            libc::close(self.fd);
        }
    }
}

/// Maps the file once more.
fn map(fd: libc::c_int) -> *mut Segment {
    // SAFETY: a new mapping; nothing else is affected.
    let at = unsafe {
        libc::mmap(
            ptr::null_mut(),
            SIZE,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED,
            fd,
            0,
        )
    };
    if at == libc::MAP_FAILED {
        // SAFETY: ends the process; this may be the fork, which must not panic.
        unsafe { libc::_exit(98) }
    }
    at.cast()
}

struct Child(libc::pid_t);

impl Child {
    /// Ends it where it is.
    fn kill(self) {
        let mut status = 0;
        // SAFETY: the child is ours and was not waited for, so the number is its own; `status` is
        // an int that the second call fills in.
        let pid = unsafe {
            libc::kill(self.0, libc::SIGKILL);
            libc::waitpid(self.0, &mut status, 0)
        };
        assert!(pid == self.0 && libc::WIFSIGNALED(status), "status {status:#x}");
    }

    /// Waits for its end and says with what.
    fn status(self) -> u8 {
        let mut status = 0;
        // SAFETY: `status` is an int that the call fills in; the child is ours and was not waited
        // for.
        let pid = unsafe { libc::waitpid(self.0, &mut status, 0) };
        assert_eq!(pid, self.0);
        assert!(libc::WIFEXITED(status), "status {status:#x}");
        u8::try_from(libc::WEXITSTATUS(status)).unwrap()
    }
}

fn code(wake: Wake) -> u8 {
    match wake {
        Wake::Released => 1,
        Wake::NotLocked => 2,
        Wake::TimedOut => 3,
        Wake::Cancelled => 4,
        Wake::Poisoned => 5,
        _ => 6,
    }
}

#[test]
fn two_processes_exclude_each_other() {
    const EACH: u64 = 20_000;
    let mapped = Mapped::new();
    let count = |segment: &Segment| {
        for i in 0..EACH {
            let guard = segment.pages[0].lock();
            // SAFETY: under the page's lock.
            unsafe { *segment.counter.get() += 1 };
            if i % 16 == 0 {
                guard.unlock_fair();
            }
        }
        0
    };
    watched(&[&mapped.segment().pages], || {
        let child = mapped.fork(count);
        count(mapped.segment());
        assert_eq!(child.status(), 0);
    });
    // SAFETY: the other process has ended.
    assert_eq!(unsafe { *mapped.segment().counter.get() }, 2 * EACH);
    assert!(!mapped.segment().pages[0].is_locked());
}

/// On every page, so that each slot's index is computed in both processes and they agree.
#[test]
fn a_waiter_in_another_process_is_woken() {
    let mapped = Mapped::new();
    for page in &mapped.segment().pages {
        let segment = mapped.segment();
        segment.flag.store(0, SeqCst);
        let index = (page as *const PageLock<Guest> as usize - segment.pages.as_ptr().addr())
            / size_of_val(page);
        watched(&[page], || {
            let guard = page.lock();
            let child = mapped.fork(|there| {
                let ptl = OnDrop(|| there.flag.store(1, SeqCst));
                code(there.pages[index].wait_unlocked(ptl))
            });
            while segment.flag.load(SeqCst) == 0 {
                std::thread::yield_now();
            }
            assert!(guard.unlock().event_waiters, "page {index}");
            assert_eq!(child.status(), code(Wake::Released), "page {index}");
        });
    }
}

#[test]
fn several_processes_wait_for_one_migration() {
    let mapped = Mapped::new();
    let segment = mapped.segment();
    let page = &segment.pages[3];
    page.activate(1).unwrap();
    watched(&[page], || {
        let migration = page.lock().begin_migration();
        let children = [(); 4].map(|()| {
            mapped.fork(|there| {
                let ptl = OnDrop(|| _ = there.flag.fetch_add(1, SeqCst));
                code(there.pages[3].wait_migration(ptl))
            })
        });
        while segment.flag.load(SeqCst) < 4 {
            std::thread::yield_now();
        }
        let frozen = migration
            .freeze(FreezeRule::ExactRefs(1))
            .expect("waiters of other processes hold no reference either");
        assert!(frozen.commit_in_place().event_waiters);
        for child in children {
            assert_eq!(child.status(), code(Wake::Released));
        }
    });
}

#[test]
fn a_locker_in_another_process_is_woken() {
    let mapped = Mapped::new();
    let page = &mapped.segment().pages[5];
    watched(&[page], || {
        let guard = page.lock();
        let child = mapped.fork(|there| {
            drop(there.pages[5].lock());
            7
        });
        while !format!("{page:?}").contains("1 sleepers") {
            std::thread::yield_now();
        }
        drop(guard);
        assert_eq!(child.status(), 7);
    });
    assert!(!page.is_locked());
}

/// A process that dies as an owner leaves the page locked. Waiters with a deadline find out.
#[test]
fn a_deadline_bounds_the_wait_for_an_owner_that_died() {
    let mapped = Mapped::new();
    let page = &mapped.segment().pages[1];
    watched(&[page], || {
        let child = mapped.fork(|there| {
            there.pages[1].lock().into_raw();
            0
        });
        assert_eq!(child.status(), 0);
        assert!(page.is_locked());
        assert_eq!(page.wait_unlocked_for((), Duration::from_millis(1)), Wake::TimedOut);
        assert!(page.try_lock_for(Duration::from_millis(1)).is_none());
        let child = mapped
            .fork(|there| code(there.pages[1].wait_unlocked_for((), Duration::from_millis(1))));
        assert_eq!(child.status(), code(Wake::TimedOut));
    });
}

/// A locker that is killed in its sleep stays counted, and the page is kept for it until another
/// process says that it is gone.
#[test]
fn a_sleeper_that_was_killed_can_be_struck() {
    let mapped = Mapped::new();
    let (page, asked) = (&mapped.segment().pages[2], AtomicUsize::new(0));
    watched(&[page], || {
        let guard = page.lock();
        let child = mapped.fork(|there| {
            drop(there.pages[2].lock_releasing(()));
            0
        });
        while page.sleepers() == 0 {
            std::thread::yield_now();
        }
        child.kill();
        drop(guard);
        assert!(page.is_locked() && page.try_lock().is_none(), "kept for the dead: {page:?}");
        std::thread::scope(|s| {
            let waiter = s.spawn(|| page.wait_unlocked(OnDrop(|| asked.store(1, SeqCst))));
            while asked.load(SeqCst) == 0 {
                std::thread::yield_now();
            }
            // SAFETY: the counted locker is dead, and nobody else locks this page.
            unsafe { page.reset_sleepers() };
            assert_eq!(waiter.join().unwrap(), Wake::Released);
        });
        assert_eq!(page.sleepers(), 0);
        assert!(page.try_lock().is_some(), "{page:?}");
    });
}

#[test]
fn the_slot_of_a_page_depends_on_its_index_alone() {
    static EVENTS: [SharedSlot; 8] = [const { EventSlot::new() }; 8];
    let (near, far) = (
        SharedFutex::new(&EVENTS, 0x10_0000).unwrap(),
        SharedFutex::new(&EVENTS, 0x7f00_1234_5000).unwrap(),
    );
    let used = AtomicUsize::new(0);
    for page in (0..1024).map(|i| i * 8) {
        let slot = near.event_index(0x10_0000 + page);
        assert_eq!(slot, far.event_index(0x7f00_1234_5000 + page));
        used.fetch_or(1 << slot, SeqCst);
    }
    assert_eq!(used.into_inner(), 0xff, "all slots are used");
}

#[test]
fn a_table_has_any_number_of_slots_but_none() {
    static EVENTS: [SharedSlot; 8] = [const { EventSlot::new() }; 8];
    for n in 0..=8 {
        assert_eq!(
            SharedFutex::new(&EVENTS[..n], 0).map(|shared| shared.events()),
            (n > 0).then_some(n)
        );
    }
}

/// What the other process does in the tests above, here.
#[test]
fn a_sleep_needs_the_expected_value() {
    let mapped = Mapped::new();
    let (word, began) = (Word::new(1), AtomicU32::new(0));
    assert_eq!(here().wait(&word, 0), Sleep::Changed);
    with_threads(&[], |s| {
        s.spawn(|| {
            while began.load(SeqCst) == 0 {
                std::thread::yield_now();
            }
            word.store(2, SeqCst);
            here().wake_all(&raw const word);
        });
        began.store(1, SeqCst);
        while word.load(SeqCst) == 1 {
            here().wait(&word, 1);
        }
    });
    drop(mapped);
}
