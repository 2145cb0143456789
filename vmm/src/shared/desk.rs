//! What a thread does with the pages of a shared region.

use super::SharedRegion;
use crate::layer::Layer;
use crate::place::Place;
use crate::uffd::SMALL;
use pagelock::shared::{Seat, SeatError, SeatFrozen, SeatPin};
use pagelock::{FreezeRule, PinError, Wait};
use std::io;

/// What an owner is about to do; in the tag of its note. See the [module](super).
pub(super) const SAVING: u32 = 1;
pub(super) const DROPPING: u32 = 2;
pub(super) const FILLING: u32 = 3;
pub(super) const DISCARDING: u32 = 4;

/// One thread's place, with the verbs of a region. Whatever it owns when its process is killed is
/// [recovered](SharedRegion::recover) by another.
#[derive(Debug)]
pub struct Desk<'r> {
    region: &'r SharedRegion,
    seat: Seat<'r>,
}

/// What came of a fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Came {
    /// The page has come, with its bytes.
    Fetched,
    /// It has come, as zeroes.
    Zeroes,
    /// It was there.
    There,
    /// Another desk owns it, and wakes the faulter at its end.
    InFlight,
}

/// Why a page stays.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NotDropped {
    /// It is not in.
    #[error("the page is not in")]
    NotIn,
    /// It has an owner.
    #[error("another desk owns the page")]
    Owned,
    /// So many pins keep it.
    #[error("the page is pinned")]
    Pinned,
    /// The system, or the store, refused. The page is as it was.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A pin of a desk: the page is in, and stays.
#[derive(Debug)]
#[must_use = "the page is unpinned when this is dropped"]
pub struct DeskPin<'d> {
    _pin: SeatPin<'d>,
}

impl<'r> Desk<'r> {
    pub(super) fn new(region: &'r SharedRegion, seat: Seat<'r>) -> Self {
        Self { region, seat }
    }

