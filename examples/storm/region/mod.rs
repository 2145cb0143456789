//! Memory in two tiers, with real page faults.
//!
//! A region is a run of 4 KiB pages that worker threads touch by plain loads and stores, through
//! one mapping or through several. A page is *hot* while it lies there, and *cold* once it was
//! pushed out. Touching a cold page is a fault; on Linux it is a real one: userfaultfd in its
//! SIGBUS mode, so that the very thread that touched the page gets the signal, and resolves it in
//! the handler before it goes on with the same instruction.
//!
//! | kind      | a page leaves by             | and returns by | stores are stopped by           |
//! |-----------|------------------------------|----------------|---------------------------------|
//! | `Anon`    | `UFFDIO_MOVE`                | `UFFDIO_MOVE`  | nothing: the move is atomic     |
//! | (no MOVE) | copy, `MADV_DONTNEED`        | `UFFDIO_COPY`  | `UFFDIO_WRITEPROTECT`           |
//! | `Memfd`   | copy, `FALLOC_FL_PUNCH_HOLE` | `UFFDIO_COPY`  | `UFFDIO_WRITEPROTECT`, each map |
//!
//! # What the caller owes
//!
//! The region keeps no lock. For one page, `protect`, `push_out`, `bring_back` and `unprotect` are
//! called by the holder of that page's lock; for different pages they run at the same time. To push
//! a page out, [`Region::protect`] it in *every* mapping first: a store from now on faults, and its
//! thread waits for the lock. If pushing out fails, [`Region::unprotect`] it in every mapping. The
//! fault of a page that is hot by then needs nothing but the retry.

use std::io;

#[cfg(target_os = "linux")]
mod anon;
#[cfg(target_os = "linux")]
mod anon_copy;
#[cfg(target_os = "linux")]
mod cold;
#[cfg(target_os = "linux")]
mod map;
#[cfg(target_os = "linux")]
mod memfd;
#[cfg(target_os = "linux")]
mod page;
mod room;
#[cfg(target_os = "linux")]
mod sigbus;
#[cfg(target_os = "linux")]
mod uffd;

pub use room::boxed;

/// Bytes in a page.
pub const PAGE: usize = 4096;
/// Bytes in a word, the unit of every access.
pub const WORD: usize = size_of::<usize>();

/// Which memory to open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Private anonymous memory, one mapping.
    Anon,
    /// One memfd, mapped this many times.
    Memfd { mappings: usize },
    /// Ordinary memory that never traps, which is no region.
    Software { mappings: usize },
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Anon => "anonymous memory",
            Self::Memfd { .. } => "memfd",
            Self::Software { .. } => "ordinary memory",
        }
    }

    pub fn mappings(self) -> usize {
        match self {
            Self::Anon => 1,
            Self::Memfd { mappings } | Self::Software { mappings } => mappings,
        }
    }
}

/// What the kernel is to lack, so that the substitutes can be tried on a kernel that lacks nothing.
#[derive(Clone, Copy, Debug, Default)]
#[cfg_attr(not(target_os = "linux"), allow(dead_code))] // there it all lacks anyway
pub struct Pretend {
    /// No userfaultfd at all.
    pub no_userfaultfd: bool,
    /// No `UFFDIO_MOVE` (Linux before 6.8).
    pub no_move: bool,
    /// `UFFDIO_MOVE`, but no page comes back by it: each is busy, as those that the kernel has
    /// merged.
    pub all_busy: bool,
    /// No `UFFDIO_WRITEPROTECT` (Linux before 5.7, for a memfd before 5.19; some architectures).
    pub no_write_protect: bool,
}

/// Pages in two tiers. See the [module](self) for the order in which the calls may be made.
///
/// Errors are bare OS errors, and no method but `describe` and `read_page` allocates or does more
/// than make system calls and copy words: `push_out` and `bring_back` are safe to call in the
/// handler of a synchronous signal.
pub trait Region: Send + Sync {
    /// The memory in words, for the report.
    fn describe(&self) -> String;

    /// How often the kernel had to be asked again.
    fn retries(&self) -> u64;

    /// How many pages.
    fn pages(&self) -> usize;

    /// Through how many mappings they are seen.
    fn mappings(&self) -> usize;

    /// Where a mapping begins: `pages() * PAGE` bytes, valid as long as the region, page-aligned.
    fn base(&self, mapping: usize) -> *mut u8;

