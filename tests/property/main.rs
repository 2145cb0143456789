//! Random sequences of operations against models, which the fuzz targets use too.

#![cfg(not(pagelock_loom))]

#[macro_use]
#[path = "../common/mod.rs"]
mod common;
#[path = "../common/model/mod.rs"]
mod model;
#[cfg(not(pagelock_shuttle))]
#[path = "../common/model_leaf.rs"]
mod model_leaf;
#[cfg(all(target_pointer_width = "64", not(any(pagelock_shuttle, miri))))]
#[path = "../common/model_schedule/mod.rs"]
mod model_schedule;
#[cfg(not(pagelock_shuttle))]
#[path = "../common/model_words.rs"]
mod model_words;
#[cfg(all(target_pointer_width = "64", not(any(pagelock_shuttle, miri))))]
#[path = "../common/schedule.rs"]
mod schedule;
#[cfg(not(pagelock_shuttle))]
#[path = "../../src/word/mod.rs"]
#[allow(dead_code, unreachable_pub)]
mod word;

mod leaf;
mod page;
mod schedules;
mod words;

/// `cases` random sequences, and no longer than some seconds to make one that fails shorter.
fn config(cases: u32) -> proptest::test_runner::Config {
    proptest::test_runner::Config {
        cases,
        failure_persistence: None,
        max_shrink_time: 5_000,
        ..Default::default()
    }
}
