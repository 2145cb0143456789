//! References and pins: which get succeeds, and which put is the last.

use crate::{Page, explore_with, misused, on};
use pagelock::{FreezeRule, GetError, MAX_REFS, PageRef, Put};

pub(crate) fn live(refs: u32) -> std::sync::Arc<Page> {
    let page = Page::<0>::new();
    page.lock.activate(refs).unwrap();
    page
}

/// The last put says so, once, and its caller sees all that the others did.
#[test]
fn the_last_put_is_said_once() {
    explore_with(3, || {
        let page = live(3);
        let put = |page: &Page| {
            page.read();
            // SAFETY: one of the three references that the page was made with.
            let put = unsafe { PageRef::from_raw(&page.lock) }.put();
            if put == Put::Last {
                page.add(); // Frees the frame, as it were.
            }
            put == Put::Last
        };
        let (a, b) = (on(&page, put), on(&page, put));
        let last =
            u32::from(put(&page)) + u32::from(a.join().unwrap()) + u32::from(b.join().unwrap());
        assert_eq!(last, 1);
        assert_eq!(page.read(), 1);
    });
}

/// A get against the last put: it fails, or the last put is its own.
#[test]
fn a_get_against_the_last_put() {
    explore_with(3, || {
        let page = live(1);
        let getter = on(&page, |page| match page.lock.try_get() {
            Ok(reference) => {
                page.read();
                Some(reference.put())
            }
            Err(e) => {
                assert_eq!(e, GetError::Free);
                None
            }
        });
        page.read();
        // SAFETY: the reference that the page was made with.
        let ours = unsafe { page.lock.put_raw() };
        if ours == Put::Last {
            page.add(); // Frees the frame, as it were.
        }
        let theirs = getter.join().unwrap();
        let last = [Some(ours), theirs].iter().filter(|&&put| put == Some(Put::Last)).count();
        assert_eq!(last, 1, "{ours:?} {theirs:?}");
    });
}

/// References and pins end in the same count: the last of both says so.
#[test]
fn the_last_put_may_be_an_unpin() {
    explore_with(3, || {
        let page = live(1);
        // SAFETY: the reference that the page was made with; the pin is turned raw for the other
        // thread.
        page.lock.try_pin().unwrap().into_raw();
        let other = on(&page, |page| {
            page.read();
            // SAFETY: the pin that was turned raw.
            let last = unsafe { page.lock.unpin_raw() } == Put::Last;
            if last {
                page.add();
            }
            last
        });
        page.read();
        // SAFETY: the reference that the page was made with.
        let last = unsafe { page.lock.put_raw() } == Put::Last;
        if last {
            page.add();
        }
        assert!(last != other.join().unwrap());
    });
}

/// The commit moves away the last references, or leaves it to a holder to be the last: either sees
/// all that the other did.
#[test]
fn the_last_put_may_be_a_commit() {
    explore_with(3, || {
        let (src, dst) = (live(2), Page::<0>::new());
        let frozen = src.lock.lock().begin_migration().freeze(FreezeRule::Unpinned).unwrap();
        let holder = on(&src, |page| {
            page.read();
            // SAFETY: one of the two references that the page was made with.
            let last = unsafe { page.lock.put_raw() } == Put::Last;
            if last {
                page.add(); // Frees the frame, as it were.
            }
            last
        });
        src.read();
        // SAFETY: the other of the two references that the page was made with.
        let committed = unsafe { frozen.commit_to_moving(dst.lock.lock(), 1) }.unwrap();
        let last = committed.source == Put::Last;
        if last {
            src.add();
        }
        assert!(last != holder.join().unwrap());
    });
}

/// A page that is made live again: its activator sees all that the holders of its last life did.
#[test]
fn a_page_that_is_made_live_again() {
    explore_with(3, || {
        let page = live(1);
        let last = on(&page, |page| {
            page.add();
            // SAFETY: the reference that the page was made with.
            assert_eq!(unsafe { page.lock.put_raw() }, Put::Last);
        });
        if page.lock.activate(1).is_ok() {
            page.add();
        }
        last.join().unwrap();
    });
}

/// Memory that starts a new life: the thread that makes the page live sees how it was prepared.
#[test]
fn a_new_life_sees_how_it_was_prepared() {
    explore_with(3, || {
        let page = Page::<0>::new();
        page.lock.lock().poison();
        let owner = on(&page, |page| {
            let mut guard = page.lock.lock();
            page.add();
            // SAFETY: the page has had no holder.
            unsafe { guard.unpoison() };
            drop(guard);
        });
        while page.lock.activate(1).is_err() {
            loom::thread::yield_now();
        }
        assert_eq!(page.read(), 1);
        owner.join().unwrap();
        assert!(!page.lock.is_poisoned());
    });
}

/// A holder that gets a page sees what was done before it was made live.
#[test]
fn a_get_sees_what_the_page_was_made_with() {
    explore_with(3, || {
        let page = Page::<0>::new();
        let getter = on(&page, |page| {
            if let Ok(reference) = page.lock.try_get() {
                assert_eq!(page.read(), 1);
                drop(reference);
            }
        });
        page.add();
        page.lock.activate(1).unwrap();
        getter.join().unwrap();
        assert_eq!(page.lock.refs(), 1);
    });
}

/// A commit that is refused changes nothing, not even for a moment: the last put is said once, of
/// the reference that was last.
#[test]
fn the_last_put_is_said_once_across_a_refused_commit() {
    explore_with(3, || {
        let (src, dst) = (live(2), live(MAX_REFS));
        let put = |page: &Page| {
            // SAFETY: one of the two references that the page was made with.
            u32::from(unsafe { page.lock.put_raw() } == Put::Last)
        };
        let frozen = src.lock.lock().begin_migration().freeze(FreezeRule::Unpinned).unwrap();
        let holder = on(&src, put);
        // SAFETY: one of the two references that the page was made with; it is refused.
        let refused = unsafe { frozen.commit_to_moving(dst.lock.lock(), 1) }.unwrap_err();
        drop(refused);
        assert_eq!(put(&src) + holder.join().unwrap(), 1);
    });
}

/// A put of a reference that is not there: no freeze sees a pin less than there is.
#[test]
fn a_put_too_many_borrows_from_no_pin() {
    explore_with(3, || {
        let page = live(1);
        page.lock.try_pin().unwrap().into_raw();
        // SAFETY: the reference that the page was made with.
        assert_eq!(unsafe { page.lock.put_raw() }, Put::Kept);
        // SAFETY: none; that is the point.
        let stale = on(&page, |page| misused(|| unsafe { page.lock.put_raw() }));
        let busy = page.lock.lock().begin_migration().freeze(FreezeRule::Unpinned).unwrap_err();
        assert_eq!((busy.refs(), busy.pins()), (0, 1));
        drop(busy);
        stale.join().unwrap();
        assert_eq!((page.lock.refs(), page.lock.pins()), (0, 1));
    });
}
