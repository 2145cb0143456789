//! References and pins by address, as a driver takes them.

use super::common::dmirror::Host;
use super::common::machine::{Mm, RAM};
use super::common::own::Own;
use pagelock::PagePin;
use pagelock::leaf::{Leaf, Rights};
use pagelock::mm::migrate::{Mode, Order, Slot, migrate};
use pagelock::mm::soft::{At, TierId};
use pagelock::mm::{Access, Tables, Tiers};

/// Has `act` at the frame that is at `at`, under the entry's lock, once it may be written to there.
fn at_frame<R>(mm: &'static Mm, at: At, mut act: impl FnMut(u64) -> Option<R>) -> R {
    loop {
        let entry = mm.lock(at);
        if let Leaf::Present { pfn, rights: Rights::Write, .. } = entry.leaf() {
            if let Some(done) = act(pfn) {
                return done;
            }
        }
        drop(entry);
        mm.attempt(at, Access::Write);
    }
}

/// A reference to the page at an address. To be put by [`put`].
pub(super) fn get(mm: &'static Mm, at: At) -> u64 {
    at_frame(mm, at, |pfn| mm.get(pfn).ok().map(|()| pfn))
}

pub(super) fn put(mm: &'static Mm, pfn: u64) {
    // SAFETY: what `get` took, and its caller gives up.
    unsafe { mm.put(pfn) };
}

/// A pin of the page at an address.
pub(super) fn pin(mm: &'static Mm, at: At) -> PagePin<'static, Own> {
    at_frame(mm, at, |pfn| mm.page(pfn)?.try_pin().ok())
}

/// A pin for long: of a page in system memory, where it is brought if it is elsewhere.
pub(super) fn pin_long(mm: &'static Mm, at: At) -> PagePin<'static, Own> {
    loop {
        let pin = at_frame(mm, at, |pfn| mm.page(pfn)?.try_pin().ok().map(|pin| (pin, mm.tier(pfn))));
        match pin {
            (pin, RAM) => return pin,
            (pin, TierId(_)) => {
                drop(pin);
                let mut slots = [Slot::at(at)];
                let _ = migrate(mm, &mut slots, &Order::to(RAM).mode(Mode::SyncLight), mm);
            }
        }
    }
}
