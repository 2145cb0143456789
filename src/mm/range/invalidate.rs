//! An invalidation by the protocol itself.

use crate::mm::Tables;

/// Between [`Tables::invalidate`] and [`Tables::invalidated`].
#[must_use]
pub(in crate::mm) struct Invalidating<'m, M: Tables> {
    mm: &'m M,
    at: M::Address,
}

/// An entry is about to lose its page. Called without any page-table lock, and to be kept until that has been let go of again.
pub(in crate::mm) fn invalidating<M: Tables>(mm: &M, at: M::Address) -> Invalidating<'_, M> {
    mm.invalidate(at);
    Invalidating { mm, at }
}

impl<M: Tables> Drop for Invalidating<'_, M> {
    fn drop(&mut self) {
        self.mm.invalidated(self.at);
    }
}
