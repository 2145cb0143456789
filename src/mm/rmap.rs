//! The reverse map: from a page to the entries that name it.

use super::{Span, Tables};

/// Finds the entries of a page.
///
/// Called without any PTL, and with page locks, of which it waits for none: [the table]
/// (crate::mm#what-is-held-when-the-embedder-is-called).
pub trait ReverseMap: Tables {
    /// Calls `visit` with the address of every entry that names a frame of `span`: present,
    /// device-private, device-exclusive or migration. A large entry is visited once, by its first
    /// address.
    ///
    /// It is called without any PTL, and `visit` takes the PTL of the address that it is given. So
    /// entries come and go during the walk. What is promised: an entry that names the frame when
    /// the walk begins, and when its turn comes, is visited; and a copy of an entry that has not
    /// been visited (a fork, a move to another address) is visited too. A walk that keeps fork and
    /// move out by a lock of its own keeps this promise, and so does one that gives every entry a
    /// number and visits them in the order in which they were made.
    ///
    /// An address whose entry names another frame by now, or none, may be visited too: `visit`
    /// looks.
    fn each_mapping(&self, span: Span, visit: impl FnMut(Self::Address));
}
