//! What a region and its inbox do with it.

use super::SoftRam;
use crate::layer::{Event, Events, Layer};
use std::any::Any;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

impl Layer for SoftRam {
    fn base(&self) -> usize {
        self.inner.base
    }

    fn len(&self) -> usize {
        self.inner.pages * self.inner.page
    }

    fn page_size(&self) -> usize {
        self.inner.page
    }

    fn fill(&self, at: usize, bytes: &[u8], protected: bool) -> io::Result<bool> {
        self.put(at, bytes.into(), protected)
    }

    fn zero(&self, at: usize) -> io::Result<bool> {
        self.put(at, vec![0; self.inner.page].into(), false)
    }

    fn resume(&self, _at: usize, _protected: bool) -> io::Result<bool> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn take(&self, at: usize, into: &mut [u8], _protected: bool) -> io::Result<()> {
        let page = self.page(at)?;
        let bytes = self.lock().pages[page].bytes.take().ok_or(io::ErrorKind::NotFound)?;
        into.copy_from_slice(&bytes);
        Ok(())
    }

    fn drop_page(&self, at: usize) -> io::Result<()> {
        let page = self.page(at)?;
        self.lock().pages[page].bytes = None;
        Ok(())
    }

    fn protect(&self, at: usize, on: bool) -> io::Result<()> {
        let page = self.page(at)?;
        self.lock().pages[page].protected = on;
        if !on {
            self.wake(at);
        }
        Ok(())
    }

    fn read(&self, at: usize, into: &mut [u8]) -> io::Result<()> {
        let page = self.page(at)?;
        let state = self.lock();
        into.copy_from_slice(state.pages[page].bytes.as_ref().ok_or(io::ErrorKind::NotFound)?);
        Ok(())
    }

    fn poison(&self, at: usize) -> io::Result<()> {
        let page = self.page(at)?;
        let mut state = self.lock();
        if state.pages[page].bytes.is_some() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        state.pages[page].poisoned = true;
        drop(state);
        self.wake(at);
        Ok(())
    }

    fn wake(&self, at: usize) {
        if let Ok(page) = self.page(at) {
            self.lock().pages[page].wakes += 1;
            self.inner.changed.notify_all();
        }
    }

    fn close(&self) -> io::Result<()> {
        self.lock().closed = true;
        self.inner.changed.notify_all();
        Ok(())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Events for SoftRam {
    /// Faults first, as the kernel does.
    fn next(&self) -> io::Result<Option<Event>> {
        let mut state = self.lock();
        let event = match state.faults.pop_front() {
            Some(fault) => fault,
            None => match state.removals.pop_front() {
                Some((number, removal)) => {
                    state.read = number;
                    self.inner.changed.notify_all();
                    removal
                }
                None => return Ok(None),
            },
        };
        let _ = rustix::io::read(&self.inner.bell, &mut [0; 8]);
        Ok(Some(event))
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.inner.bell.as_fd()
    }

    fn has_removes(&self) -> bool {
        self.inner.removes
    }

    fn pending(&self) -> io::Result<(u64, u64)> {
        let state = self.lock();
        Ok((state.faults.len() as u64, state.asleep))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
