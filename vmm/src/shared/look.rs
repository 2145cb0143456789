//! What can be read of a shared region at any time.

use super::SharedRegion;
use crate::layer::Layer;
use crate::place::Place;
use crate::uffd::SMALL;
use rustix::fs::{SeekFrom, seek};
use std::io;
use std::sync::atomic::{AtomicU32, Ordering::Acquire};

impl SharedRegion {
    /// The page that has `address`, which is one of the process that maps the region.
    ///
    /// # Example
    ///
    /// ```
    /// # use pagelock_vmm::uffd::Uffd;
    /// # use pagelock_vmm::shared::SharedRegion;
    /// # let Ok(uffd) = Uffd::open(Default::default()) else { return Ok(()) }; // refused here
    /// # let file = rustix::fs::memfd_create("guest", rustix::fs::MemfdFlags::CLOEXEC)?;
    /// # rustix::fs::ftruncate(&file, 4 * 4096)?;
    /// # let region = SharedRegion::create(uffd, file, 4, 8, 1)?;
    /// assert_eq!(region.page_at(region.base() + 5000), Some(1));
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn page_at(&self, address: usize) -> Option<u32> {
        let page = u32::try_from(address.checked_sub(self.layer.base())? / SMALL).ok()?;
        (page < self.pages).then_some(page)
    }

    /// Where a page is, as its last owner has said. `None` beyond the end.
    ///
    /// # Example
    ///
    /// ```
    /// # use pagelock_vmm::Place;
    /// # use pagelock_vmm::uffd::Uffd;
    /// # use pagelock_vmm::shared::SharedRegion;
    /// # let Ok(uffd) = Uffd::open(Default::default()) else { return Ok(()) }; // refused here
    /// # let file = rustix::fs::memfd_create("guest", rustix::fs::MemfdFlags::CLOEXEC)?;
    /// # rustix::fs::ftruncate(&file, 4 * 4096)?;
    /// # let region = SharedRegion::create(uffd, file, 4, 8, 1)?;
    /// assert_eq!((region.place(0), region.place(4)), (Some(Place::Out), None));
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn place(&self, page: u32) -> Option<Place> {
        if page >= self.pages {
            return None;
        }
        // Acquire: pairs with `set_place`.
        Some(match self.segment.page_word(page)?.load(Acquire) {
            0 => Place::Out,
            1 => Place::In,
            _ => Place::Discarded,
        })
    }

    /// How many pages are in: a look at each of them. (A count would not survive a process that is
    /// killed between a page and its count.)
    ///
    /// # Example
    ///
    /// ```
    /// # use pagelock_vmm::uffd::Uffd;
    /// # use pagelock_vmm::shared::SharedRegion;
    /// # let Ok(uffd) = Uffd::open(Default::default()) else { return Ok(()) }; // refused here
    /// # let file = rustix::fs::memfd_create("guest", rustix::fs::MemfdFlags::CLOEXEC)?;
    /// # rustix::fs::ftruncate(&file, 4 * 4096)?;
    /// # let region = SharedRegion::create(uffd, file, 4, 8, 1)?;
    /// let desk = region.desk()?;
    /// desk.fault(0, |into| Ok(into.fill(7)))?;
    /// assert_eq!(region.resident(), 1);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn resident(&self) -> u32 {
        (0..self.pages).filter(|&page| self.place(page) == Some(Place::In)).count() as u32
    }

    /// One of the words that [`create`](Self::create) has made room for.
    ///
    /// # Example
    ///
    /// ```
    /// # use pagelock_vmm::uffd::Uffd;
    /// # use pagelock_vmm::shared::SharedRegion;
    /// # let Ok(uffd) = Uffd::open(Default::default()) else { return Ok(()) }; // refused here
    /// # let file = rustix::fs::memfd_create("guest", rustix::fs::MemfdFlags::CLOEXEC)?;
    /// # rustix::fs::ftruncate(&file, 4 * 4096)?;
    /// # let region = SharedRegion::create(uffd, file, 4, 8, 1)?;
    /// use std::sync::atomic::Ordering::SeqCst;
    /// region.word(0).unwrap().fetch_add(1, SeqCst);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn word(&self, n: u32) -> Option<&AtomicU32> {
        self.segment.page_word(self.pages.checked_add(n)?)
    }

    /// Reads a page's bytes in memory, wherever the process is that maps it.
    ///
    /// # Errors
    ///
    /// What the system says; a page that is not there reads as zeroes.
    ///
    /// # Example
    ///
    /// ```
    /// # use pagelock_vmm::uffd::Uffd;
    /// # use pagelock_vmm::shared::SharedRegion;
    /// # let Ok(uffd) = Uffd::open(Default::default()) else { return Ok(()) }; // refused here
    /// # let file = rustix::fs::memfd_create("guest", rustix::fs::MemfdFlags::CLOEXEC)?;
    /// # rustix::fs::ftruncate(&file, 4 * 4096)?;
    /// # let region = SharedRegion::create(uffd, file, 4, 8, 1)?;
    /// let desk = region.desk()?;
    /// desk.fault(0, |into| Ok(into.fill(7)))?;
    /// let mut bytes = [0; 4096];
    /// region.read(0, &mut bytes)?;
    /// assert_eq!(bytes, [7; 4096]);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn read(&self, page: u32, into: &mut [u8]) -> io::Result<()> {
        self.layer.read(Self::at(page), into)
    }

    /// Whether the memfd has the page.
    pub(super) fn is_there(&self, page: u32) -> io::Result<bool> {
        // It moves the offset, which nobody uses.
        let at = Self::at(page) as u64;
        match seek(&self.file, SeekFrom::Data(at)) {
            Ok(found) => Ok(found == at),
            Err(rustix::io::Errno::NXIO) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}
