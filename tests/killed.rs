//! Whatever step a call dies at, there is a way back: that of the table in `migration::take_over`.
//!
//! Each call is made by a thread of its own, again and again, and the thread stops for good after
//! its first access to one of the crate's words, then after its second, and so on until the call is
//! through. A survivor, which knows its pages and how often they were referred to
//! before, does what the table says; then the pages are in use as any other, and who waited for
//! them has been told.

#![cfg(all(
    pagelock_delay,
    feature = "std",
    target_os = "linux",
    not(any(pagelock_loom, pagelock_shuttle))
))]

mod common;

use common::own::Own;
use common::{page_on, watched, with_threads};
use core::cell::{Cell, RefCell};
use core::sync::atomic::{AtomicBool, Ordering::SeqCst};
use pagelock::futex::Adapt;
use pagelock::{FreezeRule, Futex, FutexTimed, Limits, Migration, PageGuard, UserBits};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use FreezeRule::{ExactRefs, Unpinned};

/// A platform on which nobody looks before it sleeps: a look is a step.
#[derive(Clone, Copy)]
struct Quick(Own);

impl Adapt for Quick {
    type Base = Own;
    const SPINS: u32 = 0;

    fn base(&self) -> &Own {
        &self.0
    }

    /// Between a release and the first thing that it tells is a step as well.
    fn tell(&self, page: usize) {
        step(core::panic::Location::caller(), true);
        self.0.tell(page);
    }
}

type PageLock = pagelock::PageLock<Quick>;

/// `a` is live, with one reference, `b` is free. They are never freed: the dead still point to
/// them.
#[derive(Clone, Copy)]
struct Pages {
    a: &'static PageLock,
    b: &'static PageLock,
    own: Own,
}

fn pages() -> Pages {
    let own = Own::new(4);
    let page = || page_on(Quick(own));
    let (a, b) = (page(), page());
    a.activate(1).unwrap();
    Pages { a, b, own }
}

struct Call {
    name: &'static str,
    /// What a living thread had done before.
    before: fn(Pages),
    call: fn(Pages),
    /// What that one does once the call sleeps, or is over.
    after: fn(Pages),
}

const fn call(name: &'static str, call: fn(Pages)) -> Call {
    Call { name, before: |_| {}, call, after: |_| {} }
}

fn begun(p: Pages) -> Migration<'static, Quick> {
    p.a.lock().begin_migration()
}

/// The page's lock, and its end.
fn hold(p: Pages) {
    let _ = p.a.lock().into_raw();
}

fn let_go(p: Pages) {
    // SAFETY: `hold` has left it.
    drop(unsafe { PageGuard::from_raw(p.a) });
}

fn pinned(p: Pages) {
    p.a.try_pin().unwrap().into_raw();
}

fn soon<'c>(p: Pages) -> Limits<'c, Quick> {
    Limits::none().until(Quick(p.own).after(Duration::from_millis(5)).unwrap())
}

const CALLS: [Call; 27] = [
    call("lock", |p| drop(p.a.lock())),
    call("try_lock", |p| drop(p.a.try_lock())),
    call("claim", |p| drop(p.a.claim())),
    call("lock_releasing", |p| drop(p.a.lock_releasing(()))),
    call("unlock_fair", |p| _ = p.a.lock().unlock_fair()),
    Call {
        name: "lock of a page that is held",
        before: hold,
        call: |p| drop(p.a.lock()),
        after: let_go,
    },
    Call {
        name: "lock_releasing of a page that is held",
        before: hold,
        call: |p| drop(p.a.lock_releasing(())),
        after: let_go,
    },
    Call {
        name: "claim of a page that is held",
        before: hold,
        call: |p| drop(p.a.claim()),
        after: let_go,
    },
    Call { name: "wait", before: hold, call: |p| _ = p.a.wait_unlocked(()), after: let_go },
    call("set_user", |p| p.a.lock().set_user(UserBits::new(3))),
    call("cancel", |p| drop(begun(p).cancel())),
    call("abort", |p| _ = begun(p).abort()),
    call("abort of a frozen page", |p| _ = begun(p).freeze(Unpinned).unwrap().abort()),
    call("commit_in_place", |p| _ = begun(p).freeze(ExactRefs(1)).unwrap().commit_in_place()),
    call("commit_keeping", |p| drop(begun(p).freeze(ExactRefs(1)).unwrap().commit_keeping())),
    call("commit_to", |p| {
        _ = begun(p).freeze(ExactRefs(1)).unwrap().commit_to(p.b.lock()).unwrap()
    }),
    call("commit_to_moving", |p| {
        let frozen = begun(p).freeze(ExactRefs(1)).unwrap();
        // SAFETY: the one that the page was made with.
        let _ = unsafe { frozen.commit_to_moving(p.b.lock(), 1) }.unwrap();
    }),
    call("migrate", |p| _ = p.a.lock().migrate(Unpinned, |_| Ok::<_, ()>(())).unwrap()),
    Call {
        name: "freeze_unpinned",
        before: pinned,
        call: |p| drop(begun(p).freeze_unpinned(Unpinned, soon(p))),
        after: |_| {},
    },
    Call {
        name: "wait_unpinned",
        before: pinned,
        call: |p| _ = begun(p).wait_unpinned(soon(p)),
        after: |_| {},
    },
    call("poison", |p| _ = p.a.lock().poison()),
    call("poison of a migration", |p| _ = begun(p).poison()),
    call("poison of a frozen page", |p| _ = begun(p).freeze(Unpinned).unwrap().poison()),
    Call {
        name: "unpoison",
        before: |p| _ = p.a.lock().poison(),
        // SAFETY: all that there was is the reference that the page was made with, and nobody puts
        // it.
        call: |p| unsafe { p.a.lock().unpoison() },
        after: |_| {},
    },
    call("get and put", |p| drop(p.a.try_get())),
    call("pin and unpin", |p| drop(p.a.try_pin())),
    call("activate", |p| p.b.activate(1).unwrap()),
];

