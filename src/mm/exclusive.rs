//! A device has exclusive access to a page for a while: make, revoke.
//!
//! The entry names the page in ordinary memory and owns its reference, as a present one does, but
//! the processor may not use it. An access [faults](fn@super::fault), which ends the device's
//! exclusivity. In the kernel such a faulter takes a reference and sleeps for the lock, and N of
//! them block a migration for as long as they queue. Here they wait as all faulters do: without a
//! reference.

use super::ledger::{Change, Owner};
use super::range::{invalidating, notice};
use super::{Cause, Entry, Memory, Mm, Span, is_header_of};
use crate::leaf::{Leaf, Rights};
use crate::lock::PageGuard;
use crate::refs::{PageRef, Put};
use crate::wait::Wake;
use core::fmt;

/// Why a device did not get exclusive access to a page.
///
/// ```
/// use pagelock::mm::exclusive::{ExclusiveError, make_exclusive};
/// # let (mm, at) = pagelock_soft::example();
/// let hole = at.space.page(7);
/// assert_eq!(make_exclusive(&mm, hole).unwrap_err(), ExclusiveError::NotPresent);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ExclusiveError {
    /// There is no present page; fault it in and try again.
    NotPresent,
    /// The entry may not be written through; fault for writing and try again.
    NotWritable,
    /// The page was locked. The call released the entry and waited, as
    /// [`PageLock::wait_unlocked`](crate::PageLock::wait_unlocked) does; try again.
    Waited(Wake),
    /// There are other mappings, through which the processor would go on writing.
    Shared,
    /// A pin may write to the page.
    Pinned {
        /// How many.
        pins: u32,
    },
    /// It is mapped by a large entry, which no device gets as a whole.
    Large,
}

impl fmt::Display for ExclusiveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotPresent => f.write_str("there is no present page"),
            Self::NotWritable => f.write_str("the page may not be written to"),
            Self::Waited(_) => f.write_str("the page was locked"),
            Self::Shared => f.write_str("the page has other mappings"),
            Self::Pinned { pins } => write!(f, "the page has {pins} pins"),
            Self::Large => f.write_str("the page is mapped by a large entry"),
        }
    }
}

impl core::error::Error for ExclusiveError {}

/// A device's exclusive access to a page, with the page's lock and a reference: until this is
/// dropped nobody takes the page away, neither an access nor a migration. The driver programs its
/// device and drops this. From then on the page can be revoked at any time, by
/// [`Memory::revoke_exclusive`], and an invalidation with [`Cause::Revoke`] or what else it is for
/// begins before that.
///
/// ```
/// use pagelock::mm::exclusive::make_exclusive;
/// # let (mm, at) = pagelock_soft::example();
/// let exclusive = make_exclusive(&mm, at).unwrap();
/// mm.write_frame(exclusive.pfn(), 0, b"device"); // past the table, as a device does
/// drop(exclusive);
/// let mut bytes = [0; 6];
/// mm.read(at, 0, &mut bytes).unwrap(); // has the page back first
/// assert_eq!(&bytes, b"device");
/// ```
#[must_use = "the device is not yet told, and others wait for the page until this is dropped"]
pub struct Exclusive<'m, M: Mm> {
    mm: &'m M,
    pfn: u64,
    own: Option<Own<'m, M::Futex>>,
}

/// The driver's reference, put first, and the lock, released after it.
type Own<'m, F> = (PageRef<'m, F>, PageGuard<'m, F>);

impl<M: Mm> Exclusive<'_, M> {
    /// The frame.
    ///
    /// ```
    /// use pagelock::mm::exclusive::make_exclusive;
    /// # let (mm, at) = pagelock_soft::example();
    /// let pfn = mm.frame_at(at).unwrap();
    /// assert_eq!(make_exclusive(&mm, at).unwrap().pfn(), pfn);
    /// ```
    #[must_use]
    pub fn pfn(&self) -> u64 {
        self.pfn
    }
}

