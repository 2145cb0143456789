//! The leaf codec and the conversions between leaves, against the layout that the documentation
//! draws.

#![no_main]

#[path = "../../tests/common/model_leaf.rs"]
mod model_leaf;

libfuzzer_sys::fuzz_target!(|input: (u64, Vec<model_leaf::Step>)| model_leaf::convert(
    input.0, &input.1
));
