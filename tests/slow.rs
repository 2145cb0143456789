//! Feature `tracing`: waits and holds that take long are reported.

#![cfg(all(feature = "tracing", not(any(pagelock_loom, pagelock_shuttle))))]

mod common;

use common::with_threads;
use pagelock::{PageLock, slow};
use std::fmt::{Debug, Write};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};
use std::thread;
use std::time::Duration;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

static PAGE: PageLock = PageLock::new();
static REPORTS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Writes down each report, and in front of it whether the page was locked then.
struct Reports;

struct Fields(String);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        write!(self.0, " {field}={value:?}").unwrap();
    }
}

impl Subscriber for Reports {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, event: &Event<'_>) {
        let locked = if PAGE.is_locked() { "locked" } else { "free" };
        let mut fields = Fields(format!("{} {locked}", event.metadata().target()));
        event.record(&mut fields);
        REPORTS.lock().unwrap().push(fields.0);
    }
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// One test at a time, with a subscriber and without reports.
fn alone(over: Duration) -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    static SUBSCRIBED: Once = Once::new();
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    SUBSCRIBED.call_once(|| tracing::subscriber::set_global_default(Reports).unwrap());
    REPORTS.lock().unwrap().clear();
    slow::report_over(over);
    alone
}

fn reports() -> Vec<String> {
    std::mem::take(&mut *REPORTS.lock().unwrap())
}

/// A wait, a locker that sleeps, and their owner: three holds and waits, and the line of the first.
fn one_of_each() -> u32 {
    with_threads(&[&PAGE], |s| {
        let (line, guard) = (line!(), PAGE.lock());
        let waiter = s.spawn(|| PAGE.wait_unlocked(()));
        s.spawn(|| drop(PAGE.lock()));
        while PAGE.sleepers() == 0 || !format!("{PAGE:?}").contains("awaited") {
            thread::yield_now();
        }
        drop(guard);
        let _ = waiter.join().unwrap();
        line
    })
}

#[test]
fn a_long_wait_and_a_long_hold_are_reported_with_the_owner() {
    let _alone = alone(Duration::ZERO);
    let line = one_of_each();
    let reports = reports();
    let (page, owner) = (PAGE.dump().address(), format!("owner=taken at {}:{line}:", file!()));
    let of = |what: &str| {
        let what = format!("message={what}");
        let of = |report: &&String| {
            report.starts_with("pagelock ")
                && report.contains(&what)
                && report.contains(&owner)
                && report.contains(&format!(" page={page:#x} took="))
        };
        reports.iter().filter(of).count()
    };
    // The locker and the waiter; the owner.
    assert_eq!((of("waited for a page"), of("held a page")), (2, 1), "{reports:#?}");
}

#[test]
fn a_hold_is_reported_once_the_page_is_released() {
    let _alone = alone(Duration::ZERO);
    drop(PAGE.lock());
    PAGE.lock().unlock_fair();
    let reports = reports();
    assert_eq!(reports.len(), 2);
    assert!(reports.iter().all(|report| report.starts_with("pagelock free ")), "{reports:#?}");
}

#[test]
fn what_takes_less_than_the_threshold_is_not_reported() {
    let _alone = alone(Duration::MAX);
    one_of_each();
    assert_eq!(reports(), [""; 0]);
}

#[test]
fn what_takes_as_long_as_the_threshold_is_reported() {
    let _alone = alone(Duration::from_millis(20));
    let guard = PAGE.lock();
    thread::sleep(Duration::from_millis(21));
    drop(guard);
    assert_eq!(reports().len(), 1);
}
