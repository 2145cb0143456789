//! One operation, on a page and on its model.

use crate::model::{
    Alone, Frozen, Migration, Model, Op, Owner, PageGuard, PageLock, PagePin, PageRef, Ptl, Run,
    late,
};
use core::cell::Cell;
use core::time::Duration;
use pagelock::{
    Cancel, Claim, CommitRefused, FreezeRule, FutexTimed, Limits, MAX_REFS, UserBits, Wait, Wake,
};

impl<'a> Run<'a> {
    pub(crate) fn new(page: &'a PageLock) -> Self {
        Self {
            page,
            model: Model::default(),
            owner: Owner::None,
            refs: Vec::new(),
            pins: Vec::new(),
            raw: 0,
            named: 0,
            switch: Cancel::with_futex(Alone),
            ptl: Cell::new(0),
        }
    }

    /// The questions that a page answers.
    pub(crate) fn looks(&self) {
        let (page, model) = (self.page, &self.model);
        assert_eq!(page.is_locked(), model.locked);
        assert_eq!(page.is_migrating(), model.migrating);
        assert_eq!(page.is_poisoned(), model.poisoned);
        assert_eq!(page.is_frozen(), model.frozen);
        assert_eq!((page.refs(), page.pins()), (model.refs, model.pins));
        assert_eq!((page.user().get(), page.generation()), (model.user, model.generation));
    }

