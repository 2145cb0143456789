//! What may be pinned, for how long, and where it has to be for that.

use crate::mm::{Access, Mm};
use core::fmt;

/// How long a pin will last.
///
/// ```
/// use pagelock::mm::{Access, drain::Unlocked, pin::Term};
/// # let (mm, at) = pagelock_soft::example();
/// let mut unlocked = Unlocked::promise(); // the top of a thread
/// let pinned = mm.pin(at, Access::Write, Term::Short, &mut unlocked).unwrap();
/// mm.write_frame(pinned.pfn(), 0, b"by a device");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Term {
    /// Until a transfer that is about to begin is over.
    Short,
    /// Without an end: a device's buffer.
    Long,
}

/// What may be pinned, and where it has to be for that.
///
/// Both methods are called with the entry's PTL held, and neither sleep nor take another: see the
/// [table](crate::mm#what-is-held-when-the-embedder-is-called).
pub trait PinPolicy<M: Mm> {
    /// Why not.
    type Refused;

    /// Whether the page at `at` may be pinned so. `entry` is locked, and allows the access.
    ///
    /// ```
    /// use pagelock::mm::pin::{Backing, PinPolicy, Term};
    /// use pagelock::mm::{Access, Tables};
    /// # let (mm, at) = pagelock_soft::example();
    /// let files = pagelock_soft::Backed(|_| Backing::Storage);
    /// let entry = mm.lock(at).unwrap();
    /// assert!(files.permit(&mm, at, &entry, Access::Read, Term::Short).is_ok());
    /// ```
    ///
    /// # Errors
    ///
    /// The reason.
    fn permit(
        &self,
        mm: &M,
        at: M::Address,
        entry: &M::Entry<'_>,
        access: Access,
        term: Term,
    ) -> Result<(), Self::Refused>;

    /// Where a page in `tier` goes before it is pinned for long; `None` if it may stay. `tier`
    /// itself is taken as `None`.
    ///
    /// ```
    /// use pagelock::mm::pin::{Backing, PinPolicy};
    /// use pagelock_soft::{Backed, TierId};
    /// # let (mm, at) = pagelock_soft::example();
    /// let policy = Backed(|_| Backing::Anonymous);
    /// assert_eq!(policy.home(&mm, TierId(1)), Some(TierId(0))); // out of the device
    /// assert_eq!(policy.home(&mm, TierId(0)), None);
    /// ```
    fn home(&self, mm: &M, tier: M::Tier) -> Option<M::Tier>;
}

/// What a mapping is a mapping of.
///
/// ```
/// use pagelock::mm::Access;
/// use pagelock::mm::pin::{Backing, Term, long_term};
/// assert!(long_term(Backing::Anonymous, true, Access::Write, Term::Long).is_ok());
/// assert!(long_term(Backing::Device, true, Access::Read, Term::Short).is_err());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Backing {
    /// Nothing but memory.
    Anonymous,
    /// A file in memory, whose file system does not track dirty pages: a memfd, a file of large
    /// pages.
    MemoryFile,
    /// A file whose file system writes dirty pages back, and must be told before a page becomes
    /// dirty.
    TrackedFile,
    /// A file whose pages are storage: the file system moves and frees the page with the block.
    Storage,
    /// A device's registers, or memory that has no frames.
    Device,
}

/// A mapping whose pages may not be pinned as asked; the error of [`long_term`].
///
/// ```
/// use pagelock::mm::pin::{Backing, NotPinnable};
/// let error = NotPinnable { backing: Backing::Device };
/// assert_eq!(error.to_string(), "a mapping of this kind is not pinned so: Device");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotPinnable {
    /// What it is a mapping of.
    pub backing: Backing,
}

impl fmt::Display for NotPinnable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a mapping of this kind is not pinned so: {:?}", self.backing)
    }
}

impl core::error::Error for NotPinnable {}

/// The kernel's table: which mappings may be pinned, by their backing and by whether writes are
/// shared.
///
/// | backing | short | long, private | long, shared, to read | long, shared, to write |
/// |---|---|---|---|---|
/// | anonymous, file in memory | yes | yes | yes | yes |
/// | file with write-back | yes | yes: the copy is pinned | yes | no |
/// | file that is storage | yes | yes: the copy is pinned | no | no |
/// | device | no | no | no | no |
///
/// ```
/// use pagelock::mm::Access;
/// use pagelock::mm::pin::{Backing, Term, long_term};
/// let file = Backing::TrackedFile;
/// let may = |is_shared, access| long_term(file, is_shared, access, Term::Long).is_ok();
/// assert!(may(true, Access::Read) && may(false, Access::Write) && !may(true, Access::Write));
/// ```
///
/// # Errors
///
/// [`NotPinnable`].
pub fn long_term(
    backing: Backing,
    is_shared: bool,
    access: Access,
    term: Term,
) -> Result<(), NotPinnable> {
    let yes = match (backing, term) {
        (Backing::Device, _) => false,
        (_, Term::Short) | (Backing::Anonymous | Backing::MemoryFile, Term::Long) => true,
        (Backing::TrackedFile, Term::Long) => !is_shared || access == Access::Read,
        (Backing::Storage, Term::Long) => !is_shared,
    };
    if yes { Ok(()) } else { Err(NotPinnable { backing }) }
}
