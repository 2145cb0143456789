//! A device that writes guest memory by another way than the guest's mapping: write protection does
//! not stop it, and a hole that is punched swallows what it writes. So it pins its pages, in the
//! segment, where the manager sees it.

use super::home::External;
use crate::accident::Accident;
use crate::program::{LEDGER, PAGE, Words, fill};
use crate::threads::Mapped;
use anyhow::{Context, Result};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// Pages of one batch.
pub(crate) const BATCH: usize = 8;

#[derive(Default)]
pub(crate) struct Written {
    /// What each of its pages was last filled with.
    pub(crate) pages: Vec<u32>,
    pub(crate) pins: u64,
    /// Pins that kept a page from being thrown away.
    pub(crate) refused_discards: u64,
}

/// Batch after batch, until the brake is pulled.
pub(crate) fn run(home: &Arc<External>) -> Written {
    let mut written = Written { pages: vec![0; home.layout.device.len()], ..Written::default() };
    let mut next = 0;
    while !home.brake.is_pulled() {
        let batch: Vec<usize> = (next..next + BATCH).map(|n| n * 5 % written.pages.len()).collect();
        if let Err(error) = transfer(home, &batch, &mut written) {
            home.brake.pull(Accident::Outside(format!("device: {error:#}")));
        }
        next += BATCH;
        thread::sleep(Duration::from_millis(1));
    }
    written
}

fn transfer(home: &Arc<External>, batch: &[usize], written: &mut Written) -> Result<()> {
    let mut memory = Mapped(Arc::clone(home) as _);
    let desk = home.region.desk()?;
    let first = home.layout.device.start;
    let page = |n: usize| first + n as u32;
    batch.iter().for_each(|&n| memory.set(LEDGER + 4 * page(n), written.pages[n] + 1));
    let pins = batch
        .iter()
        .map(|&n| desk.pin(page(n), || _ = memory.get(page(n) << 12)))
        .collect::<Result<Vec<_>, _>>()?;
    // The device is slow: meanwhile pages are evicted, and managers die.
    thread::sleep(Duration::from_millis(3));
    for &n in batch {
        let mut block = [0; PAGE];
        fill(page(n), written.pages[n] + 2, &mut block);
        let at = u64::from(page(n)) * PAGE as u64;
        let put = rustix::io::pwrite(home.region.file(), &block, at).context("guest memory")?;
        anyhow::ensure!(put == PAGE, "{put} bytes of a page were written");
    }
    anyhow::ensure!(desk.discard(page(batch[0])).is_err(), "a pinned page was thrown away");
    written.refused_discards += 1;
    drop(pins);
    written.pins += batch.len() as u64;
    for &n in batch {
        written.pages[n] += 2;
        memory.set(LEDGER + 4 * page(n), written.pages[n]);
    }
    Ok(())
}
