//! What must go wrong if something is left out, each beside the same scene done right.

use crate::frames::{self, Tier};
use crate::kernel::{KERNEL, Kernel};
use crate::load;
use crate::paging::{self, At, PAGE};
use crate::phase::{self, done};
use crate::platform::{self, Halt, UNMAPS};
use crate::port::{self, Exit};
use crate::{clock, cpu, device, locks, say, serial, shootdown};
use core::sync::atomic::{
    AtomicBool, AtomicU32, AtomicU64,
    Ordering::{Relaxed, SeqCst},
};
use pagelock::leaf::Leaf;
use pagelock::mm::drain::{NoBatches, Unlocked};
use pagelock::mm::migrate::{Order, Outcome, Slot, collect, migrate};
use pagelock::mm::{Entry, Tables};
use pagelock::{PageGuard, PageLock};

/// Runs the control of that name. `false` if there is none.
pub fn run(name: &str) -> bool {
    load::IS_CONTROL.store(true, Relaxed);
    // It ends when it is seen.
    load::LAST_MS.store(30_000, Relaxed);
    match name {
        "no-shootdown" => {
            shootdown::IS_OFF.store(true, Relaxed);
            phase::run(60_000, load::run);
        }
        "no-flush-in-fork" => {
            shootdown::NOT_IN_FORK.store(true, Relaxed);
            phase::run(60_000, load::run);
        }
        "no-pin" => {
            device::NO_PINS.store(true, Relaxed);
            phase::run(60_000, load::run);
        }
        "no-look" => locks::lose_wakes(),
        "touch-after-release" => {
            TOUCHES.store(true, Relaxed);
            phase::run(100_000, unmapped_headers);
        }
        "flag-after-release" => {
            LATE.store(true, Relaxed);
            phase::run(100_000, reused_frame);
        }
        _ => return false,
    }
    say!("control {name}: nothing has gone wrong, which it should have");
    port::exit(Exit::NotSeen);
}

/// The same scenes, done right.
pub fn run_right() {
    phase::run(100_000, unmapped_headers);
    done(
        "a header is not touched after its release",
        format_args!("{UNMAPPINGS} releases that unmapped it, {} waiters", cpu::up() - 1),
    );
    phase::run(100_000, reused_frame);
    done(
        "a waiter whose page's frame is used anew wakes",
        format_args!("after {} us", AWAKE_US.load(Relaxed)),
    );
}

// ---- A header whose memory is gone as soon as its release says so.

const UNMAPPINGS: u32 = 100;
static TOUCHES: AtomicBool = AtomicBool::new(false);
static ROUND: AtomicU32 = AtomicU32::new(0);
static MEET: phase::Barrier = phase::Barrier::new();

#[repr(C, align(4096))]
struct Alone(PageLock<Halt>, [u8; PAGE - 8]);
static ALONE: Alone = Alone(PageLock::with_futex(Halt), [0; PAGE - 8]);

/// The first processor releases a page for which all others wait, and the platform's `tell` unmaps
/// the header.
fn unmapped_headers(index: usize) {
    for round in 0..UNMAPPINGS {
        if index == 0 {
            let header = paging::map_headers((&raw const ALONE).addr());
            UNMAPS.store(header, Relaxed);
            // SAFETY: mapped just now; a header, with nobody in it.
            let page = unsafe { &*core::ptr::with_exposed_provenance::<PageLock<Halt>>(header) };
            let guard = page.lock();
            MEET.wait(cpu::up());
            while !cpu::others().all(|cpu| platform::waits_for(cpu.index(), header)) {
                core::hint::spin_loop();
            }
            drop(guard);
            if TOUCHES.load(Relaxed) {
                say!("control: {} looks at a page that it has released", page.is_locked());
            }
        } else {
            MEET.wait(cpu::up());
            // SAFETY: as above, until it is released.
            let page = unsafe {
                &*core::ptr::with_exposed_provenance::<PageLock<Halt>>(UNMAPS.load(Relaxed))
            };
            let wake = page.wait_unlocked(());
            assert_eq!(wake, pagelock::Wake::Released, "round {round}");
        }
        MEET.wait(cpu::up());
    }
    UNMAPS.store(0, Relaxed);
    ROUND.store(UNMAPPINGS, Relaxed);
}

