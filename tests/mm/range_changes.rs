//! Nothing that was found is believed if an invalidation came between (I19's other half).

#![cfg(target_os = "linux")]

use crate::common::machine::{DEVICE, FAR, exclusive, machine, move_one, written};
use crate::common::own::within;
use crate::common::{Lots, rounds, turns, watched, with_threads};
use crate::range::{fault, notifier, pages};
use crate::range_ends::million;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use pagelock::Limits;
use pagelock::leaf::{Leaf, Marker, Rights};
use pagelock::mm::drain::Unlocked;
use pagelock::mm::migrate::{self, Slot};
use pagelock::mm::range::{Found, RangeOrder, Want, snapshot};
use pagelock_soft::{At, TierId};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::thread;

/// What the software memory manager announces, and what it does not.
#[test]
fn whatever_takes_something_away_is_announced() {
    let (mm, _) = machine();
    let space = mm.spawn().unwrap();
    let at = written(mm, space, 16);
    let told = Arc::new(Mutex::new(Vec::new()));
    let tell = told.clone();
    mm.on_invalidate(move |at, count| tell.lock().unwrap().push((at, count)));
    let notifier = notifier(mm, space);
    let p = |n| space.page(n);
    let announced = |what: &str, expected: &[(At, usize)], act: &dyn Fn()| {
        told.lock().unwrap().clear();
        let ticket = notifier.try_ticket().unwrap();
        act();
        assert_eq!(notifier.is_good(ticket), expected.is_empty(), "{what}");
        assert_eq!(*told.lock().unwrap(), expected, "{what}");
        assert_eq!(notifier.active(), 0, "{what}");
    };
    announced("map", &[], &|| mm.map(p(20), 4).unwrap());
    announced("read and write", &[], &|| {
        mm.read(p(20), 0, &mut [0]).unwrap();
        mm.write(p(21), 0, &[1]).unwrap();
        mm.write(p(0), 0, &[0]).unwrap();
    });
    announced("write to a page of zeroes", &[(p(20), 1)], &|| mm.write(p(20), 0, &[1]).unwrap());
    announced("protect", &[(p(0), 3)], &|| mm.protect(p(0), 3, Some(Rights::Read)).unwrap());
    announced("unmap", &[(p(20), 2)], &|| mm.unmap(p(20), 2).unwrap());
    announced("discard", &[(p(22), 2)], &|| mm.discard(p(22), 2).unwrap());
    announced("remap", &[(p(4), 2)], &|| mm.remap(p(4), p(40), 2, false).unwrap());
    announced("replace", &[(p(22), 1)], &|| mm.replace(p(22), Leaf::Marker(Marker::Guard)));
    announced("exclusive", &[(p(6), 1)], &|| {
        exclusive(mm, p(6)).unwrap();
    });
    // To look, and then to fill.
    announced("fill a hole by migration", &[(p(23), 1); 2], &|| {
        assert!(move_one(mm, p(23), &migrate::Order::to(DEVICE).filling_holes()).is_done());
    });
    told.lock().unwrap().clear();
    let ticket = notifier.try_ticket().unwrap();
    let child = mm.fork(space).unwrap();
    assert!(!notifier.is_good(ticket) && told.lock().unwrap().contains(&(p(7), 1)), "fork");
    announced("copy on write", &[(p(7), 1)], &|| mm.write(p(7), 0, &[0]).unwrap());
    // Through both mappings of a page, each in its space.
    told.lock().unwrap().clear();
    let (ticket, other) =
        (notifier.try_ticket().unwrap(), mm.notifier(child).unwrap().try_ticket().unwrap());
    assert!(move_one(mm, p(8), &migrate::Order::to(FAR)).is_done());
    assert!(!notifier.is_good(ticket) && !mm.notifier(child).unwrap().is_good(other), "migration");
    let told = told.lock().unwrap();
    assert!(told.contains(&(p(8), 1)) && told.contains(&(child.page(8), 1)), "{told:?}");
    let _ = at;
}

