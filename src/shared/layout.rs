//! The bytes of a segment, as every program that maps it sees them, in whatever language.
//!
//! All numbers are in the machine's byte order; `order` says which that is.
//!
//! | at | bytes | what |
//! |---|---|---|
//! | 0 | 256 | [`Head`]; written once, by `create`, but for `pages` and `user` |
//! | 256 | 128 × 16 | the event table |
//! | 4096 | seats × 1024 | [`SeatCell`]: 64 bytes, then 60 notes of 16 bytes |
//! | `pages_at` | pages × 16 | [`PageCell`]: the header, a word for [counting](super#counts), a word for the caller |
//!
//! The locks that show which owners live are not in the bytes. They are the kernel's locks of an
//! open file description (`F_OFD_SETLK`), one byte each, beyond all that the file can hold: the
//! owner of seat `n` has byte [`SEAT_LOCKS`]` + n`, and a survivor that recovers has byte
//! [`RECOVERY_LOCK`].

use super::SegmentError;
use super::platform::InSegment;
use crate::futex::EventSlot;
use crate::page::PageLock;
use crate::sync::AtomicU32;
use core::fmt;
use core::mem::{align_of, offset_of, size_of};

/// What a segment begins with.
pub const MAGIC: [u8; 8] = *b"pagelock";
/// Reads as another number in the other byte order.
pub const ORDER: u32 = 0x0102_0304;
/// The layout that this page describes. Another one is another number.
pub const VERSION: u32 = 1;
/// The size of [`Head`].
pub const HEAD_BYTES: u32 = 256;
/// How many event slots a segment has.
pub const SLOTS: u32 = 128;
/// Where the seats begin.
pub const SEATS_AT: u32 = 4096;
/// The most seats that a segment can have.
pub const MAX_SEATS: u32 = 256;
/// How many notes a seat has.
pub const NOTES: u32 = 60;
/// The most pages that a segment can have: 2^28, which is a terabyte of small pages.
pub const MAX_PAGES: u32 = 1 << 28;
/// The byte of the file that the owner of seat 0 has locked; that of seat `n` is `n` further.
pub const SEAT_LOCKS: i64 = 1 << 40;
/// The byte of the file that a survivor locks while it recovers.
pub const RECOVERY_LOCK: i64 = SEAT_LOCKS - 1;

/// The first bytes of a segment.
#[repr(C)]
pub struct Head {
    /// [`MAGIC`].
    pub magic: [u8; 8],
    /// [`ORDER`].
    pub order: u32,
    /// [`VERSION`].
    pub version: u32,
    /// [`HEAD_BYTES`].
    pub head_bytes: u32,
    /// [`SLOTS`].
    pub slots: u32,
    /// The size of an event slot: 16.
    pub slot_bytes: u32,
    /// How many seats there are.
    pub seats: u32,
    /// The size of a [`SeatCell`]: 1024.
    pub seat_bytes: u32,
    /// [`NOTES`].
    pub notes: u32,
    /// The size of a [`PageCell`]: 16.
    pub page_bytes: u32,
    /// How many pages there can be.
    pub capacity: u32,
    /// Where the event table begins: 256.
    pub events_at: u32,
    /// [`SEATS_AT`].
    pub seats_at: u32,
    /// Where the pages begin.
    pub pages_at: u32,
    /// How many pages there are. It only grows.
    pub pages: AtomicU32,
    /// Two words for the caller.
    pub user: [AtomicU32; 2],
    spare: [u32; 46],
}

/// A seat.
#[repr(C, align(64))]
pub struct SeatCell {
    /// The owner's process, by the number that it sees itself, for humans. Nothing is decided by
    /// it.
    pub pid: AtomicU32,
    spare: [AtomicU32; 15],
    /// What the owner has to do with pages.
    pub notes: [Note; NOTES as usize],
}

/// What a seat has to do with a page. Only the seat's owner writes it, or a survivor that recovers
/// the seat.
#[repr(C)]
pub struct Note {
    /// A [kind](super::note) in the low byte, a step in the next; 0 if this is free.
    pub what: AtomicU32,
    /// The index of the page.
    pub page: AtomicU32,
    /// The count before it is changed, if the step says so.
    pub before: AtomicU32,
    /// The caller's, for a survivor that recovers it.
    pub tag: AtomicU32,
}

/// A page.
#[repr(C)]
pub struct PageCell {
    /// The header.
    pub lock: PageLock<InSegment>,
    /// One more than the seat that is changing a count, or 0.
    pub changer: AtomicU32,
    /// A word for the caller: where the page's bytes are, for instance. The crate never looks at
    /// it.
    pub user: AtomicU32,
}

