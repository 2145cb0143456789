//! The hot paths, alone, to be counted and read.
//!
//! `ci/instructions.sh` runs this under an instruction counter: `instructions WHAT TIMES`.
//! `ci/assembly.sh` disassembles the functions whose names begin with `fast_`. `instructions names`
//! lists what there is.

use core::hint::black_box;
use core::sync::atomic::{
    AtomicU32,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};
use pagelock::{Claim, FreezeRule, Migration, PageLock, PinError, Wake};

#[derive(Default)]
struct Subject {
    /// Free, unlocked, one reference.
    page: PageLock,
    /// Always locked.
    held: PageLock,
    /// Always being migrated, one reference.
    migrating: PageLock,
    word: AtomicU32,
    parking_lot: parking_lot::Mutex<()>,
    parking_lot_held: parking_lot::Mutex<()>,
    std: std::sync::Mutex<()>,
    std_held: std::sync::Mutex<()>,
    usync: usync::Mutex<()>,
    usync_held: usync::Mutex<()>,
}

impl Subject {
    fn new() -> Self {
        let subject = Self::default();
        subject.page.activate(1).expect("a fresh page");
        subject.held.lock().into_raw();
        subject.migrating.activate(1).expect("a fresh page");
        subject.migrating.lock().begin_migration().into_raw();
        core::mem::forget(subject.parking_lot_held.lock());
        core::mem::forget(subject.std_held.lock());
        core::mem::forget(subject.usync_held.lock());
        subject
    }
}

/// What the compiler makes of `lock` and `unlock` where they are called from one place.
#[inline(never)]
fn fast_lock_unlock(on: &Subject) {
    drop(on.page.lock());
}

#[inline(never)]
fn fast_try_lock_unlock(on: &Subject) -> bool {
    on.page.try_lock().is_some()
}

#[inline(never)]
fn fast_try_lock(on: &Subject) -> bool {
    match on.held.try_lock() {
        Some(guard) => {
            guard.into_raw();
            true
        }
        None => false,
    }
}

#[inline(never)]
fn fast_is_locked(on: &Subject) -> bool {
    on.page.is_locked()
}

#[inline(never)]
fn fast_claim_unlock(on: &Subject) -> bool {
    matches!(on.page.claim(), Claim::Owner(_))
}

#[inline(never)]
fn fast_wait_unlocked(on: &Subject) -> Wake {
    on.page.wait_unlocked(())
}

#[inline(never)]
fn fast_get_put(on: &Subject) -> bool {
    on.page.try_get().is_ok()
}

#[inline(never)]
fn fast_pin_unpin(on: &Subject) -> Result<(), PinError> {
    on.page.try_pin().map(drop)
}

#[inline(never)]
fn fast_freeze_thaw(on: &Subject) -> bool {
    // SAFETY: the migration was made raw by `new` or by the round before, and this is the only
    // thread.
    let migration = unsafe { Migration::from_raw(&on.migrating) };
    let (migration, frozen) = match migration.freeze(FreezeRule::ExactRefs(1)) {
        Ok(frozen) => (frozen.thaw(), true),
        Err(busy) => (busy.into_migration(), false),
    };
    migration.into_raw();
    frozen
}

#[inline(never)]
fn fast_lock_begin_freeze_commit(on: &Subject) -> bool {
    match on.page.lock().begin_migration().freeze(FreezeRule::ExactRefs(1)) {
        Ok(frozen) => frozen.commit_in_place().event_waiters,
        Err(_) => true,
    }
}

/// The bound: no other bits to keep, no sleepers to look for.
#[inline(never)]
fn fast_raw_lock_unlock(on: &Subject) -> bool {
    on.word.compare_exchange(0, 1, Acquire, Relaxed).is_ok() && on.word.swap(0, Release) == 1
}

#[inline(never)]
fn fast_raw_get_put(on: &Subject) -> bool {
    on.word.fetch_add(1, Acquire);
    on.word.fetch_sub(1, AcqRel) == 1
}

#[inline(never)]
fn fast_raw_is_locked(on: &Subject) -> bool {
    on.word.load(Relaxed) & 1 == 1
}

macro_rules! peer {
    ($pair:ident, $fails:ident, $free:ident, $held:ident, $try:expr) => {
        #[inline(never)]
        fn $pair(on: &Subject) {
            drop(on.$free.lock());
        }

        #[inline(never)]
        fn $fails(on: &Subject) -> bool {
            $try(&on.$held)
        }
    };
}

