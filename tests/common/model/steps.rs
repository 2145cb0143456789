//! Operations that take more than a few lines.

use crate::model::{
    Alone, Frozen, LATE, Limit, Migration, NOW, Owner, PageGuard, PageLock, Ptl, Run, nanos,
};
use pagelock::{
    CommitRefused, FreezeError, FreezeRefused, FreezeRule, LockError, MAX_REFS, Put, Wait, Wake,
};

impl<'a> Run<'a> {
    /// The page-table lock was let go of, once.
    pub(crate) fn let_go(&self) {
        assert_eq!(self.ptl.replace(0), 1);
    }

    /// What an attempt with a deadline that has passed comes to.
    pub(crate) fn locked_or_late(&mut self, taken: Result<PageGuard<'a>, LockError>) {
        match taken {
            Ok(guard) => {
                assert!(!self.model.locked);
                self.owned(Some(guard));
            }
            Err(error) => {
                assert!(self.model.locked);
                assert_eq!(error, LockError::TimedOut);
            }
        }
    }

    pub(crate) fn wait_with(&mut self, migration: bool, limit: Limit, cancellable: bool) {
        let (mut wait, is_on) = match migration {
            true => (Wait::migration(), self.model.migrating),
            false => (Wait::unlocked(), self.model.locked),
        };
        let (sleeps, cancelled) =
            (self.model.wake(is_on).is_none(), cancellable && self.switch.is_cancelled());
        match limit {
            Limit::None if sleeps && !cancelled => return,
            Limit::None => {}
            Limit::Past => wait.limits = wait.limits.until(nanos(NOW.get() - LATE)),
            Limit::Soon => wait.limits = wait.limits.until(nanos(NOW.get() + 1)),
        }
        if cancellable {
            wait.limits = wait.limits.unless(&self.switch);
        }
        let woken = self.page.wait_with(Ptl(&self.ptl), wait);
        self.let_go();
        let expected = match self.model.wake(is_on) {
            None if limit == Limit::Past => {
                assert_eq!(woken, if cancelled { Wake::Cancelled } else { Wake::TimedOut });
                return;
            }
            _ if cancelled => Wake::Cancelled,
            Some(wake) => wake,
            None => {
                self.model.awaited = true;
                Wake::TimedOut
            }
        };
        assert_eq!(woken, expected);
    }

    /// Moves the page's identity to the other page, if this one is frozen and that one is owned.
    pub(crate) fn commit_to_other(&mut self, other: &mut Run<'a>, moving: u32) {
        let Some(frozen) = self.frozen() else { return };
        let guard = match core::mem::replace(&mut other.owner, Owner::None) {
            Owner::Guard(guard) => guard,
            owner => {
                (self.owner, other.owner) = (Owner::Frozen(frozen), owner);
                return;
            }
        };
        let moves = if self.named > 0 { self.named } else { moving };
        let expected = if other.model.poisoned {
            Err(CommitRefused::Poisoned)
        } else if moves > self.model.refs {
            Err(CommitRefused::TooFew { have: self.model.refs, move_: moves })
        } else if moves > MAX_REFS - other.model.refs {
            Err(CommitRefused::Overflow { have: other.model.refs, move_: moves })
        } else if moves > self.raw {
            // Those that moved would still have guards here.
            (self.owner, other.owner) = (Owner::Frozen(frozen), Owner::Guard(guard));
            return;
        } else {
            Ok(())
        };
        // SAFETY: `raw` says that there are as many without a guard.
        match unsafe { frozen.commit_to_moving(guard, moves) } {
            Ok(told) => {
                other.model.user = core::mem::take(&mut self.model.user);
                assert_eq!(expected, Ok(()));
                assert_eq!(told.event_waiters, self.model.release());
                other.model.release();
                self.model.refs -= moves;
                self.raw -= moves;
                other.model.refs += moves;
                other.raw += moves;
                // Where none moved, none was the last.
                let left = if moves == 0 { Put::Kept } else { self.model.left() };
                assert_eq!(told.source, left);
            }
            Err(error) => {
                assert_eq!(Err(error.why), expected);
                (self.owner, other.owner) = (Owner::Frozen(error.frozen), Owner::Guard(error.dst));
            }
        }
    }

    pub(crate) fn owned(&mut self, guard: Option<PageGuard<'a>>) {
        if let Some(guard) = guard {
            self.owner = Owner::Guard(guard);
            self.model.take();
        }
    }

