//! A region whose headers lie in a segment that several processes share, any of which may be killed
//! at any instruction.
//!
//! (Feature `shared`.) A process that maps a guest's memory makes a [`SharedRegion`]; a manager, a
//! process of its own that fetches and evicts, [attaches](SharedRegion::attach) to it with three
//! descriptors: the guest's memfd, the userfaultfd, the segment. Each thread that owns pages has a
//! [`Desk`], which is a [seat](pagelock::shared::Seat) in the segment, with the verbs of a region.
//! When a process has died, any other [recovers](SharedRegion::recover) what it held.
//!
//! # What it does not have
//!
//! It is not [`Region`](crate::Region) with other headers: notes for survivors, and bytes that must
//! be safe before a page goes, leave no room for guards that outlive a call.
//!
//! | `Region` has | here |
//! |---|---|
//! | `Server`, `Inbox`, the report | a loop of the caller's over [`SharedRegion::events`] |
//! | `prefetch`, `evict_to`, a count of pages in | loops; [`SharedRegion::resident`] looks at each |
//! | `clean`, write faults, snapshots | nothing |
//! | tasks, guards for other threads | nothing: a desk's verb takes a closure, and ends |
//! | pages that others remove | nothing: only desks may discard |
//! | pages of 2 MiB, private memory, `unplug` | a memfd of 4 KiB pages, for as long as the segment |
//! | counters, traces | nothing |
//!
//! # Where a page's bytes are
//!
//! The page's word in the segment says its [`Place`], and its owner changes it. An owner that is
//! about to change it says so before, in the tag of its note. So a survivor knows which copy
//! counts:
//!
//! | tag | the dead was | the bytes are | what the survivor does |
//! |---|---|---|---|
//! | none | only taking the page | where the word says | lets go of it |
//! | saving | evicting, not saved yet | in memory | puts back: lifts the write protection |
//! | dropping | evicting, saved | in the store | finishes: punches the hole, notes "out" |
//! | filling | fetching | in memory if there, else where the word says | finishes, or puts back |
//! | discarding | discarding | nowhere | finishes: punches the hole, notes "discarded" |
//!
//! "If a page is there" has an answer because a page of a memfd appears in one step, and only by an
//! owner's doing. And a fault that the dead had read and not served is not lost: the survivor wakes
//! all faulters, which fault again.

mod desk;
mod look;
mod recover;

pub use desk::{Came, Desk, DeskPin, NotDropped};
pub use recover::Recovery;

use crate::inbox::Inbox;
use crate::layer::{Events, Layer};
use crate::place::Place;
use crate::uffd::{Ram, SMALL, Uffd};
use pagelock::shared::{Segment, SitError, Size};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::Ordering::Release;

/// Guest memory in a memfd, of pages of 4 KiB, with headers in a segment. It has less than a
/// [`Region`](crate::Region): see [the module](self#what-it-does-not-have).
pub struct SharedRegion {
    segment: Segment,
    layer: Ram,
    uffd: Uffd,
    file: OwnedFd,
    pages: u32,
}

impl SharedRegion {
    /// Maps `file`, of `pages` pages that are all out, and makes a segment for it, with `seats`
    /// desks and `words` words for the caller.
    ///
    /// # Errors
    ///
    /// What the system refuses. `file` must be empty memory: a memfd, of that length.
    ///
    /// # Example
    ///
    /// ```
    /// # use pagelock_vmm::uffd::Uffd;
    /// # use pagelock_vmm::shared::SharedRegion;
    /// # let Ok(uffd) = Uffd::open(Default::default()) else { return Ok(()) }; // refused here
    /// # let file = rustix::fs::memfd_create("guest", rustix::fs::MemfdFlags::CLOEXEC)?;
    /// # rustix::fs::ftruncate(&file, 4 * 4096)?;
    /// let region = SharedRegion::create(uffd, file, 4, 8, 1)?;
    /// assert_eq!((region.pages(), region.resident()), (4, 0));
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn create(
        uffd: Uffd,
        file: OwnedFd,
        pages: u32,
        seats: u32,
        words: u32,
    ) -> io::Result<Self> {
        let own = file.try_clone()?;
        let inbox = Inbox::new(uffd.clone())?;
        let layer = Ram::memfd(&inbox, file, 0, pages as usize * SMALL, SMALL)?;
        let segment = Segment::create(c"pages", Size::of(pages + words + 1).seats(seats))
            .map_err(io::Error::other)?;
        {
            let seat = segment.sit().map_err(io::Error::other)?;
            for page in (0..pages).chain([segment.pages() - 1]) {
                // The region's own reference, which lets the page be pinned. It stays.
                seat.activate(page).map_err(io::Error::other)?.into_raw();
            }
        }
        Ok(Self { segment, layer, uffd, file: own, pages })
    }

