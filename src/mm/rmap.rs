//! The reverse map: from a page to the entries that name it.

use super::{Span, Tables};

/// Finds the entries of a page.
///
/// Called without any PTL and perhaps with page locks: it waits for no page. See the
/// [table](crate::mm#what-is-held-when-the-embedder-is-called).
pub trait ReverseMap: Tables {
    /// Calls `visit` with the address of every entry that names a frame of `span`: present,
    /// device-private, device-exclusive or migration. A large entry is visited once, by its first
    /// address.
    ///
    /// No PTL is held, and `visit` takes the PTL of the address that it is given, so entries come
    /// and go during the walk. The walk promises two things. An entry that names the frame when the
    /// walk begins, and still does when its turn comes, is visited. A copy of an entry that has not
    /// been visited yet (by fork, or by a move to another address) is visited too. Both hold if the
    /// walk keeps fork and move out by a lock of its own, or if every entry has a number and the
    /// walk visits them in the order in which they were made.
    ///
    /// An address whose entry names another frame by now, or none, may be visited too: `visit` must
    /// look.
    ///
    /// ```
    /// use pagelock::mm::{ReverseMap, Span};
    /// # let (mm, at) = pagelock_soft::example();
    /// mm.fork(at.space).unwrap();
    /// let mut mappings = 0;
    /// mm.each_mapping(Span { head: mm.frame_at(at).unwrap(), order: 0 }, |_| mappings += 1);
    /// assert_eq!(mappings, 2); // the parent's and the child's
    /// ```
    fn each_mapping(&self, span: Span, visit: impl FnMut(Self::Address));
}
