//! What processors need of whatever their memory is.

use crate::accident::Brake;
use crate::program::Layout;
use std::ops::Range;

pub(crate) trait Home: Send + Sync {
    /// Which pages belong to which user.
    fn layout(&self) -> &Layout;
    fn brake(&self) -> &Brake;
    /// Where guest memory is in this process.
    fn host_range(&self) -> Range<usize>;
    /// Takes `pages` for the balloon. They read as zeroes when this returns.
    fn balloon(&self, pages: Range<u32>);
}
