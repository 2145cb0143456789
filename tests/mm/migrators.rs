//! Two migrators at once: neither holds anything between its tries, and both come to an end.

use crate::common::machine::{
    DEVICE, FAR, Mm, RAM, check_all, is_migrating, machine, picture, written,
};
use crate::common::{watched, with_threads};
use crate::order;
use core::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use pagelock::mm::drain::{Drain, Unlocked};
use pagelock::mm::migrate::{Abort, Mode, Order, Outcome, Skip, Slot, collect, migrate};
use pagelock_soft::At;
use std::thread;
use std::time::{Duration, Instant};

/// I23: with another page in hand, a lock is tried; the one that is waited for is waited for with
/// none.
#[test]
fn a_lock_is_waited_for_with_empty_hands() {
    for by_frame in [false, true] {
        let (mm, own) = machine();
        let at = written(mm, mm.spawn().unwrap(), 3);
        let pages: Vec<_> = at.pages(3).map(|at| mm.frame_at(at).unwrap()).collect();
        let busy = mm.page(pages[1]).unwrap();
        with_threads(&[busy], |s| {
            let guard = busy.lock();
            let (refs, mode) = (busy.refs(), Mode::SyncLight);
            let mover = s.spawn({
                let pages = pages.clone();
                move || {
                    let unlocked = &mut Unlocked::promise();
                    let mut slots: Vec<_> = if by_frame {
                        pages.iter().copied().map(Slot::frame).collect()
                    } else {
                        at.pages(3).map(Slot::at).collect()
                    };
                    migrate(mm, &mut slots, &order().mode(mode).tries(3), mm, unlocked)
                }
            });
            own.until_asleep(1);
            assert_eq!(busy.refs(), refs, "and without a reference");
            for (i, &pfn) in pages.iter().enumerate() {
                let page = mm.page(pfn).unwrap();
                assert_eq!(page.is_locked(), i == 1, "{page:?}");
            }
            drop(guard);
            let summary = mover.join().unwrap();
            assert_eq!((summary.done, summary.left), (3, 0));
        });
        mm.audit().unwrap();
    }
}

/// Batches that see what is held whenever they are drained.
struct Watching<'m> {
    mm: &'m Mm,
    at: At,
    pages: Vec<u64>,
    locals: AtomicUsize,
    alls: AtomicUsize,
}

impl Drain for Watching<'_> {
    fn local(&self) {
        self.locals.fetch_add(1, SeqCst);
        // All entries are taken down, the others' too.
        assert!(self.at.pages(2).all(|at| is_migrating(self.mm, at)));
    }

    fn all(&self, _unlocked: &mut Unlocked) {
        self.alls.fetch_add(1, SeqCst);
        for &pfn in &self.pages {
            let page = self.mm.page(pfn).unwrap();
            assert!(
                !page.is_locked() && !page.is_migrating() && !page.is_frozen(),
                "held across a drain: {page:?}"
            );
        }
        assert!(self.at.pages(2).all(|at| !is_migrating(self.mm, at)));
    }
}

/// I30, I32: everything is put back and let go of before others are waited for, and before it is
/// tried again.
#[test]
fn nothing_is_held_between_the_tries() {
    let unlocked = &mut Unlocked::promise();
    let (mm, _) = machine();
    let at = written(mm, mm.spawn().unwrap(), 2);
    let pages: Vec<_> = at.pages(2).map(|at| mm.frame_at(at).unwrap()).collect();
    for &pfn in &pages {
        mm.get(pfn).unwrap();
    }
    let drain = Watching {
        mm,
        at,
        pages: pages.clone(),
        locals: AtomicUsize::new(0),
        alls: AtomicUsize::new(0),
    };
    let before = [picture(mm, at), picture(mm, at.space.page(1))];
    for (mode, tries, locals, alls) in
        [(Mode::Async, 4, 4, 0), (Mode::SyncLight, 3, 3 + 1, 3), (Mode::Sync, 0, 1 + 1, 1)]
    {
        let mut slots: Vec<_> = at.pages(2).map(Slot::at).collect();
        // The last tries of a mode that may sleep are one by one, so `local` is asked with one page
        // in hand; not of interest here.
        let alone = mode != Mode::Async;
        let drain: &dyn DrainObject = if alone { &Counting(&drain) } else { &drain };
        let summary =
            migrate(mm, &mut slots, &order().mode(mode).tries(tries), &Forward(drain), unlocked);
        assert_eq!(summary.transient, 2);
        assert_eq!(summary.drains as usize, alls);
        assert_eq!(summary.tries as usize, locals);
        assert!(
            slots.iter().all(|s| matches!(s.outcome(), Outcome::Aborted(Abort::Referenced { .. }))),
            "{slots:?}"
        );
    }
    assert_eq!([picture(mm, at), picture(mm, at.space.page(1))], before);
    assert_eq!(drain.alls.load(SeqCst), 4);
    assert!(drain.locals.load(SeqCst) >= 4);
    for pfn in pages {
        // SAFETY: taken above.
        unsafe { mm.put(pfn) };
    }
    mm.audit().unwrap();
}

