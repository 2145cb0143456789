//! A person who debugs has what the crate prints: every value says in words what was
//! seen, and every error what was asked for and what there was.

use crate::common::{page_on, sim::Sim, with_threads};
use pagelock::futex::{EventSlot, SpinFutex};
use pagelock::{
    Cancel, Claim, CommitRefused, FreezeError, FreezeRule, PageGuard, PageLock, UserBits,
};

fn live(refs: u32) -> PageLock {
    let page = PageLock::new();
    page.activate(refs).unwrap();
    page
}

#[test]
fn a_page_says_what_state_it_is_in() {
    let page = live(3);
    assert_eq!(format!("{page:?}"), "PageLock { free, generation 0; 3 references, 0 pins }");
    let pin = page.try_pin().unwrap();
    let mut guard = page.lock();
    guard.set_user(UserBits::new(2));
    assert_eq!(
        format!("{page:?}"),
        "PageLock { locked, user 2, generation 0; 3 references, 1 pins }"
    );
    let _ = pin.unpin();
    let frozen = guard.begin_migration().freeze(FreezeRule::Unpinned).unwrap();
    assert_eq!(
        format!("{page:?}"),
        "PageLock { locked, migrating, user 2, generation 0; 3 references, 0 pins, frozen }"
    );
    frozen.poison();
    assert_eq!(
        format!("{page:?}"),
        "PageLock { free, poisoned, user 2, generation 1; 3 references, 0 pins }"
    );
}

#[test]
fn a_page_says_who_sleeps_and_for_whom_it_is_kept() {
    let sim = Sim::new(1);
    let page: &PageLock<Sim> = page_on(sim);
    with_threads(&[page], |s| {
        let guard = page.lock();
        let locker = s.spawn(|| drop(page.lock()));
        sim.until_asleep(1);
        let waiter = s.spawn(|| page.wait_unlocked(()));
        sim.until_asleep(2);
        assert_eq!(page.sleepers(), 1, "a waiter is none");
        assert_eq!(
            format!("{page:?}"),
            "PageLock { locked, 1 sleepers, awaited, generation 0; 0 references, 0 pins }"
        );
        sim.hold();
        guard.unlock_fair();
        assert_eq!(
            format!("{page:?}"),
            "PageLock { kept for a sleeper, 1 sleepers, gate closed, awaited, generation 1; 0 references, 0 pins }"
        );
        assert_eq!(page.sleepers(), 1);
        sim.resume();
        locker.join().unwrap();
        let _ = waiter.join().unwrap();
        assert_eq!(page.sleepers(), 0);
    });
}

#[test]
fn everything_that_stands_for_a_page_prints_the_page() {
    let page = live(1);
    assert_eq!(
        format!("{:?}", page.try_get().unwrap()),
        "PageRef(PageLock { free, generation 0; 2 references, 0 pins })"
    );
    assert_eq!(
        format!("{:?}", page.try_pin().unwrap()),
        "PagePin(PageLock { free, generation 0; 1 references, 1 pins })"
    );
    let guard = page.lock();
    assert_eq!(
        format!("{guard:?}"),
        "PageGuard(PageLock { locked, generation 0; 1 references, 0 pins })"
    );
    assert!(core::ptr::eq(guard.page(), &page));
    let migration = guard.begin_migration();
    assert_eq!(
        format!("{migration:?}"),
        "Migration(PageLock { locked, migrating, generation 0; 1 references, 0 pins })"
    );
    assert!(core::ptr::eq(migration.page(), &page));
    let frozen = migration.freeze(FreezeRule::Unpinned).unwrap();
    assert_eq!(
        format!("{frozen:?}"),
        "Frozen(PageLock { locked, migrating, generation 0; 1 references, 0 pins, frozen })"
    );
    assert!(core::ptr::eq(frozen.page(), &page));
    frozen.abort();
}

#[test]
fn a_claim_says_what_came_of_it() {
    let page = live(1);
    let claim = page.claim();
    assert_eq!(
        format!("{claim:?}"),
        "Owner(PageGuard(PageLock { locked, generation 0; 1 references, 0 pins }))"
    );
    assert_eq!(format!("{:?}", page.claim()), "InFlight");
    let Claim::Owner(guard) = claim else { panic!("{claim:?}") };
    guard.poison();
    assert_eq!(format!("{:?}", page.claim()), "Poisoned");
}

#[test]
fn what_was_refused_says_why() {
    let page = live(2);
    let busy = page.lock().begin_migration().freeze(FreezeRule::ExactRefs(1)).unwrap_err();
    let why =
        "FreezeRefused { refs: 2, pins: 0, frozen: false, poisoned: false, rule: ExactRefs(1) }";
    assert_eq!(format!("{busy:?}"), format!("Busy {{ why: {why}, .. }}"));
    assert_eq!(
        busy.to_string(),
        "the page has 2 references and 0 pins, where 1 and 0 were expected"
    );
    let error = FreezeError::<&str>::Busy(busy);
    assert!(
        format!("{error:?}").starts_with("Busy(Busy { why: FreezeRefused { refs: 2,"),
        "{error:?}"
    );
    drop(error);
    let error =
        page.lock().begin_migration().freeze_with(FreezeRule::Unpinned, |_| Err("no")).unwrap_err();
    assert_eq!(format!("{error:?}"), "Refused { error: \"no\", .. }");
    assert_eq!(error.to_string(), "the caller's own count refused: no");
    drop(error);

    let frozen = page.lock().begin_migration().freeze(FreezeRule::Unpinned).unwrap();
    let other = PageLock::new();
    // SAFETY: three that are not there; it is refused.
    let error = unsafe { frozen.commit_to_moving(other.lock(), 3) }.unwrap_err();
    assert_eq!(error.why, CommitRefused::TooFew { have: 2, move_: 3 });
    assert_eq!(format!("{error:?}"), "CommitError { why: TooFew { have: 2, move_: 3 }, .. }");
}