    /// Makes stores to the page through this mapping fault, while loads go on. When it returns, no
    /// store through this mapping is still under way.
    fn protect(&self, mapping: usize, page: usize) -> io::Result<()>;

    /// Takes `protect` back, for a page that stays hot after all. No thread is woken: one that
    /// ran into the protection sleeps, if anywhere, in its own handler.
    fn unprotect(&self, mapping: usize, page: usize) -> io::Result<()>;

    /// Hot to cold. The page is protected in every mapping. Afterwards every access through every
    /// mapping faults.
    ///
    /// On an error the page is as it was, hot and protected: `EBUSY` for one that the kernel will
    /// not move now (pinned, say). For a page that is cold already it is `EEXIST`, and nothing is
    /// done.
    fn push_out(&self, page: usize) -> io::Result<()>;

    /// Cold to hot. Afterwards loads and stores through every mapping succeed; nothing of `protect`
    /// is left.
    ///
    /// On an error the page is still cold. For a page that is hot already it is `EEXIST`, and
    /// nothing is done.
    fn bring_back(&self, page: usize) -> io::Result<()>;

    /// Reads a page where the caller's records say that it is, for the check when all threads have
    /// stopped.
    ///
    /// Never faults: where the records are wrong, it is an error (`EFAULT`, `ENOENT`).
    fn read_page(&self, page: usize, cold: bool, out: &mut [u8; PAGE]) -> io::Result<()>;

    /// Which mapping and page an address belongs to, if any.
    fn locate(&self, addr: usize) -> Option<(usize, usize)> {
        (0..self.mappings()).find_map(|mapping| {
            let page = addr.checked_sub(self.base(mapping) as usize)? / PAGE;
            (page < self.pages()).then_some((mapping, page))
        })
    }
}

/// Opens memory of this kind, all of it hot and zero; or, where the kernel lacks something, the
/// next best, and one line that says so. With nothing that traps there is no region.
pub fn open(
    kind: Kind,
    pages: usize,
    pretend: Pretend,
) -> (Option<Box<dyn Region>>, Option<String>) {
    match open_trapping(kind, pages, pretend) {
        Ok((region, instead)) => (Some(region), instead),
        Err(why) => (
            None,
            why.map(|why| {
                format!(
                    "{why}: no real page faults, ordinary memory with faults in software instead"
                )
            }),
        ),
    }
}

/// A region, and why it is the next best, if it is. The error is what stands in the way; nothing,
/// if none was asked for.
type Opened = Result<(Box<dyn Region>, Option<String>), Option<String>>;

#[cfg(target_os = "linux")]
fn open_trapping(kind: Kind, pages: usize, pretend: Pretend) -> Opened {
    let size = map::system_page_size();
    match kind {
        Kind::Software { .. } => Err(None),
        _ if size != PAGE => Err(Some(format!("pages have {size} bytes here, not {PAGE}"))),
        Kind::Anon => {
            let no_move = match anon::Anon::new(pages, pretend) {
                Ok(region) => return Ok((Box::new(region), None)),
                Err(error) => error,
            };
            let line = format!(
                "userfaultfd moves no pages here ({no_move}): \
                 write-protected, copied and dropped instead"
            );
            match anon_copy::AnonCopy::new(pages, pretend) {
                Ok(region) => Ok((Box::new(region), Some(line))),
                Err(error) => {
                    Err(Some(format!("userfaultfd serves no anonymous memory ({error})")))
                }
            }
        }
        Kind::Memfd { mappings } => match memfd::Memfd::new(pages, mappings, pretend) {
            Ok(region) => Ok((Box::new(region), None)),
            Err(error) => {
                Err(Some(format!("userfaultfd write-protects no shared memory ({error})")))
            }
        },
    }
}

#[cfg(not(target_os = "linux"))]
fn open_trapping(kind: Kind, _pages: usize, _pretend: Pretend) -> Opened {
    Err((!matches!(kind, Kind::Software { .. })).then(|| "userfaultfd is Linux only".to_string()))
}

/// Has every fault of this process resolved by `resolve`, which is told the address and whether it
/// was a store, and says whether the instruction may run again. A later call replaces the function.
///
/// Does nothing on systems where there are no regions.
pub fn on_fault(resolve: fn(addr: usize, write: bool) -> bool) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    return sigbus::install(resolve);
    #[cfg(not(target_os = "linux"))]
    {
        let _ = resolve;
        Ok(())
    }
}
