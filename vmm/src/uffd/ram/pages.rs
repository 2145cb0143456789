//! What is known of a page, and how it is taken out.

use super::{Ram, SMALL, Shared};
use crate::inbox::Inbox;
use crate::uffd::Uffd;
use crate::uffd::staging::Staging;
use linux_raw_sys::general as sys;
use rustix::fs::{FallocateFlags, Mode, OFlags, fallocate, open};
use rustix::mm::{Advice, madvise};
use std::io;
use std::os::fd::AsFd;
use std::ptr;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

impl Ram {
    /// Whether its faults arrive at `inbox`.
    pub(crate) fn reports_to(&self, inbox: &Inbox) -> bool {
        let events = inbox.events().as_any().downcast_ref::<Uffd>();
        events.is_some_and(|uffd| uffd.is(&self.uffd))
    }

    pub(super) fn pointer(&self, at: usize) -> *mut u8 {
        ptr::with_exposed_provenance_mut(self.base + at)
    }

    pub(super) fn has_removes(&self) -> bool {
        self.uffd.features().has(sys::UFFD_FEATURE_EVENT_REMOVE)
    }

    /// Private memory of another process; or of this one, and others remove it: the page may go
    /// while its owner reads it, which would then sleep for itself. (It can be moved out all the
    /// same.)
    pub(super) fn cannot_be_read(&self) -> bool {
        self.file.is_none() && (self.is_remote || self.has_removes())
    }

    /// Whether there is a page, as far as can be known.
    pub(super) fn is_there(&self, at: usize) -> io::Result<bool> {
        if self.file.is_some() {
            // There, if it can be mapped.
            return match self.uffd.resume(self.base + at, self.page, false) {
                Ok(_) => Ok(true),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
                Err(error) => Err(error),
            };
        }
        if self.is_remote {
            return Ok(false);
        }
        self.is_mapped(at)
    }

    /// Whether a page of this process is present, or swapped out.
    pub(super) fn is_mapped(&self, at: usize) -> io::Result<bool> {
        let pagemap = match self.pagemap.get() {
            Some(pagemap) => pagemap,
            None => {
                let flags = OFlags::RDONLY | OFlags::CLOEXEC;
                let opened = open("/proc/self/pagemap", flags, Mode::empty())?;
                self.pagemap.get_or_init(|| opened)
            }
        };
        let mut entry = [0; 8];
        let read = rustix::io::pread(pagemap, &mut entry, ((self.base + at) / SMALL * 8) as u64)?;
        Ok(read == 8 && u64::from_ne_bytes(entry) >> 62 != 0)
    }

    /// A write of what is there, which parts a page that KSM has merged with others.
    pub(super) fn part(&self, at: usize) {
        // SAFETY: the page is there, and its owner is the caller; the guest uses it by its own
        // accesses, which this one, being atomic, does not disturb.
        let byte = unsafe { AtomicU8::from_ptr(self.pointer(at)) };
        let mut seen = byte.load(Relaxed);
        while let Err(now) = byte.compare_exchange(seen, seen, Relaxed, Relaxed) {
            seen = now;
        }
    }

    pub(super) fn move_out(
        &self,
        staging: &Staging,
        at: usize,
        protected: bool,
        mut seen: impl FnMut(&[u8]),
    ) -> io::Result<()> {
        match staging.take(self.base + at, &mut seen) {
            // Not where the write would fault: the owner would fault on its own page.
            Err(error)
                if error.kind() == io::ErrorKind::ResourceBusy
                    && !self.has_removes()
                    && !protected =>
            {
                self.part(at);
                staging.take(self.base + at, seen)
            }
            done => done,
        }
    }

    pub(super) fn let_go(&self, at: usize) -> io::Result<()> {
        if let Some(Shared { file, offset }) = &self.file {
            let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            return Ok(fallocate(file.as_fd(), flags, offset + at as u64, self.page as u64)?);
        }
        if self.is_remote || self.has_removes() {
            // It is elsewhere; or the call would sleep until the event is read, by this thread
            // perhaps.
            return Err(io::ErrorKind::Unsupported.into());
        }
        // SAFETY: a page of the region, whose users bear with pages that go.
        Ok(unsafe { madvise(self.pointer(at).cast(), self.page, Advice::LinuxDontNeed) }?)
    }
}
