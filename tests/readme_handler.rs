//! The fault handler that the README shows, to the letter: it sleeps where it has to wait, it ends
//! where the page cannot come back, and it leaves nothing behind.

#![cfg(all(feature = "std", not(any(pagelock_loom, pagelock_shuttle))))]

mod common;

use common::own::Task;
use common::watched;
use core::cell::Cell;
use core::time::Duration;
use pagelock::{Cancel, FreezeRule, Limits, PageLock, Wait, Wake};
use std::fs;
use std::path::Path;
use std::sync::{LockResult, MutexGuard, mpsc};
use std::thread;

thread_local! {
    /// How often this thread has locked the page table.
    static LOOKS: Cell<u32> = const { Cell::new(0) };
}

/// The mutex of the handler below: std's, with a counter of the handler's turns.
struct Mutex<T>(std::sync::Mutex<T>);

impl<T> Mutex<T> {
    const fn new(value: T) -> Self {
        Self(std::sync::Mutex::new(value))
    }

    fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
        LOOKS.set(LOOKS.get() + 1);
        self.0.lock()
    }
}

#[rustfmt::skip]
mod handler {
    use super::*;
    include!("readme_handler/fault.rs");

    /// A page with one reference, and its entry.
    pub(super) struct Cold { pub(super) page: PageLock, entry: Mutex<Leaf> }

    impl Cold {
        pub(super) fn new() -> Self {
            let page = PageLock::new();
            page.activate(1).unwrap();
            Self { page, entry: Mutex::new(Leaf::Cold) }
        }

        pub(super) fn is_hot(&self) -> bool {
            matches!(*self.entry.0.lock().unwrap(), Leaf::Hot)
        }

        /// Faults, and says what came of it and how often the handler looked at the page table.
        pub(super) fn fault(&self, limits: Limits<'_>, bring_back: impl Fn()) -> (Result<(), Failure>, u32) {
            LOOKS.set(0);
            let ended = fault(&self.page, &self.entry, limits, bring_back);
            (ended.map_err(Failure), LOOKS.get())
        }
    }

    #[derive(Debug, PartialEq)]
    pub(super) struct Failure(Failed);
    pub(super) const LOST: Failure = Failure(Failed::Lost);
    pub(super) const OUT_OF_TIME: Failure = Failure(Failed::OutOfTime);
}

use handler::{Cold, LOST, OUT_OF_TIME};

/// Faults in another thread. Once that one is asleep, `meanwhile` is done and then its answer
/// awaited.
fn fault_asleep(cold: &Cold, meanwhile: impl FnOnce()) -> (Result<(), handler::Failure>, u32) {
    let (say, hear) = mpsc::channel();
    thread::scope(|s| {
        let faulter = s.spawn(move || {
            say.send(Task::current()).unwrap();
            cold.fault(Limits::none(), || {})
        });
        let task = hear.recv().unwrap();
        // Asleep and still asleep a moment later: not a short sleep for the entry's mutex, nor
        // turns.
        let mut quiet = 0;
        while quiet < 20 {
            thread::sleep(Duration::from_millis(1));
            quiet = if task.is_asleep() { quiet + 1 } else { 0 };
        }
        meanwhile();
        faulter.join().unwrap()
    })
}

/// Nobody has the page, and it can be taken, pinned and moved as if the handler had not been there.
fn is_as_before(page: &PageLock) -> bool {
    !page.is_locked()
        && !page.is_migrating()
        && !page.is_frozen()
        && page.refs() == 1
        && page.try_pin().is_ok()
}

#[test]
fn the_readme_shows_this_handler() {
    let root = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), std::path::PathBuf::from);
    let read = |path: &str| fs::read_to_string(Path::new(&root).join(path)).unwrap();
    assert!(
        read("README.md").contains(&read("tests/readme_handler/fault.rs")),
        "README.md shows another handler"
    );
}

#[test]
fn a_fault_brings_the_page_back_once() {
    let cold = Cold::new();
    let brought = Cell::new(0);
    let (ended, _) = cold.fault(Limits::none(), || brought.set(brought.get() + 1));
    assert_eq!(ended, Ok(()));
    assert_eq!(cold.fault(Limits::none(), || panic!("it is back already")), (Ok(()), 1));
    assert_eq!(brought.get(), 1);
    assert!(cold.is_hot() && is_as_before(&cold.page));
}

