//! What a region does with its memory.

use super::{HUGE, Ram, SMALL, Shared};
use crate::layer::Layer;
use linux_raw_sys::general as sys;
use std::any::Any;
use std::io;
use std::os::fd::AsFd;
use std::ptr;

static ZEROES: [u8; HUGE] = [0; HUGE];

impl Layer for Ram {
    fn base(&self) -> usize {
        self.base
    }

    fn len(&self) -> usize {
        self.len
    }

    fn page_size(&self) -> usize {
        self.page
    }

    fn fill(&self, at: usize, bytes: &[u8], protected: bool) -> io::Result<bool> {
        if bytes.len() != self.page || at + self.page > self.len {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        // SAFETY: the bytes are a page, and the place is one of the region.
        let put = unsafe {
            self.uffd.copy(self.base + at, bytes.as_ptr(), self.page, self.page, protected)
        }?;
        // Where no huge page is left the kernel says the same.
        if !put && self.page == HUGE && !self.is_there(at)? {
            Err(io::ErrorKind::OutOfMemory.into())
        } else {
            Ok(put)
        }
    }

    fn zero(&self, at: usize) -> io::Result<bool> {
        if self.page == SMALL {
            self.uffd.zero(self.base + at, self.page, self.page)
        } else {
            self.fill(at, &ZEROES, false)
        }
    }

    fn resume(&self, at: usize, protected: bool) -> io::Result<bool> {
        if self.file.is_none() {
            return Err(io::ErrorKind::Unsupported.into());
        }
        self.uffd.resume(self.base + at, self.page, protected)
    }

    fn take(&self, at: usize, into: &mut [u8], protected: bool) -> io::Result<()> {
        if let Some(staging) = &self.staging {
            return self.move_out(staging, at, protected, |bytes| into.copy_from_slice(bytes));
        }
        if self.cannot_be_read() {
            return Err(io::ErrorKind::Unsupported.into());
        }
        // Writers are stopped first; readers go on, and see the same bytes.
        self.protect(at, true)?;
        let taken = self.read(at, into).and_then(|()| self.let_go(at));
        if taken.is_err() && !protected {
            self.protect(at, false)?;
        }
        taken
    }

    fn drop_page(&self, at: usize) -> io::Result<()> {
        match &self.staging {
            Some(staging) => {
                // Whatever is written from now on is dropped as well. It fails where nothing can be
                // protected, and then nothing is.
                let _ = self.protect(at, false);
                match self.move_out(staging, at, false, |_| {}) {
                    // It was gone.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                    done => done,
                }
            }
            None => self.let_go(at),
        }
    }

    fn protect(&self, at: usize, on: bool) -> io::Result<()> {
        if on && self.uffd.features().has(sys::UFFD_FEATURE_WP_ASYNC) {
            // It would stop nobody.
            return Err(io::ErrorKind::Unsupported.into());
        }
        self.uffd.protect(self.base + at, self.page, on)
    }

    fn read(&self, at: usize, into: &mut [u8]) -> io::Result<()> {
        let into = into.get_mut(..self.page).ok_or(io::ErrorKind::InvalidInput)?;
        if let Some(Shared { file, offset }) = &self.file {
            // Not by the mapping: where the page is gone, this reads zeroes and does not fault.
            let mut done = 0;
            while done < into.len() {
                match rustix::io::pread(
                    file.as_fd(),
                    &mut into[done..],
                    offset + (at + done) as u64,
                ) {
                    Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                    Ok(read) => done += read,
                    Err(rustix::io::Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            return Ok(());
        }
        if self.cannot_be_read() {
            return Err(io::ErrorKind::Unsupported.into());
        }
        // An access to a page that others have removed without a word would sleep for its owner,
        // which is the caller. Where it cannot be known, it is taken for there.
        if !self.is_mapped(at).unwrap_or(true) {
            return Err(io::ErrorKind::NotFound.into());
        }
        // SAFETY: a page of the region that is there and that nobody writes; `into` is elsewhere.
        unsafe {
            ptr::copy_nonoverlapping(self.pointer(at).cast_const(), into.as_mut_ptr(), self.page)
        }
        Ok(())
    }

    fn poison(&self, at: usize) -> io::Result<()> {
        self.uffd.poison(self.base + at, self.page)
    }

    fn wake(&self, at: usize) {
        // It fails if the range is not registered any more, and then nobody sleeps.
        let _ = self.uffd.wake(self.base + at, self.page);
    }

    fn close(&self) -> io::Result<()> {
        self.uffd.unregister(self.base, self.len)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
