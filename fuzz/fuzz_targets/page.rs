//! Arbitrary sequences of operations on one page, against the model of it that the property tests
//! use too.

#![no_main]

#[path = "../../tests/common/model/mod.rs"]
mod model;

libfuzzer_sys::fuzz_target!(|ops: Vec<model::Op>| model::run(&ops));
