//! Pages on disk, compressed. A page takes as many cells of 256 bytes as it needs.
//!
//! A thread that reads or writes a page here owns it in the region; so one entry is never used by
//! two at once, and the index needs no lock.

use crate::program::PAGE;
use anyhow::{Context, Result};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

const CELL: u64 = 256;
const CELLS: usize = PAGE / CELL as usize;
const ROOM: usize = lz4_flex::block::get_maximum_output_size(PAGE);

pub(crate) struct Store {
    file: File,
    /// First cell, shifted by 16, and the length; 0 is a page of zeroes.
    index: Box<[AtomicU64]>,
    space: Mutex<Space>,
}

struct Space {
    end: u64,
    /// Of so many cells.
    free: [Vec<u64>; CELLS + 1],
}

impl Store {
    /// In the file `path`, or in one that nobody sees.
    pub(crate) fn create(path: Option<&Path>, pages: u32) -> Result<Self> {
        let file = match path {
            Some(path) => {
                OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)
            }
            None => tempfile::tempfile(),
        };
        let file = file.with_context(|| {
            path.map_or("a temporary file".to_owned(), |path| path.display().to_string())
        })?;
        let index = (0..pages).map(|_| AtomicU64::new(0)).collect();
        Ok(Self { file, index, space: Mutex::new(Space { end: 1, free: Default::default() }) })
    }

    pub(crate) fn write(&self, page: u32, bytes: &[u8]) -> io::Result<()> {
        let mut room = [0; ROOM];
        let packed = match lz4_flex::block::compress_into(bytes, &mut room) {
            Ok(len) if len < PAGE => &room[..len],
            _ => bytes,
        };
        let cells = packed.len().div_ceil(CELL as usize);
        let first = self.space().take(cells);
        if let Err(error) = self.file.write_all_at(packed, first * CELL) {
            self.space().free[cells].push(first);
            return Err(error);
        }
        // Relaxed: the page's own lock orders its owners.
        self.forget(self.index[page as usize].swap(first << 16 | packed.len() as u64, Relaxed));
        Ok(())
    }

    pub(crate) fn read(&self, page: u32, into: &mut [u8]) -> io::Result<()> {
        let entry = self.index[page as usize].load(Relaxed);
        let (first, len) = (entry >> 16, (entry & 0xffff) as usize);
        match len {
            0 => into.fill(0),
            PAGE => self.file.read_exact_at(into, first * CELL)?,
            _ => {
                let mut room = [0; PAGE];
                self.file.read_exact_at(&mut room[..len], first * CELL)?;
                let got = lz4_flex::block::decompress_into(&room[..len], into)
                    .map_err(io::Error::other)?;
                if got != PAGE {
                    return Err(io::ErrorKind::InvalidData.into());
                }
            }
        }
        Ok(())
    }

    /// The page reads as zeroes from now on.
    pub(crate) fn drop_page(&self, page: u32) {
        self.forget(self.index[page as usize].swap(0, Relaxed));
    }

    /// Bytes that are in use.
    pub(crate) fn used(&self) -> u64 {
        self.index.iter().map(|entry| (entry.load(Relaxed) & 0xffff).next_multiple_of(CELL)).sum()
    }

    fn forget(&self, entry: u64) {
        if entry != 0 {
            let cells = (entry & 0xffff).div_ceil(CELL) as usize;
            self.space().free[cells].push(entry >> 16);
        }
    }

    fn space(&self) -> std::sync::MutexGuard<'_, Space> {
        self.space.lock().expect("nothing panics with the lock held")
    }
}

impl Space {
    fn take(&mut self, cells: usize) -> u64 {
        self.free[cells].pop().unwrap_or_else(|| {
            self.end += cells as u64;
            self.end - cells as u64
        })
    }
}
