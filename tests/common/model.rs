//! Two pages, one thread, any sequence of operations, against a model of plain numbers.
//!
//! [`run`] applies operations to the pages and to the model, and panics where they differ: in an
//! outcome, in an error, or in a page's whole `Debug` text, which the model predicts. An operation
//! that fails must leave that text as it was; that is not tested apart, because the model does not
//! change then.
//!
//! It needs `core`, `std` and the crate only, so a fuzz target can include this file by its path.
//! With `--cfg pagelock_fuzz` operations derive `arbitrary::Arbitrary`.

use core::cell::Cell;
use core::fmt::Write as _;
use core::time::Duration;
use pagelock::futex::{EventSlot, MonotonicTime, Sleep};
use pagelock::sync::AtomicU32;
use pagelock::{
    Cancel, Claim, CommitRefused, CountError, FreezeError, FreezeRefused, FreezeRule, Futex,
    FutexTimed, GetError, Limits, LockError, MAX_PINS, MAX_REFS, PinError, Put, UserBits, Wait,
    Wake,
};
use std::sync::atomic::Ordering::SeqCst;

type PageLock = pagelock::PageLock<Alone>;
type PageGuard<'a> = pagelock::PageGuard<'a, Alone>;
type PageRef<'a> = pagelock::PageRef<'a, Alone>;
type PagePin<'a> = pagelock::PagePin<'a, Alone>;
type Migration<'a> = pagelock::Migration<'a, Alone>;
type Frozen<'a> = pagelock::Frozen<'a, Alone>;

/// A platform for one thread: nobody can wake it, so a sleep with a deadline ends when that has
/// come, which is at once, and one without is a failure.
#[derive(Clone, Copy, Debug)]
struct Alone;

thread_local! {
    static SLOTS: &'static [EventSlot<Alone>; 2] = Box::leak(Box::default());
    static NOW: Cell<u64> = const { Cell::new(1000) };
}

/// The point so many nanoseconds after the beginning.
fn nanos(n: u64) -> MonotonicTime {
    MonotonicTime::since_zero(Duration::from_nanos(n))
}

// SAFETY: it loads the words that it is shown.
unsafe impl Futex for Alone {
    fn wait(&self, word: &AtomicU32, expected: u32) -> Sleep {
        assert_ne!(word.load(SeqCst), expected, "sleeps for ever");
        Sleep::Changed
    }

    fn wake_one(&self, _word: *const AtomicU32) {}

    fn wake_all(&self, _word: *const AtomicU32) {}

    fn event(&self, index: usize) -> &EventSlot<Self> {
        SLOTS.with(|slots| &slots[index])
    }

    fn events(&self) -> usize {
        2
    }
}

impl FutexTimed for Alone {
    fn now(&self) -> MonotonicTime {
        nanos(NOW.get())
    }

    fn wait_until(&self, word: &AtomicU32, expected: u32, _class: u32, at: MonotonicTime) -> Sleep {
        if word.load(SeqCst) != expected {
            return Sleep::Changed;
        }
        let nanos = at.as_duration().as_nanos().try_into().unwrap_or(u64::MAX);
        NOW.set(NOW.get().max(nanos));
        Sleep::TimedOut
    }
}

/// Something that can be done to a page. One that does not apply at the moment (releasing what is
/// not held) is skipped.
#[derive(Clone, Debug)]
#[cfg_attr(pagelock_fuzz, derive(arbitrary::Arbitrary))]
pub(crate) enum Op {
    TryLock,
    Claim,
    Unlock,
    UnlockFair,
    DropGuard,
    RawAndBack,
    SetUser(u8),
    Poison,
    BeginMigration,
    CancelMigration,
    FreezeExact(u32),
    /// With as many references as there are, so that it usually succeeds.
    FreezeAsIs,
    FreezeUnpinned,
    FreezeWith {
        accept: bool,
    },
    Thaw,
    Abort,
    DropStage,
    CommitInPlace,
    /// To a fresh header with so many references, moving so many.
    CommitTo {
        there: u32,
        moving: u32,
    },
    Activate(u32),
    ActivateMost,
    Get,
    Put,
    PutRaw,
    Pin,
    PinMost,
    Unpin,
    /// Only where it does not sleep.
    WaitUnlocked,
    /// Only where it does not sleep.
    WaitMigration,
    /// From now on operations are on the other page.
    Other,
    /// To the other page, if it is owned.
    CommitToOther {
        moving: u32,
    },
    /// To a page whose contents are lost.
    CommitToPoisoned,
    TryLockFor {
        nanos: u8,
    },
    TryLockLate,
    /// Only where it does not sleep.
    LockReleasing,
    LockReleasingLate,
    WaitWith {
        migration: bool,
        limit: Limit,
        cancellable: bool,
    },
    WaitFor {
        migration: bool,
        nanos: u8,
    },
    Cancel,
    ResetCancel,
    CloneRef,
    DropRef,
    RefRawAndBack,
    PinRawAndBack,
    UnpinRaw,
    ClaimTold,
}