/// Two entries that are changed together, in one invalidation: a reader whose ticket is good never
/// sees one changed and the other not. Neither one that had looked at one of them when it began,
/// nor one that comes in the middle of it.
#[test]
fn a_good_ticket_never_goes_with_half_a_change() {
    let (mm, own) = machine();
    let space = mm.spawn().unwrap();
    mm.map(space.page(0), 128).unwrap();
    let ends = [space.page(0), space.page(100)]; // two tables, of 64 entries each
    let change = |at: At, n: usize| {
        mm.entry(at).set_leaf(Leaf::Marker([Marker::Guard, Marker::Poison][n % 2]))
    };
    ends.into_iter().for_each(|at| change(at, 1));
    // Between the ends it asks for the time.
    let limits = within(own, 1 << 30);
    let asked: &AtomicUsize = Box::leak(Box::default());
    own.at_clock(|| _ = asked.fetch_add(1, SeqCst));
    let start = || {
        asked.store(0, SeqCst);
        thread::spawn(move || {
            let mut range = pages(ends[0], 101, Want::Nothing);
            let read =
                snapshot(mm, notifier(mm, space), &mut range, &RangeOrder::new(limits)).unwrap();
            assert_eq!(range[0].found, range[100].found, "half a change");
            read.progress.attempts
        })
    };
    watched(&[], || {
        for n in (0..rounds(20)).map(|n| 2 * n) {
            // It has seen the first end, and waits for the table of the second.
            let mut second = mm.entry(ends[1]);
            let reader = start();
            while asked.load(SeqCst) == 0 {
                thread::yield_now();
            }
            let on = notifier(mm, space).begin();
            second.set_leaf(Leaf::Marker(Marker::Guard));
            drop(second);
            change(ends[0], n);
            drop(on);
            assert_eq!(reader.join().expect("it saw no half"), 2, "it looked again");

            // It comes when one end has changed and the other has not, and waits for the end of
            // that.
            let on = notifier(mm, space).begin();
            change(ends[0], n + 1);
            let reader = start();
            own.until_asleep_or(1, || reader.is_finished());
            change(ends[1], n + 1);
            drop(on);
            assert_eq!(reader.join().expect("it saw no half"), 1);
        }
    });
}

