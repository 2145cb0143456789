//! One file in memory, mapped several times: the page is one, the table entries that lead to it are
//! many.
//!
//! That is what makes it hard. Stores have to be stopped in each mapping by itself, before the
//! contents are copied; the page has to vanish from all of them at once, which a hole in the file
//! does; and when it returns, each mapping has to be usable again, also one that never touched the
//! page or that still carries a mark of its protection.
//!
//! Those marks outlive the page. The kernel keeps "write-protected" in the table entry of a page
//! that is not there, so that reclaim cannot undo it, and a hole punched in the file leaves it too.
//! If only the page were put back, a mapping with such a mark would map it read-only again,
//! silently on a load, and the next store would fault on a page that is hot. So the marks are
//! cleared in all mappings, and while the page is still missing: at no time is it there and
//! protected without a migration.
//!
//! The page returns by `UFFDIO_COPY` through the first mapping, which puts it in the file, whole.
//! The others need no call: on the next access the kernel finds it in the file and maps it without
//! a signal.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use super::cold::ColdStore;
use super::map::{Mapping, os_result, peek};
use super::page::Page;
use super::uffd::{self, PATIENCE, Uffd};
use super::{PAGE, Pretend, Region};

pub struct Memfd {
    file: OwnedFd,
    maps: Box<[Mapping]>,
    cold: ColdStore,
    uffd: Uffd,
}

impl Memfd {
    pub fn new(pages: usize, mappings: usize, pretend: Pretend) -> io::Result<Self> {
        let features = uffd::MISSING_SHMEM | uffd::PAGEFAULT_FLAG_WP | uffd::WP_HUGETLBFS_SHMEM;
        let uffd = Uffd::open(features, pretend)?;
        let file = memfd(pages)?;
        let maps = (0..mappings)
            .map(|_| Mapping::shared(pages, &file))
            .collect::<io::Result<Box<[_]>>>()?;
        for map in &maps {
            uffd.register(
                map,
                uffd::MODE_MISSING | uffd::MODE_WP,
                &[uffd::NR_COPY, uffd::NR_WRITEPROTECT],
            )?;
        }
        // By UFFDIO_COPY from the start, so that each is a page by itself even where files in
        // memory get huge ones.
        let zeros = Page::zeroed(1);
        for page in 0..pages {
            // SAFETY: a readable page, and one of the registered mapping, which is used by atomics
            // and the kernel only.
            unsafe { uffd.copy(maps[0].at(page), zeros[0].as_mut_ptr()) }?;
        }
        let cold = ColdStore::new(pages)?;
        let region = Self { file, maps, cold, uffd };
        for mapping in 0..mappings {
            region.protect(mapping, 0)?;
        }
        region.push_out(0)?;
        region.bring_back(0)?;
        Ok(region)
    }

    fn punch(&self, page: usize) -> io::Result<()> {
        self.uffd.patiently(PATIENCE, &[libc::EINTR], || {
            let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
            let offset = (page * PAGE) as libc::off_t;
            // SAFETY: takes a page out of a file of ours, whose memory is used by raw pointers and
            // atomics only, and where an access to a missing page traps.
            os_result(unsafe {
                libc::fallocate(self.file.as_raw_fd(), mode, offset, PAGE as libc::off_t)
            })
        })
    }
}

fn memfd(pages: usize) -> io::Result<OwnedFd> {
    // SAFETY: the name is a C string.
    let fd = unsafe { libc::memfd_create(c"storm".as_ptr(), libc::MFD_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: just made, and nobody else's.
    let file = unsafe { OwnedFd::from_raw_fd(fd) };
    let len = pages
        .checked_mul(PAGE)
        .and_then(|len| libc::off_t::try_from(len).ok())
        .ok_or_else(|| io::Error::from_raw_os_error(libc::EFBIG))?;
    // SAFETY: sets the length of a file that nobody has mapped yet.
    os_result(unsafe { libc::ftruncate(file.as_raw_fd(), len) })?;
    Ok(file)
}

impl Region for Memfd {
    fn describe(&self) -> String {
        "memfd, pages copied and punched out".to_string()
    }

    fn retries(&self) -> u64 {
        self.uffd.retries()
    }

    fn pages(&self) -> usize {
        self.maps[0].pages()
    }

    fn mappings(&self) -> usize {
        self.maps.len()
    }

    fn base(&self, mapping: usize) -> *mut u8 {
        self.maps[mapping].at(0)
    }

    fn protect(&self, mapping: usize, page: usize) -> io::Result<()> {
        // Where the mapping has no entry for the page yet, this leaves a mark in its place: a later
        // store through it maps the page read-only first, and faults.
        self.uffd.write_protect(self.maps[mapping].at(page), true)
    }

    fn unprotect(&self, mapping: usize, page: usize) -> io::Result<()> {
        self.uffd.write_protect(self.maps[mapping].at(page), false)
    }

    fn push_out(&self, page: usize) -> io::Result<()> {
        // SAFETY: a page of the first mapping, which lives as long as `self` and is used by atomics
        // and the kernel only. It is there to be read: `put` refuses before looking when it was
        // pushed out already.
        let hot = unsafe { Page::at(self.maps[0].at(page)) };
        self.cold.put(page, hot, || self.punch(page))
    }

    fn bring_back(&self, page: usize) -> io::Result<()> {
        self.cold.take(page, |copy| {
            for mapping in 0..self.maps.len() {
                self.unprotect(mapping, page)?;
            }
            // SAFETY: the copy is a readable page, the other one of a registered mapping, used by
            // atomics only.
            unsafe { self.uffd.copy(self.maps[0].at(page), copy.as_mut_ptr()) }
        })
    }

    fn read_page(&self, page: usize, cold: bool, out: &mut [u8; PAGE]) -> io::Result<()> {
        match cold {
            true => self.cold.get(page).map(|copy| copy.read(out)),
            false => peek(self.maps[0].at(page), out),
        }
    }
}
