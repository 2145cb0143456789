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
use pagelock::PageLock;
use pagelock::futex::{Futex, OsFutex};
use pagelock::mm::drain::{Batch, Batches, Cpus, OneCpu};
use pagelock::mm::migrate::Mode;
use pagelock::mm::range::{Log, Notifier};
use pagelock::mm::{Memory, Mm, Notice, Span};
use space::Space;

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
    #[allow(clippy::type_complexity)]
    on_move_cached: Guarded<Option<Box<dyn FnMut(u64, u64) + Send>>>,
    #[allow(clippy::type_complexity)]
    on_prepare: Guarded<Option<Box<dyn FnMut(u64, Mode) -> bool + Send>>>,
    #[allow(clippy::type_complexity)]
    on_moved: Guarded<Option<Box<dyn FnMut(u64, u64) + Send>>>,
    on_flush: Guarded<Option<Box<dyn FnMut() + Send>>>,
    on_rest: Guarded<Option<Box<dyn FnMut() + Send>>>,
    #[allow(clippy::type_complexity)]
    on_full: Guarded<Option<Box<dyn FnMut(At) -> bool + Send>>>,
    #[allow(clippy::type_complexity)]
    on_revoke: Guarded<Option<Box<dyn FnMut(u64) + Send>>>,
    /// One for each space.
    notifiers: Box<[Notifier<F>]>,
    logs: Box<[Log]>,
    #[allow(clippy::type_complexity)]
    on_invalidate: Guarded<Option<Box<dyn FnMut(At, usize, Option<Notice>) + Send>>>,
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

    /// Bytes in a page.
    ///
    /// ```
    /// # let (mm, at) = pagelock_soft::example();
    /// assert_eq!(mm.page_size(), 4096);
    /// ```
    #[must_use]
    pub fn page_size(&self) -> usize {
        self.bytes.page()
    }

    /// How many frames there are, in all tiers.
    ///
    /// ```
    /// # let (mm, at) = pagelock_soft::example();
    /// assert_eq!(mm.frame_count(), 64);
    /// ```
    #[must_use]
    pub fn frame_count(&self) -> usize {
        self.frames.len()
    }

    /// The frames of a tier.
    ///
    /// ```
    /// use pagelock_soft::TierId;
    /// # let (mm, at) = pagelock_soft::example();
    /// assert_eq!(mm.frames_of(TierId(1)), 32..64);
    /// ```
    #[must_use]
    pub fn frames_of(&self, tier: TierId) -> core::ops::Range<u64> {
        self.tiers.get(tier.0).map_or(0..0, |t| t.first..t.first + t.frames as u64)
    }

    /// How many frames of a tier are free.
    ///
    /// ```
    /// use pagelock_soft::TierId;
    /// # let (mm, at) = pagelock_soft::example();
    /// assert_eq!(mm.free_frames(TierId(0)), 27); // of 32: four pages, and the frame of zeroes
    /// ```
    #[must_use]
    pub fn free_frames(&self, tier: TierId) -> usize {
        self.tiers.get(tier.0).map_or(0, Tier::free_frames)
    }

    /// Whose memory a tier is.
    ///
    /// ```
    /// use pagelock_soft::{Kind, TierId};
    /// # let (mm, at) = pagelock_soft::example();
    /// assert_eq!(mm.kind(TierId(0)), Some(Kind::System));
    /// assert_eq!(mm.kind(TierId(2)), None);
    /// ```
    #[must_use]
    pub fn kind(&self, tier: TierId) -> Option<Kind> {
        self.tiers.get(tier.0).map(|t| t.kind)
    }

    /// How many entries name a frame.
    ///
    /// ```
    /// # let (mm, at) = pagelock_soft::example();
    /// mm.fork(at.space).unwrap();
    /// assert_eq!(mm.mappings(mm.frame_at(at).unwrap()), 2);
    /// ```
    #[must_use]
    pub fn mappings(&self, pfn: u64) -> usize {
        frames::frame(&self.frames, pfn).map_or(0, |frame| frame.rmap.lock().len())
    }

    /// The header of the page at `pfn`.
    ///
    /// ```
    /// # let (mm, at) = pagelock_soft::example();
    /// let page = mm.page(mm.frame_at(at).unwrap()).unwrap();
    /// assert_eq!((page.refs(), page.is_locked()), (1, false));
    /// ```
    #[must_use]
    pub fn page(&self, pfn: u64) -> Option<&PageLock<F>> {
        self.header(pfn)
    }

    /// The batches of references.
    ///
    /// ```
    /// # let (mm, at) = pagelock_soft::example();
    /// assert_eq!(mm.batches().count(mm.frame_at(at).unwrap(), |_| {}), 0);
    /// ```
    #[must_use]
    pub fn batches(&self) -> &Batches<BatchSlice<F>, C, F> {
        &self.batches
    }

    /// Reads a frame as a device would, past every table.
    ///
    /// ```
    /// # let (mm, at) = pagelock_soft::example();
    /// let mut bytes = [0; 5];
    /// mm.read_frame(mm.frame_at(at).unwrap(), 0, &mut bytes);
    /// assert_eq!(&bytes, b"hello");
    /// ```
    pub fn read_frame(&self, pfn: u64, offset: usize, out: &mut [u8]) {
        self.bytes.read(pfn, offset, out);
    }

    /// Writes to a frame as a device would, past every table.
    ///
    /// ```
    /// # let (mm, at) = pagelock_soft::example();
    /// mm.write_frame(mm.frame_at(at).unwrap(), 0, b"J");
    /// let mut bytes = [0; 5];
    /// mm.read(at, 0, &mut bytes).unwrap();
    /// assert_eq!(&bytes, b"Jello");
    /// ```
    pub fn write_frame(&self, pfn: u64, offset: usize, bytes: &[u8]) {
        self.bytes.write(pfn, offset, bytes);
    }

    /// Adds to the `word`th `usize` of a frame in one step, past every table, and returns what it
    /// was.
    ///
    /// ```
    /// # let (mm, at) = pagelock_soft::example();
    /// let pfn = mm.frame_at(at).unwrap();
    /// assert_eq!(mm.add_frame(pfn, 7, 5), 0);
    /// assert_eq!(mm.add_frame(pfn, 7, 1), 5);
    /// ```
    pub fn add_frame(&self, pfn: u64, word: usize, add: usize) -> usize {
        self.bytes.add(pfn, word, add)
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
