//! The lock, and the rest of the core.

pub(crate) use crate::spin::Halt;
use pagelock::PageLock;

pub(crate) static PAGES: [PageLock<Halt>; 64] = [const { PageLock::with_futex(Halt) }; 64];

/// A page of which the compiler knows nothing.
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

/// Limits and switches, claims, the lock that lets go of the PTL, other headers, poison, and
/// recovery after a death.
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
