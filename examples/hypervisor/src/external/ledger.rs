//! What can be known of the guest's memory by itself: its ledger says how often each page was
//! written, and so what the page must contain. Pages that were being written at the end may be a
//! step ahead of the ledger, or behind it.

use super::device::BATCH;
use crate::program::{CODE, LEDGER, Layout, PAGE, WISH, ZEROED, fill, slot, value};

#[derive(Default, Debug)]
pub(crate) struct Known {
    /// Every byte is as the ledger says.
    pub(crate) right: u32,
    /// Of these the guest, the balloon or the device was at work.
    pub(crate) on_the_way: u32,
    /// The ledger itself, and the processors' own words.
    pub(crate) unknown: u32,
    pub(crate) lost: Vec<u32>,
}

pub(crate) fn compare(layout: &Layout, memory: &[u8]) -> Known {
    let word = |at: usize| {
        u32::from_le_bytes([memory[at], memory[at + 1], memory[at + 2], memory[at + 3]])
    };
    let mut known = Known::default();
    let (mut written, mut given, mut transferred) = (0, 0, 0);
    for (page, bytes) in (0..layout.pages).zip(memory.chunks_exact(PAGE)) {
        if page < layout.fixed.start && page != CODE / PAGE as u32 {
            known.unknown += 1;
            continue;
        }
        let ledger = word((LEDGER + 4 * page) as usize);
        let is_own = layout.own.iter().any(|own| own.contains(&page));
        let n = ledger & !ZEROED;
        let mut expected = [0; PAGE];
        layout.image(page, &mut expected);
        if is_own {
            write(page, ledger, n, &mut expected);
        } else if layout.device.contains(&page) {
            fill(page, n, &mut expected);
        }
        if bytes == expected {
            known.right += 1;
            continue;
        }
        let on_the_way = if is_own && n == 0 && ledger & ZEROED != 0 {
            // On its way to the balloon; or there, and written since.
            let mut next = [0; PAGE];
            write(page, ledger, 1, &mut next);
            if bytes == next { &mut written } else { &mut given }
        } else if is_own {
            write(page, ledger, n + 1, &mut expected);
            if bytes != expected {
                known.lost.push(page);
                continue;
            }
            &mut written
        } else if layout.device.contains(&page) && n & 1 == 1 {
            &mut transferred
        } else {
            known.lost.push(page);
            continue;
        };
        *on_the_way += 1;
        known.on_the_way += 1;
        // More at once than can be at work is a loss.
        let vcpus = layout.own.len();
        if written > vcpus || given > vcpus * WISH as usize || transferred > BATCH {
            known.lost.push(page);
        }
    }
    known
}

/// A page after its `n`th write.
fn write(page: u32, ledger: u32, n: u32, into: &mut [u8; PAGE]) {
    if ledger & ZEROED != 0 {
        into.fill(0);
    }
    // Each word is written again only after all others.
    for n in n.saturating_sub(1023).max(1)..=n {
        let word = slot(page, n);
        into[4 * word as usize..][..4].copy_from_slice(&value(page << 10 | word, n).to_le_bytes());
    }
}
