//! What may be pinned, for how long, and where it has to be for that.

use crate::mm::{Access, Mm};
use core::fmt;

/// How long a pin is going to last.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Term {
    /// Until a transfer that is about to begin is over.
    Short,
    /// For as long as somebody likes.
    Long,
}

/// What may be pinned, and where it has to be for that.
///
/// Both are asked with the entry's PTL held, and neither sleep nor take another: [the table]
/// (crate::mm#what-is-held-when-the-embedder-is-called).
pub trait PinPolicy<M: Mm> {
    /// Why not.
    type Refused;

    /// Whether the page at `at` may be pinned so. Asked with the entry's lock held, for an entry
    /// that allows the access.
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
    fn home(&self, mm: &M, tier: M::Tier) -> Option<M::Tier>;
}

/// What a mapping is a mapping of.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Backing {
    /// Nothing but memory.
    Anonymous,
    /// A file in memory, of a file system that does not care which pages are dirty: a memfd, a file
    /// of large pages.
    MemoryFile,
    /// A file of a file system that writes back what is dirty, and has to be told before a page
    /// becomes so.
    TrackedFile,
    /// A file whose pages are storage: what the file system does with a block it does with the
    /// page.
    Storage,
    /// A device's registers, or memory that has no frames.
    Device,
}

/// A mapping whose pages may not be pinned as asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotPinnable {
    /// What it is of.
    pub backing: Backing,
}

impl fmt::Display for NotPinnable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a mapping of this kind is not pinned so: {:?}", self.backing)
    }
}

impl core::error::Error for NotPinnable {}

/// The kernel's table: which mappings may be pinned, by what they are of and whether writes are
/// shared.
///
/// | backing | short | long, private | long, shared, to read | long, shared, to write |
/// |---|---|---|---|---|
/// | anonymous, file in memory | yes | yes | yes | yes |
/// | file with write-back | yes | yes: the copy is pinned | yes | no |
/// | file that is storage | yes | yes: the copy is pinned | no | no |
/// | device | no | no | no | no |
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
