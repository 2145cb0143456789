//! Every way in which a pin fails, with the page as it was; and that each fails in the end.

#![cfg(target_os = "linux")]

use crate::common::machine::{
    DEVICE, FAR, Mm, RAM, check_all, machine, machine_with, move_one, written,
};
use crate::common::own::{Own, within};
use crate::common::watched;
use crate::pins::settled;
use pagelock::leaf::{Leaf, Marker, Rights};
use pagelock::mm::drain::{ThreadCpus, Unlocked};
use pagelock::mm::migrate::{Abort, Order, Outcome, Skip};
use pagelock::mm::pin::{NotPinnable, NotPinned, PinOrder, PinPolicy, Pinned, Term, pin_page};
use pagelock::mm::{Access, FaultError, Tiers};
use pagelock::{Cancel, Limits, MAX_PINS};
use pagelock_soft::{AccessError, At, PinFailure, SoftEntry, TierId};
use std::thread;

/// Every way to fail, with the page as it was.
#[test]
fn what_cannot_be_pinned() {
    watched(&[], every_failure);
}

fn every_failure() {
    let unlocked = &mut Unlocked::promise();
    let (mm, own) = machine();
    let space = mm.spawn().unwrap();
    written(mm, space, 8);
    let p = |n| space.page(n);
    let fails = |at: At, access, term| {
        let unlocked = &mut Unlocked::promise();
        mm.pin_within(at, access, term, within(own, 5_000), unlocked).unwrap_err()
    };
    let not_pinned: [(At, PinFailure); 5] = [
        (p(20), NotPinned::NotAllowed),
        (p(usize::MAX), NotPinned::NotAllowed),
        (p(1), NotPinned::Fault(FaultError::Poisoned { pfn: 7 })),
        (p(2), NotPinned::Unsettled(AccessError::Marker(Marker::Guard))),
        (p(3), NotPinned::Unsettled(AccessError::Swapped { slot: 3 })),
    ];
    mm.replace(p(1), Leaf::Poison { pfn: 7 });
    mm.replace(p(2), Leaf::Marker(Marker::Guard));
    mm.replace(p(3), Leaf::Swap { slot: 3, tracking: Default::default() });
    for (at, why) in not_pinned {
        assert_eq!(fails(at, Access::Read, Term::Short), why);
        assert!(!why.to_string().is_empty());
    }
    mm.protect(p(0), 1, Some(Rights::Read)).unwrap();
    assert_eq!(fails(p(0), Access::Write, Term::Short), NotPinned::NotAllowed);
    mm.protect(p(0), 1, None).unwrap();
    assert_eq!(fails(p(0), Access::Read, Term::Short), NotPinned::NotAllowed);

    // No frame for a copy, or to come back to.
    let child = mm.fork(space).unwrap();
    mm.fail_allocations(RAM, 1);
    assert_eq!(
        fails(p(4), Access::Write, Term::Short),
        NotPinned::Unsettled(AccessError::NoMemory)
    );
    mm.fail_allocations(RAM, 1);
    assert_eq!(fails(p(4), Access::Read, Term::Short), NotPinned::Unsettled(AccessError::NoMemory));
    mm.exit(child);
    assert!(move_one(mm, p(4), &Order::to(DEVICE)).is_done());
    mm.fail_allocations(RAM, 1);
    let error = fails(p(4), Access::Write, Term::Long);
    assert_eq!(error, NotPinned::Fault(FaultError::NoMemory));

    // As many pins as can be counted.
    let all: Vec<Pinned<'_, Mm>> =
        (0..MAX_PINS).map(|_| mm.pin(p(5), Access::Read, Term::Short, unlocked).unwrap()).collect();
    assert_eq!(fails(p(5), Access::Read, Term::Short), NotPinned::Overflow);
    drop(all);

    // A pin of a page that is there does not depend on the page's lock.
    let guard = mm.page(mm.frame_at(p(6)).unwrap()).unwrap().lock();
    drop(mm.pin(p(6), Access::Write, Term::Short, unlocked).unwrap());
    drop(guard);
    // But a device's has to be waited for, and no longer than that.
    assert!(move_one(mm, p(6), &Order::to(DEVICE)).is_done());
    let guard = mm.page(mm.frame_at(p(6)).unwrap()).unwrap().lock();
    assert_eq!(
        mm.pin_within(p(6), Access::Write, Term::Short, within(own, 20), unlocked).unwrap_err(),
        NotPinned::TimedOut
    );
    let cancel = Cancel::with_futex(own);
    cancel.cancel();
    let limits = Limits::none().unless(&cancel);
    assert_eq!(
        mm.pin_within(p(6), Access::Write, Term::Short, limits, unlocked).unwrap_err(),
        NotPinned::Cancelled
    );
    drop(guard);
    settled(mm);
}

/// A page that cannot be moved to where it may stay: a reference that is never put, a copy that
/// always fails. Each has an end, without a deadline too (I37).
#[test]
fn a_long_pin_of_a_page_that_never_moves_ends() {
    let unlocked = &mut Unlocked::promise();
    struct Away;
    impl PinPolicy<Mm> for Away {
        type Refused = NotPinnable;
        fn permit(
            &self,
            _: &Mm,
            _: At,
            _: &SoftEntry<'_, Own, ThreadCpus>,
            _: Access,
            _: Term,
        ) -> Result<(), NotPinnable> {
            Ok(())
        }
        fn home(&self, _: &Mm, _: TierId) -> Option<TierId> {
            Some(FAR)
        }
    }
    let (mm, own) = machine_with(2);
    let at = written(mm, mm.spawn().unwrap(), 2);
    let pfn = mm.frame_at(at).unwrap();
    let order = |limits| PinOrder::new(Access::Read, Term::Long, limits).patience(30);
    let pin = |limits| {
        pin_page(mm, at, &order(limits), &Away, mm, &mut Unlocked::promise()).map(|pin| pin.pfn())
    };
    mm.get(pfn).unwrap();
    watched(&[mm.page(pfn).unwrap()], || {
        thread::scope(|s| {
            for _ in 0..3 {
                s.spawn(|| {
                    let error = pin(Limits::none()).unwrap_err();
                    let is_typed = match error {
                        NotPinned::NotMoved(outcome) => outcome.is_transient(),
                        NotPinned::Busy { rounds } => rounds == 30,
                        _ => false,
                    };
                    assert!(is_typed, "{error:?}");
                });
            }
        });
        let error =
            pin_page(mm, at, &order(within(own, 10)).patience(u32::MAX), &Away, mm, unlocked)
                .unwrap_err();
        assert_eq!(error, NotPinned::TimedOut);
    });
    // SAFETY: the reference taken above.
    unsafe { mm.put(pfn) };
    mm.fail_copies(FAR, usize::MAX);
    assert_eq!(pin(Limits::none()), Err(NotPinned::NotMoved(Outcome::Aborted(Abort::CopyFailed))));
    mm.fail_copies(FAR, 0);
    mm.set_immovable(true);
    assert!(matches!(
        pin(Limits::none()),
        Err(NotPinned::NotMoved(Outcome::Skipped(Skip::Refused(_))))
    ));
    mm.set_immovable(false);
    // No patience is one round: enough to move, not to pin as well.
    let none = order(Limits::none()).patience(0);
    assert_eq!(
        pin_page(mm, at, &none, &Away, mm, unlocked).unwrap_err(),
        NotPinned::Busy { rounds: 1 }
    );
    assert_eq!(mm.tier(pin(Limits::none()).unwrap()), FAR);
    check_all(mm, at, 2);
    settled(mm);
}
