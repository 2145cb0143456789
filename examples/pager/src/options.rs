//! What can be asked for on the command line.

use clap::Parser;
use std::path::PathBuf;

/// Runs an embedded database in more memory than it is allowed, and looks whether it is whole at
/// the end.
///
/// Exit status: 0 if all is right; 1 if data was lost; 2 for wrong arguments; 3 if something
/// outside failed. Ctrl-C ends it at once, and nothing is compared.
#[derive(Parser, Clone, Debug)]
#[command(version)]
pub(crate) struct Options {
    /// MiB of address space: the most that the database's file can grow to.
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u32).range(8..=16384))]
    pub(crate) mib: u32,
    /// MiB that may be in memory.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=16384))]
    pub(crate) resident: u32,
    /// Keys that are put in.
    #[arg(long, default_value_t = 100_000)]
    pub(crate) keys: u64,
    /// Threads that read, while one writes.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=32))]
    pub(crate) readers: u8,
    /// Threads that serve faults.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=8))]
    pub(crate) handlers: u8,
    /// For how long they read and write, once the keys are in.
    #[arg(long, default_value_t = 5.0)]
    pub(crate) seconds: f64,
    /// Nine of ten reads go to so many percent of the keys.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u8).range(1..=100))]
    pub(crate) hot: u8,
    /// A control: each hundredth page that an eviction writes has a byte changed. A run that is
    /// long enough finds that; a small one may read none of these bytes again.
    #[arg(long)]
    pub(crate) flip: bool,
    /// The database's file, which is overwritten. Without it, one that nobody sees.
    #[arg(long, value_name = "FILE")]
    pub(crate) store: Option<PathBuf>,
    /// Writes the figures as JSON; `-` is the standard output, instead of the table.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}