/// `anon_read`, `anon_teardown`: a device with a table of its own reads pages while they are thrown
/// away, written anew, moved between three tiers, forked and copied. It never reads a frame that
/// was taken from the page: every page has its own number in it.
#[test]
fn a_device_never_reads_what_was_taken_away() {
    const PAGES: usize = 12;
    let (mm, own) = machine();
    let space = mm.spawn().unwrap();
    let p = |n| space.page(n);
    let tag = |n: usize| [n as u8 + 1; 16];
    mm.map(p(0), PAGES).unwrap();
    for n in 0..PAGES {
        mm.write(p(n), 0, &tag(n)).unwrap();
    }
    let table: Arc<Mutex<BTreeMap<usize, u64>>> = Arc::default();
    let device = table.clone();
    mm.on_invalidate(move |at, count| {
        if at.space == space {
            device.lock().unwrap().retain(|page, _| !(at.page..at.page + count).contains(page));
        }
    });
    let notifier = notifier(mm, space);
    let stop = AtomicBool::new(false);
    let read = AtomicUsize::new(0);
    with_threads(&[], |s| {
        let changers: Vec<_> = (0..2)
            .map(|seed| {
                s.spawn(move || {
                    let mut lots = Lots::of(seed);
                    for _ in turns(3_000) {
                        // The changers have pages of their own, so that each knows what to
                        // write.
                        let n = lots.draw(PAGES as u64 / 2) as usize * 2 + seed;
                        match lots.draw(5) {
                            0 => {
                                mm.discard(p(n), 1).unwrap();
                                // The frame's next user writes something else.
                                mm.write(p(n), 0, &tag(n)).unwrap();
                            }
                            1 => drop(move_one(mm, p(n), &migrate::Order::to(DEVICE))),
                            2 => drop(move_one(mm, p(n), &migrate::Order::to(FAR))),
                            3 => {
                                if let Ok(child) = mm.fork(space) {
                                    mm.write(p(n), 0, &tag(n)).unwrap();
                                    mm.write(child.page(n), 0, &[0xee; 16]).unwrap();
                                    mm.exit(child);
                                }
                            }
                            _ => mm.write(p(n), 0, &tag(n)).unwrap(),
                        }
                    }
                })
            })
            .collect();
        for seed in 2..4 {
            let (stop, read, table) = (&stop, &read, &table);
            s.spawn(move || {
                let mut lots = Lots::of(seed);
                while !stop.load(SeqCst) || read.load(SeqCst) == 0 {
                    let first = lots.draw(PAGES as u64 - 3) as usize;
                    let mut range = pages(p(first), 4, Want::Read);
                    let order = RangeOrder::new(within(own, 20)).own(DEVICE);
                    if let Ok(known) = fault(mm, &mut range, &order) {
                        let mut table = table.lock().unwrap();
                        if notifier.is_good(known.ticket) {
                            for (n, page) in range.iter().enumerate() {
                                if let Found::Local { pfn, .. } | Found::Own { pfn, .. } =
                                    page.found
                                {
                                    table.insert(first + n, pfn);
                                }
                            }
                        }
                    }
                    for (&n, &pfn) in &*table.lock().unwrap() {
                        let mut bytes = [0; 16];
                        mm.read_frame(pfn, 0, &mut bytes);
                        // Zeroes: thrown away and not written yet, or not to the end.
                        assert!(
                            bytes.iter().all(|&byte| byte == 0 || byte == tag(n)[0]),
                            "page {n} in frame {pfn:#x} is {bytes:?}"
                        );
                        read.fetch_add(1, SeqCst);
                    }
                }
            });
        }
        for changer in changers {
            changer.join().unwrap();
        }
        stop.store(true, SeqCst);
    });
    for n in 0..PAGES {
        let mut bytes = [0; 16];
        mm.read(p(n), 0, &mut bytes).unwrap();
        assert_eq!(bytes, tag(n));
    }
    mm.audit().unwrap();
}

/// One page moves all the time, as often as the reader asks for the time, and is not one of those
/// that are read.
#[test]
fn a_reader_is_not_disturbed_by_what_happens_elsewhere() {
    let (mm, own, space, mut pages) = million();
    let n = pages.len();
    pages.truncate(n.min(1 << 14));
    let (notifier, log) = (mm.notifier(space).unwrap(), mm.log(space).unwrap());
    let moves = move |at| {
        for tier in [1, 0] {
            let order = migrate::Order::to(TierId(tier));
            assert_eq!(
                migrate::migrate(mm, &mut [Slot::at(at)], &order, mm, &mut Unlocked::promise())
                    .done,
                1
            );
        }
    };
    let order = RangeOrder::new(within(own, 1 << 30)).part(log, 0..n).attempts(1);
    let moved: &AtomicUsize = Box::leak(Box::default());
    own.at_clock(move || {
        moves(space.page(n));
        moved.fetch_add(1, SeqCst);
    });
    let read = snapshot(mm, notifier, &mut pages, &order).unwrap();
    own.at_clock(|| ());
    assert!(moved.load(SeqCst) > 0);
    let mut ticket = read.ticket;
    moves(space.page(n));
    assert!(!notifier.is_good(ticket) && log.keeps(notifier, &mut ticket, &(0..n)));
    // And one that is, does.
    mm.write(space.page(1), 0, &[1]).unwrap();
    let order = RangeOrder::new(Limits::none()).part(log, 0..n);
    let mut ticket = snapshot(mm, notifier, &mut pages, &order).unwrap().ticket;
    moves(space.page(1));
    assert!(!log.keeps(notifier, &mut ticket, &(0..n)));
}