impl<M: Mm> Drop for Exclusive<'_, M> {
    fn drop(&mut self) {
        let Some((own, lock)) = self.own.take() else { return };
        let head = self.mm.span(self.pfn).head;
        self.mm.account(head, Owner::Get, Change::Put);
        let put = own.put();
        drop(lock);
        // The entry was unmapped meanwhile.
        if put == Put::Last {
            self.mm.free(head);
        }
    }
}

impl<M: Mm> fmt::Debug for Exclusive<'_, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exclusive").field("pfn", &self.pfn).finish_non_exhaustive()
    }
}

/// Gives a device exclusive access to the page at `at`, for as long as nobody else accesses it, and
/// hands over the page locked: see [`Exclusive`].
///
/// The entry has to be the only one that names the page: through another one the processor would go
/// on writing, and nobody would notice. While the device has the page, code that makes another
/// entry for it (a fork, a fault on a file's page) first has it back, or owns the page's lock.
///
/// ```
/// use pagelock::leaf::Leaf;
/// use pagelock::mm::exclusive::make_exclusive;
/// # let (mm, at) = pagelock_soft::example();
/// drop(make_exclusive(&mm, at).unwrap());
/// assert!(matches!(mm.leaf(at), Leaf::DeviceExclusive { .. }));
/// ```
///
/// # Errors
///
/// [`ExclusiveError`], with nothing changed.
pub fn make_exclusive<M: Mm>(mm: &M, at: M::Address) -> Result<Exclusive<'_, M>, ExclusiveError> {
    make_exclusive_for(mm, at, 0)
}

/// [`make_exclusive`] on behalf of `owner`: see [`Notice`](super::Notice).
///
/// ```
/// use pagelock::mm::{Cause, exclusive::make_exclusive_for};
/// # let (mm, at) = pagelock_soft::example();
/// mm.on_notice(|_, _, notice| {
///     let notice = notice.unwrap();
///     assert_eq!((notice.cause, notice.owner), (Cause::Exclusive, 7));
/// });
/// drop(make_exclusive_for(&mm, at, 7).unwrap());
/// ```
///
/// # Errors
///
/// [`ExclusiveError`], with nothing changed.
pub fn make_exclusive_for<M: Mm>(
    mm: &M,
    at: M::Address,
    owner: u64,
) -> Result<Exclusive<'_, M>, ExclusiveError> {
    let invalidation = invalidating(mm, at, super::Notice { cause: Cause::Exclusive, owner });
    let mut entry = mm.lock(at).ok_or(ExclusiveError::NotPresent)?;
    let Ok(leaf @ Leaf::Present { pfn, rights, .. }) = entry.get() else {
        return Err(ExclusiveError::NotPresent);
    };
    if rights != Rights::Write || mm.is_zero_frame(pfn) {
        return Err(ExclusiveError::NotWritable);
    }
    if entry.order() > 0 {
        return Err(ExclusiveError::Large);
    }
    let page = mm.header(pfn).ok_or(ExclusiveError::NotPresent)?;
    let Some(guard) = page.try_lock() else {
        return Err(ExclusiveError::Waited(page.wait_unlocked((entry, invalidation))));
    };
    let pins = page.pins();
    if pins > 0 {
        return Err(ExclusiveError::Pinned { pins });
    }
    // It can be had, because the entry has one and the page is locked, unless there are as many as
    // can be counted.
    let Ok(own) = page.try_get() else { return Err(ExclusiveError::Shared) };
    let head = mm.span(pfn).head;
    mm.account(head, Owner::Get, Change::Taken);
    let exclusive = Exclusive { mm, pfn, own: Some((own, guard)) };
    // What hardware noted at last. The reference goes from the one kind of entry to the other.
    let last = entry.take().unwrap_or(leaf);
    let Some(last) = last.to_device_exclusive() else {
        drop(entry);
        return Err(ExclusiveError::NotPresent);
    };
    entry.set(last);
    mm.account(head, Owner::Entry, Change::Taken);
    mm.account(head, Owner::Mapping, Change::Put);
    drop(entry);
    // The walk of the reverse map needs the PTL free. This entry is down by now, so no copy of it
    // is missed.
    if is_present_anywhere(mm, pfn) {
        present_again(mm, at, pfn);
        return Err(ExclusiveError::Shared);
    }
    drop(invalidation);
    Ok(exclusive)
}

