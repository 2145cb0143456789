//! The lock, and the rest of the core, on a platform that a kernel would write.

use core::sync::atomic::Ordering::Relaxed;
use pagelock::PageLock;
use pagelock::futex::{EventSlot, Futex, Sleep};
use pagelock::sync::AtomicU32;

#[derive(Clone, Copy)]
pub(crate) struct Halt;

static EVENTS: [EventSlot<Halt>; 16] = [const { EventSlot::new() }; 16];

// SAFETY: it loads the words that it is shown.
unsafe impl Futex for Halt {
    fn wait(&self, word: &AtomicU32, expected: u32) -> Sleep {
        while word.load(Relaxed) == expected {
            core::hint::spin_loop();
        }
        Sleep::Unknown
    }

    fn wake_one(&self, _: *const AtomicU32) {}

    fn wake_all(&self, _: *const AtomicU32) {}

    fn event(&self, index: usize) -> &EventSlot<Self> {
        // Without a bounds check, which could panic.
        &EVENTS[index % EVENTS.len()]
    }

    fn events(&self) -> usize {
        EVENTS.len()
    }
}

pub(crate) static PAGES: [PageLock<Halt>; 64] = [const { PageLock::with_futex(Halt) }; 64];

/// A page that the compiler knows nothing of.
pub(crate) fn page() -> &'static PageLock<Halt> {
    core::hint::black_box(&PAGES[0])
}

pub(crate) fn work() {
    let guard = page().lock();
    drop(guard);
    if let Some(guard) = page().try_lock() {
        guard.unlock();
    }
    #[cfg(feature = "core")]
    core_of_it();
    #[cfg(feature = "whole")]
    the_rest();
}

/// What a fault path and a migrator need.
#[cfg(feature = "core")]
fn core_of_it() {
    use core::hint::black_box;
    use pagelock::FreezeRule;

    let _ = black_box(page().wait_unlocked(()));
    let _ = black_box(page().activate(1));
    drop(page().try_get());
    drop(page().try_pin());
    if let Ok(frozen) = page().lock().begin_migration().freeze(FreezeRule::ExactRefs(1)) {
        frozen.commit_in_place();
    }
}

/// Limits and switches, claims, the lock that lets go of the PTL, other headers, poison, and what
/// comes after a death.
#[cfg(feature = "whole")]
fn the_rest() {
    use core::hint::black_box;
    use pagelock::{Cancel, Claim, FreezeRule, Limits, Wait};

    static CANCEL: Cancel<Halt> = Cancel::with_futex(Halt);
    let limits = Limits::none().unless(&CANCEL);
    let _ = black_box(page().wait_with((), Wait::migration().within(limits)));
    drop(page().lock_within(limits));
    drop(page().lock_releasing(()));
    if let Claim::Owner(guard) = page().claim() {
        black_box(guard.unlock_fair());
    }
    CANCEL.cancel();
    if let Ok(frozen) =
        page().lock().begin_migration().freeze_unpinned(FreezeRule::Unpinned, limits)
    {
        drop(frozen.commit_to(black_box(&PAGES[1]).lock()));
    }
    page().lock().poison();
    // SAFETY: not run.
    drop(unsafe { page().take_over() });
    // SAFETY: not run.
    unsafe { page().retell() };
}
