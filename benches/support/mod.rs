//! What the benchmarks share: the locks and events that are compared, and the harnesses that compare them.
//!
//! Rules, each of which was broken once and cost a factor of two:
//! * peers take turns within one run, so that a change of the machine's mood hits all of them;
//! * a lock and the data it protects have a padded line each, in a `repr(C)` struct, so that the compiler cannot move them together;
//! * guards live on the stack, never beside the lock;
//! * threads are started once, and clocks start when they run.

#![allow(dead_code)] // Each benchmark is a crate of its own and uses a part of this.

pub mod contention;
pub mod crew;
pub mod events;
pub mod locks;
pub mod report;

/// A value with two cache lines to itself: neighbouring lines are fetched in pairs.
#[repr(C, align(128))]
#[derive(Default)]
pub struct Padded<T>(pub T);
