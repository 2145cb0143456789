//! Everything at once over the software memory manager: migrators in opposite orders, faulters,
//! forks, moves, unmaps, protection changes. At the end every count, entry and byte is checked
//! (I13, I14, I16, I17, I36).

use crate::common::{Lots, own::Own, rounds, with_threads};
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use pagelock::leaf::Rights;
use pagelock::mm::drain::{ThreadCpus, Unlocked};
use pagelock::mm::migrate::{Mode, Order, Slot, migrate};
use pagelock_soft::{At, Config, Kind, Soft, SpaceId, TierConfig, TierId};

type Mm = Soft<Own, ThreadCpus>;

const TIERS: [TierId; 3] = [TierId(0), TierId(1), TierId(2)];

fn machine(batches: usize) -> Mm {
    let tier = |kind| TierConfig { kind, frames: 256 };
    let tiers = vec![tier(Kind::System), tier(Kind::Device { owner: 1 }), tier(Kind::System)];
    Soft::on(
        Own::new(64),
        ThreadCpus,
        Config { page_size: 64, pages: 64, spaces: 32, tiers, batches },
    )
}

/// Moves pages at random until told to stop.
fn migrator(mm: &Mm, spaces: &[SpaceId], pages: usize, seed: usize, stop: &AtomicBool) -> u64 {
    let unlocked = &mut Unlocked::promise();
    let mut lots = Lots::of(seed);
    let mut moved = 0;
    while !stop.load(SeqCst) {
        let space = spaces[lots.draw(spaces.len() as u64) as usize];
        let to = TIERS[lots.draw(3) as usize];
        let mode = [Mode::Async, Mode::SyncLight, Mode::Sync][lots.draw(3) as usize];
        let first = lots.draw(pages as u64 - 7) as usize;
        let mut slots: Vec<_> = space.page(first).pages(8).map(Slot::at).collect();
        if seed % 2 == 1 {
            slots.reverse();
        }
        let mut order = Order::to(to).mode(mode).tries(3);
        if lots.draw(4) == 0 {
            order = order.filling_holes();
        }
        moved += u64::from(migrate(mm, &mut slots, &order, mm, unlocked).done);
    }
    moved
}

/// Threads add to words of pages that are moved about under them; no addition is lost.
fn sums(batches: usize, shared: bool) {
    let mm = machine(batches);
    let space = mm.spawn().unwrap();
    let pages = 16;
    if shared {
        mm.map_shared(space.page(0), pages).unwrap();
    } else {
        mm.map(space.page(0), pages).unwrap();
    }
    let mut spaces = vec![space];
    if shared {
        spaces.extend([mm.fork(space).unwrap(), mm.fork(space).unwrap()]);
    }
    let (stop, working) = (AtomicBool::new(false), AtomicUsize::new(3));
    let turns = rounds(4000);
    with_threads(&[], |s| {
        for seed in 0..2 {
            let (mm, stop, spaces) = (&mm, &stop, &spaces);
            s.spawn(move || migrator(mm, spaces, pages, seed, stop));
        }
        for worker in 0..3 {
            let (mm, working, stop, spaces) = (&mm, &working, &stop, &spaces);
            s.spawn(move || {
                let mut lots = Lots::of(100 + worker);
                for _ in 0..turns {
                    let at = spaces[worker % spaces.len()].page(lots.draw(pages as u64) as usize);
                    mm.add(at, worker, 1).unwrap();
                }
                if working.fetch_sub(1, SeqCst) == 1 {
                    stop.store(true, SeqCst);
                }
            });
        }
    });
    mm.audit().unwrap();
    for worker in 0..3 {
        let total: usize =
            (0..pages).map(|page| mm.add(space.page(page), worker, 0).unwrap()).sum();
        assert_eq!(total, turns, "additions of worker {worker} were lost");
    }
    for space in spaces {
        mm.exit(space);
    }
    mm.audit().unwrap();
}

#[test]
fn no_addition_is_lost_in_private_pages() {
    sums(0, false);
}

#[test]
fn no_addition_is_lost_in_shared_pages() {
    sums(0, true);
}

#[test]
fn no_addition_is_lost_with_batches() {
    sums(4, false);
    sums(4, true);
}

/// Address spaces come, change and go while their pages are moved.
#[test]
fn spaces_change_while_their_pages_move() {
    for batches in [0, 4] {
        let mm = machine(batches);
        let parent = mm.spawn().unwrap();
        mm.map(parent.page(0), 32).unwrap();
        for at in parent.page(0).pages(32) {
            mm.write(at, 0, &[at.page as u8; 8]).unwrap();
        }
        let stop = AtomicBool::new(false);
        with_threads(&[], |s| {
            for seed in 0..2 {
                let (mm, stop) = (&mm, &stop);
                s.spawn(move || migrator(mm, &[parent], 32, seed, stop));
            }
            let workers: Vec<_> = (0..2)
                .map(|worker| {
                    let mm = &mm;
                    s.spawn(move || {
                        let mut lots = Lots::of(7 + worker);
                        for _ in 0..rounds(150) {
                            let child = mm.fork(parent).unwrap();
                            change(mm, child, &mut lots);
                            mm.exit(child);
                        }
                    })
                })
                .collect();
            for worker in workers {
                worker.join().unwrap();
            }
            stop.store(true, SeqCst);
        });
        mm.audit().unwrap();
        for at in parent.page(0).pages(32) {
            let mut bytes = [0; 8];
            mm.read(at, 0, &mut bytes).unwrap();
            assert_eq!(bytes, [at.page as u8; 8], "a child has changed its parent");
        }
        mm.exit(parent);
        mm.audit().unwrap();
    }
}

fn change(mm: &Mm, space: SpaceId, lots: &mut Lots) {
    let at = |page: u64| -> At { space.page(page as usize) };
    for _ in 0..8 {
        let page = lots.draw(32);
        let mut bytes = [0; 8];
        match lots.draw(6) {
            0 => mm.remap(at(page), at(page + 32), 1, false).unwrap_or(()),
            1 => mm.remap(at(page + 32), at(page), 1, false).unwrap_or(()),
            2 => mm.unmap(at(page), 1).unwrap(),
            3 => {
                let _ = mm.protect(at(page), 1, Some(Rights::Read));
            }
            4 => {
                let _ = mm.write(at(page), 0, &[255; 8]);
            }
            _ => {
                if mm.read(at(page), 0, &mut bytes).is_ok() {
                    assert!(
                        bytes == [255; 8] || bytes.iter().all(|&b| u64::from(b) < 32),
                        "{bytes:?}"
                    );
                }
            }
        }
    }
}
