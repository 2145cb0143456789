//! The database's storage: memory.

use crate::paging::{PAGE, Paging};
use redb::StorageBackend;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};

pub(crate) struct Backend {
    paging: Arc<Paging>,
    len: AtomicU64,
}

impl Backend {
    pub(crate) fn new(paging: &Arc<Paging>) -> Self {
        Self { paging: Arc::clone(paging), len: AtomicU64::new(0) }
    }

    /// Whether the pages that were just used are what the file has of them.
    fn check(&self) -> io::Result<()> {
        self.paging.check().map_err(io::Error::other)
    }

    /// The first of `len` bytes at `offset`; counts whether their pages are in.
    fn at(&self, offset: u64, len: usize) -> io::Result<*mut u8> {
        let end = offset.checked_add(len as u64).filter(|&end| end <= self.len.load(Acquire));
        let Some(end) = end else { return Err(io::ErrorKind::UnexpectedEof.into()) };
        let paging = &self.paging;
        for page in offset as usize / PAGE..(end as usize).div_ceil(PAGE) {
            let count =
                if paging.is_in(page) { &paging.counts.hits } else { &paging.counts.misses };
            count.fetch_add(1, Relaxed);
            paging.used[page].store(true, Relaxed);
        }
        Ok(std::ptr::with_exposed_provenance_mut(
            paging.region.host_range().start + offset as usize,
        ))
    }
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        Ok(self.len.load(Acquire))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let from = self.at(offset, out.len())?;
        // SAFETY: in the region, as `at` has checked; the database does not write there meanwhile,
        // and pages that come and go keep their bytes.
        unsafe { std::ptr::copy_nonoverlapping(from, out.as_mut_ptr(), out.len()) };
        self.check()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let to = self.at(offset, data.len())?;
        // SAFETY: as above, and nobody reads it either.
        unsafe { std::ptr::copy_nonoverlapping(data.as_ptr(), to, data.len()) };
        self.check()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let range = self.paging.region.host_range();
        if len > range.len() as u64 {
            let why = "the database needs more address space (--mib)";
            return Err(self.paging.fail(io::Error::new(io::ErrorKind::StorageFull, why)));
        }
        let old = self.len.swap(len, Release);
        self.paging.file.set_len(len).map_err(|error| self.paging.fail(error))?;
        if len < old {
            // What is left of the last page is zeroed by hand.
            let rest = len.next_multiple_of(PAGE as u64).min(old) - len;
            // SAFETY: in the region; the database does not use it any more.
            unsafe {
                std::ptr::with_exposed_provenance_mut::<u8>(range.start + len as usize)
                    .write_bytes(0, rest as usize);
            }
            self.paging.cut(len.div_ceil(PAGE as u64) as usize, old.div_ceil(PAGE as u64) as usize);
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.paging.sync()
    }
}

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backend").field("len", &self.len).finish_non_exhaustive()
    }
}
