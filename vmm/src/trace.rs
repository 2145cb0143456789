//! Events for `tracing`: feature `tracing`. Without it the calls are empty.
//!
//! | level | what |
//! |---|---|
//! | trace | a page was put up |
//! | debug | a page was evicted; pages were discarded |
//! | info | a page was put up by zeroes because it was discarded, or was there already |
//! | warn | an owner had a page for longer than [`SLOW`] |

use crate::discard::Discarded;
use crate::fetch::Filled;
use crate::region::Region;
use crate::seats::Taken;
#[cfg(feature = "tracing")]
use std::time::Duration;

/// A hold of a page that is worth a warning.
#[cfg(feature = "tracing")]
const SLOW: Duration = Duration::from_millis(100);

#[inline]
#[cfg_attr(not(feature = "tracing"), allow(unused_variables))]
pub(crate) fn filled(region: &Region, page: usize, filled: Filled) {
    #[cfg(feature = "tracing")]
    match filled {
        Filled::Bytes => tracing::trace!(page, guest = region.guest_address(page), "fetched"),
        other => tracing::info!(page, guest = region.guest_address(page), how = ?other, "put up"),
    }
}

#[inline]
#[cfg_attr(not(feature = "tracing"), allow(unused_variables))]
pub(crate) fn evicted(region: &Region, page: usize) {
    #[cfg(feature = "tracing")]
    tracing::debug!(page, guest = region.guest_address(page), "evicted");
}

#[inline]
#[cfg_attr(not(feature = "tracing"), allow(unused_variables))]
pub(crate) fn discarded(region: &Region, sum: &Discarded) {
    #[cfg(feature = "tracing")]
    tracing::debug!(
        guest = region.guest_range().start,
        done = sum.done,
        left = sum.left,
        pinned = sum.pinned,
        failed = sum.failed,
        "discarded"
    );
}

/// An owner has given a page up.
#[inline]
#[cfg_attr(not(feature = "tracing"), allow(unused_variables))]
pub(crate) fn released(region: &Region, seat: &Taken) {
    #[cfg(feature = "tracing")]
    if let Some(owner) = region.seats.look(seat).filter(|owner| owner.held >= SLOW) {
        let guest = region.guest_address(owner.page);
        let (page, what, note, held) = (owner.page, owner.what, owner.note, owner.held);
        tracing::warn!(page, guest, what, %note, ?held, "held for long");
    }
}

/// A fetch has come to nothing.
#[inline]
#[cfg_attr(not(feature = "tracing"), allow(unused_variables))]
pub(crate) fn aborted(page: usize, why: &dyn std::fmt::Display) {
    #[cfg(feature = "tracing")]
    tracing::warn!(page, %why, "fetch aborted");
}
