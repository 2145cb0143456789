//! The machine of the figures, as far as it bears on them.

use serde::{Deserialize, Serialize};
use std::fs::read_to_string;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

/// This crate, and those that are measured beside it.
const CRATES: [&str; 7] = [
    "pagelock",
    "parking_lot",
    "parking_lot_core",
    "usync",
    "spin",
    "event-listener",
    "atomic-wait",
];

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Machine {
    /// Processors that this process may use. Every table says it.
    pub cores: usize,
    pub vendor: String,
    pub processor: String,
    pub system: String,
    /// Under a hypervisor, as far as the processor says so.
    pub virtual_machine: bool,
    pub rustc: String,
    /// The share of the processors' time that others used, in the second before the run. Not the
    /// load average, which the compiler that made this program has its part in.
    pub busy: Option<f64>,
    pub crates: Vec<(String, String)>,
}

impl Machine {
    pub fn this() -> Self {
        let info = read_to_string("/proc/cpuinfo").unwrap_or_default();
        let field = |name: &str| {
            let line = info.lines().find(|line| line.starts_with(name))?;
            Some(line.split_once(':')?.1.trim().to_string())
        };
        Self {
            cores: cores(),
            vendor: field("vendor_id").unwrap_or_else(|| "unknown vendor".to_string()),
            processor: field("model name").unwrap_or_else(|| std::env::consts::ARCH.to_string()),
            system: said_by("uname", &["-sr"]).unwrap_or_else(|| std::env::consts::OS.to_string()),
            virtual_machine: field("flags")
                .is_some_and(|flags| flags.split(' ').any(|flag| flag == "hypervisor")),
            rustc: said_by("rustc", &["--version"]).unwrap_or_else(|| "unknown".to_string()),
            busy: busy(),
            crates: versions(),
        }
    }

    /// Whether something else was running, which spoils most figures.
    pub fn was_busy(&self) -> bool {
        self.busy.is_some_and(|busy| busy > 0.05)
    }
}

impl core::fmt::Display for Machine {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Self { cores, vendor, processor, system, .. } = self;
        write!(f, "{vendor}, {processor}, {cores} cores, {system}")?;
        if self.virtual_machine {
            f.write_str(", a virtual machine")?;
        }
        match self.busy.map(|busy| busy * 100.0) {
            Some(busy) if self.was_busy() => {
                write!(
                    f,
                    "; {busy:.0} % busy when it began: SOMETHING ELSE WAS RUNNING, measure again"
                )
            }
            Some(busy) => write!(f, "; {busy:.1} % busy when it began"),
            None => Ok(()),
        }
    }
}

pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// See [`Machine::busy`]. What a hypervisor gave to others meanwhile counts.
fn busy() -> Option<f64> {
    let before = spent()?;
    sleep(Duration::from_secs(1));
    let after = spent()?;
    let (idle, all) = (after.0 - before.0, after.1 - before.1);
    (all > 0).then(|| 1.0 - idle as f64 / all as f64)
}

/// Ticks that all processors have been idle, and all there were.
fn spent() -> Option<(u64, u64)> {
    let stat = read_to_string("/proc/stat").ok()?;
    // user, nice, system, idle, waiting for a disk, interrupts (two kinds), stolen; then guests,
    // which the first two include.
    let ticks: Vec<u64> = stat
        .lines()
        .next()?
        .split_whitespace()
        .skip(1)
        .take(8)
        .map_while(|n| n.parse().ok())
        .collect();
    Some((ticks.get(3)? + ticks.get(4)?, ticks.iter().sum()))
}

/// What a program prints, if it is there.
fn said_by(program: &str, args: &[&str]) -> Option<String> {
    let out = Command::new(program).args(args).output().ok()?;
    out.status.success().then(|| String::from_utf8_lossy(&out.stdout).trim().to_string())
}

/// The versions, from the lock file of the build.
fn versions() -> Vec<(String, String)> {
    let lock =
        read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.lock")).unwrap_or_default();
    let version = |name: &str| {
        let at = lock.find(&format!("name = \"{name}\"\n"))?;
        Some(
            lock[at..]
                .lines()
                .nth(1)?
                .trim_start_matches("version = ")
                .trim_matches('"')
                .to_string(),
        )
    };
    CRATES
        .iter()
        .map(|&name| (name.to_string(), version(name).unwrap_or_else(|| "unknown".to_string())))
        .collect()
}