    /// The region of another process, which has its memory at `base`: from descriptors of the
    /// segment, the userfaultfd and the memfd.
    ///
    /// # Errors
    ///
    /// The segment is none, or has fewer pages than `pages`, or what the system refuses.
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
    /// let region = SharedRegion::create(uffd.clone(), file, 4, 8, 1)?;
    /// // In another process, with descriptors that it was sent:
    /// let (memory, base) = (region.file().try_clone()?, region.base());
    /// # use std::os::fd::{AsFd, AsRawFd};
    /// # let segment = format!("/proc/self/fd/{}", region.segment().as_fd().as_raw_fd());
    /// # let segment = std::fs::File::options().read(true).write(true).open(segment)?;
    /// let other = SharedRegion::attach(segment, uffd, memory, base, 4)?;
    /// assert_eq!(other.place(0), Some(Place::Out));
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn attach(
        segment: impl AsFd,
        uffd: Uffd,
        file: OwnedFd,
        base: usize,
        pages: u32,
    ) -> io::Result<Self> {
        let segment = Segment::attach(segment).map_err(io::Error::other)?;
        if segment.pages() <= pages {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let own = file.try_clone()?;
        let inbox = Inbox::new(uffd.clone())?;
        let layer = Ram::remote(&inbox, base, pages as usize * SMALL, SMALL, Some((file, 0)))?;
        Ok(Self { segment, layer, uffd, file: own, pages })
    }

    /// A desk for one thread.
    ///
    /// # Errors
    ///
    /// [`SitError`]: none is free.
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
    /// let desk = region.desk()?; // one for each thread
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn desk(&self) -> Result<Desk<'_>, SitError> {
        Ok(Desk::new(self, self.segment.sit()?))
    }

    /// How many pages it has.
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
    /// assert_eq!(region.pages(), 4);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn pages(&self) -> u32 {
        self.pages
    }

    /// The address of the first byte, in the process that maps it.
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
    /// assert_eq!(region.page_at(region.base() + 4096), Some(1));
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn base(&self) -> usize {
        self.layer.base()
    }

    /// The segment, for its descriptor, and to wait for the end of a seat.
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
    /// assert!(region.segment().pages() > region.pages());
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn segment(&self) -> &Segment {
        &self.segment
    }

    /// The memfd.
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
    /// let memory = region.file().try_clone()?; // for the other process
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn file(&self) -> &OwnedFd {
        &self.file
    }

    /// Where faults arrive.
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
    /// assert!(region.events().next()?.is_none());
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn events(&self) -> &dyn Events {
        &self.uffd
    }

    /// A page without memory: a desk that says that it is present pins it.
    fn presence(&self) -> u32 {
        self.segment.pages() - 1
    }

    fn at(page: u32) -> usize {
        page as usize * SMALL
    }

    /// The caller owns the page.
    fn set_place(&self, page: u32, place: Place) {
        if let Some(word) = self.segment.page_word(page) {
            // Release: a thread that has pinned the page and reads that it is in sees what made it
            // so.
            word.store(u32::from(place.bits(false).get()), Release);
        }
    }
}

impl fmt::Debug for SharedRegion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedRegion")
            .field("pages", &self.pages)
            .field("layer", &self.layer)
            .finish_non_exhaustive()
    }
}
