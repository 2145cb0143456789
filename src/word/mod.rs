//! The two words of a page, as values.
//!
//! Nothing here is atomic and nothing here sleeps: [`State`] and [`Count`] are plain integers with named questions and named
//! transitions. The atomic operations that apply them are in `lock`, `wait`, `refs` and `migration`, one per step. Keeping
//! the arithmetic apart means that it can be checked exhaustively, and that a bit is spelled out in exactly one file.

mod count;
mod state;

pub(crate) use count::Count;
pub use count::{MAX_PINS, MAX_REFS};
pub(crate) use state::State;
pub use state::{MAX_SLEEPERS, UserBits};