    pub(crate) fn apply(&mut self, op: &Op) {
        let told = matches!(op, Op::ClaimTold);
        match *op {
            Op::TryLock => {
                let taken = self.page.try_lock();
                assert_eq!(taken.is_some(), !self.model.locked);
                self.owned(taken);
            }
            Op::Claim | Op::ClaimTold => {
                match if told { self.page.claim_told() } else { self.page.claim() } {
                    Claim::Poisoned => assert!(self.model.poisoned),
                    Claim::Owner(guard) => {
                        assert!(!self.model.locked && !self.model.poisoned);
                        self.owned(Some(guard));
                        self.model.awaited = told;
                    }
                    Claim::InFlight => {
                        assert!(self.model.locked && !self.model.poisoned);
                        self.model.awaited = true;
                    }
                    _ => panic!("a claim of another kind"),
                }
            }
            Op::Unlock => self.release_guard(|guard| Some(guard.unlock().event_waiters)),
            Op::UnlockFair => self.release_guard(|guard| Some(guard.unlock_fair().event_waiters)),
            Op::DropGuard => self.release_guard(|guard| {
                drop(guard);
                None
            }),
            Op::RawAndBack => match core::mem::replace(&mut self.owner, Owner::None) {
                Owner::None => {}
                Owner::Guard(guard) => {
                    let hold = guard.into_raw();
                    // SAFETY: made raw just now; and so below.
                    self.owner = Owner::Guard(unsafe { PageGuard::from_raw_of(self.page, hold) });
                }
                Owner::Migration(migration) => {
                    // SAFETY: as above.
                    self.owner =
                        Owner::Migration(unsafe { Migration::from_raw(migration.into_raw()) });
                }
                Owner::Frozen(frozen) => {
                    let page = frozen.into_raw();
                    // SAFETY: as above.
                    self.owner = Owner::Frozen(unsafe { Frozen::from_raw(page) });
                }
            },
            Op::SetUser(bits) => {
                let bits = UserBits::new(bits);
                match &mut self.owner {
                    Owner::None => return,
                    Owner::Guard(guard) => guard.set_user(bits),
                    Owner::Migration(migration) => migration.set_user(bits),
                    Owner::Frozen(frozen) => frozen.set_user(bits),
                }
                self.model.user = bits.get();
            }
            Op::Poison => {
                let told = match core::mem::replace(&mut self.owner, Owner::None) {
                    Owner::None => return,
                    Owner::Guard(guard) => guard.poison(),
                    Owner::Migration(migration) => migration.poison(),
                    Owner::Frozen(frozen) => frozen.poison(),
                };
                self.model.poisoned = true;
                assert_eq!(told.event_waiters, self.model.release());
            }
            Op::BeginMigration => self.on_guard(|run, guard| {
                run.model.migrating = true;
                Owner::Migration(guard.begin_migration())
            }),
            Op::CancelMigration => self.on_migration(|run, migration| {
                run.model.migrating = false;
                Owner::Guard(migration.cancel())
            }),
            Op::FreezeExact(n) => self.freeze(FreezeRule::ExactRefs(n)),
            Op::FreezeAsIs => self.freeze(FreezeRule::ExactRefs(self.model.refs)),
            Op::FreezeUnpinned => self.freeze(FreezeRule::Unpinned),
            Op::FreezeWith { accept } => self.freeze_with(accept),
            Op::Thaw => {
                if let Some(frozen) = self.frozen() {
                    self.model.frozen = false;
                    self.owner = Owner::Migration(frozen.thaw());
                }
            }
            Op::Abort => {
                let told = match core::mem::replace(&mut self.owner, Owner::None) {
                    Owner::Migration(migration) => migration.abort(),
                    Owner::Frozen(frozen) => frozen.abort(),
                    other => return self.owner = other,
                };
                assert_eq!(told.event_waiters, self.model.release());
            }
            Op::DropStage => match core::mem::replace(&mut self.owner, Owner::None) {
                Owner::Migration(stage) => {
                    drop(stage);
                    self.model.release();
                }
                Owner::Frozen(stage) => {
                    drop(stage);
                    self.model.release();
                }
                other => self.owner = other,
            },
            Op::CommitInPlace => {
                if let Some(frozen) = self.frozen() {
                    assert_eq!(frozen.commit_in_place().event_waiters, self.model.release());
                }
            }
            Op::CommitTo { there, moving } => self.commit_to(there, moving),
            Op::Activate(refs) => self.activate(refs),
            Op::ActivateMost => self.activate(MAX_REFS),
            Op::Get => {
                let got = self.page.try_get();
                assert_eq!(got.as_ref().map(drop).map_err(|e| *e), self.model.can_get());
                if let Ok(reference) = got {
                    self.refs.push(reference);
                    self.model.refs += 1;
                }
            }
            Op::Put => {
                if let Some(reference) = self.refs.pop() {
                    assert_eq!(reference.put(), self.model.put());
                }
            }
            Op::PutRaw => {
                if self.raw > 0 {
                    self.raw -= 1;
                    // SAFETY: one of those that are ours and have no guard.
                    assert_eq!(unsafe { self.page.put_raw() }, self.model.put());
                }
            }
            Op::Pin => {
                self.pin();
            }
            Op::PinMost => while self.pin() {},
            Op::Unpin => {
                if let Some(pin) = self.pins.pop() {
                    assert_eq!(pin.unpin(), self.model.unpin());
                }
            }
            Op::WaitUnlocked => {
                if let Some(wake) = self.model.wake(self.model.locked) {
                    assert_eq!(self.page.wait_unlocked(()), wake);
                }
            }
            Op::WaitMigration => {
                if let Some(wake) = self.model.wake(self.model.migrating) {
                    assert_eq!(self.page.wait_migration(()), wake);
                }
            }
            Op::Other | Op::CommitToOther { .. } => unreachable!("concerns both pages"),
            Op::CommitToPoisoned => {
                let Some(frozen) = self.frozen() else { return };
                let dst = PageLock::with_futex(Alone);
                dst.lock().poison();
                // SAFETY: none is there to move; it is refused.
                let error = unsafe { frozen.commit_to_moving(dst.lock(), 1) }
                    .map(drop)
                    .expect_err("the destination is poisoned");
                assert_eq!(error.why, CommitRefused::Poisoned);
                self.owner = Owner::Frozen(error.frozen);
            }
            Op::TryLockFor { nanos } => {
                let taken = self.page.try_lock_for(Duration::from_nanos(nanos.into()));
                assert_eq!(taken.is_some(), !self.model.locked);
                self.owned(taken);
            }
            Op::TryLockLate => {
                let taken = self.page.lock_within(late());
                self.locked_or_late(taken);
            }
            Op::LockReleasing => {
                if !self.model.locked {
                    let guard = self.page.lock_releasing(Ptl(&self.ptl));
                    self.let_go();
                    self.owned(Some(guard));
                }
            }
            Op::LockReleasingLate => {
                let taken = self.page.lock_releasing_within(Ptl(&self.ptl), late());
                self.let_go();
                self.locked_or_late(taken);
            }
            Op::WaitWith { migration, limit, cancellable } => {
                self.wait_with(migration, limit, cancellable)
            }
            Op::WaitFor { migration, nanos } => {
                let d = Duration::from_nanos(nanos.into());
                let (wake, is_on) = match migration {
                    true => (
                        self.page.wait_with(
                            Ptl(&self.ptl),
                            Wait::migration().within(Limits::none().until(Alone.now() + d)),
                        ),
                        self.model.migrating,
                    ),
                    false => (self.page.wait_unlocked_for(Ptl(&self.ptl), d), self.model.locked),
                };
                self.let_go();
                let expected = self.model.wake(is_on);
                // No time at all is over before the wait begins, and leaves no trace.
                self.model.awaited |= expected.is_none() && nanos > 0;
                assert_eq!(wake, expected.unwrap_or(Wake::TimedOut));
            }
            Op::Cancel => {
                self.switch.cancel();
                assert!(self.switch.is_cancelled());
            }
            Op::ResetCancel => self.switch.reset(),
            Op::CloneRef => {
                let Some(reference) = self.refs.last() else { return };
                let got = reference.try_clone();
                assert_eq!(got.as_ref().map(drop).map_err(|e| *e), self.model.can_get());
                if let Ok(reference) = got {
                    self.refs.push(reference);
                    self.model.refs += 1;
                }
            }
            Op::DropRef => {
                if self.refs.pop().is_some() {
                    _ = self.model.put();
                }
            }
            Op::RefRawAndBack => {
                if let Some(reference) = self.refs.pop() {
                    // SAFETY: made raw just now.
                    self.refs.push(unsafe { PageRef::from_raw(reference.into_raw()) });
                }
            }
            Op::PinRawAndBack => {
                if let Some(pin) = self.pins.pop() {
                    // SAFETY: made raw just now.
                    self.pins.push(unsafe { PagePin::from_raw(pin.into_raw()) });
                }
            }
            Op::UnpinRaw => {
                if let Some(pin) = self.pins.pop() {
                    // SAFETY: made raw just now.
                    assert_eq!(unsafe { pin.into_raw().unpin_raw() }, self.model.unpin());
                }
            }
        }
    }
}