type ParkingLot = parking_lot::Mutex<()>;
type Std = std::sync::Mutex<()>;
type Usync = usync::Mutex<()>;
peer!(fast_parking_lot, fast_parking_lot_fails, parking_lot, parking_lot_held, |m: &ParkingLot| m
    .try_lock()
    .is_some());
peer!(fast_std, fast_std_fails, std, std_held, |m: &Std| m.try_lock().is_ok());
peer!(fast_usync, fast_usync_fails, usync, usync_held, |m: &Usync| m.try_lock().is_some());

/// The call, the return and the loop, to be subtracted from the other counts.
#[inline(never)]
fn fast_nothing(_: &Subject) {}

/// One loop for all: compiled by itself, each might get a loop of another length.
#[inline(never)]
fn rounds<R>(times: u64, on: &Subject, body: fn(&Subject) -> R) {
    for _ in 0..times {
        black_box(body)(on);
    }
}

type Rounds = fn(u64, &Subject);

const ALL: [(&str, Rounds); 20] = [
    ("nothing", |n, on| rounds(n, on, fast_nothing)),
    ("lock-unlock", |n, on| rounds(n, on, fast_lock_unlock)),
    ("try_lock-unlock", |n, on| rounds(n, on, fast_try_lock_unlock)),
    ("try_lock-fails", |n, on| rounds(n, on, fast_try_lock)),
    ("is_locked", |n, on| rounds(n, on, fast_is_locked)),
    ("claim-unlock", |n, on| rounds(n, on, fast_claim_unlock)),
    ("wait_unlocked-free", |n, on| rounds(n, on, fast_wait_unlocked)),
    ("get-put", |n, on| rounds(n, on, fast_get_put)),
    ("pin-unpin", |n, on| rounds(n, on, fast_pin_unpin)),
    ("freeze-thaw", |n, on| rounds(n, on, fast_freeze_thaw)),
    ("lock-begin-freeze-commit", |n, on| rounds(n, on, fast_lock_begin_freeze_commit)),
    ("raw-lock-unlock", |n, on| rounds(n, on, fast_raw_lock_unlock)),
    ("raw-get-put", |n, on| rounds(n, on, fast_raw_get_put)),
    ("raw-is_locked", |n, on| rounds(n, on, fast_raw_is_locked)),
    ("parking_lot-lock-unlock", |n, on| rounds(n, on, fast_parking_lot)),
    ("parking_lot-try_lock-fails", |n, on| rounds(n, on, fast_parking_lot_fails)),
    ("std-lock-unlock", |n, on| rounds(n, on, fast_std)),
    ("std-try_lock-fails", |n, on| rounds(n, on, fast_std_fails)),
    ("usync-lock-unlock", |n, on| rounds(n, on, fast_usync)),
    ("usync-try_lock-fails", |n, on| rounds(n, on, fast_usync_fails)),
];

fn main() {
    let mut args = std::env::args().skip(1).filter(|a| a != "--bench" && a != "--test");
    let what = args.next().unwrap_or_default();
    let times = args.next().and_then(|n| n.parse().ok()).unwrap_or(1000);
    let on = Subject::new();
    match what.as_str() {
        "names" => ALL.iter().for_each(|(name, _)| println!("{name}")),
        "" => {
            // Check that each does what it is counted for.
            assert!(
                fast_try_lock_unlock(&on) && fast_claim_unlock(&on) && fast_raw_lock_unlock(&on)
            );
            assert!(
                !fast_try_lock(&on)
                    && !fast_is_locked(&on)
                    && fast_wait_unlocked(&on) == Wake::NotLocked
            );
            assert!(
                fast_get_put(&on)
                    && fast_pin_unpin(&on).is_ok()
                    && !fast_lock_begin_freeze_commit(&on)
            );
            assert!(!fast_parking_lot_fails(&on) && !fast_std_fails(&on) && !fast_usync_fails(&on));
            for (_, run) in ALL {
                run(3, &on);
            }
            assert!(
                on.page.refs() == 1
                    && on.page.pins() == 0
                    && !on.page.is_locked()
                    && fast_freeze_thaw(&on)
            );
            println!(
                "nothing measured: run ci/instructions.sh for counts, ci/assembly.sh for the code"
            );
        }
        name => match ALL.iter().find(|(n, _)| *n == name) {
            Some((_, run)) => run(times, &on),
            None => {
                eprintln!("`{name}` is none of those that `names` lists");
                std::process::exit(2);
            }
        },
    }
}
