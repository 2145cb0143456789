//! The use of processors, by this process and by others, as the operating system counts it.

#[derive(Clone, Copy, Default)]
pub struct Usage {
    pub cpu_seconds: f64,
    pub voluntary_switches: u64,
    pub involuntary_switches: u64,
    /// Seconds of all processors: those in use, and all of them. Where the system says so.
    machine: Option<(f64, f64)>,
}

impl Usage {
    #[cfg(unix)]
    pub fn now() -> Self {
        // SAFETY: all zero is a valid `rusage`.
        let mut usage: libc::rusage = unsafe { core::mem::zeroed() };
        // SAFETY: fills in the structure; it cannot fail for this process and a valid pointer.
        unsafe { libc::getrusage(libc::RUSAGE_SELF, &mut usage) };
        let seconds = |t: libc::timeval| t.tv_sec as f64 + t.tv_usec as f64 / 1e6;
        Self {
            cpu_seconds: seconds(usage.ru_utime) + seconds(usage.ru_stime),
            voluntary_switches: usage.ru_nvcsw as u64,
            involuntary_switches: usage.ru_nivcsw as u64,
            machine: machine(),
        }
    }

    #[cfg(not(unix))]
    pub fn now() -> Self {
        Self::default()
    }

    pub fn since(self, earlier: Self) -> Self {
        Self {
            cpu_seconds: self.cpu_seconds - earlier.cpu_seconds,
            voluntary_switches: self.voluntary_switches - earlier.voluntary_switches,
            involuntary_switches: self.involuntary_switches - earlier.involuntary_switches,
            machine: self
                .machine
                .zip(earlier.machine)
                .map(|(now, then)| (now.0 - then.0, now.1 - then.1)),
        }
    }

    /// The share of the processors' time that other programs had, or the machine's host.
    pub fn others_share(&self) -> Option<f64> {
        let (busy, all) = self.machine?;
        (all > 0.0).then(|| ((busy - self.cpu_seconds) / all).clamp(0.0, 1.0))
    }
}

#[cfg(unix)]
fn machine() -> Option<(f64, f64)> {
    let stat = std::fs::read_to_string("/proc/stat").ok()?;
    // user, nice, system, idle, waiting for a disk, interrupts (two kinds), stolen; then guests,
    // which the first two include.
    let ticks: Vec<f64> = stat
        .lines()
        .next()?
        .split_whitespace()
        .skip(1)
        .take(8)
        .map_while(|n| n.parse().ok())
        .collect();
    let (all, idle) = (ticks.iter().sum::<f64>(), ticks.get(3)? + ticks.get(4)?);
    // SAFETY: asks for a number, touches no memory.
    let second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) } as f64;
    (second > 0.0).then(|| ((all - idle) / second, all / second))
}
