//! Pages in a file, each at its own place: nothing of it is in a process that may be killed.
//!
//! What has been written is the system's, whichever process dies. A page that was written in part
//! only counts for nothing: until the write has returned, memory has the page.

use crate::program::PAGE;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

#[derive(Debug)]
pub(crate) struct Store(pub(crate) File);

impl Store {
    pub(crate) fn write(&self, page: u32, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all_at(bytes, u64::from(page) * PAGE as u64)
    }

    pub(crate) fn read(&self, page: u32, into: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(into, u64::from(page) * PAGE as u64)
    }
}
