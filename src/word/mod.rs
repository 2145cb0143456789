//! The two words of a page, as values.
//!
//! The layout is public, for debuggers, crash dumps and programs in other languages: [`state`] and [`count`] describe it.
//!
//! Nothing here is atomic and nothing here sleeps: a word's value is a plain integer with named questions and named transitions. The atomic operations that apply them are in `lock`, `wait`, `refs` and `migration`, one per step. Keeping
//! the arithmetic apart means that it can be checked exhaustively, and that a bit is spelled out in exactly one file.

pub mod count;
pub mod state;

pub(crate) use count::Count;
pub use count::{MAX_PINS, MAX_REFS};
pub(crate) use state::State;
pub use state::{MAX_SLEEPERS, UserBits};
