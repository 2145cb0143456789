//! Waiting without a lock or a reference, its limits, and the platforms that it sleeps on.

#![cfg(not(pagelock_loom))]

#[macro_use]
#[path = "../common/mod.rs"]
mod common;

#[macro_use]
mod cancel;
mod header;
mod holds;
mod limits;
mod platform_panics;
mod platforms;
mod ptl;
mod sleeps;
mod slots;
mod timeout;
mod wakes;
