//! Reading faults and removals.

use super::Uffd;
use crate::layer::{Event, Events, Kind};
use linux_raw_sys::general as sys;
use std::any::Any;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

impl Events for Uffd {
    fn next(&self) -> io::Result<Option<Event>> {
        let mut message = [0_u64; size_of::<sys::uffd_msg>() / 8];
        // SAFETY: plain integers, as bytes.
        let bytes = unsafe {
            std::slice::from_raw_parts_mut(message.as_mut_ptr().cast::<u8>(), size_of_val(&message))
        };
        match rustix::io::read(&self.inner.fd, bytes) {
            Ok(read) if read == size_of::<sys::uffd_msg>() => {}
            Ok(_) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        // SAFETY: the kernel has written one; it is of plain integers, and `message` is as large.
        let message: sys::uffd_msg = unsafe { std::mem::transmute_copy(&message) };
        // SAFETY: the event says which field of the union it is.
        let event = unsafe {
            match u32::from(message.event) {
                sys::UFFD_EVENT_PAGEFAULT => {
                    let fault = message.arg.pagefault;
                    let has = |flag: u32| fault.flags & u64::from(flag) != 0;
                    let kind = if has(sys::UFFD_PAGEFAULT_FLAG_WP) {
                        Kind::Protected
                    } else if has(sys::UFFD_PAGEFAULT_FLAG_MINOR) {
                        Kind::Minor
                    } else {
                        Kind::Missing
                    };
                    let write = has(sys::UFFD_PAGEFAULT_FLAG_WRITE);
                    Event::Fault {
                        address: fault.address as usize,
                        kind,
                        write,
                        thread: fault.feat.ptid,
                    }
                }
                sys::UFFD_EVENT_REMOVE => {
                    let remove = message.arg.remove;
                    Event::Remove { start: remove.start as usize, end: remove.end as usize }
                }
                sys::UFFD_EVENT_UNMAP => Event::Other("unmap"),
                sys::UFFD_EVENT_REMAP => Event::Other("remap"),
                _ => Event::Other("another event"),
            }
        };
        Ok(Some(event))
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.inner.fd.as_fd()
    }

    fn has_removes(&self) -> bool {
        self.features().has(sys::UFFD_FEATURE_EVENT_REMOVE)
    }

    fn pending(&self) -> io::Result<(u64, u64)> {
        let text = fs::read_to_string(format!("/proc/self/fdinfo/{}", self.inner.fd.as_raw_fd()))?;
        let get =
            |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
        get("pending:").zip(get("total:")).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
