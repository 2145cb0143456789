//! Pins over page tables: a page that is about to be accessed past the tables stays where it is.
//!
//! | [term](Term) | for | the page |
//! |---|---|---|
//! | short | one transfer, soon over | is pinned where it is; migrations wait a little or give up |
//! | long | a device's buffer, without an end | first moves to where pages may stay for good |
//!
//! So nobody needs to move a page with a long pin later. Besides its being counted, three things
//! make a pin reliable:
//!
//! * It is taken *under the page-table lock* of an entry that allows the access. A thread that
//!   wants the page for something else (unmap, fork, copy, take down) needs that lock as well, so
//!   either it runs first and removes the entry, or it runs later and sees the pin (I19).
//! * A page that the next write would copy is [not pinned](super::Areas::is_copied_on_write): the
//!   writer would go on with the copy and the pinner with the original. The address gets a page of
//!   its own first, also for reading. (The kernel's `FAULT_FLAG_UNSHARE`.)
//! * A page that is being migrated is waited for, without a reference. A pin that is tried then
//!   fails, so the waiter does not disturb the migration; and the freeze sees a pin that came just
//!   before.
//!
//! ```
//! use pagelock::mm::pin::{Backing, PinOrder, Term, pin_page};
//! use pagelock::mm::{Access, drain::Unlocked};
//! use pagelock::{Limits, OsFutex};
//! # let (mm, at) = pagelock_soft::example();
//! let order = PinOrder::new(Access::Write, Term::Long, Limits::<OsFutex>::none());
//! let policy = pagelock_soft::Backed(|_| Backing::Anonymous);
//! let mut unlocked = Unlocked::promise(); // the top of a thread
//! let pinned = pin_page(&mm, at, &order, &policy, &mm, &mut unlocked).unwrap();
//! assert_eq!(mm.page(pinned.pfn()).unwrap().pins(), 1);
//! ```
//!
//! A [policy](PinPolicy) decides whether an address may be pinned at all. The kernel refuses
//! long-term pins for writing of shared mappings of files whose file system tracks dirty pages,
//! because nobody would notice such writes: [`long_term`] is that table.

mod error;
mod order;
mod page;
mod pinned;
mod policy;
mod range;

pub use error::{NotPinned, NotPinnedOf, PinRangeError};
pub use order::PinOrder;
pub use page::pin_page;
pub use pinned::Pinned;
pub use policy::{Backing, NotPinnable, PinPolicy, Term, long_term};
pub use range::{PinSlot, pin_range};
