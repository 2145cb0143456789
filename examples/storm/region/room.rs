//! Memory that may be refused: an error instead of the end of the program.

use std::collections::TryReserveError;

/// `count` values, each made of its index; an error where there is no memory for them.
pub fn boxed<T>(count: usize, make: impl FnMut(usize) -> T) -> Result<Box<[T]>, TryReserveError> {
    let mut all = Vec::new();
    all.try_reserve_exact(count)?;
    all.extend((0..count).map(make));
    Ok(all.into_boxed_slice())
}
