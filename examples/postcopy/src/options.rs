//! What can be asked for on the command line.

use clap::Parser;
use std::path::PathBuf;

/// Moves a running program's memory to another process, which goes on with it at once and asks for
/// the pages as it needs them. Compares every byte at the end.
///
/// Exit status: 0 if all is right; 1 if data was lost; 2 for wrong arguments; 3 if something
/// outside failed. Ctrl-C ends it at once, and nothing is compared.
#[derive(Parser, Clone, Debug)]
#[command(version)]
pub(crate) struct Options {
    /// MiB of memory.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(crate) mib: u32,
    /// The program's threads.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=64))]
    pub(crate) threads: u8,
    /// Connections for faults, each with a thread; the prefetcher has one more.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=16))]
    pub(crate) connections: u8,
    /// Without the prefetcher.
    #[arg(long)]
    pub(crate) no_prefetch: bool,
    /// So many connections are cut in the middle of a page.
    #[arg(long, default_value_t = 4)]
    pub(crate) kills: u32,
    /// What the network adds to each answer.
    #[arg(long, value_name = "MICROSECONDS", default_value_t = 0)]
    pub(crate) delay: u64,
    /// How long the program runs before it moves, and at least afterwards.
    #[arg(long, default_value_t = 1.0)]
    pub(crate) seconds: f64,
    /// A Unix socket instead of TCP on the loopback interface.
    #[arg(long)]
    pub(crate) unix: bool,
    /// Writes the figures as JSON; `-` is the standard output, instead of the table.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// A control: one byte is changed on its way.
    #[arg(long)]
    pub(crate) flip: bool,
    /// The other process: where to connect.
    #[arg(long, hide = true, value_name = "ADDRESS")]
    pub(crate) destination: Option<String>,
}

impl Options {
    pub(crate) fn pages(&self) -> usize {
        self.mib as usize * 256
    }
}
