//! The protocol over the caller's page tables and memory.
//!
//! The crate owns neither. It is told how to lock an entry ([`Tables`]), which header belongs to a
//! frame ([`Memory`]), which entries name a frame ([`ReverseMap`]), and where frames come from and
//! how they are copied ([`Tiers`]); and it does the part that everybody gets wrong: in which order
//! to look, register, let go, sleep and look again. Nothing here allocates.
//!
//! * [`fault`](fn@fault): what to do about an access that trapped; the kernel's `do_swap_page` for
//!   the leaves that concern migration, with the ways of waiting as a [parameter](Strategy), so
//!   that they can be compared.
//! * [`migrate`]: moving pages, by address or by frame, as many at a time as the caller has slots
//!   for.
//! * [`drain`]: batches of references, one for each processor, and when they may be waited for.
//! * [`range`]: many entries read at one time, brought in or as they are, against invalidation.
//! * [`pin`]: pages that stay, for a transfer or for good.
//! * [`ledger`]: who owns the references of a page.
//! * [`condemn`]: a page that was found lost while it was mapped.
//!
//! The package `pagelock-soft` has all of it in software, with real bytes: for tests, and as a
//! start for who has none.
//!
//! # What is held when the embedder is called
//!
//! A PTL is a page-table lock: what is called with one held must not sleep, allocate from somewhere
//! that sleeps, or take another. "Pages" are page locks of the crate's headers: what is called with
//! several must not wait for a page's lock, nor for anybody who does. None of these is called with
//! interrupts off by the crate; an embedder whose PTL turns them off has them off where a PTL is
//! held.
//!
//! | call | PTL | pages | may sleep | must not |
//! |---|---|---|---|---|
//! | [`Tables::lock`] | takes one | any | for the PTL | wait for a page |
//! | [`Entry`]'s methods | held | any | no | take a PTL, call the crate |
//! | [`Tables::flush`] | – | several | for other processors to flush | wait for whoever faults |
//! | [`Tables::invalidate`], [`invalidated`](Tables::invalidated) | – | any | for devices to let go | access pages, wait for a page |
//! | [`ReverseMap::each_mapping`] | – | any | between visits, for locks of its own | hold a lock that is taken with a PTL held while it visits |
//! | [`Memory::header`], [`Tiers::tier`], [`span`](Tiers::span), [`is_accessible`](Tiers::is_accessible), [`is_zero_frame`](Tiers::is_zero_frame), [`own_header`](Tiers::own_header), [`cached`](Tiers::cached) | perhaps | any | no | take a PTL |
//! | [`Memory::migrate_to_ram`] | – | the faulter's | for what it needs, and no page | drain |
//! | [`Memory::revoke_exclusive`] | – | that page's | for the device | wait for a page |
//! | [`Memory::make_room`] | – | none of the fault's | as the access may | – |
//! | [`Memory::busy`] | – | none of the fault's | no | – |
//! | [`Memory::account`], [`account_pin`](Memory::account_pin) | perhaps | any | no | take a PTL |
//! | [`Tiers::prepare`] with [`Mode::Async`](migrate::Mode::Async) | perhaps | several | no | take a PTL |
//! | [`Tiers::prepare`] otherwise | – | that page's | with [`Mode::Sync`](migrate::Mode::Sync) | wait for another page's owner who may want this one |
//! | [`Tiers::allocate`], [`allocate_for`](Tiers::allocate_for), [`free`](Tiers::free) | – | several | for no page | migrate pages |
//! | [`Tiers::copy`], [`zero`](Tiers::zero), a [`copy_by`](migrate::Checked::copy_by) engine | – | several | until the bytes are there | wait for a page |
//! | [`Tiers::moved`], [`move_cached`](Tiers::move_cached), [`split`](Tiers::split) | – | several | for locks of their own | wait for a page |
//! | [`Tiers::rest`] | – | none | yes | – |
//! | [`Areas::allowed`], [`is_copied_on_write`](Areas::is_copied_on_write), [`PinPolicy::permit`](pin::PinPolicy::permit), [`home`](pin::PinPolicy::home) | held | none | no | take a PTL |
//! | [`Areas::settle`], [`unshare`](Areas::unshare) | – | none | yes | – |
//! | [`Drain::local`](drain::Drain::local) | – | several | no | wait for other processors |
//! | [`Drain::all`](drain::Drain::all) | – | none | for all processors | – |
//! | [`Cpus::current`](drain::Cpus::current), [`kick`](drain::Cpus::kick) | perhaps | any | no | wait for the other processor |

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
