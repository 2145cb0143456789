//! The engine for page tables, over a memory manager in software.

#![cfg(all(feature = "std", not(pagelock_loom)))]

#[macro_use]
#[path = "../common/mod.rs"]
mod common;

mod batches;
mod bystanders;
mod carried;
mod costs;
mod drain;
mod embed;
mod exclusive;
mod exclusive_rules;
mod fault_page;
mod forks;
mod large;
mod large_entries;
mod large_holes;
mod large_races;
mod losses;
mod lost;
mod migrators;
mod moved;
mod pin_failures;
mod pin_races;
mod pins;
mod put_back;
mod range;
mod range_changes;
mod range_ends;
mod room;
mod skipped;
mod stages;
mod stress;
mod waiting;

/// To the device, in one try.
fn order() -> pagelock::mm::migrate::Order<common::machine::Mm> {
    pagelock::mm::migrate::Order::to(common::machine::DEVICE).tries(1)
}