thread_local! {
    /// After how many steps from now this thread dies, if it is one that does.
    static LEFT: Cell<Option<u32>> = const { Cell::new(None) };
    static LAST_WORDS: RefCell<Option<Sender<bool>>> = const { RefCell::new(None) };
}

/// Ends this thread, if it has no accesses left.
fn step(_: &'static core::panic::Location<'static>, done: bool) {
    let Some(left) = LEFT.get().filter(|_| done) else { return };
    LEFT.set(left.checked_sub(1));
    if left == 0 {
        LAST_WORDS.with_borrow(|last| last.as_ref().unwrap().send(true).unwrap());
        loop {
            thread::park();
        }
    }
}

/// Makes the call, and dies after `steps` more than one of its steps. `false` if it came to its end
/// before.
fn died(call: &'static Call, pages: Pages, steps: u32) -> bool {
    (call.before)(pages);
    let (says, hears) = mpsc::channel();
    thread::Builder::new()
        .stack_size(1 << 17)
        .spawn(move || {
            LAST_WORDS.set(Some(says.clone()));
            LEFT.set(Some(steps));
            (call.call)(pages);
            LEFT.set(None);
            says.send(false).unwrap();
        })
        .unwrap();
    // It may sleep until another thread does something: once, then.
    let said = hears.recv_timeout(Duration::from_millis(10));
    (call.after)(pages);
    match said {
        Ok(died) => died,
        Err(RecvTimeoutError::Timeout) => hears.recv().unwrap(),
        Err(e) => panic!("{}: {e}", call.name),
    }
}

/// What a survivor does with a page that the dead had to do with, and that should have one
/// reference.
fn recover(page: &PageLock) {
    // SAFETY: each user of the page is dead, or waits for it without wanting it; and nobody's
    // `tell` locks it.
    unsafe {
        drop(page.take_over());
        while page.refs() > 1 {
            let _ = page.put_raw();
        }
        while page.pins() > 0 {
            let _ = page.unpin_raw();
        }
        page.reset_sleepers();
        page.retell();
        if page.is_poisoned() {
            let mut guard = page.try_lock().unwrap();
            guard.unpoison();
        }
    }
    if page.refs() == 0 {
        page.activate(1).unwrap();
    }
}

/// In use as any other.
fn is_usable(page: &PageLock) {
    drop(page.try_lock().expect("it can be locked"));
    drop((page.try_get().unwrap(), page.try_pin().unwrap()));
    page.lock().begin_migration().freeze(ExactRefs(1)).unwrap().commit_in_place();
    assert_eq!(page.sleepers(), 0);
}

#[test]
fn whatever_step_a_call_dies_at_there_is_a_way_back() {
    pagelock::sync::steps::call(step);
    let mut deaths = 0;
    for call in &CALLS {
        for steps in 0.. {
            let pages = pages();
            let is_over = &AtomicBool::new(false);
            let through = with_threads(&[pages.a, pages.b], |s| {
                // Waits for the page whenever it is locked, and is stuck if nobody tells it.
                let passer_by = s.spawn(move || {
                    while !is_over.load(SeqCst) {
                        let _ = pages.a.wait_unlocked(());
                        thread::yield_now();
                    }
                });
                let died = died(call, pages, steps);
                thread::sleep(Duration::from_millis(1));
                for page in [pages.b, pages.a] {
                    recover(page);
                }
                is_over.store(true, SeqCst);
                passer_by.join().unwrap();
                [pages.a, pages.b].map(is_usable);
                !died
            });
            if through {
                println!("{}: dies at each of {steps} steps", call.name);
                break;
            }
            deaths += 1;
        }
    }
    assert!(deaths > 100, "{deaths}");
}
