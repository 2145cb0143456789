//! The two words of a page against plain fields: any sequence of transitions.

#![no_main]

#[path = "../../tests/common/model_words.rs"]
mod model_words;
#[path = "../../src/word/mod.rs"]
#[allow(dead_code, unreachable_pub)]
mod word;

use model_words::{CountOp, StateOp};

libfuzzer_sys::fuzz_target!(|ops: (Vec<StateOp>, Vec<CountOp>)| {
    model_words::run_state(&ops.0);
    model_words::run_count(&ops.1);
});