/// A fault that is none of the memory's.
pub fn fault(address: usize, rip: u64) {
    if UNMAPS.load(Relaxed) == address & !(PAGE - 1) && address != 0 {
        serial::print_in_panic(format_args!(
            "the header at {address:#x} was touched after its release, by {rip:#x}\n"
        ));
        if TOUCHES.load(Relaxed) {
            port::exit(Exit::Touched);
        }
    }
}

// ---- A faulter whose page has moved away, and whose page's old frame has another page.

/// The page that moves.
const MOVES: usize = 2;
/// How long a faulter may sleep although its page is there.
const WATCHDOG_MS: u64 = 500;
static LATE: AtomicBool = AtomicBool::new(false);
static FRAME: AtomicU64 = AtomicU64::new(0);
static LET_GO: AtomicBool = AtomicBool::new(false);
static IS_REUSED: AtomicBool = AtomicBool::new(false);
static BEGAN: AtomicU64 = AtomicU64::new(0);
static AWAKE_US: AtomicU64 = AtomicU64::new(0);

/// The first processor moves a page, then uses its frame for another, which it never unlocks. The
/// second wants the page.
fn reused_frame(index: usize) {
    match index {
        0 => mover(),
        1 => faulter(),
        _ => {}
    }
}

fn mover() {
    let at = At::new(0, 0, MOVES);
    let mut unlocked = Unlocked::promise();
    let to_slow = Order::to(Tier::Slow);
    let _ = migrate(&KERNEL, &mut [Slot::at(at)], &to_slow, &NoBatches, &mut unlocked);
    let Ok(Leaf::Present { pfn, .. }) = paging::lock(at).get() else { panic!("it is there") };
    let mut slots: [Slot<'_, Kernel>; 1] = [Slot::at(at)];
    let collected = collect(&KERNEL, &mut slots, &Order::to(Tier::Fast), &mut unlocked).unmap();
    FRAME.store(pfn, SeqCst);
    let page = frames::header(pfn).expect("a frame");
    // The right faulter has registered, released the table's lock, and sleeps. The wrong one has
    // released that lock, and not registered.
    while !LET_GO.load(SeqCst) && !platform::waits_for(1, (&raw const *page).addr()) {
        core::hint::spin_loop();
    }
    BEGAN.store(clock::now_ns(), SeqCst);
    let _ = collected.check().copy().finalize();
    assert!(matches!(slots[0].outcome(), Outcome::Moved { .. }), "{:?}", slots[0].outcome());
    // The frame is free, and this is its next page, whose owner keeps it for long.
    assert_eq!(page.refs(), 0);
    page.lock().into_raw();
    IS_REUSED.store(true, SeqCst);
    let end = clock::now_ms() + WATCHDOG_MS;
    while AWAKE_US.load(SeqCst) == 0 && clock::now_ms() < end {
        core::hint::spin_loop();
    }
    let leaf = paging::lock(at).get();
    if AWAKE_US.load(SeqCst) == 0
        && matches!(leaf, Ok(Leaf::Present { .. }))
        && platform::sleeps_on(1).is_some()
    {
        say!(
            "watchdog: processor 1 sleeps since {WATCHDOG_MS} ms for a page that is there: {leaf:?}"
        );
        assert!(LATE.load(Relaxed), "and it did everything right");
        port::exit(Exit::Stranded);
    }
    // SAFETY: locked above.
    drop(unsafe { PageGuard::from_raw(page) });
}

fn faulter() {
    while FRAME.load(SeqCst) == 0 {
        core::hint::spin_loop();
    }
    let at = At::new(0, 0, MOVES);
    let entry = KERNEL.lock(at).expect("a table");
    let Ok(Leaf::Migration { pfn, .. }) = entry.get() else { panic!("it is under way") };
    let page = frames::header(pfn).expect("a frame");
    let wake = if LATE.load(Relaxed) {
        // A wait by hand: the page is locked, so unlock the table and wait. By then the frame has
        // another page.
        assert!(page.is_locked());
        drop(entry);
        LET_GO.store(true, SeqCst);
        while !IS_REUSED.load(SeqCst) {
            core::hint::spin_loop();
        }
        page.wait_unlocked(())
    } else {
        page.wait_unlocked(entry)
    };
    let took = (clock::now_ns() - BEGAN.load(SeqCst)) / 1000;
    AWAKE_US.store(took.max(1), SeqCst);
    assert_eq!(wake, pagelock::Wake::Released);
    assert!(matches!(paging::lock(at).get(), Ok(Leaf::Present { .. })));
}