/// The handler this replaced went through its loop 23 million times a second here.
#[test]
fn a_pinned_page_is_slept_for_in_one_turn() {
    let cold = Cold::new();
    watched(&[&cold.page], || {
        let pin = cold.page.try_pin().unwrap();
        let (ended, looks) = fault_asleep(&cold, || drop(pin));
        assert_eq!(ended, Ok(()));
        // One to find it cold, one to put up the new entry, one to find it hot.
        assert_eq!(looks, 3);
    });
    assert!(cold.is_hot() && is_as_before(&cold.page));
}

#[test]
fn a_locked_page_is_slept_for_in_one_turn() {
    let cold = Cold::new();
    watched(&[&cold.page], || {
        let guard = cold.page.lock();
        let (ended, looks) = fault_asleep(&cold, || drop(guard));
        assert_eq!(ended, Ok(()));
        assert!((4..10).contains(&looks), "{looks}"); // and a turn for each release of another page
    });
    assert!(cold.is_hot() && is_as_before(&cold.page));
}

/// The handler this replaced never came back from these.
#[test]
fn a_poisoned_page_is_an_error_at_once() {
    let cold = Cold::new();
    cold.page.lock().poison();
    assert_eq!(
        cold.fault(Limits::none(), || panic!("there is nothing to bring back")),
        (Err(LOST), 1)
    );
    assert!(!cold.page.is_locked() && !cold.page.is_migrating());
    let guard = cold.page.lock();
    assert_eq!(
        cold.fault(Limits::none(), || panic!("there is nothing to bring back")),
        (Err(LOST), 1)
    );
    drop(guard);
}

#[test]
fn a_page_that_is_poisoned_while_it_is_waited_for_is_an_error() {
    let cold = Cold::new();
    watched(&[&cold.page], || {
        let guard = cold.page.lock();
        let (ended, _) = fault_asleep(&cold, || {
            guard.poison();
        });
        assert_eq!(ended, Err(LOST));
    });
}

#[test]
fn a_switch_ends_the_fault_whatever_it_waits_for() {
    let cold = Cold::new();
    let over = Cancel::new();
    over.cancel();
    let limits = Limits::none().unless(&over);
    let pin = cold.page.try_pin().unwrap();
    assert_eq!(cold.fault(limits, || panic!("it is pinned")), (Err(OUT_OF_TIME), 1));
    drop(pin);
    assert!(is_as_before(&cold.page));
    let guard = cold.page.lock();
    assert_eq!(cold.fault(limits, || panic!("it is locked")), (Err(OUT_OF_TIME), 1));
    drop(guard);
    assert!(!cold.is_hot() && is_as_before(&cold.page));
}

#[cfg(any(target_os = "linux", target_os = "android"))]
#[test]
fn a_deadline_ends_the_fault_whatever_it_waits_for() {
    use pagelock::futex::MonotonicTime;
    let cold = Cold::new();
    let soon = || Limits::none().until(MonotonicTime::now() + Duration::from_millis(5));
    let pin = cold.page.try_pin().unwrap();
    assert_eq!(cold.fault(soon(), || panic!("it is pinned")), (Err(OUT_OF_TIME), 1));
    drop(pin);
    assert!(is_as_before(&cold.page));
    let guard = cold.page.lock();
    let (ended, looks) = cold.fault(soon(), || panic!("it is locked"));
    assert_eq!(ended, Err(OUT_OF_TIME));
    assert!(looks < 10, "{looks}");
    drop(guard);
    assert!(!cold.is_hot() && is_as_before(&cold.page));
}

#[test]
fn a_panic_on_the_way_leaves_the_page_cold() {
    let cold = Cold::new();
    let said = common::panic_of(|| drop(cold.fault(Limits::none(), || panic!("unreadable"))));
    assert_eq!(said, "unreadable");
    assert!(!cold.is_hot() && is_as_before(&cold.page));
    assert_eq!(cold.fault(Limits::none(), || {}).0, Ok(()));
}
