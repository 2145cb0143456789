#![no_std]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![debugger_visualizer(gdb_script_file = "gdb/pagelock.py")]
#![warn(missing_docs, missing_debug_implementations, unreachable_pub)]
#![cfg_attr(not(test), warn(clippy::std_instead_of_core, clippy::alloc_instead_of_core))]
#![doc = include_str!("../docs/pictures.md")]
#![doc = include_str!("../README.md")]
//!
//! # Map of the documentation
//!
//! The front page of each module is the design note of its part: its protocol, its table of
//! orderings, and where its semantics come from.
//!
//! | module | explains |
//! |---|---|
//! | [`guide`] | the life of a page; four doors: a kernel, a VMM or pager, processes, C |
//! | [`porting`] | a kernel's own platform and page tables; what an interrupt may call |
//! | [`limits`] | `fork`, signal handlers, stopped threads, seccomp, processes that die |
//! | [`word`] | the eight bytes, bit by bit, with constants for debuggers |
//! | [`lock`] | owning a page; the gate, which bounds how often a locker is overtaken |
//! | [`wait`] | release, then sleep: the wait that takes no reference |
//! | [`refs`] | references and pins, and the difference |
//! | [`migration`] | begin, freeze, commit or abort, as types |
//! | [`migration::take_over`] | what a killed owner leaves behind, and the way back |
//! | [`futex`] | what a platform provides, and how to [adapt](futex::Adapt) one |
//! | [`futex::slot`] | event slots: where waiters sleep, and how a release wakes them |
//! | [`leaf`] | leaf entries and their rights |
//! | [`mm`] | the protocol over the caller's page tables: faults, migration, drains |
//! | `shared` (feature) | segments of pages that processes share, also when one is killed |
//! | [`stats`] | counters |
//! | `owner`, `slow` (features) | who has a page; reports of long waits and holds |
//! | `lock_api` (feature) | the lock as a mutex |
//! | [`stuck`] | what a stuck page shows: dumps, owners, reports, gdb |
//! | [`docs`] | why it is right, what it costs, how it compares; which check guards which promise |

#[cfg(feature = "alloc")]
extern crate alloc;
#[cfg(feature = "std")]
extern crate std;

// In the order in which the documentation of `PageLock` shows its functions.
mod page;

pub mod lock;
pub mod migration;
pub mod refs;
pub mod wait;

mod defer;
#[cfg(any(doc, doctest))]
pub mod docs;
mod dump;
pub mod futex;
#[cfg(any(doc, doctest))]
pub mod guide;
pub mod leaf;
#[cfg(any(doc, doctest))]
#[doc = include_str!("../docs/limits.md")]
pub mod limits {}
#[cfg(all(feature = "lock_api", not(any(pagelock_loom, pagelock_shuttle))))]
#[cfg_attr(docsrs, doc(cfg(feature = "lock_api")))]
pub mod lock_api;
pub mod mm;
// The model checkers look at the protocol alone.
#[cfg(not(all(feature = "owner", not(any(pagelock_loom, pagelock_shuttle)))))]
use off::owner;
#[cfg(not(all(feature = "tracing", not(any(pagelock_loom, pagelock_shuttle)))))]
use off::slow;
mod off;
#[cfg(all(feature = "owner", not(any(pagelock_loom, pagelock_shuttle))))]
#[cfg_attr(docsrs, doc(cfg(feature = "owner")))]
pub mod owner;
#[cfg(any(doc, doctest))]
#[doc = include_str!("../docs/porting.md")]
pub mod porting {}
#[cfg(all(feature = "shared", target_os = "linux", not(any(pagelock_loom, pagelock_shuttle))))]
#[cfg_attr(docsrs, doc(cfg(feature = "shared")))]
pub mod shared;
#[cfg(all(feature = "tracing", not(any(pagelock_loom, pagelock_shuttle))))]
#[cfg_attr(docsrs, doc(cfg(feature = "tracing")))]
pub mod slow;
pub mod stats;
#[cfg(any(doc, doctest))]
#[doc = include_str!("../docs/stuck.md")]
pub mod stuck {}
#[doc(hidden)]
pub mod sync;
pub mod word;

pub use dump::Dump;
pub use futex::{Futex, FutexTimed, OsFutex};
#[doc(inline)]
pub use lock::{Claim, Hold, LockError, PageGuard, Released};
#[doc(inline)]
pub use migration::{
    Busy, CommitError, CommitRefused, Committed, FreezeError, FreezeRefused, FreezeRule, Frozen,
    Migration, NotMigrated, Poisoning, StillPinned, TakenOver,
};
pub use page::PageLock;
#[doc(inline)]
pub use refs::{CountError, GetError, PagePin, PageRef, PinError, Put};
#[doc(inline)]
pub use wait::{Cancel, Limits, Wait, WaitFor, Wake};
#[doc(inline)]
pub use word::{MAX_PINS, MAX_REFS, MAX_SLEEPERS, UserBits};
