//! The notifier: a reader that validates never saw a half-done invalidation.

use crate::{In, explore, explore_with};
use loom::cell::UnsafeCell;
use loom::sync::Mutex;
use pagelock::futex::model;
use pagelock::mm::range::{Log, Notifier, Ticket};
use pagelock::sync::AtomicU32;
use pagelock::{Cancel, Limits, Wake};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Two entries that an invalidator always changes together, without a lock: whatever orders the
/// readers is the notifier.
#[derive(Default)]
struct Tables {
    notifier: Notifier<In<0>>,
    entries: [AtomicU32; 2],
}

impl Tables {
    fn set(&self, to: u32) {
        for entry in &self.entries {
            // Relaxed: see above.
            entry.store(to, Relaxed);
        }
    }

    fn read(&self) -> [u32; 2] {
        [self.entries[0].load(Relaxed), self.entries[1].load(Relaxed)]
    }
}

fn spawn<T: 'static, R: 'static>(
    shared: &Arc<T>,
    f: impl FnOnce(&T) -> R + 'static,
) -> loom::thread::JoinHandle<R> {
    let shared = shared.clone();
    loom::thread::spawn(move || f(&shared))
}

/// A good ticket: both entries are from before, or both from after.
#[test]
fn a_reader_that_validates_saw_no_half_of_an_invalidation() {
    explore_with(3, || {
        let tables = Arc::new(Tables::default());
        let invalidator = spawn(&tables, |tables| {
            let _invalidation = tables.notifier.begin();
            tables.set(1);
        });
        if let Some(ticket) = tables.notifier.try_ticket() {
            let [a, b] = tables.read();
            if tables.notifier.is_good(ticket) {
                assert_eq!(a, b);
            }
        }
        invalidator.join().unwrap();
        let ticket = tables.notifier.try_ticket().unwrap();
        assert_eq!(tables.read(), [1, 1]);
        assert!(tables.notifier.is_good(ticket));
    });
}

/// Two invalidators: what they leave in between is not for readers either. A ticket is waited for,
/// and nobody is left asleep.
#[test]
fn a_reader_waits_for_invalidations_to_be_over() {
    explore(|| {
        let tables = Arc::new(Tables::default());
        let invalidate = |tables: &Tables| {
            let _invalidation = tables.notifier.begin();
            let now = tables.entries[1].load(Relaxed);
            tables.set(now + 1);
        };
        let (a, b) = (spawn(&tables, invalidate), spawn(&tables, invalidate));
        let ticket = tables.notifier.ticket(Limits::none()).unwrap();
        let [x, y] = tables.read();
        if tables.notifier.is_good(ticket) {
            assert_eq!(x, y);
        }
        a.join().unwrap();
        b.join().unwrap();
        // At most one at a time in a model, so they cannot have overlapped.
        assert_eq!((tables.read(), tables.notifier.active()), ([2, 2], 0));
    });
}

/// Two readers wait for one invalidation: both are woken.
#[test]
fn every_waiting_reader_is_woken() {
    explore(|| {
        let tables = Arc::new(Tables::default());
        let invalidation = tables.notifier.begin();
        let reader = |tables: &Tables| {
            let _ = tables.notifier.ticket(Limits::none()).unwrap();
            assert_eq!(tables.read(), [1, 1]);
        };
        let (a, b) = (spawn(&tables, reader), spawn(&tables, reader));
        tables.set(1);
        drop(invalidation);
        a.join().unwrap();
        b.join().unwrap();
    });
}

/// An invalidation that is never over: the reader's time is up, or it is cancelled.
#[test]
fn a_reader_does_not_wait_for_ever() {
    explore(|| {
        let notifier = Notifier::with_futex(In::<0>);
        let cancel = Arc::new(Cancel::with_futex(In::<0>));
        notifier.begin_raw();
        let clock = loom::thread::spawn(model::expire);
        let killer = spawn(&cancel, Cancel::cancel);
        match notifier
            .ticket(Limits::none().until(pagelock::futex::MonotonicTime::MAX).unless(&cancel))
        {
            Err(Wake::TimedOut | Wake::Cancelled) => {}
            other => panic!("{other:?}"),
        }
        clock.join().unwrap();
        killer.join().unwrap();
    });
}

