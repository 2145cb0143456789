//! An invalidation by the protocol itself.

use crate::mm::{Cause, Notice, Tables};

/// Between [`Tables::invalidate`] and [`Tables::invalidated`].
#[must_use]
pub(in crate::mm) struct Invalidating<'m, M: Tables> {
    mm: &'m M,
    at: M::Address,
}

/// An entry is about to lose its page. Called without any page-table lock, and to be kept until
/// that has been let go of again.
pub(in crate::mm) fn invalidating<M: Tables>(
    mm: &M,
    at: M::Address,
    notice: Notice,
) -> Invalidating<'_, M> {
    mm.invalidate(at, notice);
    Invalidating { mm, at }
}

/// The notice of what nobody has ordered.
pub(in crate::mm) fn notice(cause: Cause) -> Notice {
    Notice { cause, owner: 0 }
}

impl<M: Tables> Drop for Invalidating<'_, M> {
    fn drop(&mut self) {
        self.mm.invalidated(self.at);
    }
}
