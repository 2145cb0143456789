//! The protocol over the caller's page tables and memory.
//!
//! The crate owns neither. It is told how to lock an entry ([`Tables`]), which header belongs to a frame ([`Memory`]), which entries
//! name a frame ([`ReverseMap`]), and where frames come from and how they are copied ([`Tiers`]); and it does the part that everybody
//! gets wrong: in which order to look, register, let go, sleep and look again. Nothing here allocates.
//!
//! * [`fault`](fn@fault): what to do about an access that trapped; the kernel's `do_swap_page` for the leaves that concern migration, with
//!   the ways of waiting as a [parameter](Strategy), so that they can be compared.
//! * [`migrate`]: moving pages, by address or by frame, as many at a time as the caller has slots for.
//! * [`drain`]: batches of references, one for each processor, and when they may be waited for.
//! * [`range`]: many entries read at one time, brought in or as they are, against invalidation.
//! * [`pin`]: pages that stay, for a transfer or for good.
//! * [`ledger`]: who owns the references of a page.
//! * [`soft`]: all of the above in software, with real bytes, for tests and for who has none (feature `alloc`).

mod areas;
mod claim;
pub mod drain;
pub mod exclusive;
mod fault;
pub mod ledger;
mod memory;
pub mod migrate;
pub mod pin;
mod poison;
pub mod range;
mod rmap;
#[cfg(all(feature = "alloc", not(any(pagelock_loom, pagelock_shuttle))))]
#[cfg_attr(docsrs, doc(cfg(feature = "alloc")))]
pub mod soft;
mod tables;
#[cfg(all(test, not(any(pagelock_loom, pagelock_shuttle))))]
mod tests;
mod tier;

pub use areas::Areas;
pub use claim::{ClaimRange, claim_range};
pub use fault::{Access, Fault, FaultError, Faulter, Strategy, ToRam, Why, fault, fault_within, resolve};
pub use memory::{Brought, Memory};
pub use poison::{Condemned, condemn};
pub use rmap::ReverseMap;
pub use tables::{Cause, Entry, Notice, Tables};
pub use tier::{CopyError, Mm, Span, Tiers};
