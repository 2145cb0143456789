//! Actions at the end of a scope, also when a platform's method panics in it.

/// Runs its closure when dropped.
pub(crate) struct Defer<A: FnMut()>(A);

/// Runs `last` when the returned value is dropped.
pub(crate) const fn defer<A: FnMut()>(last: A) -> Defer<A> {
    Defer(last)
}

impl<A: FnMut()> Drop for Defer<A> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// Runs `step`, and `otherwise` if that panics.
pub(crate) fn or_else_on_panic(step: impl FnOnce(), otherwise: impl FnMut()) {
    let otherwise = defer(otherwise);
    step();
    core::mem::forget(otherwise);
}
