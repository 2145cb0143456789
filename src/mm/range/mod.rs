//! Ranges.
mod notifier;
pub use notifier::{Invalidation, Notifier, Ticket};
