//! The right to wait for every processor. A thread with pages in hand has lent it away.

use core::fmt;
use core::marker::PhantomData;

/// A thread that owns no page's lock, and so may wait: for every processor, and for locks.
///
/// There is one for each thread of control. The thread [promises](Self::promise) it at its top and
/// lends it from there: to code that keeps pages locked ([`collect`](crate::mm::migrate::collect)
/// and the stages that follow, and with them [`migrate`](crate::mm::migrate::migrate),
/// [`evict`](crate::mm::migrate::evict), [`pin_page`](crate::mm::pin::pin_page)), for as long as it
/// does; and to code that waits for every processor ([`Drain::all`](super::Drain::all),
/// [`Batches::drain_all`](super::Batches::drain_all)). It cannot be lent to two of them at a time;
/// that is the whole mechanism. It takes no space. It can neither be copied nor sent to another
/// thread, nor can the stages that have it: the other thread may have one of its own.
///
/// Code that is lent one may use it until it returns. A [`Drain::all`](super::Drain::all) that
/// moves pages is odd, but nothing is locked before it or after.
///
/// It does not know of a lock that was taken by hand ([`PageLock::lock`](crate::PageLock::lock),
/// [`claim_range`](crate::mm::claim_range), the lock of a fault handler, with what
/// [`collect_for_fault`](crate::mm::migrate::collect_for_fault) locks besides), of a page-table
/// lock, or of a stage that was [forgotten](core::mem::forget). It is also worth nothing if it is
/// stored where code that runs with pages locked finds it, in a cell of the memory for instance.
/// Those are the promise's to keep.
///
/// A drain between two migrations:
///
/// ```
/// # use pagelock::mm::{Mm, drain::*, migrate::*};
/// fn right<'m, M: Mm>(
///     mm: &'m M, slots: &mut [Slot<'m, M>], order: &Order<M>,
///     drain: &impl Drain, unlocked: &mut Unlocked,
/// ) {
///     let unmapped = collect(mm, slots, order, unlocked).unmap();
///     let _ = unmapped.drain_local(drain).check().copy().finalize();
///     drain.all(unlocked);
///     let _ = collect(mm, slots, order, unlocked).unmap().check().copy().finalize();
/// }
/// ```
///
/// None with pages in hand:
///
/// ```compile_fail,E0499
/// # use pagelock::mm::{Mm, drain::*, migrate::*};
/// fn early<'m, M: Mm>(
///     mm: &'m M, slots: &mut [Slot<'m, M>], order: &Order<M>,
///     drain: &impl Drain, unlocked: &mut Unlocked,
/// ) {
///     let unmapped = collect(mm, slots, order, unlocked).unmap();
///     drain.all(unlocked); // the migration has it
///     let _ = unmapped.drain_local(drain).check().copy().finalize();
///     let _ = collect(mm, slots, order, unlocked).unmap().check().copy().finalize();
/// }
/// ```
///
/// Nor before every entry is taken down:
///
/// ```compile_fail,E0499
/// # use pagelock::mm::{Mm, drain::*, migrate::*};
/// fn earlier<'m, M: Mm>(
///     mm: &'m M, slots: &mut [Slot<'m, M>], order: &Order<M>,
///     drain: &impl Drain, unlocked: &mut Unlocked,
/// ) {
///     let collected = collect(mm, slots, order, unlocked);
///     drain.all(unlocked); // nor here
///     let _ = collected.unmap().drain_local(drain).check().copy().finalize();
///     let _ = collect(mm, slots, order, unlocked).unmap().check().copy().finalize();
/// }
/// ```
///
/// Nor by code that is called in the middle, for instance to choose frames:
///
/// ```compile_fail,E0500
/// # use pagelock::mm::{Mm, drain::*, migrate::*};
/// fn inside<'m, M: Mm>(
///     mm: &'m M, slots: &mut [Slot<'m, M>], order: &Order<M>,
///     drain: &impl Drain, unlocked: &mut Unlocked,
/// ) {
///     let checked = collect(mm, slots, order, unlocked).unmap().check();
///     let _ = checked.copy_to(|from, size| {
///         drain.all(unlocked); // not this closure's to lend
///         mm.allocate_for(order.to, size, from).ok_or(Abort::NoDestination)
///     }).finalize();
/// }
/// ```
///
/// With the drain before it that is fine:
///
/// ```
/// # use pagelock::mm::{Mm, drain::*, migrate::*};
/// fn before<'m, M: Mm>(
///     mm: &'m M, slots: &mut [Slot<'m, M>], order: &Order<M>,
///     drain: &impl Drain, unlocked: &mut Unlocked,
/// ) {
///     drain.all(unlocked);
///     let checked = collect(mm, slots, order, unlocked).unmap().check();
///     let _ = checked.copy_to(|from, size| {
///         mm.allocate_for(order.to, size, from).ok_or(Abort::NoDestination)
///     }).finalize();
/// }
/// ```
///
/// Two migrations, one after the other:
///
/// ```
/// # use pagelock::mm::{Mm, drain::*, migrate::*};
/// fn one_by_one<'m, M: Mm>(
///     mm: &'m M, out: &mut [Slot<'m, M>], back: &mut [Slot<'m, M>],
///     order: [Order<M>; 2], unlocked: &mut Unlocked,
/// ) {
///     let first = collect(mm, out, &order[0], unlocked);
///     let _ = first.unmap().check().copy().finalize();
///     let second = collect(mm, back, &order[1], unlocked);
///     let _ = second.unmap().check().copy().finalize();
/// }
/// ```
///
/// and not two at once:
///
/// ```compile_fail,E0499
/// # use pagelock::mm::{Mm, drain::*, migrate::*};
/// fn together<'m, M: Mm>(
///     mm: &'m M, out: &mut [Slot<'m, M>], back: &mut [Slot<'m, M>],
///     order: [Order<M>; 2], unlocked: &mut Unlocked,
/// ) {
///     let first = collect(mm, out, &order[0], unlocked);
///     let second = collect(mm, back, &order[1], unlocked);
///     let _ = first.unmap().check().copy().finalize();
///     let _ = second.unmap().check().copy().finalize();
/// }
/// ```
///
/// A migration stays with its thread,
///
/// ```compile_fail,E0277
/// # use pagelock::mm::{drain::*, migrate::*};
/// # use pagelock_soft::{Soft, TierId};
/// fn away<'m>(mm: &'m Soft, slots: &mut [Slot<'m, Soft>], unlocked: &mut Unlocked) {
///     let unmapped = collect(mm, slots, &Order::to(TierId(1)), unlocked).unmap();
///     std::thread::scope(|s| {
///         s.spawn(move || unmapped.check().in_work());
///     });
/// }
/// ```
///
/// though its slots may go elsewhere when they are idle again:
///
/// ```
/// # use pagelock::mm::{drain::*, migrate::*};
/// # use pagelock_soft::{Soft, TierId};
/// fn here<'m>(mm: &'m Soft, slots: &mut [Slot<'m, Soft>], unlocked: &mut Unlocked) {
///     let unmapped = collect(mm, slots, &Order::to(TierId(1)), unlocked).unmap();
///     unmapped.check().in_work();
///     std::thread::scope(|s| {
///         s.spawn(move || slots.len());
///     });
/// }
/// ```
///
/// A fault handler owns a page and so has none. One with a [`migrate`](crate::mm::migrate::migrate)
/// in it, or a drain, does not compile: see [`migrate_to_ram`](crate::mm::Memory::migrate_to_ram).
pub struct Unlocked(PhantomData<*mut ()>);

impl Unlocked {
    /// The caller's promise: this is the top of a thread of control (a thread's first function, a
    /// system call, an item of a work queue). It owns no page's lock and no page-table lock, keeps
    /// no thread waiting that does, and has not promised before. It will not take such a lock by
    /// hand and then lend this to code that drains.
    ///
    /// Nothing checks it. Two in one thread are as good as none. A broken promise is the livelock
    /// that this type exists to prevent, and nothing worse: no memory is touched that should not
    /// be, which is why this is not `unsafe`.
    ///
    /// ```
    /// use pagelock::mm::drain::{Drain, NoBatches, Unlocked};
    /// fn main() {
    ///     let mut unlocked = Unlocked::promise();
    ///     NoBatches.all(&mut unlocked);
    /// }
    /// ```
    #[must_use]
    pub fn promise() -> Self {
        Self(PhantomData)
    }
}

impl fmt::Debug for Unlocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Unlocked")
    }
}