/// The deadline of a wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(pagelock_fuzz, derive(arbitrary::Arbitrary))]
pub(crate) enum Limit {
    /// Only where it does not sleep.
    None,
    Past,
    /// It is slept for.
    Soon,
}

/// How late some calls are.
const LATE: u64 = 7;

/// Limits that were over before.
fn late<'c>() -> Limits<'c, Alone> {
    Limits::none().until(nanos(NOW.get() - LATE))
}

/// Stands for a page-table lock: counts how often it was let go of.
struct Ptl<'d>(&'d Cell<u32>);

impl Drop for Ptl<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
    }
}

/// Who owns the page, and at which stage.
enum Owner<'a> {
    None,
    Guard(PageGuard<'a>),
    Migration(Migration<'a>),
    Frozen(Frozen<'a>),
}

/// What a page is.
#[derive(Default)]
struct Model {
    locked: bool,
    migrating: bool,
    poisoned: bool,
    awaited: bool,
    user: u8,
    generation: u8,
    refs: u32,
    pins: u32,
    frozen: bool,
}

impl Model {
    /// What the page's `Debug` should say.
    fn text(&self) -> String {
        let mut text =
            String::from(if self.locked { "PageLock { locked" } else { "PageLock { free" });
        for (is, word) in [
            (self.migrating, "migrating"),
            (self.poisoned, "poisoned"),
            (self.locked && self.awaited, "awaited"),
        ] {
            if is {
                write!(text, ", {word}").unwrap();
            }
        }
        if self.user != 0 {
            write!(text, ", user {}", self.user).unwrap();
        }
        write!(
            text,
            ", generation {}; {} references, {} pins",
            self.generation, self.refs, self.pins
        )
        .unwrap();
        text + if self.frozen { ", frozen }" } else { " }" }
    }

    fn take(&mut self) {
        self.locked = true;
        self.awaited = false;
    }

    /// Says whether somebody asked.
    fn release(&mut self) -> bool {
        self.locked = false;
        self.migrating = false;
        self.frozen = false;
        self.generation = self.generation.wrapping_add(1);
        self.awaited
    }

    fn can_activate(&self, refs: u32) -> Result<(), CountError> {
        if refs == 0 {
            Err(CountError::Zero)
        } else if refs > MAX_REFS {
            Err(CountError::Overflow { have: 0, asked: refs })
        } else if self.poisoned {
            Err(CountError::Poisoned)
        } else if (self.refs, self.pins) != (0, 0) {
            Err(CountError::Live { refs: self.refs, pins: self.pins })
        } else if self.frozen {
            Err(CountError::Frozen)
        } else {
            Ok(())
        }
    }

    fn can_get(&self) -> Result<(), GetError> {
        if self.poisoned {
            Err(GetError::Poisoned)
        } else if self.frozen {
            Err(GetError::Frozen)
        } else if (self.refs, self.pins) == (0, 0) {
            Err(GetError::Free)
        } else if self.refs == MAX_REFS {
            Err(GetError::Overflow)
        } else {
            Ok(())
        }
    }

    fn can_pin(&self) -> Result<(), PinError> {
        if self.poisoned {
            Err(PinError::Poisoned)
        } else if self.frozen {
            Err(PinError::Frozen)
        } else if self.migrating {
            Err(PinError::Migrating)
        } else if (self.refs, self.pins) == (0, 0) {
            Err(PinError::Free)
        } else if self.pins == MAX_PINS {
            Err(PinError::Overflow)
        } else {
            Ok(())
        }
    }

    fn can_freeze(&self, rule: FreezeRule) -> bool {
        let refs = match rule {
            FreezeRule::ExactRefs(n) => n == self.refs,
            FreezeRule::Unpinned => true,
            rule => unreachable!("{rule:?}"),
        };
        refs && self.pins == 0 && !self.poisoned
    }

    fn put(&mut self) -> Put {
        self.refs -= 1;
        self.left()
    }

    fn unpin(&mut self) -> Put {
        self.pins -= 1;
        self.left()
    }

    fn left(&self) -> Put {
        if (self.refs, self.pins) == (0, 0) { Put::Last } else { Put::Kept }
    }

    fn wake(&self, is_on: bool) -> Option<Wake> {
        if self.poisoned {
            Some(Wake::Poisoned)
        } else if is_on {
            None // It would sleep.
        } else {
            Some(Wake::NotLocked)
        }
    }
}

/// A page, its model, and what the test holds of it.
struct Run<'a> {
    page: &'a PageLock,
    model: Model,
    owner: Owner<'a>,
    refs: Vec<PageRef<'a>>,
    pins: Vec<PagePin<'a>>,
    /// References without a guard.
    raw: u32,
    /// How many references the stage will move by itself.
    named: u32,
    switch: Cancel<Alone>,
    /// How often its page-table lock was let go of.
    ptl: Cell<u32>,
}

/// Applies `ops` to two new pages, one after the other.
pub(crate) fn run(ops: &[Op]) {
    let pages = [PageLock::with_futex(Alone), PageLock::with_futex(Alone)];
    let mut runs = pages.each_ref().map(Run::new);
    let mut at = 0;
    for op in ops {
        match *op {
            Op::Other => at = 1 - at,
            Op::CommitToOther { moving } => {
                let [first, second] = &mut runs;
                if at == 0 {
                    first.commit_to_other(second, moving)
                } else {
                    second.commit_to_other(first, moving)
                }
            }
            _ => runs[at].apply(op),
        }
        for (page, run) in pages.iter().zip(&runs) {
            assert_eq!(format!("{page:?}"), run.model.text(), "after {op:?}");
            run.looks();
        }
    }
}

impl<'a> Run<'a> {
    fn new(page: &'a PageLock) -> Self {
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
    fn looks(&self) {
        let (page, model) = (self.page, &self.model);
        assert_eq!(page.is_locked(), model.locked);
        assert_eq!(page.is_migrating(), model.migrating);
        assert_eq!(page.is_poisoned(), model.poisoned);
        assert_eq!(page.is_frozen(), model.frozen);
        assert_eq!((page.refs(), page.pins()), (model.refs, model.pins));
        assert_eq!((page.user().get(), page.generation()), (model.user, model.generation));
    }

    fn apply(&mut self, op: &Op) {
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

    /// The page-table lock was let go of, once.
    fn let_go(&self) {
        assert_eq!(self.ptl.replace(0), 1);
    }

    /// What an attempt with a deadline that has passed comes to.
    fn locked_or_late(&mut self, taken: Result<PageGuard<'a>, LockError>) {
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

    fn wait_with(&mut self, migration: bool, limit: Limit, cancellable: bool) {
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
    fn commit_to_other(&mut self, other: &mut Run<'a>, moving: u32) {
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

    fn owned(&mut self, guard: Option<PageGuard<'a>>) {
        if let Some(guard) = guard {
            self.owner = Owner::Guard(guard);
            self.model.take();
        }
    }

    fn on_guard(&mut self, then: impl FnOnce(&mut Self, PageGuard<'a>) -> Owner<'a>) {
        self.owner = match core::mem::replace(&mut self.owner, Owner::None) {
            Owner::Guard(guard) => then(self, guard),
            other => other,
        };
    }

    fn on_migration(&mut self, then: impl FnOnce(&mut Self, Migration<'a>) -> Owner<'a>) {
        self.owner = match core::mem::replace(&mut self.owner, Owner::None) {
            Owner::Migration(migration) => then(self, migration),
            other => other,
        };
    }

    fn frozen(&mut self) -> Option<Frozen<'a>> {
        match core::mem::replace(&mut self.owner, Owner::None) {
            Owner::Frozen(frozen) => Some(frozen),
            other => {
                self.owner = other;
                None
            }
        }
    }

    fn release_guard(&mut self, release: impl FnOnce(PageGuard<'a>) -> Option<bool>) {
        self.on_guard(|run, guard| {
            let (said, told) = (release(guard), run.model.release());
            assert!(said.is_none_or(|said| said == told));
            Owner::None
        });
    }

    fn freeze(&mut self, rule: FreezeRule) {
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

    fn freeze_with(&mut self, accept: bool) {
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
    fn commit_to(&mut self, there: u32, moving: u32) {
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

    fn activate(&mut self, refs: u32) {
        let can = self.model.can_activate(refs);
        assert_eq!(self.page.activate(refs), can);
        if can.is_ok() {
            self.model.refs = refs;
            self.raw = refs;
        }
    }

    /// Says whether it got one.
    fn pin(&mut self) -> bool {
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

/// What is left is given back in the order in which it was declared, and the page must be at rest
/// then.
impl Drop for Run<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        self.owner = Owner::None;
        self.refs.clear();
        self.pins.clear();
        assert!(!self.page.is_locked() && !self.page.is_migrating() && !self.page.is_frozen());
        assert_eq!((self.page.refs(), self.page.pins()), (self.raw, 0));
    }
}
