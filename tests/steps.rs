//! A process is killed, or stopped, after each step of each call; and a survivor after each step of
//! its recovery.
//!
//! With `--cfg pagelock_delay` (`ci/shared.sh`). A step is an access of the crate to a word.
//! Several in a row from one place in the sources are one: a survivor reads many notes.

#![cfg(all(
    pagelock_delay,
    feature = "shared",
    feature = "std",
    target_os = "linux",
    not(any(pagelock_loom, pagelock_shuttle))
))]

mod common;

use common::child::{Child, End, fork, shared};
use common::{watched, with_threads};
use core::cell::Cell;
use core::panic::Location;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use core::time::Duration;
use pagelock::futex::MonotonicTime;
use pagelock::shared::{InSegment, Recovered, Seat, Segment, Size};
use pagelock::sync::steps::{self, Step};
use pagelock::{Cancel, FreezeRule, Limits, UserBits, Wait};
use std::thread;

/// Live, with a raw reference of nobody's; and free.
const A: u32 = 0;
const B: u32 = 1;

thread_local! {
    /// After how many steps from now this process ends, by which signal.
    static LEFT: Cell<Option<(u32, i32)>> = const { Cell::new(None) };
    static LAST: Cell<usize> = const { Cell::new(0) };
}

fn step(at: Step, done: bool) {
    let place = core::ptr::from_ref::<Location<'_>>(at).addr();
    let Some((left, signal)) = LEFT.get().filter(|_| done && LAST.replace(place) != place) else {
        return;
    };
    LEFT.set(left.checked_sub(1).map(|left| (left, signal)));
    if left == 0 {
        // SAFETY: this process is one that is to end, or to stop, here.
        unsafe { libc::raise(signal) };
    }
}

fn within(millis: u64) -> Limits<'static, InSegment> {
    Limits::none().until(MonotonicTime::now() + Duration::from_millis(millis))
}

struct Call {
    name: &'static str,
    /// What another has, while the call is made: taken before, and let go of after a moment.
    other: Other,
    call: fn(&Seat<'_>),
}

#[derive(Clone, Copy, PartialEq)]
enum Other {
    Nothing,
    Lock,
    Pin,
}

const fn call(name: &'static str, call: fn(&Seat<'_>)) -> Call {
    Call { name, other: Other::Nothing, call }
}

const RULE: FreezeRule = FreezeRule::Unpinned;

const CALLS: [Call; 25] = [
    call("lock", |s| drop(s.lock(A))),
    call("try_lock", |s| drop(s.try_lock(A))),
    call("unlock", |s| _ = s.lock(A).unwrap().unlock()),
    Call { name: "lock of a page that is held", other: Other::Lock, call: |s| drop(s.lock(A)) },
    Call {
        name: "lock within limits, of a page that is held",
        other: Other::Lock,
        call: |s| drop(s.lock_within(A, within(1))),
    },
    Call {
        name: "lock under a switch, of a page that is held",
        other: Other::Lock,
        call: |s| {
            let switch = Cancel::with_futex(InSegment::clock());
            drop(s.lock_within(A, within(20).unless(&switch)));
        },
    },
    Call { name: "wait", other: Other::Lock, call: |s| _ = s.wait(A, (), Wait::unlocked()) },
    call("unlock of a page that is waited for", |s| {
        let guard = s.lock(A).unwrap();
        // This is no step of the call.
        let left = LEFT.take();
        for _ in 0..100 {
            if format!("{:?}", s.look(A)).contains("awaited") {
                break;
            }
            thread::sleep(Duration::from_micros(100));
        }
        LEFT.set(left);
        drop(guard);
    }),
    call("set_user and set_tag", |s| {
        let mut guard = s.lock(A).unwrap();
        guard.set_user(UserBits::new(3));
        guard.set_tag(7);
    }),
    call("abort", |s| _ = s.lock(A).unwrap().begin_migration().abort()),
    call("cancel", |s| drop(s.lock(A).unwrap().begin_migration().cancel())),
    call("commit_in_place", |s| {
        _ = s.lock(A).unwrap().begin_migration().freeze(RULE).unwrap().commit_in_place()
    }),
    call("commit_keeping", |s| {
        drop(s.lock(A).unwrap().begin_migration().freeze(RULE).unwrap().commit_keeping())
    }),
    call("abort of a frozen page", |s| {
        _ = s.lock(A).unwrap().begin_migration().freeze(RULE).unwrap().abort()
    }),
    call("commit_to", |s| {
        let frozen = s.lock(A).unwrap().begin_migration().freeze(RULE).unwrap();
        let _ = frozen.commit_to(s.lock(B).unwrap()).unwrap();
    }),
    Call {
        name: "freeze_unpinned",
        other: Other::Pin,
        call: |s| drop(s.lock(A).unwrap().begin_migration().freeze_unpinned(RULE, Limits::none())),
    },
    Call {
        name: "freeze of a pinned page",
        other: Other::Pin,
        call: |s| drop(s.lock(A).unwrap().begin_migration().freeze(RULE)),
    },
    call("get and put", |s| drop(s.get(A))),
    call("pin and unpin", |s| drop(s.pin(A))),
    call("get of a free page", |s| drop(s.get(B))),
    call("activate and put", |s| drop(s.activate(B))),
    call("a pin, a reference and the lock", |s| drop((s.pin(A), s.get(A), s.lock(A)))),
    call("the lock, twice", |s| drop((s.lock(A), s.try_lock(A)))),
    call("grow", |s| _ = s.segment().grow(4)),
    call("three locks", |s| drop((s.lock(B), s.lock(A), s.lock(2)))),
];

