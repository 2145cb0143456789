//! The platform under test: owning a page, waiting for it, deadlines, switches.

use crate::phase::{self, Barrier, done};
use crate::platform::{Awake, Halt};
use crate::spin::Spin;
use crate::{clock, counters, cpu, platform};
use core::sync::atomic::{
    AtomicU32, AtomicU64,
    Ordering::{Relaxed, SeqCst},
};
use core::time::Duration;
use pagelock::{Cancel, Futex, Limits, LockError, PageLock, Wait, Wake};

static PAGE: PageLock<Halt> = PageLock::with_futex(Halt);
static KICK: Cancel<Halt> = Cancel::with_futex(Halt);
static MEET: Barrier = Barrier::new();
static SUM: AtomicU64 = AtomicU64::new(0);

/// All of them.
pub fn run() {
    assert_eq!(platform::may_sleep(), Ok(()));
    assert_eq!(cpu::without_interrupts(platform::may_sleep), Err(Awake::InterruptsOff));
    let table = TABLE.lock();
    assert_eq!(platform::may_sleep(), Err(Awake::SpinLockHeld));
    drop(table);

    let slept = counters::SLEEPS.get();
    phase::run(LIMIT, exclusion);
    assert_eq!(SUM.load(Relaxed), ROUNDS * cpu::up() as u64, "increments were lost");
    done(
        "a page has one owner",
        format_args!("{} holds, {} sleeps", SUM.load(Relaxed), counters::SLEEPS.get() - slept),
    );

    let slept = counters::SLEEPS.get();
    phase::run(LIMIT, migrations);
    let slept = counters::SLEEPS.get() - slept;
    assert!(slept >= u64::from(MOVES) / 4, "{slept} sleeps: hardly anybody has waited");
    done(
        "nobody misses a release",
        format_args!("{MOVES} releases, {} waits, {slept} sleeps", SUM.load(Relaxed)),
    );

    phase::run(LIMIT, limits);
    done(
        "sleeps end in time",
        format_args!("a deadline is met to {} ms, a switch ends a wait", SUM.load(Relaxed)),
    );

    phase::run(LIMIT, round_trips);
    done(
        "a wake by interrupt",
        format_args!(
            "{} ns from the wake to the woken processor's answer (median of 101)",
            SUM.load(Relaxed)
        ),
    );
}

/// Of the time of each part, on a busy host.
const LIMIT: u64 = 100_000;

const ROUNDS: u64 = 3_000;

/// All processors add to a number that is not atomic, each as its owner.
fn exclusion(_: usize) {
    for _ in 0..ROUNDS {
        let _guard = PAGE.lock();
        let seen = SUM.load(Relaxed);
        (0..20).for_each(|_| core::hint::spin_loop());
        SUM.store(seen + 1, Relaxed);
    }
}

const MOVES: u32 = 500;
/// A page table of one entry: even while its page is there, odd while it is under way.
static TABLE: Spin<u32> = Spin::new(0);

/// The control: [`migrations`], with a platform that loses wakes.
pub fn lose_wakes() {
    platform::NO_LOOK.store(true, Relaxed);
    phase::run(3_000, migrations);
}

/// The first processor migrates; the others fault, let go of the page table, and halt.
fn migrations(index: usize) {
    if index == 0 {
        SUM.store(0, Relaxed);
    }
    MEET.wait(cpu::up());
    if index == 0 {
        for _ in 0..MOVES {
            let page = PAGE.lock();
            *TABLE.lock() += 1;
            // Until a processor sleeps for it, if that is soon: the host may be busy, and this
            // processor is only a thread of it.
            let end = clock::now_ms() + 2;
            while !cpu::others().any(|cpu| platform::sleeps_on(cpu.index()).is_some())
                && clock::now_ms() < end
            {
                core::hint::spin_loop();
            }
            clock::pause_us(20);
            *TABLE.lock() += 1;
            drop(page);
            clock::pause_us(10);
        }
        return;
    }
    loop {
        let entry = TABLE.lock();
        match *entry {
            last if last == 2 * MOVES => return,
            odd if odd % 2 == 1 => {
                let wake = PAGE.wait_unlocked(entry);
                assert!(matches!(wake, Wake::Released | Wake::NotLocked), "{wake:?}");
                SUM.fetch_add(1, Relaxed);
            }
            _ => {
                drop(entry);
                core::hint::spin_loop();
            }
        }
    }
}

/// A deadline, with the page taken; and a switch that another processor throws.
fn limits(index: usize) {
    if index == 0 {
        let page = PAGE.lock();
        MEET.wait(cpu::up());
        MEET.wait(cpu::up());
        clock::pause_ms(5);
        KICK.cancel();
        MEET.wait(cpu::up());
        drop(page);
    } else {
        MEET.wait(cpu::up());
        let began = clock::now_ms();
        assert!(PAGE.try_lock_for(Duration::from_millis(20)).is_none());
        assert_eq!(PAGE.wait_unlocked_for((), Duration::from_millis(20)), Wake::TimedOut);
        let took = clock::now_ms() - began;
        assert!(took >= 39, "two of 20 ms took {took} ms");
        SUM.store(took - 39, Relaxed);
        MEET.wait(cpu::up());
        let limits = Limits::none().unless(&KICK);
        assert_eq!(PAGE.lock_within(limits).err(), Some(LockError::Cancelled));
        assert_eq!(PAGE.wait_with((), Wait::unlocked().within(limits)), Wake::Cancelled);
        MEET.wait(cpu::up());
    }
}

const TRIPS: usize = 101;
static TURN: AtomicU32 = AtomicU32::new(0);
static ANSWERED: AtomicU64 = AtomicU64::new(0);

/// How long to look awake: about as long as a wake takes.
fn round_trips(index: usize) {
    if index > 1 {
        return;
    }
    let mut times = [0; TRIPS];
    for (trip, time) in times.iter_mut().enumerate() {
        let turn = trip as u32;
        if index == 1 {
            while TURN.load(SeqCst) == turn {
                let _ = Halt.wait(&TURN, turn);
            }
            ANSWERED.store(u64::from(turn) + 1, SeqCst);
        } else {
            while platform::sleeps_on(1) != Some((&raw const TURN).addr()) {
                core::hint::spin_loop();
            }
            clock::pause_us(50);
            let began = clock::now_ns();
            TURN.store(turn + 1, SeqCst);
            Halt.wake_one(&raw const TURN);
            while ANSWERED.load(SeqCst) != u64::from(turn) + 1 {
                core::hint::spin_loop();
            }
            *time = clock::now_ns() - began;
        }
    }
    if index == 0 {
        times.sort_unstable();
        SUM.store(times[TRIPS / 2], Relaxed);
    }
}