    /// Its number in the segment, for
    /// [`wait_for_end_of`](pagelock::shared::Segment::wait_for_end_of).
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
    /// assert_eq!(desk.number(), 0);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn number(&self) -> u32 {
        self.seat.number()
    }

    /// Notes that this desk is taken, until the pin is dropped. Without a note, the seat of a
    /// process that has died is free at once, and a thread that waits for its end may wait for the
    /// end of the next one. A process that others wait for does this first.
    ///
    /// # Errors
    ///
    /// [`SeatError`]: there is no room for a note.
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
    /// let presence = desk.be_present()?; // before anybody waits for the end of it
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn be_present(&self) -> Result<DeskPin<'_>, SeatError> {
        Ok(DeskPin { _pin: self.seat.pin(self.region.presence())? })
    }

    /// A thread faults on `page`, for whatever reason: puts the page up with what `read` gets from
    /// the store, and wakes. Never sleeps for the page.
    ///
    /// # Errors
    ///
    /// What `read` or the system says. The page stays out, and its faulters fault again.
    ///
    /// # Example
    ///
    /// ```
    /// # use pagelock_vmm::uffd::Uffd;
    /// # use pagelock_vmm::shared::{SharedRegion, Came};
    /// # let Ok(uffd) = Uffd::open(Default::default()) else { return Ok(()) }; // refused here
    /// # let file = rustix::fs::memfd_create("guest", rustix::fs::MemfdFlags::CLOEXEC)?;
    /// # rustix::fs::ftruncate(&file, 4 * 4096)?;
    /// # let region = SharedRegion::create(uffd, file, 4, 8, 1)?;
    /// let desk = region.desk()?;
    /// assert_eq!(desk.fault(0, |into| Ok(into.fill(7)))?, Came::Fetched);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn fault(
        &self,
        page: u32,
        read: impl FnOnce(&mut [u8]) -> io::Result<()>,
    ) -> io::Result<Came> {
        let (region, at) = (self.region, SharedRegion::at(page));
        let mut _told = None;
        let guard = match self.seat.try_lock(page) {
            Ok(guard) => guard,
            Err(SeatError::Locked) => return Ok(Came::InFlight),
            Err(error) => return Err(io::Error::other(error)),
        };
        _told = Some(self.told(page));
        let came = match region.place(page).ok_or(io::ErrorKind::InvalidInput)? {
            // Only unmapped, or protected by an eviction that has ended otherwise, or late.
            Place::In => region
                .layer
                .resume(at, false)
                .and_then(|_| region.layer.protect(at, false))
                .map(|()| Came::There),
            place => {
                guard.set_tag(FILLING);
                let put = if place == Place::Out {
                    let mut bytes = [0; SMALL];
                    read(&mut bytes)
                        .and_then(|()| region.layer.fill(at, &bytes, false))
                        .map(|_| Came::Fetched)
                } else {
                    region.layer.zero(at).map(|_| Came::Zeroes)
                };
                put.inspect(|_| region.set_place(page, Place::In))
            }
        };
        drop(guard);
        came
    }

    /// Pushes a page out: stops its writers, has `save` write its bytes to the store, and takes it
    /// away. Nothing is lost if this process is killed anywhere in it, provided that what `save`
    /// has written outlives the process.
    ///
    /// # Errors
    ///
    /// [`NotDropped`], with the page as it was.
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
    /// let desk = region.desk()?;
    /// desk.fault(0, |into| Ok(into.fill(7)))?;
    /// let mut store = Vec::new();
    /// desk.evict(0, |bytes| Ok(store.extend_from_slice(bytes)))?;
    /// assert_eq!((store.len(), region.place(0)), (4096, Some(Place::Out)));
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn evict(
        &self,
        page: u32,
        save: impl FnOnce(&[u8]) -> io::Result<()>,
    ) -> Result<(), NotDropped> {
        let (region, at) = (self.region, SharedRegion::at(page));
        if region.place(page) != Some(Place::In) {
            return Err(NotDropped::NotIn);
        }
        let mut _told = None;
        let frozen = self.freeze(page, true)?;
        _told = Some(self.told(page));
        if region.place(page) != Some(Place::In) {
            return Err(NotDropped::NotIn);
        }
        frozen.set_tag(SAVING);
        let mut bytes = [0; SMALL];
        let saved = (region.layer.protect(at, true))
            .and_then(|()| region.layer.read(at, &mut bytes))
            .and_then(|()| save(&bytes))
            .and_then(|()| {
                frozen.set_tag(DROPPING);
                region.layer.drop_page(at)
            });
        if saved.is_ok() {
            region.set_place(page, Place::Out);
        } else {
            // It fails if the process that maps the memory is gone, and then nobody writes.
            let _ = region.layer.protect(at, false);
        }
        frozen.commit_in_place();
        Ok(saved?)
    }

    /// Throws a page away: it reads as zeroes when this returns. Sleeps while another desk owns it.
    ///
    /// # Errors
    ///
    /// [`NotDropped`], with the page as it was.
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
    /// let desk = region.desk()?;
    /// desk.discard(0)?;
    /// assert_eq!(region.place(0), Some(Place::Discarded));
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn discard(&self, page: u32) -> Result<(), NotDropped> {
        let (region, at) = (self.region, SharedRegion::at(page));
        let mut _told = None;
        let frozen = self.freeze(page, false)?;
        _told = Some(self.told(page));
        frozen.set_tag(DISCARDING);
        let dropped = region.layer.drop_page(at);
        if dropped.is_ok() {
            region.set_place(page, Place::Discarded);
        }
        frozen.commit_in_place();
        Ok(dropped?)
    }

    /// Pins a page where it is, in memory; `touch` has it fetched, by an access of the process that
    /// maps it. Sleeps while it is on its way out.
    ///
    /// # Errors
    ///
    /// [`SeatError`]: there is no such page, or no room for a note.
    ///
    /// # Example
    ///
    /// ```
    /// # use pagelock_vmm::uffd::Uffd;
    /// # use pagelock_vmm::shared::{SharedRegion, NotDropped};
    /// # let Ok(uffd) = Uffd::open(Default::default()) else { return Ok(()) }; // refused here
    /// # let file = rustix::fs::memfd_create("guest", rustix::fs::MemfdFlags::CLOEXEC)?;
    /// # rustix::fs::ftruncate(&file, 4 * 4096)?;
    /// # let region = SharedRegion::create(uffd, file, 4, 8, 1)?;
    /// let desk = region.desk()?;
    /// let pin = desk.pin(0, || _ = desk.fault(0, |into| Ok(into.fill(7))))?;
    /// assert!(matches!(desk.evict(0, |_| Ok(())), Err(NotDropped::Pinned)));
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn pin(&self, page: u32, mut touch: impl FnMut()) -> Result<DeskPin<'_>, SeatError> {
        loop {
            match self.seat.pin(page) {
                // Pinned, so nobody takes it away from here on.
                Ok(pin) if self.region.place(page) == Some(Place::In) => {
                    return Ok(DeskPin { _pin: pin });
                }
                Ok(pin) => {
                    drop(pin);
                    touch();
                }
                Err(SeatError::Pin(PinError::Frozen | PinError::Migrating)) => {
                    let _ = self.seat.wait(page, (), Wait::unlocked())?;
                }
                Err(other) => return Err(other),
            }
        }
    }

    /// Whether the page can be taken at this moment: nobody owns it, and no count is in the way.
    /// For a look at what the dead have left.
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
    /// assert!(desk.can_be_had(0));
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn can_be_had(&self, page: u32) -> bool {
        let frozen = self.freeze(page, true);
        let _told = frozen.is_ok().then(|| self.told(page));
        frozen.map(|frozen| frozen.commit_in_place()).is_ok()
    }

    /// For a variable that is older than the page's guard, so that it is dropped after that. Not
    /// for a page that another desk owns: its faulters would come again and again.
    fn told(&self, page: u32) -> Told<'r> {
        Told { region: self.region, at: SharedRegion::at(page) }
    }

    fn freeze(&self, page: u32, only_try: bool) -> Result<SeatFrozen<'_>, NotDropped> {
        let guard = match if only_try { self.seat.try_lock(page) } else { self.seat.lock(page) } {
            Ok(guard) => guard,
            Err(SeatError::Locked) => return Err(NotDropped::Owned),
            Err(error) => return Err(NotDropped::Io(io::Error::other(error))),
        };
        let frozen = guard.begin_migration().freeze(FreezeRule::Unpinned);
        frozen.map_err(|busy| {
            let _told = self.told(page);
            drop(busy);
            NotDropped::Pinned
        })
    }
}

/// Its drop wakes the faulters of a page: those that came while the page was owned here, and the
/// owner's own, however it ends.
struct Told<'r> {
    region: &'r SharedRegion,
    at: usize,
}

impl Drop for Told<'_> {
    fn drop(&mut self) {
        self.region.layer.wake(self.at);
    }
}
