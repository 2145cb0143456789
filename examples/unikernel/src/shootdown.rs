//! Shootdown: processors forget what they have cached of an entry before its page gets another use.
//! One interrupt for a batch.
//!
//! Each processor has a request of its own: a list of addresses and a bit for each processor that
//! has not done it yet. Several may be under way at a time. A processor that waits for others has
//! its interrupts on, and so has one that spins for a lock of the waiter, so no two wait for each
//! other.

use crate::counters::{SHOOTDOWNS, SHOT};
use crate::{apic, cpu};
use core::arch::asm;
use core::sync::atomic::{
    AtomicBool, AtomicUsize,
    Ordering::{Acquire, Relaxed, Release},
};

/// As many pages are forgotten one by one; more cost as much as everything.
const MOST: usize = 32;

/// The control: other processors are not told.
pub static IS_OFF: AtomicBool = AtomicBool::new(false);

/// The control: a fork flushes nothing.
pub static NOT_IN_FORK: AtomicBool = AtomicBool::new(false);

struct Request {
    /// A bit for each processor that is still to forget.
    left: AtomicUsize,
    pages: [AtomicUsize; MOST],
    /// More than [`MOST`] if it is everything.
    len: AtomicUsize,
}

static REQUESTS: [Request; cpu::MAX] = [const {
    Request {
        left: AtomicUsize::new(0),
        pages: [const { AtomicUsize::new(0) }; MOST],
        len: AtomicUsize::new(0),
    }
}; cpu::MAX];

/// Notes that this processor has taken down an entry for `address`. [`flush`] comes before anything
/// relies on that.
pub fn note(address: usize) {
    let request = &REQUESTS[cpu::this().index()];
    // Relaxed, also below: this processor's own, until `left` says that there is a request.
    let len = request.len.load(Relaxed);
    if let Some(page) = request.pages.get(len) {
        page.store(address, Relaxed);
    }
    request.len.store(len + 1, Relaxed);
}

/// Has all processors forget what this one has [noted](note), and returns when they have.
pub fn flush() {
    let own = cpu::this();
    let request = &REQUESTS[own.index()];
    let len = request.len.load(Relaxed);
    if len == 0 {
        return;
    }
    assert!(
        cpu::interrupts_are_on() && !own.in_interrupt(),
        "two that wait for each other's processors with interrupts off wait for ever"
    );
    SHOOTDOWNS.one();
    SHOT.add(len as u64);
    if !IS_OFF.load(Relaxed) {
        let others: usize = cpu::others().map(|cpu| 1 << cpu.index()).sum();
        // Release: pairs with the Acquire of `answer`: the list, and the entries as they are now.
        request.left.store(others, Release);
        cpu::others().for_each(|cpu| apic::send(cpu, apic::Vector::Shoot));
        request.forget();
        // Acquire: pairs with the Release of `answer`: their accesses through those entries are
        // over.
        while request.left.load(Acquire) != 0 {
            core::hint::spin_loop();
        }
    } else {
        request.forget();
    }
    request.len.store(0, Relaxed);
}

/// Drops this processor's notes, so that no other processor forgets anything: for a control.
pub fn forget_notes() {
    REQUESTS[cpu::this().index()].len.store(0, Relaxed);
}

/// In the interrupt: does what is asked for.
pub fn answer() {
    let bit = 1 << cpu::this().index();
    for request in &REQUESTS {
        if request.left.load(Acquire) & bit != 0 {
            request.forget();
            request.left.fetch_and(!bit, Release);
        }
    }
}

impl Request {
    fn forget(&self) {
        let len = self.len.load(Relaxed);
        match self.pages.get(..len) {
            Some(pages) => pages.iter().for_each(|page| apic::forget(page.load(Relaxed))),
            // SAFETY: the same tables again; nothing is global.
            None => unsafe {
                asm!("mov {0}, cr3", "mov cr3, {0}", out(reg) _, options(nostack, preserves_flags))
            },
        }
    }
}
