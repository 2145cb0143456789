//! All verbs at once, on memory that guests also remove by themselves: every byte is compared.

use super::*;
use std::sync::Mutex;

const PAGES: usize = 12;
const GUESTS: usize = 3;

/// A linear congruential sequence.
fn random(seed: &mut u64, below: usize) -> usize {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*seed >> 33) as usize % below
}

/// Whether every guest found what it had written, with a store that `keeps` what it is given.
fn survives(turns: usize, keeps: bool) -> bool {
    let rig = Rig::with_removes(PAGES);
    let store: Arc<Vec<Mutex<u8>>> = Arc::new((0..PAGES).map(|_| Mutex::new(1)).collect());
    let save = {
        let store = Arc::clone(&store);
        move |page: usize, byte: u8| {
            if keeps {
                *store[page].lock().unwrap() = byte;
            }
        }
    };
    let save = &save;
    let settings = Settings::threads(2).on_fetch({
        let save = save.clone();
        move |fetch: &Fetch| {
            let _ = fetch.region().evict_to(PAGES / 2, 0..PAGES, |evict| {
                save(evict.page(), evict.bytes()[0]);
                Ok(())
            });
        }
    });
    let load = {
        let store = Arc::clone(&store);
        move |page: usize| *store[page].lock().unwrap()
    };
    let loads = load.clone();
    let server = Server::with(&rig.inbox, settings, move |fetch: &Fetch, into: &mut [u8]| {
        into.fill(loads(fetch.page()));
        Ok(())
    })
    .unwrap();
    let over = AtomicBool::new(false);
    let whole = thread::scope(|s| {
        let _over = Over(&over);
        let (rig, over, load) = (&rig, &over, &load);
        let guests: Vec<_> = (0..GUESTS)
            .map(|guest| {
                s.spawn(move || {
                    let mut seed = guest as u64 + 1;
                    let mut known = [1_u8; PAGES];
                    for turn in 0..turns {
                        let page = random(&mut seed, PAGES / GUESTS) * GUESTS + guest;
                        match random(&mut seed, 8) {
                            0 => {
                                assert_eq!(rig.region.discard_blocking(page..page + 1).done, 1);
                                known[page] = 0;
                            }
                            1 => {
                                rig.ram.remove(page, page + 1);
                                known[page] = 0;
                            }
                            2..5 => {
                                known[page] = turn as u8 | 1;
                                let write = |bytes: &mut [u8]| bytes[0] = known[page];
                                rig.ram.with(page, true, PATIENCE, write).unwrap();
                            }
                            _ => {
                                let seen = rig.ram.with(page, false, PATIENCE, |bytes| bytes[0]);
                                if seen.unwrap() != known[page] {
                                    return false;
                                }
                            }
                        }
                    }
                    true
                })
            })
            .collect();
        s.spawn(move || {
            let mut seed = 99;
            while !over.load(SeqCst) {
                let page = random(&mut seed, PAGES);
                match random(&mut seed, 4) {
                    0 => {
                        for fetch in rig.region.prefetch(page..PAGES) {
                            let byte = load(fetch.page());
                            fetch.fill(&[byte; PAGE]).unwrap();
                        }
                    }
                    1 => {
                        if let Ok(clean) = rig.region.clean(page)
                            && page.is_multiple_of(2)
                        {
                            clean.done();
                        }
                    }
                    2 => drop(rig.region.evict(page)),
                    _ => {
                        let evicted = rig.region.evict_to(2, page..PAGES, |evict| {
                            save(evict.page(), evict.bytes()[0]);
                            Ok(())
                        });
                        evicted.unwrap();
                    }
                }
            }
        });
        let ended: Vec<bool> = guests.into_iter().map(|guest| guest.join().unwrap()).collect();
        ended.into_iter().all(|whole| whole)
    });
    server.stop().unwrap();
    let states: Vec<_> = rig.region.states(0..PAGES).map(|(_, state)| state).collect();
    assert!(states.iter().all(|state| !state.owned && !state.poisoned), "{states:?}");
    let is_in = states.iter().filter(|state| state.place == Place::In).count();
    assert_eq!(rig.region.resident(), is_in);
    whole
}

#[test]
fn all_verbs_at_once_lose_no_byte() {
    assert!(survives(4000, true));
}

#[test]
fn control_a_store_that_keeps_nothing_is_found_out() {
    assert!(!survives(4000, false));
}
