//! The cold tier of the regions that copy: a second set of pages, and for each whether it holds
//! one.
//!
//! The caller needs no flag: it keeps records of its own and locks each page. The flag turns a
//! caller's mistake into an error (`EEXIST`) instead of lost contents, and lets the regions that
//! copy answer as `UFFDIO_MOVE` does.

use libc::{EEXIST, ENOENT};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use super::boxed;
use super::page::Page;

/// Overwrites a vacated page: a stale access shows in the sums.
const POISON: u64 = 0xdead_beef_0bad_f00d;

pub struct ColdStore {
    pages: Box<[Page]>,
    held: Box<[AtomicBool]>,
}

impl ColdStore {
    pub fn new(pages: usize) -> io::Result<Self> {
        Ok(Self {
            pages: boxed(pages, |_| Page::zero())?,
            held: boxed(pages, |_| AtomicBool::new(false))?,
        })
    }

    /// Copies a page in, and then runs `vacate`; the copy counts only if that succeeds.
    pub fn put(
        &self,
        page: usize,
        from: &Page,
        vacate: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<()> {
        if self.held[page].load(Relaxed) {
            return Err(io::Error::from_raw_os_error(EEXIST));
        }
        self.pages[page].copy_from(from);
        vacate()?;
        self.held[page].store(true, Relaxed);
        Ok(())
    }

    /// Shows the copy to `restore`, and drops it if that succeeds.
    pub fn take(
        &self,
        page: usize,
        restore: impl FnOnce(&Page) -> io::Result<()>,
    ) -> io::Result<()> {
        if !self.held[page].load(Relaxed) {
            return Err(io::Error::from_raw_os_error(EEXIST));
        }
        restore(&self.pages[page])?;
        self.held[page].store(false, Relaxed);
        self.pages[page].fill_with(POISON);
        Ok(())
    }

    /// The copy, where there is one.
    pub fn get(&self, page: usize) -> io::Result<&Page> {
        if !self.held[page].load(Relaxed) {
            return Err(io::Error::from_raw_os_error(ENOENT));
        }
        Ok(&self.pages[page])
    }
}
