//! The command line.

use crate::region::Pretend;
use clap::{Parser, ValueEnum};
use pagelock::mm::Strategy;
use std::path::PathBuf;

/// Threads fault on real memory whose pages are being moved between two tiers.
///
/// A file is mapped into a region. Worker threads read and write it at random; a migrator pushes
/// pages out to a cold tier, and the workers' page faults bring them back. Each strategy for a
/// fault on a page that is locked does the same work in turn, within the same time. At the end
/// every byte is compared with the file and the writers' ledger.
#[derive(Parser, Clone, Debug)]
#[command(version, about, long_about)]
pub struct Options {
    /// The file to map [default: this program itself]
    #[arg(long, value_name = "FILE")]
    pub input: Option<PathBuf>,

    /// Worker threads [default: four for each processor]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=512))]
    pub threads: Option<u16>,

    /// Pages of 4 KiB in the region; the file is repeated or cut to fit
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u32).range(16..=1 << 20))]
    pub pages: u32,

    /// Time for each strategy, in seconds
    #[arg(long, default_value_t = 3.0, value_parser = positive)]
    pub seconds: f64,

    /// Accesses for each worker to make within the time [default: 30000 for each second, at least
    /// 1]
    #[arg(long)]
    pub work: Option<u64>,

    /// The strategy to run
    #[arg(long, value_enum, default_value_t = Which::All)]
    pub strategy: Which,

    /// The memory to run it on
    #[arg(long, value_enum, default_value_t = Memory::Both)]
    pub memory: Memory,

    /// Show every figure, in lines of 160 columns
    #[arg(long)]
    pub wide: bool,

    /// Draw the latency distribution and processor use to this file
    #[arg(long, value_name = "FILE.svg")]
    pub plot: Option<PathBuf>,

    /// Write the results to this file, for machines
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,

    /// Where random numbers start
    #[arg(long, default_value_t = 1)]
    pub seed: u64,

    /// Fail unless the strategies that wait finish and make no migration fail by a reference, and,
    /// as a control, those that fall into the trap do not finish where real memory has two mappings
    #[arg(long)]
    pub must_finish: bool,

    /// Act as if the kernel lacked this
    #[arg(long, value_enum, value_name = "WHAT")]
    pub without: Option<Lacking>,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lacking {
    /// No `UFFDIO_MOVE`: pages of anonymous memory are copied
    Move,
    /// `UFFDIO_MOVE` that refuses each page on its way back, as it does merged ones
    MoveBack,
    /// No write protection by userfaultfd: with two mappings, faults are in software
    WriteProtect,
    /// No userfaultfd at all: all faults are in software
    Userfaultfd,
}

fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.001..=3600.0).contains(&seconds) => Ok(seconds),
        Ok(_) => Err("it is not between 0.001 and 3600".to_string()),
        Err(e) => Err(e.to_string()),
    }
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum Which {
    /// Try the lock, and fault again if it is taken
    Retry,
    /// Take a reference and sleep for the lock
    Reference,
    /// As retry, but the winner installs a migration entry at once
    Entry,
    /// Register, release the page table, sleep without a reference
    Wait,
    /// As wait, then queue for the lock after two waits in vain
    Lock,
    /// All of them, and the variant with the drain outside the page locks
    All,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum Memory {
    /// Anonymous memory with one mapping
    Anon,
    /// One memfd with two mappings
    Memfd,
    /// Ordinary memory with two mappings, faults raised in software
    Software,
    /// Anonymous memory, then the memfd
    Both,
}

/// When the migrator drains the per-processor batches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Drain {
    /// While it holds page locks, with mappings still to take down: as the kernel does.
    Inside,
    /// Before it takes any.
    Outside,
}

/// One line of the table: what is run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Plan {
    pub strategy: Strategy,
    pub drain: Drain,
}

impl Plan {
    pub fn name(self) -> String {
        let strategy = match self.strategy {
            Strategy::TryAndRetry => "try and retry",
            Strategy::ReferenceAndSleep => "reference and sleep",
            Strategy::EntryInFault => "entry in the fault",
            Strategy::Wait => "wait",
            Strategy::WaitThenLock { .. } => "wait, then lock",
            _ => "?",
        };
        match self.drain {
            Drain::Inside => strategy.to_string(),
            Drain::Outside => format!("{strategy}, drain first"),
        }
    }
}

impl Options {
    pub fn pretend(&self) -> Pretend {
        let lacks = |what| self.without == Some(what);
        Pretend {
            no_move: lacks(Lacking::Move),
            all_busy: lacks(Lacking::MoveBack),
            no_write_protect: lacks(Lacking::WriteProtect),
            no_userfaultfd: lacks(Lacking::Userfaultfd),
        }
    }

    pub fn plans(&self) -> Vec<Plan> {
        let lock = Strategy::WaitThenLock { after: 2 };
        let inside = |strategy| Plan { strategy, drain: Drain::Inside };
        let outside = |strategy| Plan { strategy, drain: Drain::Outside };
        match self.strategy {
            Which::Retry => vec![inside(Strategy::TryAndRetry)],
            Which::Reference => vec![inside(Strategy::ReferenceAndSleep)],
            Which::Entry => vec![inside(Strategy::EntryInFault)],
            Which::Wait => vec![inside(Strategy::Wait)],
            Which::Lock => vec![inside(lock)],
            Which::All => vec![
                inside(Strategy::TryAndRetry),
                inside(Strategy::ReferenceAndSleep),
                inside(Strategy::EntryInFault),
                inside(Strategy::Wait),
                inside(lock),
                outside(Strategy::TryAndRetry),
                outside(Strategy::Wait),
            ],
        }
    }
}
