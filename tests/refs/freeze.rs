//! What a freeze demands: the references and pins of its rule, and the caller's own count (I15,
//! I16).

use crate::common::panic_of;
use crate::stages::{is_at_rest, live, says, text};
use FreezeRule::{ExactRefs, Unpinned};
use core::sync::atomic::{AtomicBool, Ordering::SeqCst};
use pagelock::{FreezeError, FreezeRule, GetError, MAX_REFS, Migration, PageLock, Put};

/// The freeze is refused with these counts, the migration comes back as it was, and can be ended.
fn is_busy(page: &PageLock, rule: FreezeRule, refs: u32, pins: u32, what: &[&str]) {
    let migration = page.lock().begin_migration();
    let before = text(page);
    let busy = migration.freeze(rule).unwrap_err();
    assert_eq!(text(page), before, "a refusal changes nothing");
    assert_eq!(
        (busy.refs(), busy.pins(), busy.reason().rule, busy.reason().frozen),
        (refs, pins, rule, false)
    );
    says(&busy, what);
    assert!(text(&busy).contains(&format!("refs: {refs}, pins: {pins}")), "{busy:?}");
    let migration: Migration<'_> = busy.into_migration();
    assert!(core::ptr::eq(migration.page(), page));
    migration.abort();
    is_at_rest(page, refs, pins);
}

#[test]
fn exact_refs_demands_exactly_so_many_references_and_no_pins() {
    let page = live(2);
    is_busy(&page, ExactRefs(1), 2, 0, &["2 references", "0 pins", "1"]);
    is_busy(&page, ExactRefs(3), 2, 0, &["2 references", "3"]);
    let pin = page.try_pin().unwrap();
    is_busy(&page, ExactRefs(2), 2, 1, &["2 references", "1 pins"]);
    drop(pin);
    let unexpected = page.try_get().unwrap();
    is_busy(&page, ExactRefs(2), 3, 0, &["3 references"]);
    drop(unexpected);
    page.lock().begin_migration().freeze(ExactRefs(2)).unwrap().abort();
    is_at_rest(&page, 2, 0);
}

#[test]
fn unpinned_allows_any_references_and_no_pins() {
    for refs in [0, 1, 2, 1000, MAX_REFS] {
        let page = live(refs);
        page.lock().begin_migration().freeze(Unpinned).unwrap().commit_in_place();
        is_at_rest(&page, refs, 0);
        if refs == 0 {
            continue;
        }
        let pins = [page.try_pin().unwrap(), page.try_pin().unwrap()];
        is_busy(&page, Unpinned, refs, 2, &["2 pins"]);
        drop(pins);
        page.lock().begin_migration().freeze(Unpinned).unwrap().commit_in_place();
        is_at_rest(&page, refs, 0);
    }
}

#[test]
fn a_busy_page_can_be_frozen_once_it_is_not_busy() {
    let page = live(1);
    let pin = page.try_pin().unwrap();
    let busy = page.lock().begin_migration().freeze(ExactRefs(1)).unwrap_err();
    drop(pin);
    busy.into_migration().freeze(ExactRefs(1)).expect("the pin is gone").commit_in_place();
    is_at_rest(&page, 1, 0);
}

#[test]
fn dropping_the_refusal_ends_the_migration() {
    let page = live(2);
    drop(page.lock().begin_migration().freeze(ExactRefs(1)));
    is_at_rest(&page, 2, 0);
}

#[test]
fn what_was_held_can_be_given_back_while_frozen() {
    let page = live(1);
    let reference = page.try_get().unwrap();
    let frozen = page.lock().begin_migration().freeze(Unpinned).unwrap();
    assert_eq!(reference.put(), Put::Kept);
    assert!(page.is_frozen() && page.refs() == 1);
    frozen.commit_in_place();
    is_at_rest(&page, 1, 0);
}

// ---- the caller's own count ----

#[test]
fn the_callers_own_count_is_frozen_last() {
    let page = live(1);
    let frozen = page
        .lock()
        .begin_migration()
        .freeze_with(ExactRefs(1), |p| {
            assert!(core::ptr::eq(p, &page) && p.is_frozen());
            Ok::<_, GetError>(())
        })
        .unwrap();
    frozen.commit_in_place();
    is_at_rest(&page, 1, 0);
}

#[test]
fn the_callers_own_count_may_refuse() {
    let page = live(1);
    let migration = page.lock().begin_migration();
    let before = text(&page);
    let error = migration.freeze_with(ExactRefs(1), |_| Err(GetError::Free)).unwrap_err();
    assert_eq!(text(&page), before, "a refusal changes nothing");
    says(&error, &["own", "free"]);
    let FreezeError::Refused { error: GetError::Free, migration } = error else {
        panic!("{error:?}")
    };
    migration.abort();
    is_at_rest(&page, 1, 0);
}

#[test]
fn the_callers_own_count_is_not_asked_if_the_page_is_busy() {
    let page = live(2);
    let asked = AtomicBool::new(false);
    let error = page
        .lock()
        .begin_migration()
        .freeze_with(ExactRefs(1), |_| {
            asked.store(true, SeqCst);
            Ok::<_, GetError>(())
        })
        .unwrap_err();
    says(&error, &["2 references"]);
    assert!(matches!(&error, FreezeError::Busy(busy) if busy.refs() == 2), "{error:?}");
    assert!(!asked.into_inner());
    drop(error);
    is_at_rest(&page, 2, 0);
}

#[test]
fn a_panic_in_the_callers_own_count_aborts() {
    let page = live(1);
    let migration = page.lock().begin_migration();
    let said =
        panic_of(|| drop(migration.freeze_with::<GetError>(ExactRefs(1), |_| panic!("own"))));
    assert_eq!(said, "own");
    is_at_rest(&page, 1, 0);
}
