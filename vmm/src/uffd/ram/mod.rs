//! Memory of a region, under userfaultfd.

mod layer;
mod pages;

use super::calls::Uffd;
use super::staging::Staging;
use crate::inbox::Inbox;
#[allow(unused_imports)] // For the documentation.
use crate::layer::Layer;
use linux_raw_sys::general as sys;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, mmap_anonymous, munmap};
use std::any::Any;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr;
use std::sync::{Arc, OnceLock};

/// Pages of 4 KiB.
pub const SMALL: usize = 4 << 10;
/// Pages of 2 MiB, from hugetlb.
pub const HUGE: usize = 2 << 20;

/// A stretch of this process's memory whose faults go to an [`Inbox`]: the [`Layer`] of the kernel.
pub struct Ram {
    uffd: Uffd,
    base: usize,
    len: usize,
    page: usize,
    file: Option<Shared>,
    staging: Option<Staging>,
    /// Opened when it is first needed.
    pagemap: OnceLock<OwnedFd>,
    /// The addresses are another process's.
    is_remote: bool,
    /// What keeps the memory mapped.
    _owner: Box<dyn Any + Send + Sync>,
}

/// The file behind a shared mapping.
struct Shared {
    file: Arc<dyn AsFd + Send + Sync>,
    offset: u64,
}

/// A mapping of our own.
struct Mapping {
    base: usize,
    len: usize,
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped with this length by the maker of this. Addresses of it end with the
        // region.
        let _ = unsafe { munmap(ptr::with_exposed_provenance_mut(self.base), self.len) };
    }
}

const ACCESS: ProtFlags = ProtFlags::READ.union(ProtFlags::WRITE);

impl Ram {
    /// `len` bytes of private anonymous memory, in pages of [`SMALL`] or [`HUGE`] size.
    ///
    /// # Errors
    ///
    /// What the system refuses; [`InvalidInput`](io::ErrorKind::InvalidInput) if the inbox is not
    /// of a [`Uffd`] or the size not one of the two.
    ///
    /// # Example
    ///
    /// ```
    /// # use pagelock_vmm::{Inbox, Region};
    /// # use pagelock_vmm::uffd::{Ram, SMALL};
    /// # let Ok(inbox) = Inbox::open() else { return Ok(()) }; // refused here
    /// let region = Region::new(Ram::anonymous(&inbox, 16 * SMALL, SMALL)?, &inbox, 0)?;
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn anonymous(inbox: &Inbox, len: usize, page: usize) -> io::Result<Self> {
        // Huge pages are reserved: they cannot be had later because they were needed.
        let reserved = if page == SMALL { MapFlags::NORESERVE } else { MapFlags::empty() };
        let flags = MapFlags::PRIVATE | reserved | huge(page)?;
        // SAFETY: no address is asked for, so nothing is mapped over.
        let base =
            unsafe { mmap_anonymous(ptr::null_mut(), len, ACCESS, flags) }?.expose_provenance();
        let mapping = Mapping { base, len };
        // SAFETY: the mapping is ours, nobody has used it, and it stays until the owner is dropped.
        unsafe { Self::over(inbox, base, len, page, None, Box::new(mapping)) }
    }

    /// `len` bytes of `file` from `offset` on, mapped shared: a memfd, which other processes may
    /// map as well. For pages of [`HUGE`] size the file is made with `MFD_HUGETLB`.
    ///
    /// Write protection is this mapping's: an eviction or a cleaning does not stop writers through
    /// another one. Stop them, or pin the pages that they use.
    ///
    /// # Errors
    ///
    /// As [`anonymous`](Self::anonymous).
    ///
    /// # Example
    ///
    /// ```
    /// # use pagelock_vmm::{Inbox, Region};
    /// # use pagelock_vmm::uffd::{Ram, SMALL};
    /// # let Ok(inbox) = Inbox::open() else { return Ok(()) }; // refused here
    /// let file = rustix::fs::memfd_create("guest", rustix::fs::MemfdFlags::CLOEXEC)?;
    /// rustix::fs::ftruncate(&file, 16 * SMALL as u64)?;
    /// let region = Region::new(Ram::memfd(&inbox, file, 0, 16 * SMALL, SMALL)?, &inbox, 0)?;
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn memfd(
        inbox: &Inbox,
        file: OwnedFd,
        offset: u64,
        len: usize,
        page: usize,
    ) -> io::Result<Self> {
        huge(page)?;
        // SAFETY: as in `anonymous`.
        let base = unsafe { mmap(ptr::null_mut(), len, ACCESS, MapFlags::SHARED, &file, offset) }?
            .expose_provenance();
        let mapping = Mapping { base, len };
        let shared = Shared { file: Arc::new(file), offset };
        // SAFETY: as in `anonymous`.
        unsafe { Self::over(inbox, base, len, page, Some(shared), Box::new(mapping)) }
    }

