//! The platform: a processor that has nothing to do halts, and an interrupt from another one ends
//! that.
//!
//! This is all that a kernel without a scheduler has to write to use the crate; docs/porting.md
//! goes through it step by step. Each processor has one *bed*: the word that it sleeps on, and a
//! *ticket*, which is odd while it sleeps and never used again.
//!
//! ```text
//!  sleeper                                     waker
//!  key := the word's address                   (the word has been changed)
//!  ticket := a new one, odd     (Release)
//!  fence                        (SeqCst)       fence                          (SeqCst)
//!  is the word as expected?                    for each bed: odd ticket (Acquire), my key?
//!      no: take the ticket back                    ticket := 0, if it still is that one
//!  cli; is the ticket still mine?                  interrupt to that processor
//!      no: sti, awake
//!  sti; hlt                     one step: an interrupt that comes after the look ends the halt
//! ```
//!
//! Of the two fences one is first. If it is the sleeper's, the waker finds the bed; if it is the
//! waker's, the sleeper finds the word changed. *The ticket* makes a wake belong to one sleep: a
//! slow waker finds another ticket, and wakes no later sleep by mistake. Each sleep ends once,
//! either by a waker or by a sleeper that gives up, so no wake is lost between the two. Tickets are
//! handed out in order, so the longest sleeper has the smallest.

use crate::counters::{HALTS, SLEEPS, WAKES};
use crate::{apic, batches, clock, cpu, frames};
use core::sync::atomic::{
    AtomicBool, AtomicU64, AtomicUsize,
    Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst},
    fence,
};
use core::time::Duration;
use pagelock::futex::{EventSlot, MonotonicTime, Sleep};
use pagelock::sync::AtomicU32;
use pagelock::{Futex, FutexTimed};

/// Processors that halt.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Halt;

static EVENTS: [EventSlot<Halt>; 64] = [const { EventSlot::new() }; 64];
static BEDS: [Bed; cpu::MAX] = [const { Bed::new() }; cpu::MAX];
static TICKETS: AtomicU64 = AtomicU64::new(1);
/// Headers that `tell` unmaps, to see whether a processor touches one after its release: see
/// `controls`.
pub static UNMAPS: AtomicUsize = AtomicUsize::new(0);

/// The control: a sleeper does not look at the word once its bed can be found.
pub static NO_LOOK: AtomicBool = AtomicBool::new(false);

struct Bed {
    key: AtomicUsize,
    ticket: AtomicU64,
}

/// Why a processor may not sleep now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Awake {
    /// It is in an interrupt: what it interrupted would not go on.
    InInterrupt,
    /// Its interrupts are off: nothing would wake it.
    InterruptsOff,
    /// It has a spin lock, for which others would spin all the while.
    SpinLockHeld,
}

/// Whether this processor may sleep. Asserted before every sleep, and asked by the tests.
pub fn may_sleep() -> Result<(), Awake> {
    let cpu = cpu::this();
    if cpu.in_interrupt() {
        Err(Awake::InInterrupt)
    } else if !cpu::interrupts_are_on() {
        Err(Awake::InterruptsOff)
    } else if cpu.spins_held.load(Relaxed) != 0 {
        Err(Awake::SpinLockHeld)
    } else {
        Ok(())
    }
}

/// The word that processor `index` sleeps on, for watchdogs.
pub fn sleeps_on(index: usize) -> Option<usize> {
    let bed = &BEDS[index];
    is_asleep(bed.ticket.load(Acquire)).then(|| bed.key.load(Relaxed))
}

/// Whether processor `index` sleeps for a release of the page whose header is at `page`, or of
/// another of its event slot.
pub fn waits_for(index: usize, page: usize) -> bool {
    // The slot begins with the word that is slept on.
    sleeps_on(index) == Some((&raw const *Halt.event(Halt.event_index(page))).addr())
}

fn is_asleep(ticket: u64) -> bool {
    ticket & 1 != 0
}

impl Bed {
    const fn new() -> Self {
        Self { key: AtomicUsize::new(0), ticket: AtomicU64::new(0) }
    }

    /// Ends the sleep that has this ticket, if it has not ended.
    fn end(&self, ticket: u64) -> bool {
        self.ticket.compare_exchange(ticket, 0, AcqRel, Relaxed).is_ok()
    }

    /// The ticket of the sleep here, if it is on `key`.
    fn sleeper(&self, key: usize) -> Option<u64> {
        // Acquire: the key is that of this ticket's sleep, or of a later one, and then `end` fails.
        let ticket = self.ticket.load(Acquire);
        (is_asleep(ticket) && self.key.load(Relaxed) == key).then_some(ticket)
    }
}