trait DrainObject {
    fn local(&self);
    fn all(&self, unlocked: &mut Unlocked);
}

impl DrainObject for Watching<'_> {
    fn local(&self) {
        Drain::local(self);
    }
    fn all(&self, unlocked: &mut Unlocked) {
        Drain::all(self, unlocked);
    }
}

struct Counting<'w, 'm>(&'w Watching<'m>);

impl DrainObject for Counting<'_, '_> {
    fn local(&self) {
        self.0.locals.fetch_add(1, SeqCst);
    }
    fn all(&self, unlocked: &mut Unlocked) {
        Drain::all(self.0, unlocked);
    }
}

struct Forward<'d>(&'d dyn DrainObject);

impl Drain for Forward<'_> {
    fn local(&self) {
        self.0.local();
    }
    fn all(&self, unlocked: &mut Unlocked) {
        self.0.all(unlocked);
    }
}

/// I36, step by step: each has what the other wants. By the entries, which say that the page is on
/// its way, and by the frames, whose entries are still there: so it is the lock that tells.
#[test]
fn migrators_in_opposite_orders_pass_over_each_others_pages() {
    // Two migrators, in two threads of control that take turns.
    let (unlocked, other) = (&mut Unlocked::promise(), &mut Unlocked::promise());
    for by_frame in [false, true] {
        let (mm, _) = machine();
        let at = written(mm, mm.spawn().unwrap(), 2);
        let pages = [at, at.space.page(1)].map(|at| mm.frame_at(at).unwrap());
        let slot =
            |n: usize| if by_frame { Slot::frame(pages[n]) } else { Slot::at(at.space.page(n)) };
        let (mut one, mut two) = ([slot(0)], [slot(1), slot(0)]);
        watched(&[mm.page(pages[0]).unwrap(), mm.page(pages[1]).unwrap()], || {
            let first = collect(mm, &mut one, &order(), unlocked);
            let second = collect(mm, &mut two, &order(), other);
            assert_eq!(second.in_work(), 1);
            let _ = second.unmap().check().copy().finalize();
            let _ = first.unmap().check().copy().finalize();
        });
        let passed_over = if by_frame { Skip::Locked } else { Skip::Migrating };
        assert_eq!(two[1].outcome(), Outcome::Skipped(passed_over));
        assert!(two[0].outcome().is_done() && one[0].outcome().is_done());
        mm.audit().unwrap();
    }
}

/// I36 with threads, and modes that wait.
#[test]
fn migrators_in_opposite_orders_both_come_to_an_end() {
    let (mm, _) = machine();
    let at = written(mm, mm.spawn().unwrap(), 16);
    // Whoever has a page gives the other a chance to get its next.
    mm.on_prepare(|_| thread::yield_now());
    let began = Instant::now();
    with_threads(&[], |s| {
        for backwards in [false, true] {
            s.spawn(move || {
                let unlocked = &mut Unlocked::promise();
                for turn in 0..crate::common::rounds(300) {
                    // On a busy machine a turn can take long.
                    if began.elapsed() > Duration::from_secs(2) {
                        return;
                    }
                    // Every other time by the frames, as far as pages have any at the moment,
                    // and then with the entries still up.
                    let slot = |at| match mm.frame_at(at) {
                        Some(pfn) if turn % 2 == 0 => Slot::frame(pfn),
                        _ => Slot::at(at),
                    };
                    let mut slots: Vec<_> = at.pages(16).map(slot).collect();
                    if backwards {
                        slots.reverse();
                    }
                    let to = [DEVICE, RAM, FAR][(turn + usize::from(backwards)) % 3];
                    let mode = [Mode::Async, Mode::SyncLight, Mode::Sync][turn % 3];
                    let summary =
                        migrate(mm, &mut slots, &Order::to(to).mode(mode).tries(2), mm, unlocked);
                    assert_eq!(summary.done + summary.left, 16);
                }
            });
        }
    });
    check_all(mm, at, 16);
    mm.audit().unwrap();
}
