//! A range of pages for a reader that keeps copies of the entries: a device with a table of its
//! own, a tracer, a dirty log.
//!
//! For each page the reader wants to know where it is and what may be done with it. Some pages it
//! also wants to be able to read or write. And it wants to know all of this as of one time,
//! although entries change while it reads. So it reads against a [`Notifier`]:
//!
//! 1. take a ticket, after waiting for the invalidations that are on;
//! 2. look at every page, one page-table lock at a time;
//! 3. if some are not as wanted, bring those in, each by the [fault path](fn@super::fault), whether
//!    or not the ticket is still good, because faults invalidate by themselves when they copy; and
//!    begin again;
//! 4. otherwise, if the ticket is still good, that is the answer; if not, yield, and begin again.
//!
//! The kernel's `hmm_range_fault` faults for each failed look and leaves the loop to its callers,
//! who spun in it: without a pause, for as long as it took, with waits that nobody could end. Here
//! every wait for a page or for an invalidation ends at the [limits](crate::wait::Limits), within
//! an attempt as well as between attempts (except what the memory itself does to bring a page in);
//! attempts are counted; between two of them the processor is given away; and a fault waits for a
//! page's owner without a reference, like all others. No page-table lock is held across any of it.
//!
//! An error loses no progress: pages that were brought in stay where they are, and [`RangeError`]
//! says how far it got. A second call begins with them.
//!
//! ```
//! use pagelock::Limits;
//! use pagelock::mm::range::{Found, Page, RangeOrder, Want, fault_range};
//! use pagelock_soft::{Config, Soft};
//!
//! let mm = Soft::new(Config::ram_and_device(16, 16));
//! let space = mm.spawn().unwrap();
//! mm.map(space.page(0), 2).unwrap();
//! let notifier = mm.notifier(space).unwrap();
//!
//! let [first, second] = [space.page(0), space.page(1)];
//! let mut pages = [Page::new(first, Want::Write), Page::new(second, Want::Nothing)];
//! let read = fault_range(&mm, notifier, &mut pages, &RangeOrder::new(Limits::none())).unwrap();
//! assert!(matches!(pages[0].found, Found::Local { .. }));
//! assert_eq!(pages[1].found, Found::Hole);
//!
//! // With the lock held that invalidators take to tell the device:
//! assert!(notifier.is_good(read.ticket));
//! ```

mod answer;
mod found;
mod invalidate;
mod log;
mod notifier;
mod order;
mod read;

pub use answer::{Progress, RangeError, RangeErrorOf, Read, Stop};
pub(super) use found::is_allowed;
pub use found::{Found, Page, Want};
pub use invalidate::Invalidation;
pub(super) use invalidate::{invalidating, notice};
pub use log::Log;
pub use notifier::{Notifier, Ticket};
pub use order::RangeOrder;

/// The former name of [`RangeOrder`], which a migration's [`Order`](super::migrate::Order) shared.
#[deprecated(since = "0.1.0", note = "renamed to `RangeOrder`")]
pub type Order<'c, M> = RangeOrder<'c, M>;
pub use read::{fault_range, snapshot};
