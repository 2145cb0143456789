//! Pages a second by pages a call, through one mapping and through four, where a flush is free and
//! where it costs as much as an interrupt of other processors; beside a flush for each page.

use crate::Effort;
use crate::subjects::{COLD, HOT, Ours};
use crate::table::{headed, in_turns, seconds};
use core::time::Duration;

const MAPPINGS: [usize; 2] = [1, 4];
/// What a flush costs.
const FLUSH: [Duration; 2] = [Duration::ZERO, Duration::from_nanos(2500)];
const PAGES: usize = 4096;

pub fn by_flush(effort: &Effort) {
    println!(
        "**Thousand pages a second, of 4096 bytes, without faulters**: \
         a flush for each batch, and for each page; median (quartiles) of \
         short turns\n"
    );
    let mut table = headed(&[
        "mappings",
        "flush",
        "pages per call",
        "a flush a batch",
        "a flush a page",
        "ratio",
    ]);
    for mappings in MAPPINGS {
        let engine = Ours::mapped(PAGES, 4096, PAGES, mappings);
        for cost in FLUSH {
            engine.flush_takes(cost);
            for count in crate::CALLS {
                let time = effort.time * effort.rounds as u32 / 4;
                let [batched, single] =
                    in_turns(time, sweep(&engine, count, 512), sweep(&engine, count, 1));
                table.add_row([
                    mappings.to_string(),
                    format!("{} µs", cost.as_nanos() as f64 / 1e3),
                    count.to_string(),
                    batched.to_string(),
                    single.to_string(),
                    format!("{:.2}", batched.median / single.median),
                ]);
            }
        }
    }
    println!("{table}\n");
}

/// All of memory, or as much of it as is one call, there and back: thousand pages a second.
fn sweep(engine: &Ours, count: usize, batch: usize) -> impl FnMut() -> f64 {
    let mut migrate = engine.migrator_by(batch);
    let mut first = 0;
    move || {
        let (began, mut moved) = (seconds(), 0);
        for _ in 0..512_usize.div_ceil(count) {
            for to in [COLD, HOT] {
                moved += migrate(first, count, to);
            }
            first = (first + count) % PAGES;
        }
        moved as f64 / (seconds() - began) / 1e3
    }
}
