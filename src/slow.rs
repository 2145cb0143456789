//! Waits and holds that take long are reported. With feature `tracing`.
//!
//! A wait for a page, or a hold of one, that took longer than a second is a warning of the target
//! `pagelock`, with the page's address and its owner's [record](crate::owner):
//!
//! ```text
//! WARN pagelock: waited for a page page=0x5581f2c0a010 took=1.8s
//!      owner=taken at src/io.rs:88:30 by thread 4711, 1.81s ago
//! WARN pagelock: held a page page=0x5581f2c0a010 took=1.81s
//!      owner=taken at src/io.rs:88:30 by thread 4711, 1.81s ago
//! ```
//!
//! There is nothing to call: the feature and any subscriber do it. [`report_over`] sets another
//! time. A report comes when the wait or the hold has ended. A page that is stuck for good is not
//! among them; a watchdog finds it by [`owner::holds`].
//!
//! The waiter has let go of its page-table lock when it reports, the owner has released the page. A
//! locker reports once it owns the page, and holds it for that long. A subscriber may allocate and
//! take locks, so the feature is not for programs that page their own subscriber's memory. Systems
//! without std have no clock for this, other than Linux; nothing is reported there.
//!
//! # Example
//!
//! ```
//! use std::time::Duration;
//!
//! pagelock::slow::report_over(Duration::from_millis(50));
//! ```

use crate::owner::{self, Taken};
use core::fmt;
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};
use core::time::Duration;

/// In milliseconds.
static OVER: AtomicU32 = AtomicU32::new(1000);

/// Reports waits and holds that take as long as `threshold`, to a millisecond, or longer. At first
/// that is a second.
///
/// ```
/// use std::time::Duration;
///
/// pagelock::slow::report_over(Duration::from_millis(200));
/// ```
pub fn report_over(threshold: Duration) {
    OVER.store(threshold.as_millis().try_into().unwrap_or(u32::MAX), Relaxed);
}

fn is_slow(took: Duration) -> bool {
    took.as_millis() >= OVER.load(Relaxed).into()
}

/// A wait for the page at this address, from now until it is dropped.
pub(crate) fn wait(page: usize) -> Waiting {
    Waiting { page, since: owner::now(), owner: owner::of(page) }
}

/// A wait that has begun.
pub(crate) struct Waiting {
    page: usize,
    since: Option<u32>,
    owner: Option<Taken>,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let Some(took) = self.since.and_then(owner::since).filter(|&took| is_slow(took)) else {
            return;
        };
        let (page, owner) = (Address(self.page), Owner(self.owner));
        tracing::warn!(target: "pagelock", %page, ?took, %owner, "waited for a page");
    }
}

/// A hold has ended, and the page is released.
pub(crate) fn hold_ended(taken: &Taken) {
    let Some(took) = taken.held().filter(|&took| is_slow(took)) else { return };
    let (page, owner) = (Address(taken.page()), Owner(Some(*taken)));
    tracing::warn!(target: "pagelock", %page, ?took, %owner, "held a page");
}

struct Address(usize);

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// Who owned the page as a wait for it began.
struct Owner(Option<Taken>);

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(taken) => write!(f, "taken {taken}"),
            None => f.write_str("not recorded"),
        }
    }
}
