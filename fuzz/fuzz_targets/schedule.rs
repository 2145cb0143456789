//! Simulated threads fault, migrate, pin, wait and cancel; the input says what each does and who
//! goes on. With `--cfg pagelock_delay` a turn ends at every step of the protocol, else wherever
//! the crate asks the platform for something.

#![no_main]

#[path = "../../tests/common/model_schedule/mod.rs"]
mod model_schedule;
#[path = "../../tests/common/schedule.rs"]
mod schedule;

libfuzzer_sys::fuzz_target!(|input: &[u8]| model_schedule::run(input));
