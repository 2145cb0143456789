//! A page as atomic words.
//!
//! The threads of the storm race for these bytes on purpose, and a mistake in the protocol must
//! show as a wrong sum, not as undefined behaviour. So copies in user space use relaxed atomic
//! words.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::PAGE;

const WORDS: usize = PAGE / 8;

/// 4 KiB. Valid for any bytes, and for memory that other threads write atomically.
#[repr(C, align(4096))]
pub struct Page([AtomicU64; WORDS]);

impl Page {
    pub const fn zero() -> Page {
        Page([const { AtomicU64::new(0) }; WORDS])
    }

    /// This many pages of zeros.
    pub fn zeroed(pages: usize) -> Box<[Page]> {
        (0..pages).map(|_| Page::zero()).collect()
    }

    /// Looks at memory of a mapping as a page.
    ///
    /// # Safety
    ///
    /// `addr` is page-aligned and mapped readable and writable for `'a`, and is accessed by nothing
    /// but atomics and the kernel.
    #[cfg(target_os = "linux")]
    pub unsafe fn at<'a>(addr: *mut u8) -> &'a Page {
        // SAFETY: the caller vouches for alignment and lifetime; any bytes are valid words, and all
        // sharing is atomic.
        unsafe { &*addr.cast::<Page>() }
    }

    pub fn as_mut_ptr(&self) -> *mut u8 {
        (&raw const self.0).cast_mut().cast()
    }

    pub fn copy_from(&self, other: &Page) {
        for (to, from) in self.0.iter().zip(&other.0) {
            to.store(from.load(Relaxed), Relaxed);
        }
    }

    pub fn fill_with(&self, word: u64) {
        for to in &self.0 {
            to.store(word, Relaxed);
        }
    }

    pub fn read(&self, out: &mut [u8; PAGE]) {
        for (to, from) in out.chunks_exact_mut(8).zip(&self.0) {
            to.copy_from_slice(&from.load(Relaxed).to_ne_bytes());
        }
    }

    #[allow(dead_code)] // for the tests that share this file
    pub fn write(&self, bytes: &[u8; PAGE]) {
        for (to, from) in self.0.iter().zip(bytes.chunks_exact(8)) {
            let mut word = [0; 8];
            word.copy_from_slice(from);
            to.store(u64::from_ne_bytes(word), Relaxed);
        }
    }
}
