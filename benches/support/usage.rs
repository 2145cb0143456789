//! Processor time and switches, by the operating system's count.

use core::time::Duration;

/// The use of this process; zero where the system does not count it.
#[derive(Clone, Copy, Default, Debug)]
pub struct Usage {
    pub cpu: Duration,
    /// Switches because a thread slept or gave way.
    pub voluntary: u64,
    /// Switches because its time was up, or for a more urgent thread.
    pub involuntary: u64,
}

impl Usage {
    #[cfg(unix)]
    pub fn now() -> Self {
        // SAFETY: all zero is a valid `rusage`.
        let mut usage: libc::rusage = unsafe { core::mem::zeroed() };
        // SAFETY: fills in the structure; it cannot fail for this process and a valid pointer.
        unsafe { libc::getrusage(libc::RUSAGE_SELF, &mut usage) };
        let time = |t: libc::timeval| Duration::new(t.tv_sec as u64, t.tv_usec as u32 * 1000);
        Self {
            cpu: time(usage.ru_utime) + time(usage.ru_stime),
            voluntary: usage.ru_nvcsw as u64,
            involuntary: usage.ru_nivcsw as u64,
        }
    }

    #[cfg(not(unix))]
    pub fn now() -> Self {
        Self::default()
    }

    pub fn since(self, earlier: Self) -> Self {
        Self {
            cpu: self.cpu.saturating_sub(earlier.cpu),
            voluntary: self.voluntary - earlier.voluntary,
            involuntary: self.involuntary - earlier.involuntary,
        }
    }
}

/// How long this thread has been running.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub fn thread_time() -> Duration {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `t` is a timespec that the call fills in.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut t) };
    Duration::new(t.tv_sec as u64, t.tv_nsec as u32)
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub fn thread_time() -> Duration {
    Duration::ZERO
}
