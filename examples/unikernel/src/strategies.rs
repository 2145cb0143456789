//! The ways of waiting, side by side, in the position that this crate began with.
//!
//! The first processor moves a page of a device back to memory. It has the page locked and its
//! first entry taken down, and now wants all batches drained, as the kernel did at this point. Each
//! other processor has something in its batch, which its *worker* empties when the processor has
//! nothing else to do. And each of them touches the page, through the entry that is still there.
//!
//! A faulter that tries and retries is always busy. Its worker does not run, so the drain does not
//! end, so the page stays locked, so the faulter retries. The watchdog then does in an interrupt
//! what the worker would have done, and says so.

use crate::batches::{self, Drains};
use crate::frames::{self, Tier};
use crate::kernel::{KERNEL, Kernel};
use crate::paging::{self, At};
use crate::phase::{self, Barrier};
use crate::{counters, cpu, fault, layout, say};
use core::sync::atomic::{
    AtomicBool, AtomicU64, AtomicUsize,
    Ordering::{Relaxed, SeqCst},
};
use pagelock::leaf::Leaf;
use pagelock::mm::drain::{Drain, Unlocked};
use pagelock::mm::ledger::Owner;
use pagelock::mm::migrate::{Abort, Order, Outcome, Slot, collect, migrate};
use pagelock::mm::{Access, Entry, Fault, Faulter, Strategy, Why};

const ROUNDS: u64 = 5;
/// For how many milliseconds a processor's worker may wait before the watchdog helps.
const PATIENCE: u64 = 40;
/// How often the mover tries in a round.
const TRIES: u32 = 20;
/// The page that is wanted, and the one of which there are references in batches.
const WANTED: usize = 0;
const BATCHED: usize = 1;

const STRATEGIES: [(&str, Strategy); 5] = [
    ("try and retry", Strategy::TryAndRetry),
    ("reference and sleep", Strategy::ReferenceAndSleep),
    ("entry in the fault", Strategy::EntryInFault),
    ("wait", Strategy::Wait),
    ("wait, then lock", Strategy::WaitThenLock { after: 1 }),
];

static CHOSEN: AtomicUsize = AtomicUsize::new(STRATEGIES.len());
static MEET: Barrier = Barrier::new();
static IN_FAULT: AtomicUsize = AtomicUsize::new(0);
static IS_MOVING: AtomicBool = AtomicBool::new(false);
static HELPED: AtomicBool = AtomicBool::new(false);
static RETRIES: AtomicU64 = AtomicU64::new(0);

/// What came of a strategy.
struct Row {
    /// Rounds in which the watchdog had to help.
    stuck: u64,
    /// Times that a faulter found the page locked and did not wait.
    retries: u64,
    sleeps: u64,
    /// Times that the mover found references of faulters, and put the page back.
    aborted: u64,
}

static STUCK: AtomicU64 = AtomicU64::new(0);
static ABORTED: AtomicU64 = AtomicU64::new(0);

/// All of them, and what is to be expected.
pub fn run() {
    say!("  {ROUNDS} rounds each, watchdog after {PATIENCE} ms, {} faulters:", cpu::up() - 1);
    say!("  strategy             by itself  watchdog    retries  sleeps  aborted moves");
    batches::BY_WORKER.store(true, SeqCst);
    for (number, (name, strategy)) in STRATEGIES.into_iter().enumerate() {
        let row = one(number);
        let Row { stuck, retries, sleeps, aborted } = row;
        say!(
            "  {name:<20} {:>9}  {stuck:>8}  {retries:>9}  {sleeps:>6}  {aborted:>13}",
            ROUNDS - stuck
        );
        match strategy {
            Strategy::TryAndRetry | Strategy::EntryInFault => {
                assert_eq!(stuck, ROUNDS, "{name}: where is the livelock?")
            }
            Strategy::ReferenceAndSleep => {
                assert!(stuck == 0 && aborted > 0, "{name}: where are its references?")
            }
            _ => assert_eq!((stuck, retries, aborted), (0, 0, 0), "{name} is the end of it"),
        }
    }
    batches::BY_WORKER.store(false, SeqCst);
    CHOSEN.store(STRATEGIES.len(), SeqCst);
}