    /// Private anonymous memory that the caller has mapped at `base`; `owner` keeps it mapped.
    ///
    /// # Errors
    ///
    /// As [`anonymous`](Self::anonymous).
    ///
    /// # Safety
    ///
    /// The range is mapped, readable and writable, for as long as `owner` is there. Its users bear
    /// with pages that come and go: guests, and raw pointers; no Rust reference to it is live when
    /// a page is evicted or discarded.
    ///
    /// # Example
    ///
    /// ```
    /// # use pagelock_vmm::Inbox;
    /// # use pagelock_vmm::uffd::{Ram, SMALL};
    /// # let Ok(inbox) = Inbox::open() else { return Ok(()) }; // refused here
    /// use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};
    /// let (access, len) = (ProtFlags::READ | ProtFlags::WRITE, 16 * SMALL);
    /// // SAFETY: no address is asked for. The mapping is never unmapped, so `()` owns it.
    /// let ram = unsafe {
    ///     let base = mmap_anonymous(std::ptr::null_mut(), len, access, MapFlags::PRIVATE)?;
    ///     Ram::from_raw(&inbox, base.cast(), len, SMALL, ())?
    /// };
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub unsafe fn from_raw(
        inbox: &Inbox,
        base: *mut u8,
        len: usize,
        page: usize,
        owner: impl Any + Send + Sync,
    ) -> io::Result<Self> {
        huge(page)?;
        // SAFETY: the caller's promise.
        unsafe { Self::over(inbox, base.expose_provenance(), len, page, None, Box::new(owner)) }
    }

    /// [`from_raw`](Self::from_raw) for a shared mapping of `file` from `offset` on.
    ///
    /// # Errors
    ///
    /// As [`anonymous`](Self::anonymous).
    ///
    /// # Safety
    ///
    /// As [`from_raw`](Self::from_raw), and the mapping is of that file.
    ///
    /// # Example
    ///
    /// ```
    /// # use pagelock_vmm::Inbox;
    /// # use pagelock_vmm::uffd::{Ram, SMALL};
    /// # let Ok(inbox) = Inbox::open() else { return Ok(()) }; // refused here
    /// use rustix::mm::{MapFlags, ProtFlags, mmap};
    /// let (access, len) = (ProtFlags::READ | ProtFlags::WRITE, 16 * SMALL);
    /// let file = rustix::fs::memfd_create("guest", rustix::fs::MemfdFlags::CLOEXEC)?;
    /// rustix::fs::ftruncate(&file, len as u64)?;
    /// let file = std::sync::Arc::new(file);
    /// // SAFETY: no address is asked for. The mapping is never unmapped, so `()` owns it.
    /// let ram = unsafe {
    ///     let base = mmap(std::ptr::null_mut(), len, access, MapFlags::SHARED, &*file, 0)?;
    ///     Ram::from_raw_shared(&inbox, base.cast(), len, SMALL, (file, 0), ())?
    /// };
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub unsafe fn from_raw_shared(
        inbox: &Inbox,
        base: *mut u8,
        len: usize,
        page: usize,
        file: (Arc<dyn AsFd + Send + Sync>, u64),
        owner: impl Any + Send + Sync,
    ) -> io::Result<Self> {
        huge(page)?;
        let shared = Shared { file: file.0, offset: file.1 };
        // SAFETY: the caller's promise.
        unsafe {
            Self::over(inbox, base.expose_provenance(), len, page, Some(shared), Box::new(owner))
        }
    }