struct Pages {
    segment: Segment,
}

impl Pages {
    fn new() -> Self {
        let segment = Segment::create(c"steps", Size::of(3).up_to(5).seats(4)).unwrap();
        segment.sit().unwrap().activate(A).unwrap().into_raw();
        Self { segment }
    }

    /// Makes the call in a process that ends by `signal` after `steps` more than one of its steps.
    /// What it came to.
    fn make(&self, call: &'static Call, steps: u32, signal: i32) -> (Child, End) {
        let seat = self.segment.sit().unwrap();
        let lock = (call.other == Other::Lock).then(|| seat.lock(A).unwrap());
        let pin = (call.other == Other::Pin).then(|| seat.pin(A).unwrap());
        let child = self.fork(steps, signal, move |own| (call.call)(&own.sit().unwrap()));
        if call.other != Other::Nothing {
            thread::sleep(Duration::from_millis(3));
        }
        drop((lock, pin));
        let end = child.wait();
        (child, end)
    }

    fn fork(&self, steps: u32, signal: i32, body: impl FnOnce(&Segment)) -> Child {
        fork(|| {
            let own = Segment::attach(&self.segment).unwrap();
            LEFT.set(Some((steps, signal)));
            body(&own);
            LEFT.set(None);
            0
        })
    }

    /// In use as any other, and nothing is left of anybody.
    fn are_usable(&self, call: &str, steps: u32) {
        let seats: Vec<_> = (0..4)
            .map(|_| self.segment.sit().unwrap_or_else(|e| panic!("{call}, {steps}: {e}")))
            .collect();
        let seat = &seats[0];
        let say = |page| format!("{call}, {steps}: {:?}", seat.look(page).unwrap());
        drop(seat.get(A).unwrap_or_else(|_| panic!("{}", say(A))));
        drop(seat.pin(A).unwrap_or_else(|_| panic!("{}", say(A))));
        for page in 0..3 {
            let guard = seat.try_lock(page).unwrap_or_else(|_| panic!("{}", say(page)));
            let frozen =
                guard.begin_migration().freeze(FreezeRule::ExactRefs(u32::from(page == A)));
            frozen.unwrap_or_else(|_| panic!("{}", say(page))).commit_in_place();
        }
        drop(seat.activate(B).unwrap());
        assert_eq!(self.segment.grow(5), Ok(5), "{call}, {steps}");
        drop(seat.try_lock(4).unwrap());
    }
}

/// Recovers, with the page owned by a process that has taken it since the death, if `beside` says
/// so and it can be had: that one is not robbed.
fn recover_beside(beside: bool, segment: &Segment, case: &str) -> Recovered {
    let other = Segment::attach(segment).unwrap();
    let seat = other.sit().unwrap();
    let since = beside.then(|| seat.try_lock(A).ok()).flatten();
    let is_robbed = |page| since.is_some() && page == A;
    let recovered =
        segment.recover(|left| assert!(!is_robbed(left.page), "{case}: {left:?}")).unwrap();
    assert_eq!((recovered.undecided, recovered.nonsense), (0, 0));
    recovered
}

fn recover(segment: &Segment) -> Recovered {
    let recovered = segment.recover(|left| drop(left.stage)).unwrap();
    assert_eq!((recovered.undecided, recovered.nonsense), (0, 0));
    recovered
}

/// Runs `test` beside a thread that waits for the page whenever it is locked, and is stuck if
/// nobody tells it.
fn with_passer_by<R>(segment: &Segment, test: impl FnOnce() -> R) -> R {
    let is_over = &AtomicBool::new(false);
    with_threads(&[], |s| {
        let other = s.spawn(move || {
            let own = Segment::attach(segment).unwrap();
            let seat = own.sit().unwrap();
            while !is_over.load(SeqCst) {
                let _ = seat.wait(A, (), Wait::unlocked());
                thread::yield_now();
            }
        });
        let result = test();
        is_over.store(true, SeqCst);
        other.join().unwrap();
        result
    })
}

