//! What was accessed, and what has become of the fault.

use crate::leaf::{Marker, Rights, UnknownLeaf};
use crate::wait::Wake;
use core::fmt;

/// What the access was.
///
/// ```
/// use pagelock::mm::{Access, Fault, Faulter, Strategy, fault};
/// # let (mm, at) = pagelock_soft::example();
/// let mut faulter = Faulter::new(Strategy::Wait);
/// for access in [Access::Read, Access::Write, Access::Execute] {
///     assert_eq!(fault(&mm, at, access, &mut faulter), Ok(Fault::Present));
/// }
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Access {
    /// A load.
    Read,
    /// A store.
    Write,
    /// An instruction fetch.
    Execute,
}

impl Access {
    pub(super) fn is_within(self, rights: Rights) -> bool {
        self != Self::Write || rights == Rights::Write
    }
}

/// What has become of the fault.
///
/// ```
/// use pagelock::mm::Fault;
/// let accesses_again =
///     |fault| matches!(fault, Fault::Resolved | Fault::Present | Fault::Retry(_));
/// assert!(accesses_again(Fault::Resolved) && !accesses_again(Fault::Missing));
/// ```
#[must_use = "the access has to be repeated, or is the caller's to handle"]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Fault {
    /// This thread has brought the page back, or ended a device's exclusivity. Access it again.
    Resolved,
    /// The entry allows the access: another thread has resolved the fault. Access it again.
    Present,
    /// Not yet. Access it again; it may fault again.
    Retry(Why),
    /// The page is there and the access is not allowed. The caller knows whether that means copy on
    /// write, dirty tracking or an error.
    Protected {
        /// What is allowed.
        rights: Rights,
    },
    /// The page is there and may not be [executed](super::Entry::may_execute).
    NotExecutable,
    /// Nothing was ever there; the caller fills it.
    Missing,
    /// The page is in swap; the caller brings it in.
    Swapped {
        /// The swap slot.
        slot: u64,
    },
    /// The entry is a marker; the caller acts on it.
    Marker(Marker),
}

/// Why an access has to be repeated although the fault was not resolved.
///
/// ```
/// use pagelock::mm::{Fault, Why};
/// let should_pause = |fault| fault == Fault::Retry(Why::Locked);
/// assert!(should_pause(Fault::Retry(Why::Locked)));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Why {
    /// The page is locked, and the strategy is not to wait.
    Locked,
    /// The wait for the page has ended like this.
    Waited(Wake),
    /// This thread locked and released the page in turn, and the entry has changed meanwhile.
    Changed,
    /// This thread owned the page and could not bring it back this time. It has released the page,
    /// [asked](crate::mm::Memory::busy) to have batches emptied, and paused. A caller with an
    /// [`Unlocked`](crate::mm::drain::Unlocked) can also drain before it tries again, and so wait
    /// for that.
    Busy,
    /// This thread owned the page, and there was no frame for it. It has released the page,
    /// [asked](crate::mm::Memory::make_room) for room, and paused.
    Full,
}

/// A fault that ends in an error.
///
/// ```
/// use pagelock::leaf::Leaf;
/// use pagelock::mm::{Access, FaultError, Faulter, Strategy, fault};
/// # let (mm, at) = pagelock_soft::example();
/// mm.replace(at, Leaf::Poison { pfn: 7 });
/// let mut faulter = Faulter::new(Strategy::Wait);
/// let error = fault(&mm, at, Access::Read, &mut faulter).unwrap_err();
/// assert_eq!(error, FaultError::Poisoned { pfn: 7 });
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum FaultError<E> {
    /// The entry is none that this crate knows.
    Unknown(UnknownLeaf),
    /// The entry names a frame that has no header.
    NoFrame {
        /// Its number.
        pfn: u64,
    },
    /// The page's contents are lost for good.
    Poisoned {
        /// The number of the frame that had them.
        pfn: u64,
    },
    /// The faulter was [cancelled](super::Faulter::cancellable).
    Cancelled,
    /// The time of [`fault_within`](super::fault_within) was up.
    TimedOut,
    /// The page could not be brought back for as long as the faulter had
    /// [patience](super::Faulter::patience).
    Busy {
        /// How often it was tried.
        rounds: u32,
    },
    /// There is no frame for the page, and [no room could be made](crate::mm::Memory::make_room).
    NoMemory,
    /// The memory could not bring the page back.
    ToRam(E),
}

impl<E> From<UnknownLeaf> for FaultError<E> {
    fn from(e: UnknownLeaf) -> Self {
        Self::Unknown(e)
    }
}

impl<E: fmt::Display> fmt::Display for FaultError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(e) => e.fmt(f),
            Self::NoFrame { pfn } => {
                write!(f, "the entry names frame {pfn:#x}, which does not exist")
            }
            Self::Poisoned { pfn } => write!(f, "the contents of frame {pfn:#x} are lost"),
            Self::Cancelled => f.write_str("the fault was cancelled"),
            Self::TimedOut => f.write_str("the time was up"),
            Self::Busy { rounds } => write!(f, "the page was busy {rounds} times"),
            Self::NoMemory => f.write_str("there is no frame to bring the page back to"),
            Self::ToRam(e) => write!(f, "the page could not be brought back: {e}"),
        }
    }
}

impl<E: core::error::Error> core::error::Error for FaultError<E> {}
