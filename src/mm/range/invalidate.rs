//! An invalidation by the protocol itself.

use crate::mm::{Cause, Notice, Tables};

/// Between [`Tables::invalidate`] and [`Tables::invalidated`].
#[must_use]
pub(in crate::mm) struct Invalidating<'m, M: Tables> {
    mm: &'m M,
    at: M::Address,
}

/// An entry is about to lose its page. Called without any page-table lock; keep the value until
/// that has been released again.
pub(in crate::mm) fn invalidating<M: Tables>(
    mm: &M,
    at: M::Address,
    notice: Notice,
) -> Invalidating<'_, M> {
    mm.invalidate(at, notice);
    Invalidating { mm, at }
}

/// The notice of a change on nobody's behalf.
pub(in crate::mm) fn notice(cause: Cause) -> Notice {
    Notice { cause, owner: 0 }
}

impl<M: Tables> Drop for Invalidating<'_, M> {
    fn drop(&mut self) {
        self.mm.invalidated(self.at);
    }
}
