//! Any sequence of operations on two pages does what a model of plain numbers does, and what fails
//! changes nothing (I3, I15, I21, I25).

use crate::model::{Limit, Op};
use pagelock::MAX_REFS;
use proptest::prelude::*;
use proptest::sample::select;

/// Numbers of references: small ones, and those at the limit.
fn count() -> impl Strategy<Value = u32> {
    prop_oneof![4 => 0..5u32, 1 => select(vec![MAX_REFS - 1, MAX_REFS, MAX_REFS + 1, u32::MAX])]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => Just(Op::TryLock),
        2 => Just(Op::Claim),
        1 => Just(Op::ClaimTold),
        1 => Just(Op::Unlock),
        1 => Just(Op::UnlockFair),
        1 => Just(Op::DropGuard),
        2 => Just(Op::RawAndBack),
        2 => any::<u8>().prop_map(Op::SetUser),
        6 => Just(Op::BeginMigration),
        1 => Just(Op::CancelMigration),
        2 => count().prop_map(Op::FreezeExact),
        4 => Just(Op::FreezeAsIs),
        3 => Just(Op::FreezeUnpinned),
        2 => any::<bool>().prop_map(|accept| Op::FreezeWith { accept }),
        1 => Just(Op::Thaw),
        1 => Just(Op::Abort),
        1 => Just(Op::DropStage),
        1 => Just(Op::CommitInPlace),
        3 => (count(), count()).prop_map(|(there, moving)| Op::CommitTo { there, moving }),
        6 => count().prop_map(Op::Activate),
        1 => Just(Op::ActivateMost),
        4 => Just(Op::Get),
        3 => Just(Op::Put),
        3 => Just(Op::PutRaw),
        3 => Just(Op::Pin),
        3 => Just(Op::Unpin),
        2 => Just(Op::WaitUnlocked),
        2 => Just(Op::WaitMigration),
        4 => Just(Op::Other),
        3 => count().prop_map(|moving| Op::CommitToOther { moving }),
        1 => Just(Op::CommitToPoisoned),
        1 => (0..3u8).prop_map(|nanos| Op::TryLockFor { nanos }),
        1 => Just(Op::TryLockLate),
        2 => Just(Op::LockReleasing),
        2 => Just(Op::LockReleasingLate),
        4 => (any::<bool>(), limit(), any::<bool>())
            .prop_map(|(migration, limit, cancellable)| {
                Op::WaitWith { migration, limit, cancellable }
            }),
        1 => (any::<bool>(), 0..3u8)
            .prop_map(|(migration, nanos)| Op::WaitFor { migration, nanos }),
        1 => Just(Op::Cancel),
        1 => Just(Op::ResetCancel),
        1 => Just(Op::CloneRef),
        1 => Just(Op::DropRef),
        1 => Just(Op::RefRawAndBack),
        1 => Just(Op::PinRawAndBack),
        1 => Just(Op::UnpinRaw),
    ]
}

fn limit() -> impl Strategy<Value = Limit> {
    prop_oneof![3 => Just(Limit::None), 3 => Just(Limit::Past), 1 => Just(Limit::Soon)]
}

/// As above, with what is seldom wanted in a long life: poison, and every pin there is.
fn rare_op() -> impl Strategy<Value = Op> {
    prop_oneof![24 => op(), 1 => Just(Op::Poison), 1 => Just(Op::PinMost)]
}

const CASES: u32 = if cfg!(miri) { 4 } else { 300 };

proptest! {
    #![proptest_config(crate::config(CASES))]

    #[test]
    fn a_page_does_what_its_model_does(ops in prop::collection::vec(op(), 0..120)) {
        crate::common::watched(&[], || crate::model::run(&ops));
    }

    #[test]
    fn a_page_that_may_be_poisoned_does_what_its_model_does(
        ops in prop::collection::vec(rare_op(), 0..60)
    ) {
        crate::common::watched(&[], || crate::model::run(&ops));
    }
}

/// One life of a page, spelled out, so that there is an example of what the sequences are.
#[test]
fn one_life() {
    crate::common::watched(&[], || {
        crate::model::run(&[
            Op::Get,
            Op::Activate(2),
            Op::TryLock,
            Op::SetUser(2),
            Op::Claim,
            Op::BeginMigration,
            Op::Pin,
            Op::FreezeExact(1),
            Op::FreezeExact(2),
            Op::Get,
            Op::CommitTo { there: 3, moving: 0 },
            Op::WaitMigration,
            Op::Activate(1),
            Op::PinMost,
            Op::TryLock,
            Op::BeginMigration,
            Op::FreezeUnpinned,
            Op::Poison,
            Op::Get,
            Op::WaitUnlocked,
        ])
    });
}
