//! Why something was not done, as a number and as text.

use core::ffi::{CStr, c_char};
use pagelock::{CommitRefused, CountError, FreezeRefused, GetError, LockError, PinError, Wake};

/// Why something was not done. Nothing has changed then, unless the function says otherwise.
#[derive(Clone, Copy, PartialEq, Eq)]
#[cfg_attr(not(segments), allow(dead_code))] // The header has them all.
#[repr(i32)]
pub enum pagelock_error {
    /// It was done.
    Ok = 0,
    /// The page is locked, or kept for a locker that sleeps for it.
    Locked = 1,
    /// The deadline has passed.
    TimedOut = 2,
    /// The switch was thrown.
    Cancelled = 3,
    /// The contents are lost for good.
    Poisoned = 4,
    /// The page has neither references nor pins.
    Free = 5,
    /// A migration has frozen the counts: wait for it, and look again.
    Frozen = 6,
    /// The page is being migrated: wait for it, and look again.
    Migrating = 7,
    /// It has pins.
    Pinned = 8,
    /// It has other references than were to be there.
    Referenced = 9,
    /// It is in use already.
    Live = 10,
    /// There is no room to count so many.
    Overflow = 11,
    /// Nothing was asked for: a number is zero.
    Zero = 12,
    /// Source and destination are one page.
    SamePage = 13,
    /// The source has fewer references than were to move.
    TooFew = 14,
    /// A deadline was given, and the platform has no clock.
    NoClock = 15,
    /// The platform's table lacks a function, has another size, or has no event slot.
    BadPlatform = 16,
    /// A platform was set before.
    PlatformSet = 17,
    /// Not the size of a segment: no page or seat, or more than there can be.
    SegmentSize = 18,
    /// The file does not begin as a segment does.
    NoSegment = 19,
    /// A segment of a machine with the other byte order.
    ForeignEndian = 20,
    /// A segment of another layout than PAGELOCK_SEGMENT_VERSION.
    OtherLayout = 21,
    /// The numbers of the segment contradict each other.
    Inconsistent = 22,
    /// The segment's file is shorter than it says.
    Truncated = 23,
    /// The file is no memfd that is sealed against shrinking.
    NotSealed = 24,
    /// More pages than the segment has room for.
    Capacity = 25,
    /// This process has as many segments as it can.
    TooManySegments = 26,
    /// The system has refused a call; `errno` says why.
    System = 27,
    /// All seats are taken.
    NoSeat = 28,
    /// Every seat without an owner is of a dead one: recover first.
    OnlyDead = 29,
    /// The segment was inherited by a fork: this process has to attach for itself.
    Forked = 30,
    /// The segment has no such page, as far as this process has looked.
    NoSuchPage = 31,
    /// The seat has no room for another note.
    SeatFull = 32,
    /// Another survivor recovers, and may have begun before this death: call again.
    Recovering = 33,
}

use pagelock_error as E;

impl From<LockError> for E {
    fn from(error: LockError) -> Self {
        if error == LockError::Cancelled { Self::Cancelled } else { Self::TimedOut }
    }
}

impl From<CountError> for E {
    fn from(error: CountError) -> Self {
        match error {
            CountError::Frozen => Self::Frozen,
            CountError::Poisoned => Self::Poisoned,
            CountError::Zero => Self::Zero,
            CountError::Overflow { .. } => Self::Overflow,
            _ => Self::Live,
        }
    }
}

impl From<GetError> for E {
    fn from(error: GetError) -> Self {
        match error {
            GetError::Free => Self::Free,
            GetError::Poisoned => Self::Poisoned,
            GetError::Overflow => Self::Overflow,
            _ => Self::Frozen,
        }
    }
}

impl From<PinError> for E {
    fn from(error: PinError) -> Self {
        match error {
            PinError::Free => Self::Free,
            PinError::Migrating => Self::Migrating,
            PinError::Poisoned => Self::Poisoned,
            PinError::Overflow => Self::Overflow,
            _ => Self::Frozen,
        }
    }
}

impl From<FreezeRefused> for E {
    fn from(why: FreezeRefused) -> Self {
        match why {
            _ if why.poisoned => Self::Poisoned,
            _ if why.frozen => Self::Frozen,
            _ if why.pins > 0 => Self::Pinned,
            _ => Self::Referenced,
        }
    }
}

impl From<CommitRefused> for E {
    fn from(why: CommitRefused) -> Self {
        match why {
            CommitRefused::SamePage => Self::SamePage,
            CommitRefused::Poisoned => Self::Poisoned,
            CommitRefused::TooFew { .. } => Self::TooFew,
            CommitRefused::Overflow { .. } => Self::Overflow,
            _ => Self::Frozen,
        }
    }
}

/// The error of a wait that something has cut short.
impl From<Wake> for E {
    fn from(wake: Wake) -> Self {
        match wake {
            Wake::Cancelled => Self::Cancelled,
            Wake::Poisoned => Self::Poisoned,
            _ => Self::TimedOut,
        }
    }
}

impl E {
    /// What came of it.
    pub(crate) fn of(done: Result<(), impl Into<Self>>) -> Self {
        done.map_or_else(Into::into, |()| Self::Ok)
    }
}

const TEXTS: [&CStr; 34] = [
    c"done",
    c"the page is locked, or kept for a locker that sleeps for it",
    c"the deadline has passed",
    c"the wait was cancelled",
    c"the contents of the page are lost",
    c"the page is free: it has neither references nor pins",
    c"a migration has frozen the page",
    c"the page is being migrated",
    c"the page is pinned",
    c"the page has other references than were expected",
    c"the page is in use already",
    c"there is no room to count so many references or pins",
    c"nothing was asked for",
    c"source and destination are the same page",
    c"the source has fewer references than were to move",
    c"there is a deadline, and the platform has no clock",
    c"the platform's table is incomplete, or of another version",
    c"a platform was set before",
    c"not the size of a segment",
    c"the file does not begin as a segment does",
    c"the segment was made on a machine with the other byte order",
    c"the segment has another layout than this library",
    c"the numbers of the segment contradict each other",
    c"the segment's file is shorter than it says",
    c"the file is no memfd that is sealed against shrinking",
    c"the segment has no room for so many pages",
    c"this process has as many segments as it can",
    c"the system has refused a call: see errno",
    c"all seats of the segment are taken",
    c"every seat without an owner is of a dead one: recover first",
    c"the segment belongs to the parent process, and this one has to attach for itself",
    c"the segment has no such page",
    c"the seat has no room for another note",
    c"another thread recovers the segment",
];

/// One line of English about `error`, which may be any number. It stays valid for ever.
#[unsafe(no_mangle)]
pub extern "C" fn pagelock_error_text(error: i32) -> *const c_char {
    let text = usize::try_from(error).ok().and_then(|error| TEXTS.get(error));
    text.map_or(c"not an error of this library", |text| text).as_ptr()
}
