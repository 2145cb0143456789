//! Pins over page tables: a page that somebody is going to access past the tables stays where it
//! is.
//!
//! | [term](Term) | for | the page |
//! |---|---|---|
//! | short | one transfer, soon over | is pinned where the processor can access it; migrations wait a little or give up |
//! | long | as long as somebody likes: a device's buffer | first moves to where pages may stay for good, so that nobody needs to move it later |
//!
//! What makes a pin reliable, apart from its being counted:
//!
//! * It is taken *under the page-table lock* of an entry that allows the access. Whoever wants the
//!   page for something else (unmap, fork, copy, take down) needs that lock as well, and so comes
//!   before, and there is no such entry, or after, and sees the pin (I19).
//! * A page that the next write would copy is [not pinned](Areas::is_copied_on_write): the writer
//!   would go on with the copy and the pinner with the original. The address gets a page of its own
//!   first, also for reading. (The kernel's `FAULT_FLAG_UNSHARE`.)
//! * A page that is being migrated is waited for, without a reference. A pin that is tried then
//!   fails, so whoever waits does not disturb; and a pin that came just before is seen by the
//!   freeze.
//!
//! Whether an address may be pinned at all is for a [policy](PinPolicy). The kernel refuses
//! long-term pins for writing of shared mappings of files whose file system keeps track of what is
//! dirty, because nobody would notice such writes: [`long_term`] is that table.

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
