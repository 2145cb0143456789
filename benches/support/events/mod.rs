//! The events that are compared: many threads sleep until one ends the event.
//!
//! Every sleeper holds a page-table lock (a mutex) when it finds that it has to wait, and drops it
//! as it goes to sleep.

mod beside;
mod condvar;
mod listener;
mod page;
mod parked;
mod raw;

use super::table::Role;
pub use beside::{Beside, WithLock};
pub use condvar::{ParkingLotCondvar, StdCondvar};
pub use listener::{EventListener, ListenerQueue};
pub use page::{Page, QueuedPage};
pub use parked::{Parked, ParkedQueue};
pub use raw::{RawQueue, RawWakeAll};

/// What an event of this name is to the comparison.
pub fn role(name: &str) -> Role {
    match name {
        "pagelock" | COLLIDING => Role::Ours,
        RawWakeAll::NAME => Role::Bound,
        DISTINCT => Role::Beside,
        _ => Role::Peer,
    }
}

/// Pages that share one slot of the event table, which is as bad as it gets.
pub const COLLIDING: &str = "pagelock, one slot";
/// Pages that share slots only where the table has fewer than there are pages.
pub const DISTINCT: &str = "pagelock, own slots";

pub trait Event: Send + Sync + 'static {
    const NAME: &'static str;
    fn new() -> Self;
    /// From now on there is something to wait for.
    fn begin(&self);
    /// Sleeps until the end, and says how often it slept. `ready` is to be called with the
    /// page-table lock held.
    fn wait(&self, ready: &dyn Fn()) -> u32;
    /// The end: wakes all.
    fn end(&self);
}

/// An event whose beginning and end are those of a hold that others queue for.
pub trait Queue: Event {
    /// Takes the hold when it can be had, and gives it up.
    fn pass_through(&self);
}
