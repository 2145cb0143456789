//! Threads that fault, migrate, pin, wait and cancel come to their ends in whatever order they go
//! on, and nothing is lost: no wake, no write, no reference (I1, I4, I5, I9 to I17, I19, I21, I27,
//! I29, I31, I35, I36, I39).
//!
//! A schedule fuzzer, in small: the threads are simulated, and an arbitrary input says what each
//! does and which goes on. In a build with `--cfg pagelock_delay` a turn ends at every step of the
//! protocol, else wherever the platform is asked for something.

#![cfg(all(target_pointer_width = "64", not(any(pagelock_shuttle, miri))))]

use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 4000, ..crate::config(2000) })]

    #[test]
    fn whoever_goes_on_nothing_is_lost(input in prop::collection::vec(any::<u8>(), 0..300)) {
        // A thread that spins without giving its turn up is nobody's turn to end.
        crate::common::watched(&[], || crate::model_schedule::run(&input));
    }
}
