//! What makes rare things happen: delays at every step of the protocol, a storm of signals,
//! priorities that change.

use core::cell::Cell;
use core::ptr::null_mut;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::io;
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU64, Ordering::Relaxed};

pub(crate) static DELAYS: AtomicU64 = AtomicU64::new(0);
pub(crate) static SIGNALS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    // Constants without destructors, so that a signal handler may use them.
    static RANDOM: Cell<u64> = const { Cell::new(0x9e37_79b9_7f4a_7c15) };
    static SLOT: Cell<Option<&'static Slot>> = const { Cell::new(None) };
}

/// What is known of a thread from outside.
pub(crate) struct Slot {
    pub(crate) tid: AtomicI32,
    /// What it does, an index into the names of its operations.
    pub(crate) doing: AtomicPtr<&'static str>,
    /// The step of the protocol that it was at last.
    #[cfg(pagelock_delay)]
    step: AtomicPtr<core::panic::Location<'static>>,
    /// How many operations it has finished.
    pub(crate) done: AtomicU64,
}

impl Slot {
    pub(crate) fn new() -> &'static Self {
        Box::leak(Box::new(Self {
            tid: AtomicI32::new(0),
            doing: AtomicPtr::new(null_mut()),
            #[cfg(pagelock_delay)]
            step: AtomicPtr::new(null_mut()),
            done: AtomicU64::new(0),
        }))
    }

    /// The calling thread is this one from now on.
    pub(crate) fn adopt(&'static self, seed: u64) {
        // SAFETY: it has no arguments and cannot fail.
        self.tid.store(unsafe { libc::gettid() }, Relaxed);
        RANDOM.set(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        SLOT.set(Some(self));
    }

    pub(crate) fn begins(&self, what: &'static &'static str) {
        self.doing.store(core::ptr::from_ref(what).cast_mut(), Relaxed);
    }

    pub(crate) fn doing(&self) -> &'static str {
        // SAFETY: null, or a static that `begins` has stored.
        unsafe { self.doing.load(Relaxed).as_ref() }.map_or("nothing yet", |name| name)
    }

    pub(crate) fn step(&self) -> String {
        #[cfg(pagelock_delay)]
        // SAFETY: null, or a static that `at_step` stored.
        return unsafe { self.step.load(Relaxed).as_ref() }
            .map_or("none yet".into(), |step| format!("after {step}"));
        #[cfg(not(pagelock_delay))]
        "not known: built without --cfg pagelock_delay".into()
    }
}

/// A number below `n`. The sequence is the thread's own, and used in signal handlers too.
pub(crate) fn draw(n: u64) -> u64 {
    let mut x = RANDOM.get();
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    RANDOM.set(x);
    (x.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16) % n
}

/// From now on threads lose time at the steps of the protocol; says whether this build has them.
pub(crate) fn delay_steps() -> bool {
    #[cfg(pagelock_delay)]
    pagelock::sync::steps::call(at_step);
    cfg!(pagelock_delay)
}

/// Mostly nothing; else a few pauses, or the processor, or a sleep. Windows in which a wake can be
/// lost are widened most.
#[cfg(pagelock_delay)]
fn at_step(step: pagelock::sync::steps::Step, done: bool) {
    // After each access: many a one is the last before a system call.
    if !done {
        return;
    }
    let Some(slot) = SLOT.get() else { return };
    slot.step.store(core::ptr::from_ref(step).cast_mut(), Relaxed);
    let window = ["/lock", "/wait", "/futex"].iter().any(|part| step.file().contains(part));
    let scale = if window { 1 } else { 4 };
    match draw(256 * scale) {
        0..24 => {
            for _ in 0..draw(400) {
                core::hint::spin_loop();
            }
        }
        24..32 => std::thread::yield_now(),
        32 => std::thread::sleep(std::time::Duration::from_nanos(draw(60_000))),
        _ => return,
    }
    DELAYS.fetch_add(1, Relaxed);
}

extern "C" fn on_signal(_: libc::c_int) {}

/// Has SIGUSR1 interrupt whatever system call it meets: no SA_RESTART.
pub(crate) fn interruptible() -> io::Result<()> {
    // SAFETY: all zero is a valid `sigaction`: default handler, empty mask, no flags.
    let mut action: libc::sigaction = unsafe { core::mem::zeroed() };
    action.sa_sigaction = on_signal as *const () as libc::sighandler_t;
    // SAFETY: the action is complete, and its handler does nothing.
    match unsafe { libc::sigaction(libc::SIGUSR1, &action, null_mut()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Interrupts a thread, if it still exists.
pub(crate) fn interrupt(slot: &Slot) {
    // SAFETY: sends a signal that has a handler to a thread of this process; a thread that is gone
    // is an error, which is ignored.
    unsafe {
        libc::syscall(libc::SYS_tgkill, libc::getpid(), slot.tid.load(Relaxed), libc::SIGUSR1)
    };
    SIGNALS.fetch_add(1, Relaxed);
}

/// Gives the calling thread another priority: mostly a nice value, sometimes that of idle threads.
/// Where it is refused, it stays as it is.
pub(crate) fn change_priority() {
    let policy = if draw(12) == 0 { libc::SCHED_IDLE } else { libc::SCHED_OTHER };
    let param = libc::sched_param { sched_priority: 0 };
    // Nicer than the program was started, never less nice.
    let least = LEAST_NICE.load(Relaxed);
    // SAFETY: 0 is the calling thread; both calls change how it is scheduled, and no memory.
    unsafe {
        libc::sched_setscheduler(0, policy, &param);
        libc::setpriority(libc::PRIO_PROCESS, 0, least + draw(20 - least as u64) as libc::c_int);
    }
}

static LEAST_NICE: AtomicI32 = AtomicI32::new(0);

/// Keeps the calling thread, and all that it starts, to two processors; and notes what priority
/// there is to begin with.
pub(crate) fn two_processors() {
    // SAFETY: asks for a number, touches no memory.
    LEAST_NICE.store(unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) }.clamp(0, 19), Relaxed);
    // Where this is refused, the threads run on all processors.
    let Ok(have) = sched_getaffinity(None) else { return };
    let mut want = CpuSet::new();
    (0..CpuSet::MAX_CPU).filter(|&cpu| have.is_set(cpu)).take(2).for_each(|cpu| want.set(cpu));
    let _ = sched_setaffinity(None, &want);
}
