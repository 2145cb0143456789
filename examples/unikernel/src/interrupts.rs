//! What may be called in an interrupt: the rows of the table in docs/porting.md, each tried in
//! three positions: the interrupted code owns a page, is asleep, or is using its batch of
//! references.

use crate::apic::{self, Vector};
use crate::batches;
use crate::paging::{self, At};
use crate::phase::{self, done};
use crate::platform::{self, Awake, Halt};
use crate::{cpu, frames, spin};
use core::sync::atomic::{
    AtomicU64, AtomicUsize,
    Ordering::{Relaxed, SeqCst},
};
use pagelock::leaf::Leaf;
use pagelock::mm::Entry;
use pagelock::mm::ledger::Owner;
use pagelock::{Cancel, Claim, FreezeRule, Limits, PageGuard, PageLock, UserBits, Wait, Wake};

/// A free page.
static FREE: PageLock<Halt> = PageLock::with_futex(Halt);
/// A page with a reference.
static LIVE: PageLock<Halt> = PageLock::with_futex(Halt);
/// The interrupted code owns it, or waits for it.
static OWNED: PageLock<Halt> = PageLock::with_futex(Halt);
static KICK: Cancel<Halt> = Cancel::with_futex(Halt);
/// A page's frame that has references in the batch.
static BATCHED: AtomicU64 = AtomicU64::new(0);

type Row = (&'static str, fn() -> bool);

/// For every position.
const ALWAYS: [Row; 9] = [
    ("is_locked, refs, user", || {
        !FREE.is_locked() && LIVE.refs() == 1 && FREE.user() == UserBits::default()
    }),
    ("try_lock, unlock", || FREE.try_lock().is_some() && !FREE.is_locked()),
    ("try_lock of a page that is owned", || OWNED.try_lock().is_none()),
    ("claim", || {
        matches!(FREE.claim(), Claim::Owner(_)) && matches!(OWNED.claim(), Claim::InFlight)
    }),
    ("try_get, put, try_pin, unpin", || {
        LIVE.try_get().is_ok() && LIVE.try_pin().is_ok() && LIVE.refs() == 1 && LIVE.pins() == 0
    }),
    ("begin_migration, freeze, commit", || {
        let Some(guard) = LIVE.try_lock() else { return false };
        guard
            .begin_migration()
            .freeze(FreezeRule::ExactRefs(1))
            .map(|frozen| frozen.commit_in_place())
            .is_ok()
    }),
    ("Batches::ask_all", || {
        batches::ask_all();
        true
    }),
    ("lock, wait_* of a page that is owned: never", || {
        platform::may_sleep() == Err(Awake::InInterrupt)
    }),
    ("resolve, migrate, a PTL: never", || !spin::may_lock()),
];
/// The interrupted code uses its batch.
const IN_BATCH: [Row; 2] = [
    ("Batches::run", || {
        batches::empty();
        true
    }),
    ("Batches::add", || {
        let pfn = BATCHED.load(Relaxed);
        // The batch is in use, so this goes without, and puts the reference itself.
        frames::get(pfn, Owner::Get) && !batches::add(pfn, Owner::Get)
    }),
];
/// The interrupted code sleeps.
const RELEASE: [Row; 1] = [("a release that wakes", || {
    // SAFETY: locked by the code that sleeps for it now.
    drop(unsafe { PageGuard::from_raw(&OWNED) });
    true
})];
const CANCEL: [Row; 1] = [("Cancel::cancel", || {
    KICK.cancel();
    true
})];

static ROW: AtomicUsize = AtomicUsize::new(0);
static ANSWER: AtomicUsize = AtomicUsize::new(0);
/// The position that is reached, and the one that is done with.
static REACHED: AtomicUsize = AtomicUsize::new(0);
static DONE: AtomicUsize = AtomicUsize::new(0);
static TRIED: AtomicUsize = AtomicUsize::new(0);

/// In the interrupt.
pub fn test() {
    // SAFETY: `try_row` has stored the address of a row.
    let row = unsafe { &*core::ptr::with_exposed_provenance::<Row>(ROW.load(SeqCst)) };
    ANSWER.store(1 + usize::from((row.1)()), SeqCst);
}

/// All of them.
pub fn run() {
    assert_eq!(LIVE.activate(1), Ok(()));
    phase::run(100_000, rows);
    done("what interrupts may call", format_args!("{} calls in interrupts", TRIED.load(SeqCst)));
}

fn rows(index: usize) {
    match index {
        0 => interrupter(),
        1 => interrupted(),
        _ => {}
    }
}

fn try_row(row: &'static Row) {
    ANSWER.store(0, SeqCst);
    ROW.store((&raw const *row).expose_provenance(), SeqCst);
    apic::send(cpu::of(1), Vector::Test);
    while ANSWER.load(SeqCst) == 0 {
        core::hint::spin_loop();
    }
    assert_eq!(
        ANSWER.load(SeqCst),
        2,
        "{}, with the interrupted in position {}",
        row.0,
        REACHED.load(SeqCst)
    );
    TRIED.fetch_add(1, SeqCst);
}

fn interrupter() {
    let special: [&'static [Row]; 4] = [&[], &RELEASE, &CANCEL, &IN_BATCH];
    for (position, special) in special.into_iter().enumerate() {
        while REACHED.load(SeqCst) != position + 1
            || (1..3).contains(&position) && platform::sleeps_on(1).is_none()
        {
            core::hint::spin_loop();
        }
        // The rows of every position, and then this one's.
        ALWAYS.iter().chain(special).for_each(try_row);
        DONE.store(position + 1, SeqCst);
    }
}

fn interrupted() {
    let reach = |position| REACHED.store(position, SeqCst);
    let stay = |position| {
        while DONE.load(SeqCst) != position {
            core::hint::spin_loop();
        }
    };
    let guard = OWNED.lock();
    reach(1);
    stay(1);
    drop(guard);

    OWNED.lock().into_raw();
    reach(2);
    assert_eq!(OWNED.wait_unlocked(()), Wake::Released);
    stay(2);

    let guard = OWNED.lock();
    reach(3);
    let kicked = Wait::unlocked().within(Limits::none().unless(&KICK));
    assert_eq!(OWNED.wait_with((), kicked), Wake::Cancelled);
    stay(3);
    drop(guard);

    let entry = paging::lock(At::new(0, 0, 1));
    let Ok(Leaf::Present { pfn, .. }) = entry.get() else { panic!("nobody moves it") };
    drop(entry);
    BATCHED.store(pfn, SeqCst);
    let guard = OWNED.lock();
    batches::add_and(pfn, || {
        reach(4);
        stay(4);
    });
    drop(guard);
    // The interrupt asked for it, and the batch was emptied before its user released it.
    assert_eq!(frames::owners(pfn).of(Owner::Batch), 0);
}