/// A device with a table of its own, behind its own lock: what it uses is never what was taken
/// away.
#[test]
fn what_a_device_uses_was_not_taken_away() {
    struct Mirror {
        notifier: Notifier<In<0>>,
        entry: AtomicU32,
        device: Mutex<Option<u32>>,
        /// The page of entry 0: the device reads it, and the invalidator frees it.
        frame: UnsafeCell<u32>,
    }
    // SAFETY: the model checker sees every access to the frame, and fails the model if two of them
    // race.
    unsafe impl Sync for Mirror {}

    explore_with(3, || {
        let mirror = Arc::new(Mirror {
            notifier: Notifier::with_futex(In::<0>),
            entry: AtomicU32::new(0),
            device: Mutex::new(None),
            frame: UnsafeCell::new(0),
        });
        let invalidator = spawn(&mirror, |mirror| {
            let invalidation = mirror.notifier.begin();
            *mirror.device.lock().unwrap() = None;
            mirror.entry.store(1, Relaxed);
            drop(invalidation);
            // SAFETY: see above.
            mirror.frame.with_mut(|frame| unsafe { *frame += 1 });
        });
        if let Some(ticket) = mirror.notifier.try_ticket() {
            let entry = mirror.entry.load(Relaxed);
            let mut device = mirror.device.lock().unwrap();
            if mirror.notifier.is_good(ticket) {
                *device = Some(entry);
            }
        }
        {
            let device = mirror.device.lock().unwrap();
            if *device == Some(0) {
                // SAFETY: see above.
                assert_eq!(mirror.frame.with(|frame| unsafe { *frame }), 0);
            }
        }
        invalidator.join().unwrap();
    });
}

/// A notifier with a log, and one page of the reader's, which is page 0. A log has one place in a
/// model.
#[derive(Default)]
struct Logged {
    notifier: Notifier<In<0>>,
    log: Log,
    page: AtomicU32,
}

/// Where the reader is, and where it is not. Each word of the two differs.
const HERE: std::ops::Range<usize> = 0..1;
const ELSEWHERE: std::ops::Range<usize> = 1 << 40 | 5..1 << 41 | 7;

impl Logged {
    fn invalidate(&self) {
        self.log.begin_raw(&self.notifier, HERE);
        // Relaxed: whatever orders the reader is the notifier and its log.
        self.page.store(1, Relaxed);
    }

    /// A reader with a ticket from before all of it: as long as the ticket is kept, it has not seen
    /// the change.
    fn read(&self, mut ticket: Ticket) {
        for _ in 0..2 {
            let seen = self.page.load(Relaxed);
            if !self.log.keeps(&self.notifier, &mut ticket, &HERE) {
                return;
            }
            assert_eq!(seen, 0, "a change that was announced");
        }
    }
}

/// The ticket is kept while the page does not change, and the next invalidation takes the place of
/// the one that says that it does.
#[test]
fn a_ticket_that_is_kept_saw_no_change() {
    explore_with(3, || {
        let logged = Arc::new(Logged::default());
        let ticket = logged.notifier.try_ticket().unwrap();
        let invalidator = spawn(&logged, |logged| {
            logged.invalidate();
            logged.notifier.end_raw();
            logged.log.begin_raw(&logged.notifier, ELSEWHERE);
        });
        logged.read(ticket);
        invalidator.join().unwrap();
    });
}

/// Two write to one place of the log at once: neither's range is taken for the other's.
#[test]
fn two_invalidations_at_one_place_are_not_mixed_up() {
    explore_with(3, || {
        let logged = Arc::new(Logged::default());
        let ticket = logged.notifier.try_ticket().unwrap();
        let here = spawn(&logged, |logged| {
            // At most one is on at a time in a model. So that both are, this one does not wait for
            // the first to be over.
            if logged.notifier.active() == 1 {
                logged.notifier.end_raw();
                logged.invalidate();
            }
        });
        logged.log.begin_raw(&logged.notifier, ELSEWHERE);
        logged.read(ticket);
        here.join().unwrap();
    });
}
