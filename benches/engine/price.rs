//! The price of the protocol: pages of real memory go out and come back by the storm example's
//! memory manager, locks, counts, entries and all; beside one thread that makes the same system
//! calls and nothing else.

use crate::Effort;
use crate::machine::{COLD, HOT, at};
use crate::real::Real;
use crate::region::{self, Kind, Pretend};
use crate::table::{headed, in_turns, seconds};
use pagelock::mm::drain::{NoBatches, Unlocked};
use pagelock::mm::migrate::{Order, Slot, migrate};
use pagelock_soft::TierId;

const PAGES: usize = 512;
const KINDS: [(Kind, &str); 3] = [
    (Kind::Anon, "UFFDIO_MOVE out and back"),
    (Kind::Memfd { mappings: 1 }, "write-protect, copy, punch; UFFDIO_COPY"),
    (Kind::Memfd { mappings: 2 }, "the same, protected in two mappings"),
];
/// The most that the protocol may cost.
const BAR: f64 = 1.15;

pub fn by_system_calls(effort: &Effort) {
    println!(
        "**Microseconds to move a page of real memory out and back, {PAGES} a call, \
         one thread**; median (quartiles) of \
         short turns; bar: {BAR}\n"
    );
    let mut table = headed(&["system calls", "bare", "storm's engine", "ratio", ""]);
    for (kind, calls) in KINDS {
        let (region, instead) = region::open(kind, PAGES, Pretend::default());
        let (Some(region), None) = (region, &instead) else {
            println!("left out, no userfaultfd: {calls}: {}", instead.unwrap_or_default());
            continue;
        };
        let real = Real::new(region).expect("memory for the tables");
        let time = effort.time * effort.rounds as u32;
        let [bare, ours] = in_turns(time, by_hand(&real), by_engine(&real));
        let ratio = ours.median / bare.median;
        table.add_row([
            calls.to_string(),
            bare.to_string(),
            ours.to_string(),
            format!("{ratio:.3}"),
            if ratio <= BAR { String::new() } else { "over the bar".to_string() },
        ]);
    }
    println!("{table}\n");
}

fn micros(turn: impl FnOnce()) -> f64 {
    let began = seconds();
    turn();
    (seconds() - began) * 1e6 / PAGES as f64
}

/// No other thread runs, so no page is locked.
fn by_hand(real: &Real) -> impl FnMut() -> f64 {
    let region = &*real.region;
    move || {
        micros(|| {
            for page in 0..PAGES {
                for mapping in 0..region.mappings() {
                    region.protect(mapping, page).expect("it is hot");
                }
                region.push_out(page).expect("it is hot, and nobody has pinned it");
            }
            for page in 0..PAGES {
                region.bring_back(page).expect("it is cold");
            }
        })
    }
}

fn by_engine(real: &Real) -> impl FnMut() -> f64 {
    let mut unlocked = Unlocked::promise();
    let mut slots: Vec<Slot<'_, Real>> = Vec::new();
    move || {
        let mut all_to = |to: TierId| {
            slots.clear();
            slots.extend((0..PAGES).map(|page| Slot::at(at(0, page))));
            let summary =
                migrate(real, &mut slots, &Order::to(to).tries(1), &NoBatches, &mut unlocked);
            assert_eq!(summary.done as usize, PAGES, "all pages move");
        };
        micros(|| {
            all_to(COLD);
            all_to(HOT);
        })
    }
}
