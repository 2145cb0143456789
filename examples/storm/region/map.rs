//! A mapping that unmaps itself, and a way to read and write memory that may not be there.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use super::PAGE;

pub fn system_page_size() -> usize {
    // SAFETY: asks for a number, touches no memory of ours.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(size).unwrap_or(0)
}

/// Readable, writable pages.
pub struct Mapping {
    base: *mut u8,
    pages: usize,
}

// SAFETY: it owns a range of addresses and hands out nothing but raw pointers into it; unmapping it
// from another thread than the one that mapped it is fine.
unsafe impl Send for Mapping {}
// SAFETY: no method takes `&self` and changes the mapping, or the memory behind it.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Private anonymous memory.
    pub fn anonymous(pages: usize) -> io::Result<Self> {
        Self::new(pages, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1)
    }

    /// A file from its start, shared.
    pub fn shared(pages: usize, file: &OwnedFd) -> io::Result<Self> {
        Self::new(pages, libc::MAP_SHARED, file.as_raw_fd())
    }

    fn new(pages: usize, flags: i32, fd: RawFd) -> io::Result<Self> {
        let len =
            pages.checked_mul(PAGE).ok_or_else(|| io::Error::from_raw_os_error(libc::ENOMEM))?;
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: no address is asked for, so nothing that exists is mapped over.
        let base = unsafe { libc::mmap(ptr::null_mut(), len, prot, flags, fd, 0) };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let mapping = Self { base: base.cast(), pages };
        // Pages come and go one by one, so none may be part of a huge one; a kernel built without
        // huge pages says EINVAL, and has none. And no child: after a fork every page would be
        // shared with it, which UFFDIO_MOVE refuses (EBUSY), and the child would have the memory
        // without the traps.
        match mapping.advise(0, pages, libc::MADV_NOHUGEPAGE) {
            Err(error) if error.raw_os_error() != Some(libc::EINVAL) => return Err(error),
            _ => {}
        }
        // Nor one that the kernel has merged with equal ones, in this process or another:
        // UFFDIO_MOVE refuses it as well. EINVAL is from a kernel that merges none.
        match mapping.advise(0, pages, libc::MADV_UNMERGEABLE) {
            Err(error) if error.raw_os_error() != Some(libc::EINVAL) => return Err(error),
            _ => {}
        }
        mapping.advise(0, pages, libc::MADV_DONTFORK)?;
        Ok(mapping)
    }

    /// `madvise` for some of its pages.
    pub fn advise(&self, first: usize, pages: usize, advice: i32) -> io::Result<()> {
        // SAFETY: the range is in this mapping, which `at` checks. None of the advice used here
        // changes what Rust may assume of the memory: it is reached by raw pointers and atomics
        // only, and dropped pages trap.
        let rc = unsafe { libc::madvise(self.at(first).cast(), pages * PAGE, advice) };
        os_result(rc)
    }

    /// The address of a page.
    pub fn at(&self, page: usize) -> *mut u8 {
        assert!(page < self.pages);
        // SAFETY: the page is in the mapping, by the line above.
        unsafe { self.base.add(page * PAGE) }
    }

    pub fn pages(&self) -> usize {
        self.pages
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range came from `mmap` with this length and is unmapped only here. Pointers
        // to it end with the region that owns it, by the trait's contract.
        unsafe { libc::munmap(self.base.cast(), self.pages * PAGE) };
    }
}

/// Turns the usual 0 or -1 into a result.
pub fn os_result(rc: i32) -> io::Result<()> {
    match rc {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Reads a page of the process's own memory; `EFAULT` where touching it would trap.
///
/// The kernel's accesses on a program's behalf raise no signal: in userfaultfd's SIGBUS mode a
/// missing page makes `write` and `read` fail. What breaks programs that pass such memory to system
/// calls is put to use here: a page goes through a pipe, which holds at least one, so neither end
/// blocks.
pub fn peek(addr: *const u8, out: &mut [u8; PAGE]) -> io::Result<()> {
    let mut ends = [-1; 2];
    // SAFETY: `ends` has room for the two descriptors.
    os_result(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) })?;
    // SAFETY: both were just opened, and nobody else owns them.
    let [reader, writer] = ends.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
    // SAFETY: the kernel checks the address itself and fails with EFAULT where it cannot read.
    let n = unsafe { libc::write(writer.as_raw_fd(), addr.cast(), PAGE) };
    whole_page(n)?;
    // SAFETY: what is written to is an array that the caller lent.
    let n = unsafe { libc::read(reader.as_raw_fd(), out.as_mut_ptr().cast(), PAGE) };
    whole_page(n)
}

fn whole_page(transferred: isize) -> io::Result<()> {
    match usize::try_from(transferred) {
        Ok(PAGE) => Ok(()),
        Ok(_) => Err(io::Error::from_raw_os_error(libc::EFAULT)),
        Err(_) => Err(io::Error::last_os_error()),
    }
}
