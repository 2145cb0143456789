//! A watchdog that tells a test that is stuck from one on a busy machine.
//!
//! The clock alone cannot: a program that gets a fiftieth of a processor takes fifty times as long.
//! A test is stuck when *no thread of the program has run*, or could have, for some ticks: all are
//! asleep, and so nobody is left to wake them. For threads that go round for ever there is a limit
//! by the clock as well, far beyond what any test takes.

use core::fmt::Debug;
use core::time::Duration;
use std::io::Write as _;
use std::sync::mpsc::{self, RecvTimeoutError};

const TICK: Duration = Duration::from_secs(1);
/// Consecutive ticks without a running thread that mean a stall.
const STILL: u32 = 30;
/// Ticks after which a test is stuck in any case.
const MOST: u32 = 600;

/// Runs `body`. If that is stuck, a thread is stranded: prints `pages` and aborts the process.
pub(crate) fn watched<R>(pages: &[&(dyn Debug + Sync)], body: impl FnOnce() -> R) -> R {
    let name = std::thread::current().name().unwrap_or("?").to_owned();
    let (done, alarm) = mpsc::channel::<()>();
    std::thread::scope(|s| {
        s.spawn(move || {
            let mut seen = Seen::default();
            while alarm.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
                if seen.is_stuck() {
                    // Not by `eprintln`, which the test harness captures and an abort loses.
                    let _ =
                        writeln!(std::io::stderr(), "\n{name}: stuck, {seen:?}. Pages: {pages:?}");
                    std::process::abort();
                }
            }
        });
        let _dropped_when_body_ends = done;
        body()
    })
}

/// Runs `body` with a scope to spawn threads in, [watched], until they have ended.
pub(crate) fn with_threads<'env, R>(
    pages: &[&(dyn Debug + Sync)],
    body: impl for<'scope> FnOnce(&'scope std::thread::Scope<'scope, 'env>) -> R,
) -> R {
    watched(pages, || std::thread::scope(body))
}

#[derive(Default, Debug)]
struct Seen {
    ticks: u32,
    /// Of these the last ones, in which nobody ran.
    still: u32,
    /// Processor time of the whole program.
    spent: Duration,
}

impl Seen {
    fn is_stuck(&mut self) -> bool {
        let spent = system::spent();
        let has_run = spent > self.spent + Duration::from_millis(5) || system::somebody_could_run();
        self.still = if has_run { 0 } else { self.still + 1 };
        self.spent = spent;
        self.ticks += 1;
        self.still >= STILL || self.ticks >= MOST
    }
}

#[cfg(all(target_os = "linux", not(miri)))]
mod system {
    use core::time::Duration;

    pub(super) fn spent() -> Duration {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the call fills in `time`, and fails for no clock that every process has.
        unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
        Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
    }

    /// Whether a thread other than this one is on a processor, waits for one, or waits for the
    /// disk.
    pub(super) fn somebody_could_run() -> bool {
        // SAFETY: it has no arguments and cannot fail.
        let this = unsafe { libc::gettid() }.to_string();
        let Ok(tasks) = std::fs::read_dir("/proc/self/task") else { return false };
        tasks.flatten().filter(|task| *task.file_name() != *this).any(|task| {
            let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
            stat.rsplit_once(") ").is_some_and(|(_, state)| state.starts_with(['R', 'D']))
        })
    }
}

/// The system does not tell: there is the clock alone.
#[cfg(not(all(target_os = "linux", not(miri))))]
mod system {
    pub(super) fn spent() -> core::time::Duration {
        core::time::Duration::ZERO
    }

    pub(super) fn somebody_could_run() -> bool {
        true
    }
}