/// Possible only through the raw forms: a migration of a page that a leaked stage has left frozen.
#[test]
fn a_page_that_was_left_frozen_says_so() {
    let page = live(1);
    let page = page.lock().begin_migration().freeze(FreezeRule::Unpinned).unwrap().into_raw();
    // SAFETY: of the two that the page's right to be released is given to, one is forgotten again
    // below.
    let migration = unsafe { pagelock::Migration::from_raw(page) };
    let busy = migration.freeze(FreezeRule::Unpinned).unwrap_err();
    assert!(busy.reason().frozen && !busy.reason().poisoned);
    assert_eq!(busy.to_string(), "the page is frozen already");
    assert!(format!("{busy:?}").contains("frozen: true"), "{busy:?}");
    busy.into_migration().into_raw();
    // SAFETY: the migration above was forgotten, so this is the one that ends the hold.
    unsafe { pagelock::Frozen::from_raw(page) }.commit_in_place();
    assert_eq!(format!("{page:?}"), "PageLock { free, generation 1; 1 references, 0 pins }");
}

/// A stale or doubled release is misuse. A debug build says so, a release build does not; neither
/// changes a count.
#[test]
fn a_reference_put_twice_changes_nothing() {
    let page = live(1);
    let pin = page.try_pin().unwrap().into_raw();
    let page = &page;
    // SAFETY: not kept, on purpose: the second of each pair stands for nothing. Nobody uses memory
    // that this page would protect.
    let (first, second) =
        unsafe { (pagelock::PageRef::from_raw(page), pagelock::PageRef::from_raw(page)) };
    let _ = first.put();
    let before = format!("{page:?}");
    misuse(
        || drop(second),
        "put of a page without references: PageLock { free, generation 0; 0 references, 1 pins }",
    );
    assert_eq!(format!("{page:?}"), before);
    // SAFETY: as above.
    let (first, second) =
        unsafe { (pagelock::PagePin::from_raw(pin), pagelock::PagePin::from_raw(pin)) };
    page.activate(1).unwrap_err();
    let _ = first.unpin();
    page.activate(2).unwrap();
    let before = format!("{page:?}");
    misuse(
        || drop(second),
        "unpin of a page without pins: PageLock { free, generation 0; 2 references, 0 pins }",
    );
    assert_eq!(format!("{page:?}"), before);
}

/// Runs `f`, which panics in a debug build and does nothing otherwise.
fn misuse(f: impl FnOnce(), says: &str) {
    if cfg!(debug_assertions) {
        assert_eq!(crate::common::panic_of(f), says);
    } else {
        f();
    }
}

#[test]
fn what_is_made_by_default_is_what_new_makes() {
    assert_eq!(format!("{:?}", <PageLock>::default()), format!("{:?}", PageLock::new()));
    assert_eq!(
        format!("{:?}", PageLock::<SpinFutex>::default()),
        format!("{:?}", PageLock::with_futex(SpinFutex))
    );
    assert_eq!(EventSlot::<pagelock::OsFutex>::default().sequence(), 0);
    let switch = Cancel::<SpinFutex>::default();
    assert!(!switch.is_cancelled());
    switch.cancel();
    assert!(switch.is_cancelled());
    assert_eq!(PageLock::new().user(), UserBits::default());
}

#[test]
fn a_hold_is_the_same_hold_until_it_ends() {
    let page = PageLock::new();
    let first = page.lock().into_raw();
    // SAFETY: the page is locked, by the guard that was forgotten above.
    unsafe { PageGuard::from_raw_of(&page, first) }.unlock();
    let second = page.lock().into_raw();
    assert_ne!(first, second);
    // SAFETY: as above; the hold is the second.
    unsafe { PageGuard::from_raw_of(&page, second) }.unlock();
    assert!(!page.is_locked());
}

#[test]
#[cfg(target_os = "linux")]
fn a_point_in_time_prints_seconds() {
    let text = format!("{:?}", pagelock::futex::MonotonicTime::now());
    let (seconds, nanos) = text
        .strip_prefix("MonotonicTime(")
        .and_then(|t| t.strip_suffix("s)"))
        .unwrap()
        .split_once('.')
        .unwrap();
    assert!(
        seconds.parse::<u64>().is_ok() && nanos.len() == 9 && nanos.parse::<u32>().is_ok(),
        "{text}"
    );
}

#[test]
fn user_bits_print_as_the_number_that_they_are() {
    let bits = UserBits::new(0b1_1010);
    assert_eq!(u8::from(bits), 26);
    assert_eq!(format!("{bits:b} {bits:o} {bits:x} {bits:X}"), "11010 32 1a 1A");
}
