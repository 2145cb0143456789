//! What the benchmarks and the report share: the locks and events that are compared, the harnesses
//! that compare them, and the tables that the figures end up in.
//!
//! | file | what it is |
//! |---|---|
//! | `locks.rs`, `events/` | the peers, behind two small traits |
//! | `single.rs` | one thread alone: nanoseconds of an operation |
//! | `contention.rs` | threads that fight over one lock |
//! | `pace.rs` | work that takes a given time |
//! | `release.rs` | one releaser or several, many sleepers; a round trip between two |
//! | `scale.rs` | many headers, many threads, no two of them often on the same |
//! | `layout.rs` | where headers lie, and what that costs |
//! | `storm.rs` | the storm example, run as a program |
//! | `counts.rs` | instructions, as `ci/instructions.sh` counts them |
//! | `crew.rs`, `turns.rs` | threads that are started once; rounds that take turns |
//! | `usage.rs` | processor time and switches, by the system's count |
//! | `spread.rs`, `table.rs` | many rounds as three numbers; the figures |
//! | `machine.rs` | the machine of the figures |
//! | `effort.rs`, `parts/` | how long to measure; the figures, as jobs that fill tables |
//! | `bars.rs`, `means.rs` | how good it must be; the contended lock, by means over rows |
//!
//! Rules, each of which was broken once and cost a factor of two:
//! * peers take turns within one run, so that a change of the machine's mood hits all of them;
//! * a lock and the data it protects have a padded line each, in a `repr(C)` struct, so that the
//!   compiler cannot move them together;
//! * guards live on the stack, never beside the lock;
//! * threads are started once, and clocks start when they run.

#![allow(dead_code)] // Each benchmark is a crate of its own and uses a part of this.

pub mod bars;
pub mod bench;
pub mod contention;
pub mod counts;
pub mod crew;
pub mod effort;
pub mod events;
pub mod layout;
pub mod locks;
pub mod machine;
pub mod means;
pub mod pace;
pub mod parts;
pub mod release;
pub mod scale;
pub mod single;
pub mod spread;
pub mod storm;
pub mod table;
pub mod turns;
pub mod usage;

/// A value with two cache lines to itself: neighbouring lines are fetched in pairs.
#[repr(C, align(128))]
#[derive(Default)]
pub struct Padded<T>(pub T);
