//! Memory in two tiers that never traps, for groups that take their faults in software: a thread
//! that accesses a page asks its entry first, and keeps the page from leaving by the entry's lock.
//! All mappings are the same addresses.

use crate::region::{PAGE, Region, WORD};
use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

const WORDS: usize = PAGE / WORD;
/// What a page holds that has left: an access that did not ask finds it, and so does the check.
const GONE: usize = usize::MAX / 3;

/// The words of a page that has left.
type Left = Box<[usize; WORDS]>;

pub(crate) struct Software {
    hot: Box<[AtomicUsize]>,
    cold: Box<[Mutex<Option<Left>>]>,
    mappings: usize,
}

impl Software {
    pub(crate) fn new(pages: usize, mappings: usize) -> Self {
        Self {
            hot: (0..pages * WORDS).map(|_| AtomicUsize::new(0)).collect(),
            cold: (0..pages).map(|_| Mutex::new(None)).collect(),
            mappings,
        }
    }

    fn words(&self, page: usize) -> &[AtomicUsize] {
        &self.hot[page * WORDS..][..WORDS]
    }
}

fn exists() -> io::Error {
    io::Error::from_raw_os_error(libc::EEXIST)
}

impl Region for Software {
    fn describe(&self) -> String {
        "ordinary memory, faults in software".to_string()
    }

    fn retries(&self) -> u64 {
        0
    }

    fn pages(&self) -> usize {
        self.cold.len()
    }

    fn mappings(&self) -> usize {
        self.mappings
    }

    fn base(&self, _mapping: usize) -> *mut u8 {
        self.hot.as_ptr().cast_mut().cast()
    }

    fn protect(&self, _mapping: usize, _page: usize) -> io::Result<()> {
        Ok(())
    }

    fn unprotect(&self, _mapping: usize, _page: usize) -> io::Result<()> {
        Ok(())
    }

    fn push_out(&self, page: usize) -> io::Result<()> {
        let mut cold = self.cold[page].lock().unwrap();
        if cold.is_some() {
            return Err(exists());
        }
        // Relaxed: the page's lock orders the two directions, the entries' locks the accesses.
        *cold =
            Some(Box::new(core::array::from_fn(|word| self.words(page)[word].swap(GONE, Relaxed))));
        Ok(())
    }

    fn bring_back(&self, page: usize) -> io::Result<()> {
        let words = self.cold[page].lock().unwrap().take().ok_or_else(exists)?;
        for (to, from) in self.words(page).iter().zip(*words) {
            to.store(from, Relaxed);
        }
        Ok(())
    }

    fn read_page(&self, page: usize, cold: bool, out: &mut [u8; PAGE]) -> io::Result<()> {
        let left = self.cold[page].lock().unwrap();
        if left.is_some() != cold {
            return Err(io::Error::from_raw_os_error(libc::ENOENT));
        }
        for (word, to) in out.chunks_exact_mut(WORD).enumerate() {
            let is = left
                .as_ref()
                .map_or_else(|| self.words(page)[word].load(Relaxed), |words| words[word]);
            to.copy_from_slice(&is.to_ne_bytes());
        }
        Ok(())
    }
}
