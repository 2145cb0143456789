//! What a descriptor can do.

use linux_raw_sys::general as sys;
use std::fmt;

/// What a descriptor does beyond the usual.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Wish {
    /// Hear of pages that are removed (`UFFD_FEATURE_EVENT_REMOVE`), before they are: needed where
    /// anybody but the region's own verbs takes pages away, such as a balloon's `madvise`.
    pub removes: bool,
    /// Writes to protected pages are noted by the kernel, and nobody sleeps
    /// (`UFFD_FEATURE_WP_ASYNC`). Then there are no write faults; the notes are read by
    /// [`Ram::take_written`](super::Ram::take_written). Pages cannot be
    /// [evicted](crate::Region::evict) by protecting them, only by moving.
    pub write_async: bool,
}

impl Wish {
    /// With [`removes`](Self::removes).
    ///
    /// # Example
    ///
    /// ```
    /// # use pagelock_vmm::uffd::Wish;
    /// assert!(Wish::default().removes().removes);
    /// ```
    #[must_use]
    pub const fn removes(mut self) -> Self {
        self.removes = true;
        self
    }

    /// With [`write_async`](Self::write_async).
    ///
    /// # Example
    ///
    /// ```
    /// # use pagelock_vmm::uffd::Wish;
    /// assert!(Wish::default().write_async().write_async);
    /// ```
    #[must_use]
    pub const fn write_async(mut self) -> Self {
        self.write_async = true;
        self
    }
}

/// The features of a descriptor, as the bits of the kernel's header.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Features(pub u64);

impl Features {
    /// Whether the descriptor has `feature`, for instance `UFFD_FEATURE_MOVE`.
    ///
    /// # Example
    ///
    /// ```
    /// # use pagelock_vmm::uffd::Features;
    /// assert!(Features(0b101).has(0b100) && !Features(0b101).has(0b010));
    /// ```
    #[must_use]
    pub const fn has(self, feature: u32) -> bool {
        self.0 & feature as u64 != 0
    }
}

impl fmt::Debug for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Features({:#x})", self.0)
    }
}

/// Used where the kernel has it.
pub(super) const WELCOME: u32 = sys::UFFD_FEATURE_PAGEFAULT_FLAG_WP
    | sys::UFFD_FEATURE_MISSING_HUGETLBFS
    | sys::UFFD_FEATURE_MISSING_SHMEM
    | sys::UFFD_FEATURE_THREAD_ID
    | sys::UFFD_FEATURE_MINOR_HUGETLBFS
    | sys::UFFD_FEATURE_MINOR_SHMEM
    | sys::UFFD_FEATURE_WP_HUGETLBFS_SHMEM
    | sys::UFFD_FEATURE_POISON
    | sys::UFFD_FEATURE_MOVE;