fn one(number: usize) -> Row {
    CHOSEN.store(number, SeqCst);
    for counter in [&STUCK, &ABORTED, &RETRIES] {
        counter.store(0, SeqCst);
    }
    let slept = counters::SLEEPS.get();
    phase::run(100_000, rounds);
    Row {
        stuck: STUCK.load(SeqCst),
        retries: RETRIES.load(SeqCst),
        sleeps: counters::SLEEPS.get() - slept,
        aborted: ABORTED.load(SeqCst),
    }
}

fn rounds(index: usize) {
    for _ in 0..ROUNDS {
        if index == 0 {
            prepare();
        }
        MEET.wait(cpu::up());
        if index == 0 {
            bring_home();
        } else {
            refer();
            MEET.wait(cpu::up());
            while !IS_MOVING.load(SeqCst) {
                core::hint::spin_loop();
            }
            layout::word(1, WANTED, 1).fetch_add(1, Relaxed);
        }
        MEET.wait(cpu::up());
        if index == 0 {
            STUCK.fetch_add(u64::from(HELPED.load(SeqCst)), SeqCst);
        }
    }
}

/// The page to the device.
fn prepare() {
    HELPED.store(false, SeqCst);
    IS_MOVING.store(false, SeqCst);
    IN_FAULT.store(0, SeqCst);
    let mut slots = [Slot::at(At::new(0, 0, WANTED))];
    let summary =
        migrate(&KERNEL, &mut slots, &Order::to(Tier::Device), &Drains, &mut Unlocked::promise());
    assert_eq!(summary.done, 1, "{:?}", slots[0].outcome());
}

/// Something for this processor's worker to do.
fn refer() {
    let entry = paging::lock(At::new(0, 0, BATCHED));
    let Ok(Leaf::Present { pfn, .. } | Leaf::DevicePrivate { pfn, .. }) = entry.get() else {
        panic!("nobody moves this one")
    };
    assert!(frames::get(pfn, Owner::Get));
    drop(entry);
    let _ = batches::add(pfn, Owner::Get);
}

/// The page back home, with the drain where it should not be.
fn bring_home() {
    MEET.wait(cpu::up());
    for attempt in 0..TRIES {
        let mut unlocked = Unlocked::promise();
        let mut slots: [Slot<'_, Kernel>; 1] = [Slot::at(At::new(0, 0, WANTED))];
        let collected = collect(&KERNEL, &mut slots, &Order::to(Tier::Fast), &mut unlocked);
        if attempt == 0 {
            assert_eq!(collected.in_work(), 1);
            IS_MOVING.store(true, SeqCst);
            while IN_FAULT.load(SeqCst) < cpu::up() - 1 {
                core::hint::spin_loop();
            }
        }
        // The type rules this out: a thread has one `Unlocked`, and the batch has it. So this is a
        // second one, and a lie.
        Drains.all(&mut Unlocked::promise());
        let _ = collected.unmap().check().copy().finalize();
        match slots[0].outcome() {
            Outcome::Aborted(Abort::Referenced { .. }) => _ = ABORTED.fetch_add(1, SeqCst),
            _ => break,
        }
    }
}

/// The fault handler, if a strategy is chosen: as [`fault::handle`], and counts.
pub fn handle(at: At, access: Access) -> bool {
    let Some((_, strategy)) = STRATEGIES.get(CHOSEN.load(Relaxed)) else { return false };
    let mut faulter = Faulter::new(*strategy);
    IN_FAULT.fetch_add(1, SeqCst);
    loop {
        match pagelock::mm::fault(&KERNEL, at, access, &mut faulter) {
            Ok(Fault::Retry(Why::Locked)) => {
                RETRIES.fetch_add(1, Relaxed);
                core::hint::spin_loop();
            }
            Ok(Fault::Retry(_)) => {}
            Ok(done) => {
                fault::settle(at, access, done);
                return true;
            }
            Err(e) => panic!("{e}"),
        }
    }
}

/// In each processor's timer interrupt. A processor whose worker has waited through that many of
/// them will not become idle: this does what the worker should have done, as preemption would. (It
/// counts the processor's own interrupts and not the time, because the host may stop a virtual
/// processor.)
pub fn watch() {
    let cpu = cpu::this();
    if !cpu.work.load(Relaxed) {
        cpu.overdue.store(0, Relaxed);
    } else if cpu.overdue.fetch_add(1, Relaxed) >= PATIENCE {
        HELPED.store(true, SeqCst);
        batches::work();
    }
}
