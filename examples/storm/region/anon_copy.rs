//! Private anonymous memory where the kernel cannot move pages: the next best.
//!
//! A copy takes time, so stores are stopped first, by write protection; then the page is copied and
//! dropped. Loads go on during all of it, and see the same bytes. What this loses against a move:
//! the copy itself, and `MADV_DONTNEED` drops a page that is pinned without a word, where
//! `UFFDIO_MOVE` says `EBUSY`.

use std::io;

use super::cold::ColdStore;
use super::map::{Mapping, peek};
use super::page::Page;
use super::uffd::{self, Uffd};
use super::{PAGE, Pretend, Region};

pub struct AnonCopy {
    map: Mapping,
    cold: ColdStore,
    uffd: Uffd,
}

impl AnonCopy {
    pub fn new(pages: usize, pretend: Pretend) -> io::Result<Self> {
        let uffd = Uffd::open(uffd::PAGEFAULT_FLAG_WP, pretend)?;
        let map = Mapping::anonymous(pages)?;
        uffd.register(
            &map,
            uffd::MODE_MISSING | uffd::MODE_WP,
            &[uffd::NR_COPY, uffd::NR_WRITEPROTECT],
        )?;
        let zeros = Page::zeroed(1);
        for page in 0..pages {
            // SAFETY: a readable page, and one of the registered mapping, which is used by atomics
            // and the kernel only.
            unsafe { uffd.copy(map.at(page), zeros[0].as_mut_ptr()) }?;
        }
        let cold = ColdStore::new(pages)?;
        let region = Self { map, cold, uffd };
        region.protect(0, 0)?;
        region.push_out(0)?;
        region.bring_back(0)?;
        Ok(region)
    }
}

impl Region for AnonCopy {
    fn describe(&self) -> String {
        "anonymous memory, pages copied and dropped".to_string()
    }

    fn retries(&self) -> u64 {
        self.uffd.retries()
    }

    fn pages(&self) -> usize {
        self.map.pages()
    }

    fn mappings(&self) -> usize {
        1
    }

    fn base(&self, _mapping: usize) -> *mut u8 {
        self.map.at(0)
    }

    fn protect(&self, _mapping: usize, page: usize) -> io::Result<()> {
        self.uffd.write_protect(self.map.at(page), true)
    }

    fn unprotect(&self, _mapping: usize, page: usize) -> io::Result<()> {
        self.uffd.write_protect(self.map.at(page), false)
    }

    fn push_out(&self, page: usize) -> io::Result<()> {
        // SAFETY: a page of the mapping, which lives as long as `self` and is used by atomics and
        // the kernel only. It is there to be read: `put` refuses before looking when it was pushed
        // out already.
        let hot = unsafe { Page::at(self.map.at(page)) };
        let drop_it = || self.map.advise(page, 1, libc::MADV_DONTNEED);
        self.cold.put(page, hot, drop_it)
    }

    fn bring_back(&self, page: usize) -> io::Result<()> {
        self.cold.take(page, |copy| {
            // The protection went with the page that was dropped. SAFETY: the copy is a readable
            // page, the other one of the registered mapping, used by atomics only.
            unsafe { self.uffd.copy(self.map.at(page), copy.as_mut_ptr()) }
        })
    }

    fn read_page(&self, page: usize, cold: bool, out: &mut [u8; PAGE]) -> io::Result<()> {
        match cold {
            true => self.cold.get(page).map(|copy| copy.read(out)),
            false => peek(self.map.at(page), out),
        }
    }
}