#[test]
fn whatever_step_a_process_is_killed_at_a_survivor_puts_it_right() {
    steps::call(step);
    let (mut kills, mut sum) = (0, Recovered::default());
    let mut kill = |call: &'static Call, steps, beside| {
        let pages = Pages::new();
        let end = with_passer_by(&pages.segment, || {
            let (child, end) = pages.make(call, steps, libc::SIGKILL);
            child.reaped();
            let found = recover_beside(beside, &pages.segment, call.name);
            for (sum, n) in [
                (&mut sum.pages, found.pages),
                (&mut sum.refs, found.refs),
                (&mut sum.pins, found.pins),
            ] {
                *sum += n;
            }
            assert_eq!(recover(&pages.segment), Recovered::default());
            end
        });
        pages.are_usable(call.name, steps);
        assert!(
            matches!(end, End::Exit(0) | End::Signal(libc::SIGKILL)),
            "{}, {steps}: {end:?}",
            call.name
        );
        kills += u32::from(end != End::Exit(0));
        end == End::Exit(0)
    };
    for call in &CALLS {
        let steps = (0..)
            .find(|&steps| [false, true].map(|beside| kill(call, steps, beside)) == [true; 2])
            .unwrap();
        println!("{}: killed at each of {steps} steps", call.name);
    }
    println!("{kills} kills: {} pages, {} references, {} pins", sum.pages, sum.refs, sum.pins);
    assert!(kills > 200 && sum.pages > 50 && sum.refs > 5 && sum.pins > 5);
}

#[test]
fn whatever_step_a_process_is_stopped_at_it_is_not_robbed() {
    steps::call(step);
    let mut stops = 0;
    for call in &CALLS {
        for steps in 0.. {
            let pages = Pages::new();
            let is_over = watched(&[], || {
                let (child, mut end) = pages.make(call, steps, libc::SIGSTOP);
                let is_over = end == End::Exit(0);
                if !is_over {
                    assert_eq!(end, End::Stopped, "{}, {steps}", call.name);
                    let found =
                        pages.segment.recover(|left| panic!("{}, {steps}: {left:?}", call.name));
                    assert_eq!(found, Ok(Recovered::default()));
                    child.signal(libc::SIGCONT);
                    end = child.wait();
                    stops += 1;
                }
                assert_eq!(end, End::Exit(0), "{}, {steps}", call.name);
                child.reaped();
                is_over
            });
            pages.are_usable(call.name, steps);
            if is_over {
                break;
            }
        }
    }
    println!("{stops} stops");
    assert!(stops > 200);
}

/// And one that is stopped while another has died, in the middle of the same call for the same
/// page.
#[test]
fn a_survivor_that_is_killed_at_any_step_leaves_it_to_the_next() {
    steps::call(step);
    let mut kills = 0;
    let chosen =
        ["commit_in_place", "commit_to", "pin and unpin", "a pin, a reference and the lock"];
    for call in CALLS.iter().filter(|call| chosen.contains(&call.name)) {
        'steps: for steps in 0.. {
            for of_survivor in 0.. {
                let pages = Pages::new();
                let is_through = with_passer_by(&pages.segment, || {
                    let (child, end) = pages.make(call, steps, libc::SIGKILL);
                    child.reaped();
                    if end == End::Exit(0) {
                        return None;
                    }
                    let survivor = pages.fork(of_survivor, libc::SIGKILL, |own| _ = recover(own));
                    let end = survivor.wait();
                    survivor.reaped();
                    recover_beside(true, &pages.segment, call.name);
                    Some(end == End::Exit(0))
                });
                pages.are_usable(call.name, steps);
                match is_through {
                    None => break 'steps,
                    Some(true) => break,
                    Some(false) => kills += 1,
                }
            }
        }
    }
    println!("{kills} kills of survivors");
    assert!(kills > 500, "{kills}");
}

/// Of two processes in the same call for the same page one is stopped at some step and the other
/// killed at some step: what the one that lives has is not taken from it, and what the dead had is,
/// at the latest when the other goes on.
#[test]
fn what_a_stopped_process_may_have_is_left_alone_while_another_has_died() {
    steps::call(step);
    let (mut pairs, mut undecided) = (0, 0);
    let owners: &AtomicU32 = shared();
    let locked = |s: &Seat<'_>| {
        let guard = s.lock_within(A, within(30));
        if guard.is_ok() && owners.fetch_add(1, SeqCst) != 0 {
            // SAFETY: ends this process.
            unsafe { libc::_exit(77) };
        }
        if guard.is_ok() {
            owners.fetch_sub(1, SeqCst);
        }
    };
    for stops in 0..14 {
        for dies in 0..14 {
            owners.store(0, SeqCst);
            let pages = Pages::new();
            watched(&[], || {
                let one = pages.fork(stops, libc::SIGSTOP, |own| locked(&own.sit().unwrap()));
                let end = one.wait();
                let other = pages.fork(dies, libc::SIGKILL, |own| {
                    drop(own.sit().unwrap().lock_within(A, within(30)))
                });
                let died = other.wait() == End::Signal(libc::SIGKILL);
                other.reaped();
                let found = pages.segment.recover(|left| assert!(died, "{left:?}")).unwrap();
                undecided += found.undecided;
                if end == End::Stopped {
                    one.signal(libc::SIGCONT);
                    assert_eq!(one.wait(), End::Exit(0), "{stops}, {dies}");
                }
                one.reaped();
                recover(&pages.segment);
            });
            pages.are_usable("lock", stops);
            pairs += 1;
        }
    }
    println!("{pairs} pairs, {undecided} left for later");
}
