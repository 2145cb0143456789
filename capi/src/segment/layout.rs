//! The bytes of a segment, for debuggers and for peers without this library. Written out, because
//! cbindgen evaluates nothing; each is held against the core's. docs/shared.md has them as structs.

use core::mem::offset_of;
use pagelock::shared::layout::{self, Head, Note, PageCell, SeatCell};
use pagelock::shared::{MAX_SEGMENTS, note};

macro_rules! held {
    ($($name:ident = $core:expr;)*) => { $(const _: () = assert!($name as u64 == $core as u64);)* };
}

/// A segment begins with "pagelock", ORDER in the machine's byte order, and VERSION.
pub const PAGELOCK_SEGMENT_ORDER: u32 = 0x0102_0304;
pub const PAGELOCK_SEGMENT_VERSION: u32 = 1;
/// Where in a segment: how many seats there are, how many pages there can be, where the pages
/// begin, how many there are, and your two words.
pub const PAGELOCK_SEGMENT_SEATS_OFFSET: u32 = 28;
pub const PAGELOCK_SEGMENT_CAPACITY_OFFSET: u32 = 44;
pub const PAGELOCK_SEGMENT_PAGES_AT_OFFSET: u32 = 56;
pub const PAGELOCK_SEGMENT_PAGES_OFFSET: u32 = 60;
pub const PAGELOCK_SEGMENT_WORDS_OFFSET: u32 = 64;
/// The event slots begin behind the head, of so many bytes; there are so many.
pub const PAGELOCK_SEGMENT_HEAD_BYTES: u32 = 256;
pub const PAGELOCK_SEGMENT_SLOTS: u32 = 128;
/// Where the seats begin, of so many bytes each. The pages follow.
pub const PAGELOCK_SEGMENT_SEATS_AT: u32 = 4096;
pub const PAGELOCK_SEGMENT_SEAT_BYTES: u32 = 1024;
/// Where in a seat its notes begin, how many there are, of so many bytes each.
pub const PAGELOCK_SEAT_NOTES_OFFSET: u32 = 64;
pub const PAGELOCK_SEAT_NOTES: u32 = 60;
pub const PAGELOCK_NOTE_BYTES: u32 = 16;
/// A page: its header, the word that names the seat that is changing a count, your word.
pub const PAGELOCK_SEGMENT_PAGE_BYTES: u32 = 16;
pub const PAGELOCK_SEGMENT_PAGE_CHANGER_OFFSET: u32 = 8;
pub const PAGELOCK_SEGMENT_PAGE_WORD_OFFSET: u32 = 12;
/// The most seats and pages of a segment, and segments of a process.
pub const PAGELOCK_SEGMENT_MAX_SEATS: u32 = 256;
pub const PAGELOCK_SEGMENT_MAX_PAGES: u32 = 0x1000_0000;
pub const PAGELOCK_MAX_SEGMENTS: u32 = 16;
/// The byte of the file that the owner of seat 0 has locked (F_OFD_SETLK); that of seat n is n
/// further. A survivor that recovers has locked the byte before.
pub const PAGELOCK_SEGMENT_SEAT_LOCKS: u64 = 0x0100_0000_0000;
/// The first word of a note: what it is of, and how far. 0 is a free note.
pub const PAGELOCK_NOTE_LOCK: u32 = 1;
pub const PAGELOCK_NOTE_REF: u32 = 2;
pub const PAGELOCK_NOTE_PIN: u32 = 3;
pub const PAGELOCK_NOTE_ASKED: u32 = 0x100;
pub const PAGELOCK_NOTE_HELD: u32 = 0x200;
pub const PAGELOCK_NOTE_GIVING: u32 = 0x300;
pub const PAGELOCK_NOTE_RESCUED: u32 = 0x400;
pub const PAGELOCK_NOTE_RAISING: u32 = 0x500;
pub const PAGELOCK_NOTE_LOWERING: u32 = 0x600;
pub const PAGELOCK_NOTE_GIVEN: u32 = 0x700;

held! {
    PAGELOCK_SEGMENT_ORDER = layout::ORDER;
    PAGELOCK_SEGMENT_VERSION = layout::VERSION;
    PAGELOCK_SEGMENT_SEATS_OFFSET = offset_of!(Head, seats);
    PAGELOCK_SEGMENT_CAPACITY_OFFSET = offset_of!(Head, capacity);
    PAGELOCK_SEGMENT_PAGES_AT_OFFSET = offset_of!(Head, pages_at);
    PAGELOCK_SEGMENT_PAGES_OFFSET = offset_of!(Head, pages);
    PAGELOCK_SEGMENT_WORDS_OFFSET = offset_of!(Head, user);
    PAGELOCK_SEGMENT_HEAD_BYTES = layout::HEAD_BYTES;
    PAGELOCK_SEGMENT_SLOTS = layout::SLOTS;
    PAGELOCK_SEGMENT_SEATS_AT = layout::SEATS_AT;
    PAGELOCK_SEGMENT_SEAT_BYTES = size_of::<SeatCell>();
    PAGELOCK_SEAT_NOTES_OFFSET = offset_of!(SeatCell, notes);
    PAGELOCK_SEAT_NOTES = layout::NOTES;
    PAGELOCK_NOTE_BYTES = size_of::<Note>();
    PAGELOCK_SEGMENT_PAGE_BYTES = size_of::<PageCell>();
    PAGELOCK_SEGMENT_PAGE_CHANGER_OFFSET = offset_of!(PageCell, changer);
    PAGELOCK_SEGMENT_PAGE_WORD_OFFSET = offset_of!(PageCell, user);
    PAGELOCK_SEGMENT_MAX_SEATS = layout::MAX_SEATS;
    PAGELOCK_SEGMENT_MAX_PAGES = layout::MAX_PAGES;
    PAGELOCK_MAX_SEGMENTS = MAX_SEGMENTS;
    PAGELOCK_SEGMENT_SEAT_LOCKS = layout::SEAT_LOCKS;
    PAGELOCK_NOTE_LOCK = note::LOCK;
    PAGELOCK_NOTE_REF = note::REF;
    PAGELOCK_NOTE_PIN = note::PIN;
    PAGELOCK_NOTE_ASKED = note::ASKED;
    PAGELOCK_NOTE_HELD = note::HELD;
    PAGELOCK_NOTE_GIVING = note::GIVING;
    PAGELOCK_NOTE_RESCUED = note::RESCUED;
    PAGELOCK_NOTE_RAISING = note::RAISING;
    PAGELOCK_NOTE_LOWERING = note::LOWERING;
    PAGELOCK_NOTE_GIVEN = note::GIVEN;
}
const _: () =
    assert!(offset_of!(PageCell, lock) == 0 && layout::RECOVERY_LOCK + 1 == layout::SEAT_LOCKS);
