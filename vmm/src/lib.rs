#![doc = include_str!("../README.md")]

mod addresses;
mod clean;
mod discard;
mod evict;
mod fault;
mod fetch;
mod headers;
mod inbox;
mod layer;
mod owned;
mod pin;
mod place;
mod region;
mod report;
mod seats;
mod server;
#[cfg(feature = "shared")]
pub mod shared;
mod shrink;
pub mod soft;
pub mod stats;
mod take_over;
mod tasks;
mod trace;
pub mod uffd;
mod unprotect;
#[cfg(feature = "vm-memory")]
mod vm;

pub use clean::Clean;
pub use discard::Discarded;
pub use evict::{Evict, NotEvicted};
pub use fault::{Claimed, Fault};
pub use fetch::{Fetch, FillError, Filled, Wants};
pub use headers::Route;
pub use inbox::{Arrived, Inbox};
pub use layer::{Event, Events, Kind, Layer};
pub use pin::{NotPinned, Pin};
pub use place::{PageState, Place};
pub use region::{Region, RegionError};
pub use report::{Held, Report};
pub use server::{Served, Server, Settings, Store};
pub use shrink::Evicted;
pub use take_over::TakenOver;
pub use tasks::Stop;
pub use unprotect::Unprotect;
