//! Leaves are what the documentation draws: every word is one leaf or an error, and no chain of
//! conversions widens a right or loses what was observed (I18).

#![cfg(not(pagelock_shuttle))]

use crate::model_leaf::{Step, convert, decode};
use pagelock::leaf::FRAME_LIMIT;
use proptest::prelude::*;

/// Mostly words that differ from a leaf in little.
fn word() -> impl Strategy<Value = u64> {
    let number = prop_oneof![0..4u64, FRAME_LIMIT - 2..FRAME_LIMIT, any::<u64>()];
    prop_oneof![
        6 => (number, 0..8u64, 0..4u64, 0..16u64)
            .prop_map(|(number, kind, right, seen)| number << 12 | seen << 6 | right << 4 | kind),
        1 => any::<u64>(),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let pfn = || prop_oneof![4 => 0..FRAME_LIMIT, 1 => FRAME_LIMIT..=u64::MAX];
    prop_oneof![
        Just(Step::ToMigration),
        pfn().prop_map(|pfn| Step::ToPresent { pfn }),
        pfn().prop_map(|pfn| Step::ToDevicePrivate { pfn }),
        Just(Step::ToDeviceExclusive),
        any::<u8>().prop_map(|most| Step::Restrict { most }),
        Just(Step::Encode),
    ]
}

const CASES: u32 = if cfg!(miri) { 16 } else { 2000 };

proptest! {
    #![proptest_config(crate::config(CASES))]

    #[test]
    fn a_word_is_the_leaf_that_the_picture_says(word in word()) {
        decode(word);
    }

    #[test]
    fn no_chain_of_conversions_widens_a_right(
        word in word(),
        steps in prop::collection::vec(step(), 0..12)
    ) {
        convert(word, &steps);
    }
}

/// All that the low bits can say, with a number that fits and one that is a marker's.
#[test]
fn every_combination_of_the_low_bits() {
    for low in 0..1 << 12 {
        for number in [0, 1, 2, 3, FRAME_LIMIT - 1] {
            decode(number << 12 | low);
        }
    }
}
