//! A group of threads with memory of its own. It works in turns: each thread does a few things to
//! the group's pages, then all meet. A thread that is stranded in a turn keeps the others from ever
//! meeting again, and nobody else's release can save it.

use crate::machine::Machine;
use crate::noise::{Slot, change_priority, draw};
use crate::region::PAGE;
use crate::tables::At;
use pagelock::mm::{Access, FaultError};
use pagelock::{Cancel, Claim, FutexTimed, Limits, OsFutex, Wait, Wake};
use std::io::{self, Write as _};
use std::sync::atomic::{
    AtomicBool, AtomicPtr, AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release,
};
use std::sync::{Arc, Barrier, Mutex};
use std::time::Duration;

pub(crate) struct Group {
    pub(crate) machine: Machine,
    pub(crate) slots: Vec<&'static Slot>,
    pub(crate) turns: AtomicU64,
    barrier: Barrier,
    /// Switches with a waiter under them, for others to throw.
    switches: Mutex<Vec<Arc<Cancel>>>,
    /// This turn is the last; decided by the one that the barrier chooses.
    last: AtomicBool,
}

pub(crate) static STOP: AtomicBool = AtomicBool::new(false);

impl Group {
    pub(crate) fn new(machine: Machine, threads: usize) -> Self {
        Self {
            machine,
            slots: (0..threads).map(|_| Slot::new()).collect(),
            turns: AtomicU64::new(0),
            barrier: Barrier::new(threads),
            switches: Mutex::default(),
            last: AtomicBool::new(false),
        }
    }

    /// What one of its threads does.
    pub(crate) fn work(&self, slot: &'static Slot, seed: u64) {
        slot.adopt(seed);
        loop {
            if draw(128) == 0 {
                change_priority();
            }
            for _ in 0..=draw(6) {
                self.operate(slot);
                slot.done.fetch_add(1, Relaxed);
            }
            slot.begins(&"meets the others");
            if self.barrier.wait().is_leader() {
                self.turns.fetch_add(1, Relaxed);
                self.last.store(STOP.load(Relaxed), Relaxed);
            }
            self.barrier.wait();
            if self.last.load(Relaxed) {
                return;
            }
        }
    }

    fn operate(&self, slot: &Slot) {
        let at = At {
            mapping: draw(self.machine.region.mappings() as u64) as usize,
            page: draw(self.machine.region.pages() as u64) as usize,
        };
        let (machine, page) = (&self.machine, &self.machine.headers[at.page]);
        let word = draw(PAGE as u64 / 8) as usize;
        let soon = || {
            OsFutex
                .after(Duration::from_nanos(draw(200_000)))
                .expect("the clock goes on for a while")
        };
        match draw(32) {
            0..16 => {
                slot.begins(&"accesses a page");
                machine.access(at, word, (draw(2) == 0).then(|| draw(1 << 30) as usize));
            }
            16..24 => {
                slot.begins(&"pushes pages out");
                let all: Vec<_> = (0..machine.headers.len()).collect();
                let first = draw(all.len() as u64) as usize;
                machine.push_out(&all[first..]);
            }
            24 => {
                slot.begins(&"accesses a pinned page");
                let pin = page.try_pin();
                // A cold page could not be brought back: the pin is in the way.
                if pin.is_ok() && machine.is_hot(at) {
                    machine.access(at, word, None);
                    assert!(machine.may_be_hot(at), "{at:?} was moved while it was pinned");
                }
            }
            25 => {
                slot.begins(&"holds a reference");
                let reference = page.try_get();
                std::thread::yield_now();
                drop(reference);
            }
            26 => {
                slot.begins(&"locks a page");
                let guard = page.lock();
                if draw(2) == 0 {
                    guard.unlock_fair();
                }
            }
            27 => {
                slot.begins(&"locks a page, or gives up");
                if let Ok(guard) = page.lock_within(Limits::none().until(soon())) {
                    guard.unlock_fair();
                }
            }
            28 => {
                slot.begins(&"releases an entry and locks its page");
                match draw(2) {
                    0 => drop(page.lock_releasing(machine.ptl(at))),
                    _ => drop(
                        page.lock_releasing_within(machine.ptl(at), Limits::none().until(soon())),
                    ),
                }
            }
            29 => {
                slot.begins(&"waits for a page, under a switch");
                let switch = Arc::new(Cancel::new());
                self.switches.lock().unwrap().push(switch.clone());
                let mut wait = if draw(2) == 0 { Wait::unlocked() } else { Wait::migration() };
                if draw(2) == 0 {
                    wait.limits = wait.limits.until(soon());
                }
                let woken =
                    page.wait_with(machine.ptl(at), wait.within(wait.limits.unless(&switch)));
                assert!(!matches!(woken, Wake::Poisoned), "{at:?} {woken:?}");
                assert!(woken != Wake::Cancelled || switch.is_cancelled());
            }
            30 => {
                slot.begins(&"throws switches");
                let switches = std::mem::take(&mut *self.switches.lock().unwrap());
                switches.iter().for_each(|switch| switch.cancel());
            }
            _ => {
                slot.begins(&"claims a page");
                if let Claim::Owner(guard) = page.claim() {
                    let migration = guard.begin_migration();
                    drop(migration.cancel());
                }
            }
        }
    }
}

/// The groups whose memory traps, for the signal handler; set before any of it is touched, and
/// never taken back.
static TRAPPING: AtomicPtr<Vec<&'static Machine>> = AtomicPtr::new(core::ptr::null_mut());

pub(crate) fn resolve_faults_of(machines: Vec<&'static Machine>) {
    // Release: pairs with the handler's Acquire.
    TRAPPING.store(Box::into_raw(Box::new(machines)), Release);
}

/// Called in the signal handler of the thread that faulted: it may take page-table locks and sleep
/// for pages, but not allocate.
pub(crate) fn on_fault(addr: usize, write: bool) -> bool {
    // Acquire: pairs with the Release of the store.
    // SAFETY: null, or what `resolve_faults_of` has leaked.
    let Some(machines) = (unsafe { TRAPPING.load(Acquire).as_ref() }) else { return false };
    let Some((machine, (mapping, page))) =
        machines.iter().find_map(|m| Some((m, m.region.locate(addr)?)))
    else {
        return false;
    };
    crate::machine::add(&crate::machine::TOTALS.real_faults, 1);
    let access = if write { Access::Write } else { Access::Read };
    match machine.fault(At { mapping, page }, access) {
        Ok(()) => true,
        Err(e) => die(page, mapping, &e),
    }
}

/// The instruction would trap for ever, so this is the end. No allocation here: the text goes to a
/// buffer of our own.
fn die(page: usize, mapping: usize, error: &FaultError<io::Error>) -> ! {
    let mut text = [0u8; 256];
    let mut rest = &mut text[..];
    let _ = writeln!(rest, "soak: page {page}, mapping {mapping}: {error}");
    let length = 256 - rest.len();
    let _ = io::stderr().write_all(&text[..length]);
    std::process::abort();
}
