//! How a locker waits while it is awake. Only speed depends on it.

use crate::futex::Futex;
use crate::page::PageLock;
use crate::sync::spin_loop;
use crate::word::State;

/// How often a locker looks by default ([`Futex::SPINS`]).
pub(crate) const SPINS: u32 = if cfg!(any(pagelock_loom, pagelock_shuttle)) { 0 } else { 10 };

/// What to do after a look.
pub(super) enum Look<T> {
    /// It came to this.
    Done(T),
    /// Wait a moment and look again.
    Again,
    /// There is nothing to look for.
    Sleep,
}

pub(super) fn until<F: Futex, T>(page: &PageLock<F>, mut look: impl FnMut(State) -> Look<T>) -> Option<T> {
    for turn in 0..F::SPINS {
        match look(page.state()) {
            Look::Done(done) => return Some(done),
            Look::Sleep => return None,
            Look::Again if turn < 3 => (0..1 << (turn + 1)).for_each(|_| spin_loop()),
            Look::Again => page.futex.relax(),
        }
    }
    None
}
