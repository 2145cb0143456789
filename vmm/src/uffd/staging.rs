//! A few places that pages are moved to when they are taken out.
//!
//! A move takes a page out of the guest's table and flushes it from the processors in one step: a
//! store lands before, and moves along, or faults after. And it refuses a page that the kernel has
//! pinned. Neither can be said of a copy and a drop.

use super::calls::Uffd;
use super::wish::Wish;
use linux_raw_sys::general as sys;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};
use std::io;
use std::ptr::{self, NonNull};
use std::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};

const PLACES: usize = 64;

pub(super) struct Staging {
    base: NonNull<u8>,
    page: usize,
    /// One bit each: in use.
    used: AtomicU64,
    /// Of its own, so that dropping pages here is no event for anybody.
    uffd: Uffd,
}

// SAFETY: it owns its mapping, and each place is used by the thread that has its bit.
unsafe impl Send for Staging {}
// SAFETY: as above.
unsafe impl Sync for Staging {}

impl Staging {
    pub(super) fn new(page: usize) -> io::Result<Self> {
        let uffd = Uffd::open(Wish::default())?;
        let len = PLACES * page;
        // SAFETY: no address is asked for, so nothing is mapped over.
        let base = unsafe {
            mmap_anonymous(
                ptr::null_mut(),
                len,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE,
            )
        }?;
        let base = NonNull::new(base.cast::<u8>()).ok_or(io::ErrorKind::OutOfMemory)?;
        let this = Self { base, page, used: AtomicU64::new(0), uffd };
        // SAFETY: the mapping is ours, and its contents are zeroes so far.
        unsafe {
            // A kernel without huge pages refuses, and has none.
            let _ = madvise(this.base.as_ptr().cast(), len, Advice::LinuxNoHugepage);
            madvise(this.base.as_ptr().cast(), len, Advice::LinuxDontFork)?;
        }
        let calls = this.uffd.register(
            this.base.as_ptr() as usize,
            len,
            sys::UFFDIO_REGISTER_MODE_MISSING,
        )?;
        if calls & 1 << sys::_UFFDIO_MOVE == 0 {
            Err(io::ErrorKind::Unsupported.into())
        } else {
            Ok(this)
        }
    }

    /// Moves the page at `src` here, and shows it to `seen` before it goes.
    pub(super) fn take(&self, src: usize, seen: impl FnOnce(&[u8])) -> io::Result<()> {
        let place = self.place();
        let at = self.base.as_ptr() as usize + place.number * self.page;
        match self.uffd.move_page(at, src, self.page) {
            Ok(()) => {}
            // Nothing but a move of ours puts a page here, so it was this one.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        // SAFETY: the place has a page now, and is ours until `place` is dropped.
        unsafe {
            let at = self.base.as_ptr().add(place.number * self.page);
            seen(std::slice::from_raw_parts(at, self.page));
            madvise(at.cast(), self.page, Advice::LinuxDontNeed)?;
        }
        Ok(())
    }

    fn place(&self) -> Place<'_> {
        loop {
            // Relaxed: a look.
            let seen = self.used.load(Relaxed);
            let number = (!seen).trailing_zeros() as usize;
            // Acquire: pairs with the Release below: the place is empty again.
            if number < PLACES
                && self.used.compare_exchange(seen, seen | 1 << number, Acquire, Relaxed).is_ok()
            {
                return Place { staging: self, number };
            }
            std::thread::yield_now();
        }
    }
}

struct Place<'s> {
    staging: &'s Staging,
    number: usize,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        // Release: as above.
        self.staging.used.fetch_and(!(1 << self.number), Release);
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // SAFETY: mapped in `new` with this length, and nobody uses a place any more.
        let _ = unsafe { munmap(self.base.as_ptr().cast(), PLACES * self.page) };
    }
}
