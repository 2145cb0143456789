//! A memory manager in software: page tables with split locks, frames with headers, tiers with real
//! bytes, a reverse map.
//!
//! The protocol's tests run on it, and it is a start for users without a memory manager of their
//! own. Everything is what a kernel would have, except that nothing traps: an access
//! [asks](Soft::read) the table, and faults if it may not.
//!
//! ```
//! use pagelock::mm::drain::Unlocked;
//! use pagelock::mm::migrate::{Order, Slot, migrate};
//! use pagelock_soft::{At, Config, Soft, TierId};
//! use pagelock::mm::Tiers;
//!
//! const RAM: TierId = TierId(0);
//! const DEVICE: TierId = TierId(1);
//! let mm = Soft::new(Config::ram_and_device(64, 64));
//! let here = mm.spawn().unwrap().page(0);
//! mm.map(here, 8).unwrap();
//! mm.write(here, 100, b"hello").unwrap();
//!
//! // To the device, where the processor cannot read it, ...
//! let mut slots = [Slot::at(here)];
//! let mut unlocked = Unlocked::promise(); // the top of a thread
//! let summary = migrate(&mm, &mut slots, &Order::to(DEVICE), &mm, &mut unlocked);
//! assert_eq!(summary.done, 1);
//! assert_eq!(mm.frame_at(here).map(|pfn| mm.tier(pfn)), Some(DEVICE));
//!
//! // ... and back, by the fault that the read takes.
//! let mut bytes = [0; 5];
//! mm.read(here, 100, &mut bytes).unwrap();
//! assert_eq!(&bytes, b"hello");
//! assert_eq!(mm.frame_at(here).map(|pfn| mm.tier(pfn)), Some(RAM));
//! mm.audit().unwrap();
//! ```
//!
//! Locks, outermost first: a page, a page-table lock, a frame's reverse map, the cache, a batch, a
//! tier's free frames. At most one page-table lock is held, except by fork and remap, which hold
//! two in the order of their addresses.
#![no_std]
#![warn(missing_docs, missing_debug_implementations, unreachable_pub)]
#![warn(clippy::std_instead_of_core, clippy::alloc_instead_of_core)]
//! A memory manager in software: page tables with split locks, frames with headers, tiers with real
//! bytes, a reverse map.
//!
//! The protocol's tests run on it, and it is a start for users without a memory manager of their
//! own. Everything is what a kernel would have, except that nothing traps: an access
//! [asks](Soft::read) the table, and faults if it may not.
//!
//! ```
//! use pagelock::mm::drain::Unlocked;
//! use pagelock::mm::migrate::{Order, Slot, migrate};
//! use pagelock_soft::{At, Config, Soft, TierId};
//! use pagelock::mm::Tiers;
//!
//! const RAM: TierId = TierId(0);
//! const DEVICE: TierId = TierId(1);
//! let mm = Soft::new(Config::ram_and_device(64, 64));
//! let here = mm.spawn().unwrap().page(0);
//! mm.map(here, 8).unwrap();
//! mm.write(here, 100, b"hello").unwrap();
//!
//! // To the device, where the processor cannot read it, ...
//! let mut slots = [Slot::at(here)];
//! let mut unlocked = Unlocked::promise(); // the top of a thread
//! let summary = migrate(&mm, &mut slots, &Order::to(DEVICE), &mm, &mut unlocked);
//! assert_eq!(summary.done, 1);
//! assert_eq!(mm.frame_at(here).map(|pfn| mm.tier(pfn)), Some(DEVICE));
//!
//! // ... and back, by the fault that the read takes.
//! let mut bytes = [0; 5];
//! mm.read(here, 100, &mut bytes).unwrap();
//! assert_eq!(&bytes, b"hello");
//! assert_eq!(mm.frame_at(here).map(|pfn| mm.tier(pfn)), Some(RAM));
//! mm.audit().unwrap();
//! ```
//!
//! Locks, outermost first: a page, a page-table lock, a frame's reverse map, the cache, a batch, a
//! tier's free frames. At most one page-table lock is held, except by fork and remap, which hold
//! two in the order of their addresses.

extern crate alloc;

