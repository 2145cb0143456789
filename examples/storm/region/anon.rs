//! Private anonymous memory whose pages are moved, not copied: `UFFDIO_MOVE`, since Linux 6.8.
//!
//! The kernel takes a page out of the table at the one address, flushes it from the processors, and
//! puts it in at the other, under both table locks. A store lands before, and moves along, or
//! faults after. Therefore `protect` has nothing to do here: there is no moment at which a store
//! could hit a page whose contents were already taken.
//!
//! Both tiers are halves of one mapping, registered as a whole: a destination has to be, and both
//! have to be alike.
//!
//! # A move that says it failed
//!
//! Linux 6.18 reports `EEXIST` for some moves that it did. When the kernel is busy with the page
//! (it migrates it, say, to compact memory), it notes "again" and tries once more by itself; since
//! that version moves pages in batches, the note outlives the try that succeeds, and a third one
//! finds the page at its destination. A caller that believes it takes the page for hot when it is
//! cold, and faults for ever. So the region knows by itself on which side each page is, and can
//! tell: nothing but a move of its own puts a page at a place that was empty.
//!
//! # A page that is not moved
//!
//! The kernel moves no page that others have a part in (`EBUSY`). One that it has merged with equal
//! ones stays so until it is written to, and a thread that waits for it cannot write. The mapping
//! asks not to be merged; a page that is busy all the same is copied back.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use super::map::{Mapping, peek};
use super::page::Page;
use super::uffd::{self, Uffd};
use super::{PAGE, Pretend, Region, boxed};

/// How often a move is tried while the page is busy. What passes, passes within some ten of these.
const BUSY_TRIES: u32 = 200;

pub struct Anon {
    /// First the hot pages, then as many places for the cold ones.
    map: Mapping,
    pages: usize,
    /// Which pages are in the second half. Each is used under its page's lock.
    is_cold: Box<[AtomicBool]>,
    uffd: Uffd,
    all_busy: bool,
}

impl Anon {
    pub fn new(pages: usize, pretend: Pretend) -> io::Result<Self> {
        let uffd = Uffd::open(uffd::MOVE, pretend)?;
        let twice =
            pages.checked_mul(2).ok_or_else(|| io::Error::from_raw_os_error(libc::ENOMEM))?;
        let map = Mapping::anonymous(twice)?;
        uffd.register(&map, uffd::MODE_MISSING, &[uffd::NR_COPY, uffd::NR_MOVE])?;
        // Filled, not touched: touching one traps by now, and before, a load would have given all
        // the same zero page.
        let zeros = Page::zeroed(1);
        for page in 0..pages {
            // SAFETY: a readable page, and one of the registered mapping, which is used by raw
            // pointers alone.
            unsafe { uffd.copy(map.at(page), zeros[0].as_mut_ptr()) }?;
        }
        let is_cold = boxed(pages, |_| AtomicBool::new(false))?;
        let region = Self { map, pages, is_cold, uffd, all_busy: pretend.all_busy };
        // A kernel may offer what it then refuses on this machine.
        region.push_out(0)?;
        region.bring_back(0)?;
        Ok(region)
    }

    fn hot(&self, page: usize) -> *mut u8 {
        assert!(page < self.pages);
        self.map.at(page)
    }

    fn cold(&self, page: usize) -> *mut u8 {
        assert!(page < self.pages);
        self.map.at(self.pages + page)
    }

    fn shift(&self, page: usize, to_cold: bool) -> io::Result<()> {
        let exists = |error: &io::Error| error.raw_os_error() == Some(libc::EEXIST);
        if self.is_cold[page].load(Relaxed) == to_cold {
            return Err(io::Error::from_raw_os_error(libc::EEXIST));
        }
        let (dst, src) = match to_cold {
            true => (self.cold(page), self.hot(page)),
            false => (self.hot(page), self.cold(page)),
        };
        // SAFETY: both are pages of the registered mapping, which is used by raw pointers alone.
        match unsafe { self.uffd.move_page(dst, src) } {
            Err(error) if !exists(&error) => return Err(error),
            // Done, or done and not admitted: see above.
            _ => {}
        }
        self.is_cold[page].store(to_cold, Relaxed);
        Ok(())
    }

    fn move_back(&self, page: usize) -> io::Result<()> {
        if self.all_busy {
            return Err(io::Error::from_raw_os_error(libc::EBUSY));
        }
        self.shift(page, false)
    }

    /// As a move, in two steps. Nothing but the owner of the page's lock uses the cold place, so
    /// its bytes stand still.
    fn copy_back(&self, page: usize) -> io::Result<()> {
        // SAFETY: the cold place is a readable page, the hot one of the registered mapping, and
        // used by raw pointers alone.
        unsafe { self.uffd.copy(self.hot(page), self.cold(page)) }?;
        // The place has to be empty for the next one that comes.
        self.map.advise(self.pages + page, 1, libc::MADV_DONTNEED)?;
        self.is_cold[page].store(false, Relaxed);
        Ok(())
    }
}

impl Region for Anon {
    fn describe(&self) -> String {
        "anonymous memory, pages moved by userfaultfd".to_string()
    }

    fn retries(&self) -> u64 {
        self.uffd.retries()
    }

    fn pages(&self) -> usize {
        self.pages
    }

    fn mappings(&self) -> usize {
        1
    }

    fn base(&self, _mapping: usize) -> *mut u8 {
        self.map.at(0)
    }

    fn protect(&self, _mapping: usize, _page: usize) -> io::Result<()> {
        Ok(())
    }

    fn unprotect(&self, _mapping: usize, _page: usize) -> io::Result<()> {
        Ok(())
    }

    fn push_out(&self, page: usize) -> io::Result<()> {
        self.shift(page, true)
    }

    fn bring_back(&self, page: usize) -> io::Result<()> {
        // A thread waits for this page and can do nothing else, and no thread pins a cold one.
        match self.uffd.patiently(BUSY_TRIES, &[libc::EBUSY], || self.move_back(page)) {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => self.copy_back(page),
            moved => moved,
        }
    }

    fn read_page(&self, page: usize, cold: bool, out: &mut [u8; PAGE]) -> io::Result<()> {
        match cold {
            true => peek(self.cold(page), out),
            false => peek(self.hot(page), out),
        }
    }
}
