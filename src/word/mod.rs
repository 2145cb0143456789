//! The two words of a page, as values.
//!
//! The layout is public, for debuggers, crash dumps and programs in other languages: [`state`] and
//! [`count`] describe it and publish its masks.
//!
//! Nothing here is atomic, and nothing sleeps. A word's value is a plain integer with named
//! questions and named transitions. The atomic operations that apply them are in `lock`, `wait`,
//! `refs` and `migration`, one per step. The arithmetic stands apart so that it can be checked
//! exhaustively, and so that one file alone spells out each bit.

pub mod count;
pub mod state;
mod user;

pub(crate) use count::Count;
pub use count::{MAX_PINS, MAX_REFS};
pub use state::MAX_SLEEPERS;
pub(crate) use state::State;
pub use user::UserBits;