mod access;
mod audit;
mod bytes;
mod cache;
mod config;
mod counts;
mod entry;
mod errors;
mod fill;
mod fork;
mod frames;
mod guarded;
mod handler;
mod inject;
mod inspect;
mod large;
mod map;
mod names;
mod notify;
mod pin;
mod refs;
mod remap;
mod space;
mod traits;
mod unmap;

pub use audit::AuditError;
pub use config::{Config, Kind, TierConfig};
pub use counts::Counted;
pub use entry::SoftEntry;
pub use errors::{AccessError, MapError};
pub use names::{At, SpaceId, TierId};
pub use pin::{Backed, Balanced, PinFailure};
pub use space::{Area, AreaKind, SPLIT};
pub use traits::Refusal;

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use bytes::Bytes;
use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};
use counts::Counts;
use crossbeam_utils::CachePadded;
use frames::{Frame, Tier};
use guarded::Guarded;
use pagelock::futex::{Futex, OsFutex};
use pagelock::mm::drain::{Batch, Batches, Cpus, OneCpu};
use pagelock::mm::migrate::Mode;
use pagelock::mm::range::{Log, Notifier};
use pagelock::mm::{Mm, Notice, Span};
use space::Space;

/// A function of the user's, called at a step of the protocol: see `inject`.
type Hook<F> = Guarded<Option<Box<F>>>;

type BatchSlice<F> = Box<[CachePadded<Batch<F>>]>;

/// The memory manager. `F` is the platform of the pages' headers; `C` tells processors apart for
/// the batches.
///
/// ```
/// use pagelock_soft::{Config, Soft};
/// let mm = Soft::new(Config::ram_and_device(16, 16));
/// let at = mm.spawn().unwrap().page(0);
/// mm.map(at, 1).unwrap();
/// mm.write(at, 0, b"hello").unwrap();
/// ```
pub struct Soft<F: Futex = OsFutex, C: Cpus = OneCpu> {
    frames: Box<[Frame<F>]>,
    tiers: Box<[Tier]>,
    bytes: Bytes,
    spaces: Box<[AtomicPtr<Space>]>,
    /// Which of them are in use.
    used: Guarded<Vec<bool>>,
    pages: usize,
    batches: Batches<BatchSlice<F>, C, F>,
    cache: Guarded<cache::Slots>,
    /// How many moves of cached pages will find the cache changed.
    fail_cache: AtomicUsize,
    /// Refuses every migration: see `inject`.
    immovable: AtomicBool,
    on_move_cached: Hook<dyn FnMut(u64, u64) + Send>,
    on_prepare: Hook<dyn FnMut(u64, Mode) -> bool + Send>,
    on_moved: Hook<dyn FnMut(u64, u64) + Send>,
    on_flush: Hook<dyn FnMut() + Send>,
    on_rest: Hook<dyn FnMut() + Send>,
    on_full: Hook<dyn FnMut(At) -> bool + Send>,
    on_revoke: Hook<dyn FnMut(u64) + Send>,
    /// One for each space.
    notifiers: Box<[Notifier<F>]>,
    logs: Box<[Log]>,
    on_invalidate: Hook<dyn FnMut(At, usize, Option<Notice>) + Send>,
    /// Whether there is one.
    is_watched: AtomicBool,
    pinned: pin::Balance,
    counts: Counts,
}

impl Soft {
    /// A memory manager on the default platform, with one processor.
    ///
    /// ```
    /// use pagelock_soft::{Config, Soft};
    /// let mm = Soft::new(Config::ram_and_device(16, 8));
    /// assert_eq!(mm.frame_count(), 24);
    /// ```
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self::on(OsFutex, OneCpu, config)
    }
}

