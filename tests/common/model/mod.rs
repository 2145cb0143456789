//! Two pages, one thread, any sequence of operations, against a model of plain numbers.
//!
//! [`run`] applies operations to the pages and to the model, and panics where they differ: in an
//! outcome, in an error, or in a page's whole `Debug` text, which the model predicts. An operation
//! that fails must leave that text as it was; that is not tested apart, because the model does not
//! change then.
//!
//! It needs `core`, `std` and the crate only, so a fuzz target can include this file by its path.
//! With `--cfg pagelock_fuzz` operations derive `arbitrary::Arbitrary`.

mod apply;
mod plain;
mod steps;

use core::cell::Cell;
use core::time::Duration;
use pagelock::futex::{EventSlot, MonotonicTime, Sleep};
use pagelock::sync::AtomicU32;
use pagelock::{Cancel, Futex, FutexTimed, Limits};
use std::sync::atomic::Ordering::SeqCst;

pub(crate) type PageLock = pagelock::PageLock<Alone>;
pub(crate) type PageGuard<'a> = pagelock::PageGuard<'a, Alone>;
pub(crate) type PageRef<'a> = pagelock::PageRef<'a, Alone>;
pub(crate) type PagePin<'a> = pagelock::PagePin<'a, Alone>;
pub(crate) type Migration<'a> = pagelock::Migration<'a, Alone>;
pub(crate) type Frozen<'a> = pagelock::Frozen<'a, Alone>;

/// A platform for one thread: nobody can wake it, so a sleep with a deadline ends when that has
/// come, which is at once, and one without is a failure.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Alone;

thread_local! {
    static SLOTS: &'static [EventSlot<Alone>; 2] = Box::leak(Box::default());
    pub(crate) static NOW: Cell<u64> = const { Cell::new(1000) };
}

/// The point `nanos` nanoseconds after the beginning.
pub(crate) fn nanos(n: u64) -> MonotonicTime {
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
    /// To a fresh header with `there` references, moving `moving`.
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
pub(crate) const LATE: u64 = 7;

/// Limits that were over before.
pub(crate) fn late<'c>() -> Limits<'c, Alone> {
    Limits::none().until(nanos(NOW.get() - LATE))
}

/// Stands for a page-table lock: counts how often it was let go of.
pub(crate) struct Ptl<'d>(&'d Cell<u32>);

impl Drop for Ptl<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
    }
}

/// The page's owner, and its stage.
pub(crate) enum Owner<'a> {
    None,
    Guard(PageGuard<'a>),
    Migration(Migration<'a>),
    Frozen(Frozen<'a>),
}

/// What a page is.
#[derive(Default)]
pub(crate) struct Model {
    pub(crate) locked: bool,
    pub(crate) migrating: bool,
    pub(crate) poisoned: bool,
    pub(crate) awaited: bool,
    pub(crate) user: u8,
    pub(crate) generation: u8,
    pub(crate) refs: u32,
    pub(crate) pins: u32,
    pub(crate) frozen: bool,
}

/// A page, its model, and what the test holds of it.
pub(crate) struct Run<'a> {
    pub(crate) page: &'a PageLock,
    pub(crate) model: Model,
    pub(crate) owner: Owner<'a>,
    pub(crate) refs: Vec<PageRef<'a>>,
    pub(crate) pins: Vec<PagePin<'a>>,
    /// References without a guard.
    pub(crate) raw: u32,
    /// How many references the stage will move by itself.
    pub(crate) named: u32,
    pub(crate) switch: Cancel<Alone>,
    /// How often its page-table lock was let go of.
    pub(crate) ptl: Cell<u32>,
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