    pub(crate) fn on_guard(&mut self, then: impl FnOnce(&mut Self, PageGuard<'a>) -> Owner<'a>) {
        self.owner = match core::mem::replace(&mut self.owner, Owner::None) {
            Owner::Guard(guard) => then(self, guard),
            other => other,
        };
    }

    pub(crate) fn on_migration(
        &mut self,
        then: impl FnOnce(&mut Self, Migration<'a>) -> Owner<'a>,
    ) {
        self.owner = match core::mem::replace(&mut self.owner, Owner::None) {
            Owner::Migration(migration) => then(self, migration),
            other => other,
        };
    }

    pub(crate) fn frozen(&mut self) -> Option<Frozen<'a>> {
        match core::mem::replace(&mut self.owner, Owner::None) {
            Owner::Frozen(frozen) => Some(frozen),
            other => {
                self.owner = other;
                None
            }
        }
    }

    pub(crate) fn release_guard(&mut self, release: impl FnOnce(PageGuard<'a>) -> Option<bool>) {
        self.on_guard(|run, guard| {
            let (said, told) = (release(guard), run.model.release());
            assert!(said.is_none_or(|said| said == told));
            Owner::None
        });
    }

    pub(crate) fn freeze(&mut self, rule: FreezeRule) {
        self.on_migration(|run, migration| {
            let allowed = run.model.can_freeze(rule);
            match migration.freeze(rule) {
                Ok(frozen) => {
                    assert!(allowed, "{rule:?}");
                    run.model.frozen = true;
                    run.named = if let FreezeRule::ExactRefs(n) = rule { n } else { 0 };
                    Owner::Frozen(frozen)
                }
                Err(busy) => {
                    assert!(!allowed, "{busy}");
                    let FreezeRefused { refs, pins, frozen, poisoned, rule: of, .. } =
                        busy.reason();
                    let seen = (refs, pins, frozen, poisoned, of);
                    assert_eq!(
                        seen,
                        (run.model.refs, run.model.pins, false, run.model.poisoned, rule)
                    );
                    Owner::Migration(busy.into_migration())
                }
            }
        });
    }

    pub(crate) fn freeze_with(&mut self, accept: bool) {
        self.on_migration(|run, migration| {
            let allowed = run.model.can_freeze(FreezeRule::Unpinned);
            let own = |page: &PageLock| {
                assert!(page.is_frozen());
                if accept { Ok(()) } else { Err("refused") }
            };
            match migration.freeze_with(FreezeRule::Unpinned, own) {
                Ok(frozen) => {
                    assert!(allowed && accept);
                    run.model.frozen = true;
                    run.named = 0;
                    Owner::Frozen(frozen)
                }
                Err(FreezeError::Busy(busy)) => {
                    assert!(!allowed);
                    Owner::Migration(busy.into_migration())
                }
                Err(FreezeError::Refused { error, migration }) => {
                    assert!(allowed && !accept && error == "refused");
                    Owner::Migration(migration)
                }
            }
        });
    }

    /// Moves references to another header: those that the freeze named, or, if it named none,
    /// `moving`.
    pub(crate) fn commit_to(&mut self, there: u32, moving: u32) {
        let Some(frozen) = self.frozen() else { return };
        let dst = PageLock::with_futex(Alone);
        let there = there % (MAX_REFS + 1);
        if there > 0 {
            dst.activate(there).unwrap();
        }
        let before = format!("{:?}", self.page);
        let moves = if self.named > 0 { self.named } else { moving };
        let expected = if moves > self.model.refs {
            Err(CommitRefused::TooFew { have: self.model.refs, move_: moves })
        } else if moves > MAX_REFS - there {
            Err(CommitRefused::Overflow { have: there, move_: moves })
        } else if moves > self.raw {
            // Those that moved would still have guards here.
            return self.owner = Owner::Frozen(frozen);
        } else {
            Ok(())
        };
        let guard = dst.lock();
        // SAFETY: `raw` says that there are as many without a guard.
        let outcome = unsafe { frozen.commit_to_moving(guard, moves) };
        match outcome {
            Ok(told) => {
                assert_eq!(expected, Ok(()));
                assert_eq!(dst.user().get(), core::mem::take(&mut self.model.user));
                assert_eq!(told.event_waiters, self.model.release());
                self.model.refs -= moves;
                self.raw -= moves;
                assert_eq!((dst.refs(), dst.is_locked()), (there + moves, false));
            }
            Err(error) => {
                assert_eq!(Err(error.why), expected);
                assert_eq!(format!("{:?}", self.page), before);
                assert_eq!(dst.refs(), there);
                assert!(dst.is_locked());
                self.owner = Owner::Frozen(error.frozen);
            }
        }
    }

    pub(crate) fn activate(&mut self, refs: u32) {
        let can = self.model.can_activate(refs);
        assert_eq!(self.page.activate(refs), can);
        if can.is_ok() {
            self.model.refs = refs;
            self.raw = refs;
        }
    }

    /// Says whether it got one.
    pub(crate) fn pin(&mut self) -> bool {
        let pinned = self.page.try_pin();
        assert_eq!(pinned.as_ref().map(drop).map_err(|e| *e), self.model.can_pin());
        if let Ok(pin) = pinned {
            self.pins.push(pin);
            self.model.pins += 1;
            return true;
        }
        false
    }
}
