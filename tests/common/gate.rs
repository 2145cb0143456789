//! What the tests of the lock's gate share.

use super::sim::Sim;
use pagelock::{Futex, PageGuard, PageLock};
use std::sync::Mutex;
use std::thread;

pub(crate) type Page = PageLock<Sim>;
pub(crate) type Guard<'a> = PageGuard<'a, Sim>;

pub(crate) const BYPASS_BOUND: u32 = Sim::<false>::BYPASS_BOUND;

pub(crate) fn says(page: &Page, words: &str) -> bool {
    format!("{page:?}").contains(words)
}

pub(crate) fn is_closed(page: &Page) -> bool {
    says(page, "gate closed")
}

/// The owner releases, the sleeper is woken, and before it runs the page is taken again.
pub(crate) fn overtake<'a>(sim: Sim, guard: Guard<'a>) -> Guard<'a> {
    let (page, asleep) = (guard.page(), sim.asleep());
    sim.hold();
    drop(guard);
    let again = page.try_lock().expect("the gate is open");
    sim.resume();
    sim.until_asleep(asleep);
    again
}

/// Overtakes until the gate is closed.
pub(crate) fn starve<'a>(sim: Sim, mut guard: Guard<'a>) -> Guard<'a> {
    let mut overtaken = 0;
    while !is_closed(guard.page()) {
        guard = overtake(sim, guard);
        overtaken += 1;
        assert!(overtaken <= BYPASS_BOUND * sim.asleep() as u32, "{:?}", guard.page());
    }
    guard
}

/// A page on a platform of its own, and what threads do to it; it is idle when they have ended.
#[allow(unused_macros)] // No test file uses all of it.
macro_rules! on_a_page {
    (|$s:ident, $sim:ident, $page:ident| $body:block) => {{
        let $sim = $crate::common::sim::Sim::new(1);
        let $page = $crate::common::page_on($sim);
        $crate::common::watched(&[$page], || {
            std::thread::scope(|$s| $body);
            $crate::common::gate::is_idle($page);
        });
    }};
}

/// The page is free, nobody is counted, the gate is open, and it works.
pub(crate) fn is_idle(page: &Page) {
    let text = format!("{page:?}");
    assert!(text.starts_with("PageLock { free, generation "), "{text}");
    drop(page.try_lock().expect("a free page can be taken"));
}

/// The owners of the page, one after the other.
#[derive(Default)]
pub(crate) struct Order(Mutex<Vec<&'static str>>);

impl Order {
    pub(crate) fn own(&self, who: &'static str, guard: Guard<'_>) {
        self.0.lock().unwrap().push(who);
        drop(guard);
    }

    /// A thread sleeps, or has owned the page without sleeping.
    pub(crate) fn until_asleep_or_done(&self, sim: Sim) {
        while sim.asleep() == 0 && self.0.lock().unwrap().is_empty() {
            thread::yield_now();
        }
    }

    #[track_caller]
    pub(crate) fn was(self, expected: &[&str]) {
        assert_eq!(self.0.into_inner().unwrap(), expected);
    }
}
