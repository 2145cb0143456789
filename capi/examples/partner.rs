//! The other side of `tests/memfd.c`: the same segment, by the crate itself.

#[cfg(any(target_os = "linux", target_os = "android"))]
fn main() {
    linux::main();
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn main() {}

#[cfg(any(target_os = "linux", target_os = "android"))]
mod linux {
    use core::cell::UnsafeCell;
    use core::sync::atomic::{
        AtomicU32, AtomicU64,
        Ordering::{Acquire, Relaxed, Release},
    };
    use pagelock::futex::{Adapt, SharedFutex, SharedSlot};
    use pagelock::{FreezeRule, PageLock, Wake};
    use std::fs::File;
    use std::os::fd::{AsRawFd, FromRawFd};
    use std::sync::OnceLock;
    use std::{env, thread, time::Duration};

    const PAGES: usize = 16;
    const EVENTS: usize = 16;
    const TURNS: u32 = 20_000;

    static HERE: OnceLock<SharedFutex<'static>> = OnceLock::new();

    #[derive(Clone, Copy)]
    struct Shared;

    impl Adapt for Shared {
        type Base = SharedFutex<'static>;
        fn base(&self) -> &SharedFutex<'static> {
            HERE.get().expect("the segment is mapped first")
        }
    }

    #[repr(C)]
    struct Segment {
        pages: [PageLock<Shared>; PAGES],
        events: [SharedSlot; EVENTS],
        numbers: [UnsafeCell<u64>; PAGES],
        waits: [AtomicU32; 2],
        order: AtomicU32,
        ptl: AtomicU32,
    }

    struct Ptl<'a>(&'a AtomicU32);

    impl<'a> Ptl<'a> {
        fn lock(word: &'a AtomicU32) -> Self {
            while word.swap(1, Acquire) != 0 {
                thread::yield_now();
            }
            Self(word)
        }
    }

    impl Drop for Ptl<'_> {
        fn drop(&mut self) {
            self.0.store(0, Release);
        }
    }

    pub(super) fn main() {
        // Should the other side fail, this one does not stay.
        // SAFETY: it touches no memory.
        unsafe { libc::alarm(120) };
        let fd =
            env::args().nth(1).and_then(|fd| fd.parse().ok()).expect("the number of the memfd");
        // SAFETY: it was opened for this program.
        let memfd = unsafe { File::from_raw_fd(fd) };
        let (read_write, len) = (libc::PROT_READ | libc::PROT_WRITE, size_of::<Segment>());
        // Somewhere else than the partner has it.
        // SAFETY: a new mapping of a file that is that long.
        let at = unsafe {
            libc::mmap(
                core::ptr::null_mut(),
                len,
                read_write,
                libc::MAP_SHARED,
                memfd.as_raw_fd(),
                0,
            )
        };
        assert_ne!(at, libc::MAP_FAILED);
        // SAFETY: mapped for good, and of this layout on both sides.
        let shared: &'static Segment = unsafe { &*at.cast() };
        let first_page = shared.pages.as_ptr().addr();
        HERE.set(SharedFutex::new(&shared.events, first_page).expect("there are slots"))
            .expect("once");

        let random = AtomicU64::new(0x9e37_79b9_7f4a_7c15);
        let next = || {
            let x = random.load(Relaxed).wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            random.store(x, Relaxed);
            (x >> 33) as u32
        };
        shared.order.store(1, Release);
        for _ in 0..TURNS {
            turn(shared, next() as usize % PAGES, next());
        }
        while shared.order.load(Acquire) != 2 {
            thread::sleep(Duration::from_micros(100));
        }
        let _locked = shared.pages[0].lock();
        let _frozen = shared.pages[1].lock().begin_migration().freeze(FreezeRule::ExactRefs(1));
        shared.order.store(3, Release);
        thread::sleep(Duration::from_secs(600)); // it is killed
    }

    fn turn(shared: &Segment, i: usize, number: u32) {
        let page = &shared.pages[i];
        if number % 4 == 0 {
            let ptl = Ptl::lock(&shared.ptl);
            if page.is_locked() && page.wait_unlocked(ptl) == Wake::Released {
                shared.waits[1].fetch_add(1, Relaxed);
            }
        }
        let guard = page.lock();
        let number_here = shared.numbers[i].get();
        // SAFETY: the page's lock guards it, on both sides.
        let now = unsafe { number_here.read() };
        if number % 64 == 1 {
            thread::sleep(Duration::from_micros(10));
        }
        if number % 8 == 1 {
            let frozen = guard
                .begin_migration()
                .freeze(FreezeRule::ExactRefs(1))
                .expect("one reference, no pins");
            // SAFETY: as above.
            unsafe { number_here.write(now + 1) };
            frozen.commit_in_place();
        } else {
            // SAFETY: as above.
            unsafe { number_here.write(now + 1) };
            drop(guard);
        }
    }
}
