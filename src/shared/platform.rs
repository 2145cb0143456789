//! The platform of the headers in segments, and where this process has mapped them.
//!
//! A header may not hold an address, because each process maps the segment somewhere else. So the
//! platform has no size, and finds the page's segment by the address of the header, in a small
//! table of what this process has mapped. Only a sleep or a wake looks there.

use super::layout::{PageCell, SLOTS};
use super::{SegmentError, file};
use crate::futex::linux::{self, Scope};
use crate::futex::{EVERY_CLASS, EventSlot, Futex, FutexTimed, MonotonicTime, Sleep, slot};
use crate::sync::AtomicU32;
use core::ptr::{NonNull, null_mut};
use core::sync::atomic::{
    AtomicBool, AtomicPtr, AtomicUsize,
    Ordering::{Acquire, Relaxed, Release},
};

/// The platform of a header in a [segment](super::Segment): as
/// [`SharedFutex`](crate::futex::SharedFutex), but of no size. There is none outside of segments.
#[derive(Clone, Copy, Debug)]
pub struct InSegment(());

/// How many segments a process can have mapped at a time.
pub const MAX_SEGMENTS: usize = 16;

/// The bytes of a segment up to the seats: the event table is in them.
const TABLE_BYTES: usize = super::layout::SEATS_AT as usize;

/// One segment that this process has mapped.
struct Mapped {
    taken: AtomicBool,
    /// Where its pages are, and how many bytes of them there can be.
    pages: AtomicUsize,
    bytes: AtomicUsize,
    /// Where its first bytes are mapped once more, for the event table; null before the first use.
    /// What was mapped here once stays, with zeroes in it after the end of the segment: a thrown
    /// switch goes through all tables, of whatever segment.
    table: AtomicPtr<u8>,
}

static MAPPED: [Mapped; MAX_SEGMENTS] = [const {
    Mapped {
        taken: AtomicBool::new(false),
        pages: AtomicUsize::new(0),
        bytes: AtomicUsize::new(0),
        table: AtomicPtr::new(null_mut()),
    }
}; MAX_SEGMENTS];

/// The slot of a page that is in no segment, which is no page that anybody can have.
static NOWHERE: EventSlot<InSegment> = EventSlot::new();

/// An entry of the table. Dropping it gives it back.
#[derive(Debug)]
pub(super) struct Entry(usize);

impl Entry {
    /// Enters a segment that is about to be used: its pages are at `pages`, and take up to `bytes`.
    pub(super) fn new(
        of: &file::File,
        pages: NonNull<PageCell>,
        bytes: usize,
    ) -> Result<Self, SegmentError> {
        // Acquire: pairs with the Release of the drop.
        let index = MAPPED
            .iter()
            .position(|entry| !entry.taken.swap(true, Acquire))
            .ok_or(SegmentError::TooMany)?;
        let (entry, this) = (&MAPPED[index], Self(index));
        let before = NonNull::new(entry.table.load(Relaxed));
        // SAFETY: what is there is of this entry, which is ours.
        let table = unsafe { of.map(TABLE_BYTES, before) }?;
        // Release: pairs with the load in `event_index`, which then sees the last segment gone.
        entry.bytes.store(bytes, Release);
        entry.table.store(table.as_ptr(), Release);
        // Release: pairs with the look in `event_index`, which then finds the rest.
        entry.pages.store(pages.as_ptr().addr(), Release);
        Ok(this)
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let Some(entry) = MAPPED.get(self.0) else { return };
        entry.pages.store(0, Relaxed);
        if let Some(table) = NonNull::new(entry.table.load(Relaxed)) {
            // SAFETY: as in `new`. Should it be refused, the segment's bytes stay there, which does
            // a reader no harm.
            let _ = unsafe { file::blank(table, TABLE_BYTES) };
        }
        // Release: pairs with the swap in `new`.
        entry.taken.store(false, Release);
    }
}

// SAFETY: the system compares the words that it is shown, and stores to none.
unsafe impl Futex for InSegment {
    // Lockers wait in the event table, see `Seat`; none is ever registered on the page.
    fn wait(&self, word: &AtomicU32, expected: u32) -> Sleep {
        linux::sleep(Scope::Shared, word, expected, EVERY_CLASS, None)
    }

    fn wake_one(&self, word: *const AtomicU32) {
        linux::wake(Scope::Shared, word, 1, EVERY_CLASS);
    }

    fn wake_all(&self, word: *const AtomicU32) {
        linux::wake(Scope::Shared, word, u32::MAX, EVERY_CLASS);
    }

    fn relax(&self) {
        linux::relax();
    }

    fn event(&self, index: usize) -> &EventSlot<Self> {
        let (entry, slot) = (index / SLOTS as usize, index % SLOTS as usize);
        // Acquire: pairs with the Release in `Entry::new`.
        let table = MAPPED.get(entry).map_or(null_mut(), |entry| entry.table.load(Acquire));
        if table.is_null() {
            return &NOWHERE;
        }
        // SAFETY: `TABLE_BYTES` are mapped there for good, the table among them, and the slot is
        // one of it. It consists of atomics, for which any bytes are valid, whatever a peer writes.
        unsafe {
            &*table.add(super::layout::HEAD_BYTES as usize).cast::<EventSlot<Self>>().add(slot)
        }
    }

    fn events(&self) -> usize {
        MAX_SEGMENTS * SLOTS as usize + 1
    }

    fn event_index(&self, page: usize) -> usize {
        let slots = SLOTS as usize;
        let found = MAPPED.iter().enumerate().find_map(|(i, entry)| {
            // Acquire: pairs with the Release in `Entry::new`.
            let pages = entry.pages.load(Acquire);
            let at = page.wrapping_sub(pages);
            // By the page's index, which is the same in every process. Acquire: pairs with the
            // Release in `Entry::new`. Both numbers are of one segment: the bytes of a later one
            // are not seen without its pages.
            let is_there =
                pages != 0 && at < entry.bytes.load(Acquire) && entry.pages.load(Relaxed) == pages;
            is_there.then(|| i * slots + slot::index(at, slots))
        });
        found.unwrap_or(MAX_SEGMENTS * slots)
    }
}

impl FutexTimed for InSegment {
    fn now(&self) -> MonotonicTime {
        MonotonicTime::now()
    }

    fn wait_until(&self, word: &AtomicU32, expected: u32, _class: u32, at: MonotonicTime) -> Sleep {
        linux::sleep(Scope::Shared, word, expected, EVERY_CLASS, Some(at))
    }
}

impl InSegment {
    /// For the limits of a wait: the clock is the same for all.
    #[doc = example!(
        "let soon = InSegment::clock().now() + core::time::Duration::from_millis(1);"
        "let guard = seat.lock_within(3, Limits::none().until(soon))?;"
    )]
    #[must_use]
    pub const fn clock() -> Self {
        Self(())
    }
}
