//! The two words do what plain fields do, whatever is done to them: no field reaches into another,
//! nothing wraps that must not, and no sequence of transitions leaves the state table (I3, I5, I6,
//! I15, I25, I33, I39).

#![cfg(not(pagelock_shuttle))]

use crate::model_words::{CountOp, StateOp, run_count, run_state};
use crate::word::MAX_REFS;
use proptest::prelude::*;

fn state_op() -> impl Strategy<Value = StateOp> {
    prop_oneof![
        4 => Just(StateOp::Take),
        4 => Just(StateOp::TakeAsSleeper),
        5 => (any::<bool>(), any::<bool>())
            .prop_map(|(starved, closes)| StateOp::Come { starved, closes }),
        1 => any::<u16>().prop_map(StateOp::ComeMany),
        3 => any::<bool>().prop_map(|starved| StateOp::Rearm { starved }),
        3 => Just(StateOp::Leave),
        1 => any::<u16>().prop_map(StateOp::LeaveMany),
        1 => Just(StateOp::Strike),
        2 => Just(StateOp::Await),
        1 => any::<u8>().prop_map(StateOp::SetUser),
        2 => Just(StateOp::Begin),
        1 => Just(StateOp::Cancel),
        4 => prop_oneof![9 => Just(false), 1 => Just(true)]
            .prop_map(|poison| StateOp::Release { poison }),
        2 => Just(StateOp::ReleaseFair),
        1 => any::<u8>().prop_map(StateOp::Holds),
    ]
}

fn count_op() -> impl Strategy<Value = CountOp> {
    let many = || prop_oneof![3 => 0..4u32, 2 => MAX_REFS - 2..MAX_REFS + 3, 1 => any::<u32>()];
    prop_oneof![
        3 => Just(CountOp::Get),
        3 => Just(CountOp::Put),
        3 => Just(CountOp::Pin),
        3 => Just(CountOp::Unpin),
        2 => many().prop_map(CountOp::PlusRefs),
        2 => (0..3u8).prop_map(|short| CountOp::FillRefs { short }),
        1 => (0..3u8).prop_map(|short| CountOp::FillPins { short }),
        2 => many().prop_map(CountOp::MinusRefs),
        1 => Just(CountOp::Freeze),
        1 => Just(CountOp::Thaw),
    ]
}

const CASES: u32 = if cfg!(miri) { 4 } else { 500 };

proptest! {
    #![proptest_config(crate::config(CASES))]

    #[test]
    fn the_state_word_does_what_plain_fields_do(ops in prop::collection::vec(state_op(), 0..200)) {
        crate::common::watched(&[], || run_state(&ops));
    }

    #[test]
    fn the_count_word_does_what_plain_numbers_do(ops in prop::collection::vec(count_op(), 0..100)) {
        crate::common::watched(&[], || run_count(&ops));
    }
}
