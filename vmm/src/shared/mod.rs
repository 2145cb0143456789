//! A region whose headers lie in a segment that several processes share, any of which may be killed
//! at any instruction.
//!
//! (Feature `shared`.) A process that maps a guest's memory makes a [`SharedRegion`]; a manager, a
//! process of its own that fetches and evicts, [attaches](SharedRegion::attach) to it with three
//! descriptors: the guest's memfd, the userfaultfd, the segment. Each thread that owns pages has a
//! [`Desk`], which is a [seat](pagelock::shared::Seat) in the segment, with the verbs of a region.
//! When a process has died, any other [recovers](SharedRegion::recover) what it held.
//!
//! This is not [`Region`](crate::Region) with other headers: tasks, cleaning, snapshots, the
//! report, and pages that somebody else removes are not here.
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
//! | filling | fetching | in memory if a page is there, else where the word says | finishes, or puts back |
//! | discarding | discarding | nowhere | finishes: punches the hole, notes "discarded" |
//!
//! "If a page is there" has an answer because a page of a memfd appears in one step, and only by an
//! owner's doing. And a fault that the dead had read and not served is not lost: the survivor wakes
//! all faulters, who fault again.

mod desk;
mod recover;

pub use desk::{Came, Desk, DeskPin, NotDropped};
pub use recover::Recovery;

use crate::inbox::Inbox;
use crate::layer::{Events, Layer};
use crate::place::Place;
use crate::uffd::{Ram, SMALL, Uffd};
use pagelock::shared::{Segment, SitError, Size};
use rustix::fs::{SeekFrom, seek};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering::Acquire, Ordering::Release};

/// Guest memory in a memfd, of pages of 4 KiB, with headers in a segment. See the
/// [module](self).
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
    pub fn desk(&self) -> Result<Desk<'_>, SitError> {
        Ok(Desk::new(self, self.segment.sit()?))
    }

    /// How many pages it has.
    #[must_use]
    pub fn pages(&self) -> u32 {
        self.pages
    }

    /// The address of the first byte, in the process that maps it.
    #[must_use]
    pub fn base(&self) -> usize {
        self.layer.base()
    }

    /// The segment, for its descriptor, and to wait for the end of a seat.
    #[must_use]
    pub fn segment(&self) -> &Segment {
        &self.segment
    }

    /// The memfd.
    #[must_use]
    pub fn file(&self) -> &OwnedFd {
        &self.file
    }

    /// Where faults arrive.
    #[must_use]
    pub fn events(&self) -> &dyn Events {
        &self.uffd
    }

    /// The page that has `address`, which is one of the process that maps the region.
    #[must_use]
    pub fn page_at(&self, address: usize) -> Option<u32> {
        let page = u32::try_from(address.checked_sub(self.layer.base())? / SMALL).ok()?;
        (page < self.pages).then_some(page)
    }

    /// Where a page is, as its last owner has said. `None` beyond the end.
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

    /// One of the words that [`create`](Self::create) has made room for.
    #[must_use]
    pub fn word(&self, n: u32) -> Option<&AtomicU32> {
        self.segment.page_word(self.pages.checked_add(n)?)
    }

    /// Reads a page's bytes in memory, wherever the process is that maps it.
    ///
    /// # Errors
    ///
    /// What the system says; a page that is not there reads as zeroes.
    pub fn read(&self, page: u32, into: &mut [u8]) -> io::Result<()> {
        self.layer.read(Self::at(page), into)
    }

    /// A page that is none: it is pinned by who says that it is present.
    fn presence(&self) -> u32 {
        self.segment.pages() - 1
    }

    fn at(page: u32) -> usize {
        page as usize * SMALL
    }

    /// The caller owns the page.
    fn set_place(&self, page: u32, place: Place) {
        if let Some(word) = self.segment.page_word(page) {
            // Release: who reads that the page is in, having pinned it, sees what made it so.
            word.store(u32::from(place.bits(false).get()), Release);
        }
    }

    /// Whether the memfd has the page.
    fn is_there(&self, page: u32) -> io::Result<bool> {
        // It moves the offset, which nobody uses.
        let at = Self::at(page) as u64;
        match seek(&self.file, SeekFrom::Data(at)) {
            Ok(found) => Ok(found == at),
            Err(rustix::io::Errno::NXIO) => Ok(false),
            Err(error) => Err(error.into()),
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