/// Whether the processor can access frame `pfn` through some entry.
fn is_present_anywhere<M: Mm>(mm: &M, pfn: u64) -> bool {
    let mut is_present = false;
    mm.each_mapping(mm.span(pfn), |at| {
        let Some(entry) = mm.lock(at) else { return };
        let Ok(Leaf::Present { pfn: head, .. }) = entry.get() else { return };
        is_present |= Span { head, order: entry.order() }.contains(pfn);
    });
    is_present
}

/// The entry at `at`, locked again once no device has a frame of `span` to itself through it.
///
/// The device may take its time, so it is told with the entry unlocked. Nobody makes the entry
/// exclusive anew meanwhile: that takes the page's lock, which the caller has. `None` if the table
/// is gone.
pub(super) fn revoked<'m, M: Memory>(
    mm: &'m M,
    at: M::Address,
    entry: M::Entry<'m>,
    span: Span,
) -> Option<M::Entry<'m>> {
    match entry.get() {
        Ok(Leaf::DeviceExclusive { pfn, .. }) if span.contains(pfn) => {
            drop(entry);
            mm.revoke_exclusive(pfn);
            mm.lock(at)
        }
        _ => Some(entry),
    }
}

/// Ends the exclusive access of a device whose `entry` says
/// [`DeviceExclusive`](Leaf::DeviceExclusive), as an access does. A fork, and other code that makes
/// another entry for the page, calls this first. Any other entry is released, and stays.
///
/// Releases the entry, because the device may take its time; announces the change; tells the
/// device; and makes the entry present, unless it has changed by then. `lock` is the page's: nobody
/// makes the entry exclusive anew meanwhile.
///
/// ```
/// use pagelock::leaf::Leaf;
/// use pagelock::mm::Tables;
/// use pagelock::mm::exclusive::{make_exclusive, revoke};
/// # let (mm, at) = pagelock_soft::example();
/// let pfn = make_exclusive(&mm, at).unwrap().pfn();
/// let lock = mm.page(pfn).unwrap().lock();
/// revoke(&mm, at, mm.lock(at).unwrap(), &lock);
/// assert!(matches!(mm.leaf(at), Leaf::Present { .. }));
/// ```
///
/// # Panics
///
/// In debug builds, if `lock` is another page's.
pub fn revoke<M: Memory>(
    mm: &M,
    at: M::Address,
    entry: M::Entry<'_>,
    lock: &PageGuard<'_, M::Futex>,
) {
    let leaf = entry.get();
    drop(entry);
    let Ok(Leaf::DeviceExclusive { pfn, .. }) = leaf else { return };
    debug_assert!(is_header_of(mm, pfn, lock.page()), "the lock of another page");
    let _invalidating = invalidating(mm, at, notice(Cause::Revoke));
    mm.revoke_exclusive(pfn);
    present_again(mm, at, pfn);
}

fn present_again<M: Memory>(mm: &M, at: M::Address, pfn: u64) {
    let Some(mut entry) = mm.lock(at) else { return };
    let Ok(leaf @ Leaf::DeviceExclusive { pfn: of, .. }) = entry.get() else { return };
    if of != pfn {
        return;
    }
    if let Some(present) = leaf.to_present(pfn) {
        entry.set(present);
        mm.account(pfn, Owner::Mapping, Change::Taken);
        mm.account(pfn, Owner::Entry, Change::Put);
    }
}
