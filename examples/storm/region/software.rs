//! Two tiers without traps, for systems that have no userfaultfd.
//!
//! Nothing stops a thread from touching a cold page here: it has to ask first. One that does not is caught
//! afterwards, since both directions overwrite what they leave behind. All mappings are the same memory.

use std::io;

use super::cold::{ColdStore, POISON};
use super::page::Page;
use super::{PAGE, Region};

pub struct Software {
    hot: Box<[Page]>,
    cold: ColdStore,
    mappings: usize,
}

impl Software {
    pub fn new(pages: usize, mappings: usize) -> Self {
        Self { hot: Page::zeroed(pages), cold: ColdStore::new(pages), mappings }
    }
}

impl Region for Software {
    fn describe(&self) -> String {
        "ordinary memory, faults in software".to_string()
    }

    fn pages(&self) -> usize {
        self.hot.len()
    }

    fn mappings(&self) -> usize {
        self.mappings
    }

    fn base(&self, _mapping: usize) -> *mut u8 {
        self.hot[0].as_mut_ptr()
    }

    fn traps(&self) -> bool {
        false
    }

    fn protect(&self, _mapping: usize, _page: usize) -> io::Result<()> {
        Ok(())
    }

    fn unprotect(&self, _mapping: usize, _page: usize) -> io::Result<()> {
        Ok(())
    }

    fn push_out(&self, page: usize) -> io::Result<()> {
        let hot = &self.hot[page];
        self.cold.put(page, hot, || {
            hot.fill_with(POISON);
            Ok(())
        })
    }

    fn bring_back(&self, page: usize) -> io::Result<()> {
        self.cold.take(page, |copy| {
            self.hot[page].copy_from(copy);
            Ok(())
        })
    }

    fn read_page(&self, page: usize, cold: bool, out: &mut [u8; PAGE]) -> io::Result<()> {
        if cold {
            self.cold.get(page)?.read(out);
        } else {
            self.cold.lacks(page)?;
            self.hot[page].read(out);
        }
        Ok(())
    }

    fn fill(&self, page: usize, bytes: &[u8; PAGE]) -> io::Result<()> {
        self.cold.lacks(page)?;
        self.hot[page].write(bytes);
        Ok(())
    }
}
