#![no_std]
#![cfg_attr(docsrs, feature(doc_cfg))]
//! stub

#[cfg(feature = "std")]
extern crate std;

mod cancel;
pub mod futex;
mod lock;
#[cfg(all(feature = "lock_api", not(pagelock_loom)))]
pub mod lock_api;
mod migration;
mod page;
mod refs;
pub mod stats;
pub mod sync;
mod wait;
mod word;

pub use cancel::Cancel;
#[doc(inline)]
pub use futex::FutexTimed;
pub use futex::{Futex, OsFutex};
pub use lock::{BYPASS_BOUND, Claim, Hold, LockError, PageGuard, Released};
pub use migration::{Busy, CommitError, CommitRefused, FreezeError, FreezeRule, Frozen, FrozenRefs, Migration};
pub use page::PageLock;
pub use refs::{CountError, GetError, PagePin, PageRef, PinError, Put};
pub use wait::{Wait, Wake};
pub use word::{MAX_PINS, MAX_REFS, MAX_SLEEPERS, UserBits};