fn sleep(word: &AtomicU32, expected: u32, until: Option<MonotonicTime>) -> Sleep {
    assert_eq!(may_sleep(), Ok(()), "a processor is about to halt");
    let (cpu, bed) = (cpu::this(), &BEDS[cpu::this().index()]);
    let ticket = TICKETS.fetch_add(2, Relaxed);
    if NO_LOOK.load(Relaxed) {
        // Long enough for a wake that finds no bed.
        let end = clock::now_ms() + 50;
        while word.load(Relaxed) == expected && clock::now_ms() < end {
            core::hint::spin_loop();
        }
        clock::pause_us(500);
    }
    bed.key.store((&raw const *word).addr(), Relaxed);
    bed.ticket.store(ticket, Release);
    // SeqCst: pairs with that of `wake`, see the top.
    fence(SeqCst);
    if word.load(Relaxed) != expected && !NO_LOOK.load(Relaxed) {
        return if bed.end(ticket) { Sleep::Changed } else { Sleep::Woken };
    }
    SLEEPS.one();
    loop {
        cpu::disable_interrupts();
        // Acquire: pairs with `end` by the waker, and so with what it did before.
        let is_woken = bed.ticket.load(Acquire) != ticket;
        let is_late = until.is_some_and(|at| Halt.now() >= at);
        if !is_woken && !is_late && !cpu.work.load(Relaxed) {
            HALTS.one();
            cpu::halt();
        }
        cpu::enable_interrupts();
        // It has nothing better to do.
        batches::work();
        if is_woken {
            return Sleep::Woken;
        }
        if is_late {
            return if bed.end(ticket) { Sleep::TimedOut } else { Sleep::Woken };
        }
    }
}

/// Sleeps for so long.
pub fn rest_ms(ms: u64) {
    static NOBODY: AtomicU32 = AtomicU32::new(0);
    let until = Halt.now() + Duration::from_millis(ms);
    while sleep(&NOBODY, 0, Some(until)) != Sleep::TimedOut {}
}

/// Wakes up to `n` processors that sleep on the word at `key`, the longest asleep first.
fn wake(key: usize, n: usize) {
    // SeqCst: pairs with that of `sleep`, see the top. After the caller's change of the word, and
    // before the look for sleepers.
    fence(SeqCst);
    let own = cpu::this().index();
    for _ in 0..n {
        loop {
            let sleepers =
                (0..cpu::up()).filter_map(|index| Some((BEDS[index].sleeper(key)?, index)));
            let Some((ticket, index)) = sleepers.min() else { return };
            if BEDS[index].end(ticket) {
                WAKES.one();
                // In an interrupt of its own sleep, which looks again afterwards.
                if index != own {
                    apic::send(cpu::of(index), apic::Vector::Wake);
                }
                break;
            }
        }
    }
}

// SAFETY: it loads the words that it is shown in `wait`, and stores to none; elsewhere it uses
// their addresses only.
unsafe impl Futex for Halt {
    // A locker that looks keeps no thread from a processor here. But the owner may want this one's
    // batch empty, so it looks about as long as a wake takes (see `locks`), and then sleeps.
    const SPINS: u32 = 8;

    fn wait(&self, word: &AtomicU32, expected: u32) -> Sleep {
        sleep(word, expected, None)
    }

    fn wake_one(&self, word: *const AtomicU32) {
        wake(word.addr(), 1);
    }

    fn wake_all(&self, word: *const AtomicU32) {
        wake(word.addr(), cpu::MAX);
    }

    /// Lets others get on, by doing what they want of this processor.
    fn relax(&self) {
        batches::work();
        (0..32).for_each(|_| core::hint::spin_loop());
    }

    fn event(&self, index: usize) -> &EventSlot<Self> {
        &EVENTS[index]
    }

    fn events(&self) -> usize {
        EVENTS.len()
    }

    fn tell(&self, page: usize) {
        let unmaps = UNMAPS.load(Relaxed);
        if unmaps != 0 && unmaps == page {
            crate::paging::unmap_headers();
        }
        self.tell_event(page);
    }

    fn last_put(&self, page: usize) {
        frames::free_by_header(page);
    }
}

impl FutexTimed for Halt {
    fn now(&self) -> MonotonicTime {
        MonotonicTime::since_zero(Duration::from_nanos(clock::now_ns()))
    }

    /// To a millisecond: each processor's timer ends its halt.
    fn wait_until(&self, word: &AtomicU32, expected: u32, _class: u32, at: MonotonicTime) -> Sleep {
        sleep(word, expected, Some(at))
    }
}
