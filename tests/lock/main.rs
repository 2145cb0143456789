//! Owning a page: the order in which lockers get it, and what a guard may do.

#![cfg(not(pagelock_loom))]

#[macro_use]
#[path = "../common/mod.rs"]
mod common;

mod claim;
mod faces;
mod fault_race;
mod gate;
mod gate_awake;
mod gate_crowd;
mod gate_leaving;
mod gate_releasing;
mod gate_rounds;
mod layout;
mod lock_api;
mod mutual_exclusion;
mod reentrant;
mod take_over;
mod words;
