//! How a locker waits while it is awake. Only speed depends on it.
//!
//! * *Short holds come in runs.* An owner that releases the page and takes it again has the page's
//!   cache line and the data in its own cache, and every look of another processor takes the line
//!   away. So a locker hangs back before its first look. If the page was released and taken again
//!   meanwhile, it yields its processor and hangs back for as long as it would look (at most as
//!   long as it would by default).
//! * *Processors are passed on.* Two threads that pass the page back and forth never sleep, and all
//!   others would have to wait for the scheduler's tick. So a locker yields its processor between
//!   turns of a few looks.
//!
//! There are two numbers. How long a pause of the processor lasts, 10 to 50 ns, changes little:
//! each span is a multiple of another.

use crate::futex::Futex;
use crate::page::PageLock;
use crate::sync::spin_loop;
use crate::wait::Limits;
use crate::word::State;

/// Default of [`Futex::SPINS`]: turns of looks before a locker sleeps.
pub(crate) const SPINS: u32 = if cfg!(any(pagelock_loom, pagelock_shuttle)) { 0 } else { 20 };
/// Looks in a turn, two pauses apart: about a microsecond at most.
const LOOKS: u32 = 10;

/// The word at each look, with the waits in between. When the looks end, the locker must sleep, or
/// `until` is reached.
pub(super) fn looks<F: Futex>(page: &PageLock<F>, until: Limits<F>) -> impl Iterator<Item = State> {
    if F::SPINS > 0 {
        hang_back(page);
    }
    (0..F::SPINS.saturating_mul(LOOKS)).map_while(move |look| {
        match look % LOOKS {
            // A platform may make a locker look for a long time.
            0 if look > 0 && until.over(page.futex).is_some() => return None,
            0 if look > 0 => page.futex.relax(),
            0 => {}
            _ => pause(2),
        }
        Some(page.state())
    })
}

fn hang_back<F: Futex>(page: &PageLock<F>) {
    let found = page.state();
    pause(LOOKS);
    if is_a_run(found, page.state()) {
        page.futex.relax();
        pause(LOOKS * F::SPINS.min(SPINS));
    }
}

/// Whether the page was released and taken again between two looks.
fn is_a_run(found: State, now: State) -> bool {
    let releases = now.generation().wrapping_sub(found.generation());
    // After one release, a free page may have come out of a long hold.
    releases > 1 || releases == 1 && now.is_locked()
}

fn pause(n: u32) {
    (0..n).for_each(|_| spin_loop());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::word::state::LOCKED;

    #[test]
    fn a_page_that_was_released_and_taken_again_meanwhile_is_in_a_run() {
        let taken = State(LOCKED);
        let free = taken.released();
        let taken_again = free.taken_by_newcomer();
        assert!(!is_a_run(taken, taken));
        assert!(!is_a_run(taken, free), "the end of a hold that may have been long");
        assert!(is_a_run(taken, taken_again));
        assert!(is_a_run(taken, taken_again.released()));
        assert!(!is_a_run(free, free));
    }
}
