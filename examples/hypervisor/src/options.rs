//! What can be asked for on the command line.

use clap::{Parser, ValueEnum};
use std::path::PathBuf;

/// Runs a small guest whose memory comes and goes under it, and compares every byte at the end.
///
/// Exit status: 0 if all is right; 1 if data was lost; 2 for wrong arguments; 3 if something
/// outside failed (a store, a disk, an output, a kernel without userfaultfd); 130 after Ctrl-C.
/// Whatever the reason, one line on stderr says it.
#[derive(Parser, Clone, Debug)]
#[command(version)]
pub(crate) struct Options {
    /// MiB of guest memory.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(2..=3072))]
    pub(crate) mib: u32,
    /// Virtual processors.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=8))]
    pub(crate) vcpus: u8,
    /// Threads that serve faults.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=8))]
    pub(crate) handlers: u8,
    /// How much of the memory may be in, in percent.
    #[arg(long, default_value_t = 25, value_parser = clap::value_parser!(u8).range(5..=100))]
    pub(crate) resident: u8,
    /// For how long the guest runs.
    #[arg(long, default_value_t = 10.0, value_parser = seconds)]
    pub(crate) seconds: f64,
    /// Ends earlier, after so many rounds of each virtual processor.
    #[arg(long)]
    pub(crate) rounds: Option<u64>,
    /// What the guest's memory is.
    #[arg(long, value_enum, default_value_t = Memory::Anonymous)]
    pub(crate) memory: Memory,
    /// Threads take the guest's place, as where there is no KVM.
    #[arg(long)]
    pub(crate) no_kvm: bool,
    /// Without snapshot and restore.
    #[arg(long)]
    pub(crate) no_snapshot: bool,
    /// A control: the device uses memory (a memfd then) without pinning it. Data is lost.
    #[arg(long)]
    pub(crate) unpinned: bool,
    /// Faults are served, and pages evicted, by another process, on a memfd. Without snapshot.
    #[arg(long)]
    pub(crate) external_manager: bool,
    /// Kills that process so often, at random moments.
    #[arg(long, default_value_t = 0, value_name = "N", requires = "external_manager")]
    pub(crate) kill_manager: u32,
    /// A control: nobody recovers what a killed manager has left. The guest gets stuck.
    #[arg(long, requires = "kill_manager")]
    pub(crate) no_recovery: bool,
    /// What the manager is started with.
    #[arg(long, hide = true)]
    pub(crate) manage: Option<String>,
    /// The file that pages go to, which is overwritten. Without it, one that nobody sees.
    #[arg(long, value_name = "FILE")]
    pub(crate) store: Option<PathBuf>,
    /// The file that the snapshot goes to, which is overwritten. Without it, one that nobody sees.
    #[arg(long, value_name = "FILE")]
    pub(crate) snapshot: Option<PathBuf>,
    /// Draws pages in memory and faults over time (SVG).
    #[arg(long, value_name = "FILE")]
    pub(crate) plot: Option<PathBuf>,
    /// Writes the figures as JSON; `-` is the standard output, instead of the table.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Memory {
    /// Private anonymous memory: evicted by moving pages, which the kernel refuses for what *it*
    /// has pinned.
    Anonymous,
    /// A memfd mapped shared: evicted by punching holes, which the kernel never refuses.
    Memfd,
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.1..=86_400.0).contains(&seconds) {
        Ok(seconds)
    } else {
        Err("from 0.1 to 86400".to_owned())
    }
}
