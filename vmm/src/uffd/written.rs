//! Which pages were written, where the kernel notes it (`UFFD_FEATURE_WP_ASYNC`, Linux 6.7).

use super::ram::Ram;
use crate::layer::Layer;
use linux_raw_sys::general as sys;
use rustix::fs::{Mode, OFlags, open};
use rustix::ioctl::{self, Opcode, Updater};
use std::io;
use std::ops::Range;

/// `PAGEMAP_SCAN`, which the bindings leave out.
const SCAN: Opcode = ioctl::opcode::read_write::<sys::pm_scan_arg>(b'f', 16);

impl Ram {
    /// The pages of `pages` that were written since the last call, or since they came; from now on
    /// they count as not written. One step for each page: no write is missed or seen twice.
    ///
    /// With [`Wish::write_async`](super::Wish::write_async); a write then costs the guest a short
    /// fault in the kernel, and wakes nobody.
    ///
    /// # Errors
    ///
    /// What the kernel says, for instance that it has no `PAGEMAP_SCAN`.
    ///
    /// # Example
    ///
    /// ```
    /// # use pagelock_vmm::{Inbox, Region};
    /// # use pagelock_vmm::uffd::{Uffd, Ram, SMALL, Wish};
    /// # let Ok(uffd) = Uffd::open(Wish::default().write_async()) else { return Ok(()) };
    /// let inbox = Inbox::new(uffd)?;
    /// let region = Region::anonymous(&inbox, 16 * SMALL)?;
    /// let ram = region.layer().as_any().downcast_ref::<Ram>().unwrap();
    /// match ram.take_written(0..16) {
    ///     Ok(written) => assert!(written.is_empty()),
    ///     Err(error) => println!("no PAGEMAP_SCAN: {error}"),
    /// }
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn take_written(&self, pages: Range<usize>) -> io::Result<Vec<usize>> {
        let page = self.page_size();
        let [start, end] = [pages.start, pages.end]
            .map(|n| self.base() as u64 + n.saturating_mul(page).min(self.len()) as u64);
        let pagemap = open("/proc/self/pagemap", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        let mut found = [sys::page_region { start: 0, end: 0, categories: 0 }; 64];
        let (mut next, mut written) = (start, Vec::new());
        while next < end {
            let mut arg = sys::pm_scan_arg {
                size: size_of::<sys::pm_scan_arg>() as u64,
                flags: (sys::PM_SCAN_WP_MATCHING | sys::PM_SCAN_CHECK_WPASYNC).into(),
                start: next,
                end,
                walk_end: 0,
                vec: found.as_mut_ptr() as u64,
                vec_len: found.len() as u64,
                max_pages: 0,
                category_inverted: 0,
                category_mask: sys::PAGE_IS_WRITTEN.into(),
                // Where no page is, nothing is protected, which would count as written.
                category_anyof_mask: (sys::PAGE_IS_PRESENT | sys::PAGE_IS_SWAPPED).into(),
                return_mask: sys::PAGE_IS_WRITTEN.into(),
            };
            // SAFETY: the argument is what the call takes, and `found` has room for what it says.
            let regions = unsafe { ioctl::ioctl(&pagemap, Scan(Updater::new(&mut arg))) }?;
            for region in &found[..regions] {
                let first = ((region.start - self.base() as u64) / page as u64) as usize;
                let last = ((region.end - self.base() as u64) / page as u64) as usize;
                written.extend(first..last);
            }
            if arg.walk_end <= next {
                break;
            }
            next = arg.walk_end;
        }
        Ok(written)
    }
}

/// The call answers with how many ranges it has found.
struct Scan<'a>(Updater<'a, SCAN, sys::pm_scan_arg>);

// SAFETY: as the updater, and the answer is a number.
unsafe impl ioctl::Ioctl for Scan<'_> {
    type Output = usize;
    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        self.0.opcode()
    }

    fn as_ptr(&mut self) -> *mut std::ffi::c_void {
        self.0.as_ptr()
    }

    unsafe fn output_from_ptr(
        out: ioctl::IoctlOutput,
        _: *mut std::ffi::c_void,
    ) -> rustix::io::Result<usize> {
        Ok(usize::try_from(out).unwrap_or(0))
    }
}
