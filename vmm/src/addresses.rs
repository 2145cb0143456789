//! Pages, host addresses and guest addresses, each from the others.

use crate::region::Region;
use std::ops::Range;

impl Region {
    /// How many pages it has.
    ///
    /// # Example
    ///
    /// ```
    /// # use pagelock_vmm::soft::SoftRam;
    /// let (_, region) = SoftRam::region(8)?;
    /// assert_eq!(region.pages(), 8);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn pages(&self) -> usize {
        self.headers.pages()
    }

    /// Bytes of a page.
    ///
    /// # Example
    ///
    /// ```
    /// # use pagelock_vmm::soft::SoftRam;
    /// let (_, region) = SoftRam::region(8)?;
    /// assert_eq!(region.page_size(), 4096);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn page_size(&self) -> usize {
        self.page_size
    }

    /// The host addresses.
    ///
    /// # Example
    ///
    /// ```
    /// # use pagelock_vmm::soft::SoftRam;
    /// let (_, region) = SoftRam::region(8)?;
    /// assert_eq!(region.host_range().len(), 8 * 4096);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn host_range(&self) -> Range<usize> {
        self.layer.base()..self.layer.base() + self.layer.len()
    }

    /// The guest's physical addresses.
    ///
    /// # Example
    ///
    /// ```
    /// # use pagelock_vmm::soft::SoftRam;
    /// let (_, region) = SoftRam::region(8)?;
    /// assert_eq!(region.guest_range(), 0..8 * 4096);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn guest_range(&self) -> Range<u64> {
        self.guest..self.guest + self.layer.len() as u64
    }

    /// The page that has the host address `address`.
    ///
    /// # Example
    ///
    /// ```
    /// # use pagelock_vmm::soft::SoftRam;
    /// let (_, region) = SoftRam::region(8)?;
    /// let start = region.host_range().start;
    /// assert_eq!(region.page_at_host(start + 5000), Some(1));
    /// assert_eq!(region.page_at_host(start + 8 * 4096), None);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn page_at_host(&self, address: usize) -> Option<usize> {
        let at = address.checked_sub(self.layer.base())?;
        (at < self.layer.len()).then_some(at / self.page_size)
    }

    /// The page that has the guest's physical address `address`.
    ///
    /// # Example
    ///
    /// ```
    /// # use pagelock_vmm::soft::SoftRam;
    /// let (_, region) = SoftRam::region(8)?;
    /// assert_eq!(region.page_at_guest(5000), Some(1));
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn page_at_guest(&self, address: u64) -> Option<usize> {
        let at = usize::try_from(address.checked_sub(self.guest)?).ok()?;
        (at < self.layer.len()).then_some(at / self.page_size)
    }

    /// The host address of a page's first byte.
    ///
    /// # Example
    ///
    /// ```
    /// # use pagelock_vmm::soft::SoftRam;
    /// let (_, region) = SoftRam::region(8)?;
    /// assert_eq!(region.host_address(0), Some(region.host_range().start));
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn host_address(&self, page: usize) -> Option<usize> {
        (page < self.pages()).then(|| self.layer.base() + self.at(page))
    }

    /// The guest's physical address of a page's first byte.
    ///
    /// # Example
    ///
    /// ```
    /// # use pagelock_vmm::soft::SoftRam;
    /// let (_, region) = SoftRam::region(8)?;
    /// assert_eq!(region.guest_address(1), Some(4096));
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn guest_address(&self, page: usize) -> Option<u64> {
        (page < self.pages()).then(|| self.guest + self.at(page) as u64)
    }

    /// The offset of a page.
    pub(crate) fn at(&self, page: usize) -> usize {
        page * self.page_size
    }
}
