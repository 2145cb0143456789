//! Frames and tiers as seen past every table: what there is, and what a device reads and writes.

use super::frames::{Tier, frame};
use super::{BatchSlice, Kind, Soft, TierId};
use core::ops::Range;
use pagelock::PageLock;
use pagelock::futex::Futex;
use pagelock::mm::Memory;
use pagelock::mm::drain::{Batches, Cpus};

impl<F: Futex, C: Cpus> Soft<F, C> {
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
    pub fn frames_of(&self, tier: TierId) -> Range<u64> {
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
        frame(&self.frames, pfn).map_or(0, |frame| frame.rmap.lock().len())
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
}
