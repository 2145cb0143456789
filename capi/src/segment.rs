//! Pages that processes share, and survive each other in: `pagelock::shared` for C. (Linux.)
//!
//! What the core keeps of a segment or a seat lies in memory of the caller, which has no allocator
//! to ask. It holds addresses of itself, so it stays where it is until it is closed or left.

mod layout;
mod recover;
mod seat;
mod stages;

use crate::error::pagelock_error;
use crate::limits::{pagelock_cancel, pagelock_limits};
use crate::types::pagelock_page;
use core::ffi::{CStr, c_char, c_int};
use core::mem::MaybeUninit;
use core::ptr::{null, null_mut};
use core::time::Duration;
use pagelock::futex::MonotonicTime;
use pagelock::shared::{InSegment, RecoverError, SeatError, Segment, SegmentError, SitError, Size};
use pagelock::sync::AtomicU32;
use pagelock::{Cancel, Limits};

/// Pages, seats and an event table in a memfd, mapped into this process. Linux; not in the
/// freestanding library.
///
/// Made by `pagelock_segment_create` or `pagelock_segment_attach`, in memory of yours; it is not
/// moved nor copied until `pagelock_segment_close`. Any threads may use it at once. A child that
/// was forked attaches for itself.
///
/// A process that has the descriptor can write every byte of the segment. Such a peer cannot make
/// this process access anything outside of the segment, but it can make it wait, and memory that a
/// page's lock guards is only as safe as the peers are honest.
#[repr(C)]
pub struct pagelock_segment {
    /// The library's.
    pub words: [MaybeUninit<u64>; 16],
}

const _: () = assert!(size_of::<Segment>() <= size_of::<pagelock_segment>());
const _: () = assert!(align_of::<Segment>() <= align_of::<pagelock_segment>());
const _: () = assert!(size_of::<Cancel<InSegment>>() == size_of::<pagelock_cancel>());

/// The segment at `segment`.
///
/// # Safety
///
/// It was made and not closed, as the top of the crate says.
unsafe fn at<'a>(segment: *const pagelock_segment) -> &'a Segment {
    // SAFETY: the caller's promise.
    unsafe { &*segment.cast::<Segment>() }
}

/// # Safety
///
/// As for the switch of a page.
pub(crate) unsafe fn switch<'a>(cancel: *const pagelock_cancel) -> &'a Cancel<InSegment> {
    // SAFETY: one word, of which zero is a switch that is not thrown; see the top of the crate.
    unsafe { &*cancel.cast() }
}

/// What the core makes of `limits`. The clock is the system's, whatever platform was set.
///
/// # Safety
///
/// Null, or as the top of the crate says.
unsafe fn limits<'a>(limits: *const pagelock_limits) -> Limits<'a, InSegment> {
    let mut of = Limits::none();
    // SAFETY: the caller's promise.
    if let Some(asked) = unsafe { limits.as_ref() } {
        if asked.deadline != 0 {
            of = of.until(MonotonicTime::since_zero(Duration::from_nanos(asked.deadline)));
        }
        if !asked.cancel.is_null() {
            // SAFETY: the caller's promise, and it is not null.
            of = of.unless(unsafe { switch(asked.cancel) });
        }
    }
    of
}

/// An error of the system's, which C finds in `errno`.
fn system(errno: i32) -> pagelock_error {
    unsafe extern "C" {
        safe fn __errno_location() -> *mut c_int;
    }
    // SAFETY: the address of this thread's errno, which is valid as long as the thread is.
    unsafe { *__errno_location() = errno };
    pagelock_error::System
}

impl From<SegmentError> for pagelock_error {
    fn from(error: SegmentError) -> Self {
        match error {
            SegmentError::Size(_) => Self::SegmentSize,
            SegmentError::NoSegment => Self::NoSegment,
            SegmentError::ForeignEndian => Self::ForeignEndian,
            SegmentError::Version { .. } => Self::OtherLayout,
            SegmentError::Truncated { .. } => Self::Truncated,
            SegmentError::NotSealed => Self::NotSealed,
            SegmentError::Capacity { .. } => Self::Capacity,
            SegmentError::TooMany => Self::TooManySegments,
            SegmentError::System { errno, .. } => system(errno),
            _ => Self::Inconsistent,
        }
    }
}

impl From<SitError> for pagelock_error {
    fn from(error: SitError) -> Self {
        match error {
            SitError::OnlyDead => Self::OnlyDead,
            SitError::Forked => Self::Forked,
            SitError::System { errno } => system(errno),
            _ => Self::NoSeat,
        }
    }
}

impl From<SeatError> for pagelock_error {
    fn from(error: SeatError) -> Self {
        match error {
            SeatError::NoSuchPage => Self::NoSuchPage,
            SeatError::Full => Self::SeatFull,
            SeatError::Limit(why) => why.into(),
            SeatError::Count(why) => why.into(),
            SeatError::Get(why) => why.into(),
            SeatError::Pin(why) => why.into(),
            _ => Self::Locked,
        }
    }
}

impl From<RecoverError> for pagelock_error {
    fn from(error: RecoverError) -> Self {
        match error {
            RecoverError::Forked => Self::Forked,
            RecoverError::System { errno } => system(errno),
            _ => Self::Recovering,
        }
    }
}