impl<F: Futex, C: Cpus> Soft<F, C> {
    /// A memory manager on platform `futex`, with processors `cpus`.
    ///
    /// ```
    /// use pagelock::{OsFutex, mm::drain::OneCpu};
    /// use pagelock_soft::{Config, Soft};
    /// let mm = Soft::on(OsFutex, OneCpu, Config::ram_and_device(16, 16));
    /// assert_eq!(mm.page_size(), 4096);
    /// ```
    #[must_use]
    pub fn on(futex: F, cpus: C, config: Config) -> Self {
        let mut tiers = Vec::new();
        let mut frames = Vec::new();
        for (id, tier) in config.tiers.iter().enumerate() {
            tiers.push(Tier::new(tier, frames.len() as u64));
            frames.extend((0..tier.frames).map(|_| Frame::new(futex, TierId(id))));
        }
        let batches: BatchSlice<F> =
            (0..config.batches).map(|_| CachePadded::new(Batch::with_futex(futex))).collect();
        Self {
            bytes: Bytes::new(frames.len(), config.page_size),
            frames: frames.into_boxed_slice(),
            tiers: tiers.into_boxed_slice(),
            spaces: (0..config.spaces).map(|_| AtomicPtr::default()).collect(),
            used: Guarded::new(vec![false; config.spaces]),
            pages: config.pages,
            batches: Batches::new(cpus, futex, batches),
            cache: Guarded::new(cache::Slots::new()),
            fail_cache: AtomicUsize::new(0),
            immovable: AtomicBool::new(false),
            on_move_cached: Guarded::new(None),
            on_prepare: Guarded::new(None),
            on_moved: Guarded::new(None),
            on_flush: Guarded::new(None),
            on_rest: Guarded::new(None),
            on_full: Guarded::new(None),
            on_revoke: Guarded::new(None),
            counts: Counts::default(),
            logs: (0..config.spaces).map(|_| Log::new()).collect(),
            notifiers: (0..config.spaces).map(|_| Notifier::with_futex(futex)).collect(),
            on_invalidate: Guarded::new(None),
            is_watched: AtomicBool::new(false),
            pinned: pin::Balance::default(),
        }
    }

    /// The entry for an address, locked. Where there is no table it says that nothing is there, and
    /// forgets what it is told.
    ///
    /// ```
    /// use pagelock::leaf::Leaf;
    /// # let (mm, at) = pagelock_soft::example();
    /// assert!(matches!(mm.entry(at).leaf(), Leaf::Present { .. }));
    /// assert_eq!(mm.entry(at.space.page(1 << 20)).leaf(), Leaf::None);
    /// ```
    pub fn entry(&self, at: At) -> SoftEntry<'_, F, C> {
        self.count(|counts| &counts.locks);
        let locked = self.space(at.space).and_then(|space| space.lock(at.page));
        let order = locked.as_ref().map_or(0, |&(_, _, order)| order);
        SoftEntry { mm: self, at, order, table: locked.map(|(table, index, _)| (table, index)) }
    }

    fn space(&self, id: SpaceId) -> Option<&Space> {
        let slot = self.spaces.get(usize::try_from(id.0).ok()?)?;
        // SAFETY: null, or from the `Box` that `spawn` leaked into it, which lives until `self` is
        // dropped. Acquire: pairs with the Release that put it there.
        unsafe { slot.load(Ordering::Acquire).as_ref() }
    }

    /// Makes the frames of a page that is free again pages of their own, as at the beginning.
    fn dissolve(&self, span: Span) {
        for pfn in span.frames() {
            frames::set_span(&self.frames, Span { head: pfn, order: 0 });
        }
    }
}

impl<F: Futex, C: Cpus> Drop for Soft<F, C> {
    fn drop(&mut self) {
        for slot in &mut *self.spaces {
            let space = *slot.get_mut();
            if !space.is_null() {
                // SAFETY: from `Box::into_raw`, once, in `spawn`; nobody else frees it, and nobody
                // uses it any more.
                drop(unsafe { Box::from_raw(space) });
            }
        }
    }
}

impl<F: Futex, C: Cpus> fmt::Debug for Soft<F, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Soft")
            .field("tiers", &self.tiers)
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

/// A small memory manager for examples: 32 frames in each of two tiers, and eight pages mapped at
/// the address, of which the first four begin with `b"hello"`.
#[doc(hidden)]
#[must_use]
pub fn example() -> (Soft, At) {
    let mm = Soft::new(Config::ram_and_device(32, 32));
    let at = mm.spawn().expect("the first space").page(0);
    mm.map(at, 8).expect("an empty space");
    for at in at.pages(4) {
        mm.write(at, 0, b"hello").expect("mapped just now");
    }
    (mm, at)
}

const _: () = {
    const fn is_mm<M: Mm>() {}
    is_mm::<Soft>();
};
