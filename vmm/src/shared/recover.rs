//! After a death: each page that the dead owned is put back or finished.

use super::SharedRegion;
use super::desk::{DISCARDING, DROPPING, FILLING, SAVING};
use crate::layer::Layer;
use crate::place::Place;
use pagelock::TakenOver;
use pagelock::shared::{Left, RecoverError};
use std::io;
use std::ops::AddAssign;
use std::time::Duration;

/// What the dead have left, and what became of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Recovery {
    /// Seats of the dead that had something noted.
    pub seats: u32,
    /// Pages that they owned, by the stage that these were in: locked.
    pub locked: u32,
    /// Migrating.
    pub migrating: u32,
    /// Frozen.
    pub frozen: u32,
    /// The same pages by what the dead were at: nothing yet.
    pub untouched: u32,
    /// Evictions put back: memory has the bytes.
    pub evictions_put_back: u32,
    /// Evictions finished: the store has the bytes.
    pub evictions_finished: u32,
    /// Fetches put back: the page had not come.
    pub fetches_put_back: u32,
    /// Fetches finished: the page had come.
    pub fetches_finished: u32,
    /// Discards finished.
    pub discards_finished: u32,
    /// Pins given back, those of desks that were [present](super::Desk::be_present) among them.
    pub pins: u32,
    /// Pages whose end the system refused: they were put back.
    pub refused: u32,
}

impl Recovery {
    /// How many pages the dead owned.
    ///
    /// # Example
    ///
    /// ```
    /// # use pagelock_vmm::shared::Recovery;
    /// assert_eq!(Recovery::default().pages(), 0);
    /// ```
    #[must_use]
    pub fn pages(&self) -> u32 {
        self.locked + self.migrating + self.frozen
    }
}

impl AddAssign for Recovery {
    fn add_assign(&mut self, other: Self) {
        let Self { seats, locked, migrating, frozen, untouched, pins, refused, .. } = self;
        *seats += other.seats;
        *locked += other.locked;
        *migrating += other.migrating;
        *frozen += other.frozen;
        *untouched += other.untouched;
        *pins += other.pins;
        *refused += other.refused;
        self.evictions_put_back += other.evictions_put_back;
        self.evictions_finished += other.evictions_finished;
        self.fetches_put_back += other.fetches_put_back;
        self.fetches_finished += other.fetches_finished;
        self.discards_finished += other.discards_finished;
    }
}

impl SharedRegion {
    /// Ends what the dead have begun, and wakes all faulters, which fault again: a fault that the
    /// dead had read is otherwise lost. No living thread is stopped, or loses a page.
    ///
    /// Call it when a process has died; the kernel says when, by
    /// [`wait_for_end_of`](pagelock::shared::Segment::wait_for_end_of).
    ///
    /// # Errors
    ///
    /// The system refuses a lock of the segment's file. (If another process is at it, this waits.)
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
    /// // When another process of the region has died:
    /// let recovered = region.recover()?;
    /// assert_eq!(recovered.pages(), 0, "it had nothing in hand");
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn recover(&self) -> io::Result<Recovery> {
        let mut sum = Recovery::default();
        loop {
            match self.segment.recover(|left| self.settle(left, &mut sum)) {
                Ok(recovered) => {
                    sum.seats += recovered.seats;
                    sum.pins += recovered.pins;
                    if recovered.undecided == 0 {
                        break;
                    }
                }
                Err(RecoverError::Busy) => {}
                Err(error) => return Err(io::Error::other(error)),
            }
            // A living thread was stopped where it matters, or another process recovers.
            std::thread::sleep(Duration::from_millis(1));
        }
        (0..self.pages).for_each(|page| self.layer.wake(Self::at(page)));
        Ok(sum)
    }

    fn settle(&self, left: Left<'_>, sum: &mut Recovery) {
        let (page, at) = (left.page, Self::at(left.page));
        let finish = |place| self.layer.drop_page(at).map(|()| self.set_place(page, place));
        let done = match left.tag {
            // It fails if the process that maps the memory is gone, and then nobody writes.
            SAVING => {
                let _ = self.layer.protect(at, false);
                Ok(&mut sum.evictions_put_back)
            }
            DROPPING => finish(Place::Out).map(|()| &mut sum.evictions_finished),
            DISCARDING => finish(Place::Discarded).map(|()| &mut sum.discards_finished),
            FILLING => self.is_there(page).map(|there| {
                if there {
                    self.set_place(page, Place::In);
                    &mut sum.fetches_finished
                } else {
                    &mut sum.fetches_put_back
                }
            }),
            _ => Ok(&mut sum.untouched),
        };
        match done {
            Ok(count) => *count += 1,
            Err(_) => {
                // The page is where it was: memory has it still.
                let _ = self.layer.protect(at, false);
                sum.refused += 1;
            }
        }
        match left.stage {
            TakenOver::Locked(guard) => {
                sum.locked += 1;
                drop(guard);
            }
            TakenOver::Migrating(migration) => {
                sum.migrating += 1;
                migration.abort();
            }
            TakenOver::Frozen(frozen) => {
                sum.frozen += 1;
                frozen.commit_in_place();
            }
            other => drop(other),
        }
    }
}