/// Makes a segment of `pages` pages, that can grow to `capacity`, for up to `seats` threads at a
/// time; and maps it. The pages are unlocked and free. `name` is for humans. SEGMENT_SIZE,
/// TOO_MANY_SEGMENTS, SYSTEM.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagelock_segment_create(
    name: *const c_char,
    pages: u32,
    capacity: u32,
    seats: u32,
    segment: *mut pagelock_segment,
) -> pagelock_error {
    let size = Size::of(pages).up_to(capacity).seats(seats);
    // SAFETY: see the top of the crate; a string of C's.
    unsafe { made(Segment::create(CStr::from_ptr(name), size), segment) }
}

/// Maps the segment that `fd` is open on, having checked it: whatever the file is, it is accessed
/// only if it is a segment. The descriptor stays the caller's: the segment opens the file anew,
/// through /proc, for reading and writing. NO_SEGMENT, FOREIGN_ENDIAN, OTHER_LAYOUT, SEGMENT_SIZE,
/// INCONSISTENT, TRUNCATED, NOT_SEALED, TOO_MANY_SEGMENTS, SYSTEM.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagelock_segment_attach(
    fd: c_int,
    segment: *mut pagelock_segment,
) -> pagelock_error {
    const EBADF: i32 = 9;
    if fd < 0 {
        // What an open that has failed says, and is passed on without a look.
        return system(EBADF);
    }
    // SAFETY: see the top of the crate. A number that is not open is refused by the system.
    unsafe { made(Segment::attach_raw(fd), segment) }
}

unsafe fn made(
    segment: Result<Segment, SegmentError>,
    to: *mut pagelock_segment,
) -> pagelock_error {
    match segment {
        Ok(segment) => {
            // SAFETY: see the top of the crate.
            unsafe { to.cast::<Segment>().write(segment) };
            pagelock_error::Ok
        }
        Err(error) => error.into(),
    }
}

/// Unmaps the segment and closes its descriptor. All seats of this process have been left. The file
/// goes with the last descriptor of it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagelock_segment_close(segment: *mut pagelock_segment) {
    // SAFETY: see the top of the crate; it is not used again.
    unsafe { segment.cast::<Segment>().drop_in_place() };
}

/// The segment's own descriptor; do not close it. To pass the segment on, open /proc/self/fd/N
/// anew: while another process has a copy of this one, nobody sees this process die.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagelock_segment_fd(segment: *const pagelock_segment) -> c_int {
    // SAFETY: see the top of the crate.
    unsafe { at(segment) }.as_raw_fd()
}

/// How many pages there are, as far as this process has looked.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagelock_segment_pages(segment: *const pagelock_segment) -> u32 {
    // SAFETY: see the top of the crate.
    unsafe { at(segment) }.pages()
}

/// How many pages there can be.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagelock_segment_capacity(segment: *const pagelock_segment) -> u32 {
    // SAFETY: see the top of the crate.
    unsafe { at(segment) }.capacity()
}

/// How many seats there are.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagelock_segment_seats(segment: *const pagelock_segment) -> u32 {
    // SAFETY: see the top of the crate.
    unsafe { at(segment) }.seats()
}

/// Makes room for `pages` pages in all, if there is less, and looks how many there are now, as
/// `pagelock_segment_refresh`. `now` may be null. CAPACITY, SYSTEM.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagelock_segment_grow(
    segment: *const pagelock_segment,
    pages: u32,
    now: *mut u32,
) -> pagelock_error {
    // SAFETY: see the top of the crate.
    unsafe { seen(at(segment).grow(pages), now) }
}

/// Looks how many pages there are now: another process may have made more. `now` may be null.
/// SYSTEM.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagelock_segment_refresh(
    segment: *const pagelock_segment,
    now: *mut u32,
) -> pagelock_error {
    // SAFETY: see the top of the crate.
    unsafe { seen(at(segment).refresh(), now) }
}

unsafe fn seen(pages: Result<u32, SegmentError>, now: *mut u32) -> pagelock_error {
    pagelock_error::of(pages.map(|pages| {
        if !now.is_null() {
            // SAFETY: see the top of the crate.
            unsafe { now.write(pages) };
        }
    }))
}

/// The header of a page, to be looked at: `pagelock_is_locked`, `pagelock_refs` and the like. Null
/// if there is no such page. It is changed through seats alone.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagelock_segment_page(
    segment: *const pagelock_segment,
    page: u32,
) -> *const pagelock_page {
    // SAFETY: see the top of the crate. The header is what a cell begins with.
    unsafe { at(segment) }.page_cell(page).map_or(null(), |cell| cell.cast())
}

/// Your word of a page, shared by all and accessed atomically; the library never looks at it. Null
/// if there is no such page.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagelock_segment_page_word(
    segment: *const pagelock_segment,
    page: u32,
) -> *mut u32 {
    // SAFETY: see the top of the crate.
    unsafe { at(segment) }.page_word(page).map_or(null_mut(), AtomicU32::as_ptr)
}

/// One of your two words of the segment, `n` 0 or 1, as `pagelock_segment_page_word`; else null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagelock_segment_word(
    segment: *const pagelock_segment,
    n: u32,
) -> *mut u32 {
    // SAFETY: see the top of the crate.
    unsafe { at(segment) }.user_words().get(n as usize).map_or(null_mut(), AtomicU32::as_ptr)
}
