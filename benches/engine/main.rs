//! The whole protocol, by the clock: pages moved a second, what a fault takes meanwhile, what a
//! page costs as memory grows and an entry as more of them name a page; beside an engine with one
//! mutex for everything on the same kind of memory, and beside the bare system calls that moving
//! real memory takes.
//!
//! `cargo bench -p pagelock-benches --bench engine` takes three minutes, `-- --quick` a quarter of
//! that, `-- --test` only sees that it runs; the name of a part (`calls`, `flush`, `price`, `size`,
//! `mappers`) runs that alone. All that is compared is measured in turns; what one thread does
//! alone, by that thread's processor time. Medians, and quartiles in brackets; losses are printed
//! like gains.
//!
//! A migrator moves all pages to the other tier, some with each call, and then back, and so on.
//! Faulters, where there are any, read pages at random and bring back those that are away. The time
//! of a fault is that of a read that finds its page away. Faulters rest after each: otherwise the
//! quick ones would fault so often that the figures would hide those that wait.

mod biglock;
mod calls;
mod flush;
#[path = "../../examples/storm/frames.rs"]
#[allow(dead_code)]
mod frames;
#[path = "../support/machine.rs"]
mod host;
#[path = "../../examples/storm/ledger.rs"]
#[allow(dead_code)]
mod ledger;
#[path = "../../examples/storm/machine.rs"]
#[allow(dead_code)]
mod machine;
mod price;
#[path = "../../examples/storm/real.rs"]
#[allow(dead_code)]
mod real;
#[path = "../../examples/storm/region/mod.rs"]
#[allow(dead_code)]
mod region;
mod size;
mod subjects;
mod table;
#[path = "../../examples/storm/tables.rs"]
mod tables;

use core::time::Duration;

pub struct Effort {
    rounds: usize,
    time: Duration,
    faulters: &'static [usize],
    /// Numbers of pages, as powers of two.
    sizes: &'static [u32],
    mappers: &'static [usize],
}

const FULL: Effort = Effort {
    rounds: 11,
    time: Duration::from_millis(160),
    faulters: &[1, 2, 8, 32],
    sizes: &[10, 12, 14, 16, 18, 20],
    mappers: &[1, 4, 16, 64, 256, 1024, 4096, 16_000],
};
const QUICK: Effort = Effort {
    rounds: 5,
    time: Duration::from_millis(50),
    faulters: &[1, 8, 32],
    sizes: &[10, 15, 20],
    mappers: &[1, 16, 256, 4096, 16_000],
};
const SMOKE: Effort = Effort {
    rounds: 1,
    time: Duration::from_millis(4),
    faulters: &[0, 2],
    sizes: &[10, 12],
    mappers: &[1, 64],
};

/// Pages in a call.
const CALLS: [usize; 4] = [1, 64, 512, 4096];

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let has = |name: &str| args.iter().any(|arg| arg == name);
    let effort = match (has("--test"), has("--quick")) {
        (true, _) => SMOKE,
        (_, true) => QUICK,
        _ => FULL,
    };
    let machine = host::Machine::this();
    let cores = machine.cores;
    println!("{machine}\n");
    let named = args.iter().any(|arg| !arg.starts_with("--"));
    let part = |name: &str, run: &dyn Fn()| {
        if !named || has(name) {
            run();
        }
    };
    part("flush", &|| flush::by_flush(&effort));
    part("price", &|| price::by_system_calls(&effort));
    part("calls", &|| {
        effort.faulters.iter().for_each(|&faulters| calls::by_call(&effort, cores, faulters))
    });
    part("size", &|| size::by_size(&effort, cores));
    part("mappers", &|| size::by_mappers(&effort));
}
