//! References, pins, and the stages of a migration that freezes them.

#![cfg(not(pagelock_loom))]

#[macro_use]
#[path = "../common/mod.rs"]
mod common;

mod commit;
mod counts;
mod freeze;
mod freeze_races;
mod poison;
mod stages;
mod unpinned;
mod ways_out;
