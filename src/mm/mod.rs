//! The protocol over the caller's page tables and memory.
//!
//! The crate owns neither. The caller says how to lock an entry ([`Tables`]), which header belongs
//! to a frame ([`Memory`]), which entries name a frame ([`ReverseMap`]), and where frames come from
//! and how they are copied ([`Tiers`]). The crate decides in which order to look, register, let go,
//! sleep and look again: the part that is easy to get wrong. Nothing here allocates.
//!
//! * [`fault`](fn@fault): what to do about an access that trapped. It is the kernel's
//!   `do_swap_page` for the leaves that concern migration; the way to wait is a
//!   [parameter](Strategy), so that the ways can be compared.
//! * [`migrate`]: moving pages, by address or by frame, as many at a time as the caller has slots
//!   for.
//! * [`drain`]: batches of references, one for each processor, and when a thread may wait for them.
//! * [`range`]: many entries read as of one time, faulted in or as they are, against invalidation.
//! * [`pin`]: pages that stay where they are, for one transfer or for good.
//! * [`ledger`]: who owns the references of a page.
//! * [`condemn`]: a page that was found lost while it was mapped.
//!
//! ```
//! use pagelock::mm::migrate::{Order, Slot, migrate};
//! use pagelock::mm::{Access, Fault, Faulter, Strategy, drain::Unlocked, resolve};
//! use pagelock_soft::TierId;
//! let (mm, at) = pagelock_soft::example(); // a memory, and an address of a page that is in RAM
//! // To a device's memory, ...
//! let mut unlocked = Unlocked::promise(); // the top of a thread
//! let order = Order::to(TierId(1));
//! assert_eq!(migrate(&mm, &mut [Slot::at(at)], &order, &mm, &mut unlocked).done, 1);
//! // ... and back, by the next access.
//! let mut faulter = Faulter::new(Strategy::Wait);
//! assert_eq!(resolve(&mm, at, Access::Read, &mut faulter), Ok(Fault::Resolved));
//! ```
//!
//! The package `pagelock-soft` has all of it in software, with real bytes: for tests, and as a
//! start for users without page tables of their own. The examples of this module's items use the
//! same `mm` and `at`. The [guide](crate::guide::kernel) has the smallest implementation.
//!
//! # What is held when the embedder is called
//!
//! A PTL is a page-table lock: a call with a PTL held must not sleep, allocate from an allocator
//! that sleeps, or take another PTL. "Pages" are page locks of the crate's headers: a call with
//! several held must not wait for a page's lock, nor for a thread that does. The crate disables no
//! interrupts; an embedder whose PTL disables them has them disabled wherever a PTL is held.
//!
//! | call | PTL | pages | may sleep | must not |
//! |---|---|---|---|---|
//! | `Tables::lock` | takes one | any | for the PTL | wait for a page |
//! | every method of `Entry` | held | any | no | take a PTL, call the crate |
//! | `Tables::flush` | – | several | for other processors to flush | wait for a faulter |
//! | `Tables::invalidate`, `invalidated` | – | any | for devices | access pages, wait for a page |
//! | `ReverseMap::each_mapping` | – | any | between visits | hold a lock that nests in a PTL |
//! | `Memory::header`, `Tiers::tier`, `span` | perhaps | any | no | take a PTL |
//! | `Tiers::is_accessible`, `is_zero_frame` | perhaps | any | no | take a PTL |
//! | `Tiers::own_header`, `cached` | perhaps | any | no | take a PTL |
//! | `Memory::migrate_to_ram` | – | the faulter's | for what it needs, and no page | drain |
//! | `Memory::revoke_exclusive` | – | that page's | for the device | wait for a page |
//! | `Memory::make_room` | – | none of the fault's | as the access may | – |
//! | `Memory::busy` | – | none of the fault's | no | – |
//! | `Memory::account`, `account_pin` | perhaps | any | no | take a PTL |
//! | `Tiers::prepare`, mode `Async` | perhaps | several | no | take a PTL |
//! | `Tiers::prepare`, other modes | – | that page's | in mode `Sync` | wait for a page's owner |
//! | `Tiers::allocate`, `allocate_for`, `free` | – | several | for no page | migrate pages |
//! | `Tiers::copy`, `zero`, a `copy_by` engine | – | several | until it is done | wait for a page |
//! | `Tiers::moved`, `move_cached`, `split` | – | several | for its own locks | wait for a page |
//! | `Tiers::rest` | – | none | yes | – |
//! | `Areas::allowed`, `is_copied_on_write` | held | none | no | take a PTL |
//! | `PinPolicy::permit`, `home` | held | none | no | take a PTL |
//! | `Areas::settle`, `unshare` | – | none | yes | – |
//! | `Drain::local` | – | several | no | wait for other processors |
//! | `Drain::all` | – | none | for all processors | – |
//! | `Cpus::current`, `kick` | perhaps | any | no | wait for the other processor |

mod areas;
mod claim;
pub mod drain;
pub mod exclusive;
mod fault;
pub mod ledger;
mod memory;
pub mod migrate;
mod pause;
pub mod pin;
mod poison;
pub mod range;
mod rmap;
mod tables;
#[cfg(all(test, not(any(pagelock_loom, pagelock_shuttle))))]
mod tests;
mod tier;

pub use areas::Areas;
pub use claim::{ClaimRange, claim_range};
pub use fault::{
    Access, Fault, FaultError, Faulter, Strategy, ToRam, Why, fault, fault_within, resolve,
};
use memory::is_header_of;
pub use memory::{Brought, Memory};
pub use poison::{Condemned, condemn};
pub use rmap::ReverseMap;
pub use tables::{Cause, Entry, Notice, Tables};
pub use tier::{CopyError, Mm, Span, Tiers};