const _: () = {
    assert!(
        size_of::<Head>() == HEAD_BYTES as usize
            && offset_of!(Head, pages) == 60
            && offset_of!(Head, user) == 64
    );
    assert!(
        size_of::<SeatCell>() == 1024
            && offset_of!(SeatCell, notes) == 64
            && align_of::<SeatCell>() == 64
    );
    assert!(size_of::<Note>() == 16 && size_of::<PageCell>() == 16 && align_of::<PageCell>() == 4);
    assert!(offset_of!(PageCell, changer) == 8 && offset_of!(PageCell, user) == 12);
    assert!(
        size_of::<EventSlot>() == 16
            && HEAD_BYTES as usize + SLOTS as usize * 16 <= SEATS_AT as usize
    );
};

/// The size of a segment to create.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Size {
    /// Pages, to begin with.
    pub pages: u32,
    /// The most pages that there will ever be. Address space for them is reserved wherever the
    /// segment is mapped, and no memory.
    pub capacity: u32,
    /// How many threads can use the pages at a time.
    pub seats: u32,
}

impl Size {
    /// `pages` pages for good, and 64 seats.
    #[doc = example!(
        "let size = Size::of(256);"
        "assert_eq!((size.pages, size.capacity, size.seats), (256, 256, 64));"
    )]
    #[must_use]
    pub const fn of(pages: u32) -> Self {
        Self { pages, capacity: pages, seats: 64 }
    }

    /// Room for `capacity` pages.
    #[doc = example!("assert_eq!(Size::of(256).up_to(1024).capacity, 1024);")]
    #[must_use]
    pub const fn up_to(self, capacity: u32) -> Self {
        Self { capacity, ..self }
    }

    /// So many seats.
    #[doc = example!("assert_eq!(Size::of(256).seats(8).seats, 8);")]
    #[must_use]
    pub const fn seats(self, seats: u32) -> Self {
        Self { seats, ..self }
    }

    pub(super) fn check(self) -> Result<(), SegmentError> {
        let seats = 1..=MAX_SEATS;
        if self.pages > self.capacity
            || self.capacity == 0
            || self.capacity > MAX_PAGES
            || !seats.contains(&self.seats)
        {
            return Err(SegmentError::Size(self));
        }
        Ok(())
    }

    /// Where the pages begin.
    pub(super) const fn pages_at(self) -> u32 {
        SEATS_AT + self.seats * size_of::<SeatCell>() as u32
    }

    /// The bytes of a segment with `pages` pages. (No sum or product here can overflow 64 bits.)
    pub(super) const fn bytes(self, pages: u32) -> u64 {
        self.pages_at() as u64 + pages as u64 * size_of::<PageCell>() as u64
    }
}

/// The numbers at the top of a segment, as 16 words.
const WORDS: usize = 16;

/// The first words of a segment of this size.
pub(super) fn words(size: Size) -> [u32; WORDS] {
    let [a, b] = magic();
    let (slot, seat, page) = (16, size_of::<SeatCell>() as u32, size_of::<PageCell>() as u32);
    let (seats, capacity, pages_at) = (size.seats, size.capacity, size.pages_at());
    [
        a, b, ORDER, VERSION, HEAD_BYTES, SLOTS, slot, seats, seat, NOTES, page, capacity,
        HEAD_BYTES, SEATS_AT, pages_at, size.pages,
    ]
}

fn magic() -> [u32; 2] {
    let word = |at| u32::from_ne_bytes([MAGIC[at], MAGIC[at + 1], MAGIC[at + 2], MAGIC[at + 3]]);
    [word(0), word(4)]
}

/// What `words`, the first of a file of `bytes` bytes, say of its size. They are a copy: what
/// anybody writes to the file afterwards changes nothing.
pub(super) fn read(words: [u32; WORDS], bytes: u64) -> Result<Size, SegmentError> {
    if words[..2] != magic() {
        return Err(SegmentError::NoSegment);
    }
    if words[2] == ORDER.swap_bytes() {
        return Err(SegmentError::ForeignEndian);
    }
    let version = words[3];
    if words[2] != ORDER || version != VERSION {
        return Err(SegmentError::Version { found: version });
    }
    let size = Size { pages: words[15], capacity: words[11], seats: words[7] };
    size.check()?;
    // All else follows from these.
    if words != self::words(size) {
        return Err(SegmentError::Inconsistent);
    }
    let needed = size.bytes(size.pages);
    if bytes < needed {
        return Err(SegmentError::Truncated { bytes, needed });
    }
    Ok(size)
}

macro_rules! debug_as_a_name {
    ($($type:ident)*) => {
        $(impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($type)).finish_non_exhaustive()
            }
        })*
    };
}
debug_as_a_name! { Head SeatCell Note PageCell }
