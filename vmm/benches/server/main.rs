//! The toolkit beside four other ways to serve faults, in one run and interleaved.
//!
//! | | how |
//! |---|---|
//! | toolkit | `pagelock_vmm::Server` |
//! | big mutex | one mutex over a bitmap, held across the fetch |
//! | map | a mutex over a map of what is in flight; a correct one |
//! | states | a mutex and a state for each page |
//! | bare | no tracking at all: each fault fetches, and the kernel says "exists" to all but one |
//!
//! Four guests touch pages, of which half are their own and half all four's. A store of 20 or 200
//! µs sleeps for so long; one of 0 only copies. Handler CPU is what the process used less what the
//! guests did, for each page that was served.
//!
//! `cargo bench -p pagelock-vmm` runs it in about two minutes; with `-- quick`, in seconds, for
//! checking that it runs: its numbers mean nothing.

#![allow(unreachable_pub, missing_docs, missing_debug_implementations)]

mod by_hand;
mod contenders;
mod guests;
mod table;
mod with_toolkit;

use contenders::Contender;
use guests::Run;
use pagelock_vmm::uffd::SMALL;
use std::sync::{Arc, Mutex};

const CONTENDERS: [Contender; 5] =
    [Contender::Toolkit, Contender::BigMutex, Contender::Map, Contender::States, Contender::Bare];
const HANDLERS: [usize; 3] = [1, 4, 8];

/// A store: how long a fetch takes, in µs, and how many pages a run has.
struct Row {
    store: u64,
    handlers: usize,
    /// One list of runs for each contender.
    runs: Vec<Vec<Run>>,
}

/// The same life for both servers: their interfaces are the same.
macro_rules! check {
    ($server:ident) => {{
        let store = Arc::new(Mutex::new(vec![[7; SMALL]; 8]));
        let memory = $server::Memory::new(store, 2).unwrap();
        // SAFETY: pages of the memory.
        let read = |page| unsafe { std::ptr::read_volatile(memory.address(page) as *const u8) };
        assert_eq!(read(3), 7);
        while !memory.evict(3) {}
        assert_eq!(read(3), 7);
        memory.discard(4);
        assert_eq!(read(4), 0);
        let pin = memory.pin(5).unwrap();
        assert!(!memory.evict(5));
        drop(pin);
        memory.stop().unwrap();
    }};
}

fn main() {
    // `cargo test` and `cargo bench` add flags of their own.
    let quick = std::env::args().any(|arg| arg == "quick" || arg == "--test");
    if let Err(error) = pagelock_vmm::uffd::Uffd::open(Default::default()) {
        println!("SKIPPED: userfaultfd is refused ({error})");
        return;
    }
    // A sleep of 20 µs is one: the handlers inherit this.
    let _ = rustix::thread::set_current_timer_slack(std::num::NonZero::new(1));
    check!(by_hand);
    check!(with_toolkit);
    let rounds = if quick { 1 } else { 21 };
    let mut rows = Vec::new();
    for (store, pages) in [(0, 3000), (20, 1200), (200, 300)] {
        let pages = if quick { 64 } else { pages };
        for handlers in HANDLERS {
            let mut row = Row { store, handlers, runs: CONTENDERS.map(|_| Vec::new()).into() };
            for round in 0..rounds {
                // Each round in another order.
                for i in 0..CONTENDERS.len() {
                    let i = (i + round) % CONTENDERS.len();
                    row.runs[i].push(guests::run(CONTENDERS[i], store, handlers, pages));
                }
            }
            rows.push(row);
        }
    }
    table::print(&rows, rounds);
    println!(
        "\ncode lines of the same server: {} by hand, {} with the toolkit",
        by_hand::lines(),
        with_toolkit::lines()
    );
}