    /// # Safety
    ///
    /// As [`from_raw`](Self::from_raw).
    unsafe fn over(
        inbox: &Inbox,
        base: usize,
        len: usize,
        page: usize,
        file: Option<Shared>,
        owner: Box<dyn Any + Send + Sync>,
    ) -> io::Result<Self> {
        let uffd = inbox
            .events()
            .as_any()
            .downcast_ref::<Uffd>()
            .ok_or(io::ErrorKind::InvalidInput)?
            .clone();
        let at = ptr::with_exposed_provenance_mut(base);
        // SAFETY: the caller's promise; neither changes contents.
        unsafe {
            if page == SMALL {
                // Pages come and go one by one. A kernel without huge pages refuses, and has none.
                let _ = madvise(at, len, Advice::LinuxNoHugepage);
            }
            // A child would have the memory without the traps.
            madvise(at, len, Advice::LinuxDontFork)?;
        }
        let features = uffd.features();
        let minor = file.is_some() && features.has(sys::UFFD_FEATURE_MINOR_SHMEM);
        let protect = features.has(if file.is_none() && page == SMALL {
            sys::UFFD_FEATURE_PAGEFAULT_FLAG_WP
        } else {
            sys::UFFD_FEATURE_WP_HUGETLBFS_SHMEM
        });
        let mode = sys::UFFDIO_REGISTER_MODE_MISSING
            | if minor { sys::UFFDIO_REGISTER_MODE_MINOR } else { 0 }
            | if protect { sys::UFFDIO_REGISTER_MODE_WP } else { 0 };
        uffd.register(base, len, mode)?;
        let can_move = file.is_none() && page == SMALL && features.has(sys::UFFD_FEATURE_MOVE);
        let staging = if can_move { Staging::new(page).ok() } else { None };
        Ok(Self {
            uffd,
            base,
            len,
            page,
            file,
            staging,
            pagemap: OnceLock::new(),
            is_remote: false,
            _owner: owner,
        })
    }

    /// Memory of another process, at its address `base`: the process has registered it, and has
    /// handed over the descriptor ([`Uffd::from_fd`]), as Firecracker does.
    ///
    /// Faults are served, and pages discarded that are out. What needs the memory itself works by
    /// the `file` and its offset, if it is a shared mapping; of private memory no page can be
    /// evicted or cleaned, and one that is in is discarded by the process that maps it: have
    /// removals be events.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](io::ErrorKind::InvalidInput), as for [`anonymous`](Self::anonymous).
    ///
    /// # Example
    ///
    /// ```
    /// # use pagelock_vmm::{Inbox, Region};
    /// # use pagelock_vmm::uffd::{Uffd, Ram, SMALL, Features};
    /// fn serve(sent: std::os::fd::OwnedFd, features: Features, base: usize, len: usize)
    ///     -> std::io::Result<std::sync::Arc<Region>> {
    ///     let inbox = Inbox::new(Uffd::from_fd(sent, features))?;
    ///     Ok(Region::new(Ram::remote(&inbox, base, len, SMALL, None)?, &inbox, 0)?)
    /// }
    /// ```
    pub fn remote(
        inbox: &Inbox,
        base: usize,
        len: usize,
        page: usize,
        file: Option<(OwnedFd, u64)>,
    ) -> io::Result<Self> {
        huge(page)?;
        let uffd = inbox
            .events()
            .as_any()
            .downcast_ref::<Uffd>()
            .ok_or(io::ErrorKind::InvalidInput)?
            .clone();
        let file = file.map(|(file, offset)| Shared { file: Arc::new(file), offset });
        Ok(Self {
            uffd,
            base,
            len,
            page,
            file,
            staging: None,
            pagemap: OnceLock::new(),
            is_remote: true,
            _owner: Box::new(()),
        })
    }
}

/// The flags for pages of this size.
fn huge(page: usize) -> io::Result<MapFlags> {
    match page {
        SMALL => Ok(MapFlags::empty()),
        HUGE => Ok(MapFlags::HUGETLB | MapFlags::HUGE_2MB),
        _ => Err(io::ErrorKind::InvalidInput.into()),
    }
}

impl fmt::Debug for Ram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ram")
            .field("base", &format_args!("{:#x}", self.base))
            .field("len", &self.len)
            .field("page", &self.page)
            .field("shared", &self.file.is_some())
            .finish_non_exhaustive()
    }
}
