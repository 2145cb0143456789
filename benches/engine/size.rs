//! What a page costs as memory grows, and what an entry costs as more of them name the page.

use crate::Effort;
use crate::biglock::BigLock;
use crate::subjects::{COLD, Engine, HOT, Ours};
use crate::table::{Spread, headed, in_turns, seconds};
use std::time::Instant;

/// The cost of a page, there and back, as memory grows. Pages are small, to measure the bookkeeping
/// and not the copy.
pub fn by_size(effort: &Effort, cores: usize) {
    const COUNT: usize = 64;
    println!(
        "**Nanoseconds to move a page of 64 bytes, {COUNT} a call, no faulters**; {cores} cores; \
         median (quartiles) of short turns\n"
    );
    let mut table = headed(&[
        "pages",
        Ours::NAME,
        BigLock::NAME,
        "ratio",
        "to the first, pagelock::mm",
        "to the first, one mutex",
    ]);
    let mut firsts = None;
    for &size in effort.sizes {
        let pages = 1 << size;
        let (ours, theirs) =
            (Ours::new(pages, 64, COUNT), <BigLock as Engine>::new(pages, 64, COUNT));
        let time = effort.time * effort.rounds as u32 / 2;
        let [a, b] = in_turns(
            time,
            nanos_per_page(&ours, pages, COUNT),
            nanos_per_page(&theirs, pages, COUNT),
        );
        let (first_a, first_b) = *firsts.get_or_insert((a.median, b.median));
        table.add_row([
            format!("2^{size}"),
            a.to_string(),
            b.to_string(),
            format!("{:.2}", a.median / b.median),
            format!("{:.2}", a.median / first_a),
            format!("{:.2}", b.median / first_b),
        ]);
    }
    println!("{table}\n");
}

/// Batches from all over memory, in an order that no prefetcher foresees, each there and back.
fn nanos_per_page<E: Engine>(engine: &E, pages: usize, count: usize) -> impl FnMut() -> f64 {
    let mut migrate = engine.migrator();
    let (batches, mut batch) = (pages / count, 0);
    move || {
        let (began, mut moved) = (seconds(), 0);
        for _ in 0..8 {
            // An odd step, so that every batch has its turn before any has its second.
            batch = (batch + 0x9e37_79b1) % batches;
            moved += migrate(batch * count, count, COLD) + migrate(batch * count, count, HOT);
        }
        (seconds() - began) * 1e9 / moved as f64
    }
}

/// One page that many address spaces map.
pub fn by_mappers(effort: &Effort) {
    println!(
        "**Nanoseconds for each entry of one page of 64 bytes that is moved, \
         each in an address space of its own**; median \
         (quartiles) of short turns\n"
    );
    let mut table = headed(&["mappers", Ours::NAME, "to the first"]);
    let mut first = None;
    for &mappers in effort.mappers {
        let engine = Ours::mapped(1, 64, 1, mappers);
        let mut migrate = engine.migrator();
        let mut turn = || {
            // As many entries in each turn.
            let times = 4096_usize.div_ceil(mappers);
            let began = seconds();
            let moved: usize = (0..times).map(|_| migrate(0, 1, COLD) + migrate(0, 1, HOT)).sum();
            (seconds() - began) * 1e9 / (moved * mappers) as f64
        };
        let began = Instant::now();
        let time = effort.time * effort.rounds as u32 / 4;
        let more = core::iter::from_fn(|| (began.elapsed() < time).then(&mut turn));
        let nanos = Spread::of(more);
        let first = *first.get_or_insert(nanos.median);
        table.add_row([
            mappers.to_string(),
            nanos.to_string(),
            format!("{:.2}", nanos.median / first),
        ]);
    }
    println!("{table}\n");
}
