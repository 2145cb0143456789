//! The bits of the two words, for debuggers and crash dumps. Written out, because cbindgen
//! evaluates nothing; each is held against the core's.

use pagelock::word::{count, state};

macro_rules! masks {
    ($($(#[$doc:meta])* $name:ident = $core:path;)*) => {
        $(const _: () = assert!($name == $core);)*
    };
}

/// The page has an owner.
pub const PAGELOCK_STATE_LOCKED: u32 = 0x0000_0001;
/// The next release wakes a locker.
pub const PAGELOCK_STATE_LOCK_WAITERS: u32 = 0x0000_0002;
/// The next release tells the page's event slot.
pub const PAGELOCK_STATE_EVENT_WAITERS: u32 = 0x0000_0004;
/// The owner is migrating the page.
pub const PAGELOCK_STATE_MIGRATING: u32 = 0x0000_0008;
/// The contents are lost.
pub const PAGELOCK_STATE_POISONED: u32 = 0x0000_0010;
/// Only lockers that are registered may take the page.
pub const PAGELOCK_STATE_CLOSED: u32 = 0x0000_0020;
/// Lockers wait outside for the gate to open.
pub const PAGELOCK_STATE_CROWD: u32 = 0x0000_0040;
/// Your five bits, and where they begin.
pub const PAGELOCK_STATE_USER: u32 = 0x0000_0f80;
pub const PAGELOCK_STATE_USER_SHIFT: u32 = 7;
/// How many lockers are registered, and where the number begins.
pub const PAGELOCK_STATE_SLEEPERS: u32 = 0x00ff_f000;
pub const PAGELOCK_STATE_SLEEPERS_SHIFT: u32 = 12;
/// How often the page was released, modulo 256, and where the number begins.
pub const PAGELOCK_STATE_GENERATION: u32 = 0xff00_0000;
pub const PAGELOCK_STATE_GENERATION_SHIFT: u32 = 24;
/// The references, which begin at bit 0.
pub const PAGELOCK_COUNT_REFS: u32 = 0x0007_ffff;
/// The pins, and where they begin.
pub const PAGELOCK_COUNT_PINS: u32 = 0x7ff8_0000;
pub const PAGELOCK_COUNT_PINS_SHIFT: u32 = 19;
/// No reference and no pin is given.
pub const PAGELOCK_COUNT_FROZEN: u32 = 0x8000_0000;

masks! {
    PAGELOCK_STATE_LOCKED = state::LOCKED;
    PAGELOCK_STATE_LOCK_WAITERS = state::LOCK_WAITERS;
    PAGELOCK_STATE_EVENT_WAITERS = state::EVENT_WAITERS;
    PAGELOCK_STATE_MIGRATING = state::MIGRATING;
    PAGELOCK_STATE_POISONED = state::POISONED;
    PAGELOCK_STATE_CLOSED = state::CLOSED;
    PAGELOCK_STATE_CROWD = state::CROWD;
    PAGELOCK_STATE_USER = state::USER;
    PAGELOCK_STATE_USER_SHIFT = state::USER_SHIFT;
    PAGELOCK_STATE_SLEEPERS = state::SLEEPERS;
    PAGELOCK_STATE_SLEEPERS_SHIFT = state::SLEEPERS_SHIFT;
    PAGELOCK_STATE_GENERATION = state::GENERATION;
    PAGELOCK_STATE_GENERATION_SHIFT = state::GENERATION_SHIFT;
    PAGELOCK_COUNT_REFS = count::REFS;
    PAGELOCK_COUNT_PINS = count::PINS;
    PAGELOCK_COUNT_PINS_SHIFT = count::PINS_SHIFT;
    PAGELOCK_COUNT_FROZEN = count::FROZEN;
}
