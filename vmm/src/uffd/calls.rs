//! The descriptor and its calls.

use super::wish::{Features, WELCOME, Wish};
use linux_raw_sys::general as sys;
use rustix::fs::{Mode, OFlags, open};
use rustix::ioctl::{self, Ioctl, IoctlOutput, Opcode, Updater};
use rustix::mm::UserfaultfdFlags;
use std::ffi::c_void;
use std::fmt;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::sync::Arc;

/// A userfaultfd. Clones are handles of the same descriptor.
#[derive(Clone)]
pub struct Uffd {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) fd: OwnedFd,
    features: Features,
}

/// `_IOWR(0xAA, number, T)`.
const fn number<T>(number: u32) -> Opcode {
    ioctl::opcode::read_write::<T>(sys::UFFDIO as u8, number as u8)
}

impl Uffd {
    /// Opens a descriptor: by `/dev/userfaultfd`, by the system call, or by the system call for
    /// faults of user mode only, whichever this process may.
    ///
    /// # Errors
    ///
    /// [`PermissionDenied`](io::ErrorKind::PermissionDenied) and others of the system, and
    /// [`Unsupported`](io::ErrorKind::Unsupported) if the kernel cannot do what `wish` asks for.
    ///
    /// # Example
    ///
    /// ```
    /// # use pagelock_vmm::Events;
    /// # use pagelock_vmm::uffd::{Uffd, Wish};
    /// match Uffd::open(Wish::default().removes()) {
    ///     Ok(uffd) => assert!(uffd.has_removes()),
    ///     Err(error) => println!("no userfaultfd: {error}"),
    /// }
    /// ```
    pub fn open(wish: Wish) -> io::Result<Self> {
        // A descriptor can be set up only once, and refuses what it does not know without saying
        // what: so one is asked, by asking for nothing, and another one set up.
        let offered = handshake(&descriptor()?, 0)?;
        let mut wanted = u64::from(WELCOME) & offered;
        for (wished, feature) in [
            (wish.removes, sys::UFFD_FEATURE_EVENT_REMOVE),
            (wish.write_async, sys::UFFD_FEATURE_WP_ASYNC),
        ] {
            if wished && offered & u64::from(feature) == 0 {
                return Err(io::ErrorKind::Unsupported.into());
            }
            wanted |= if wished { u64::from(feature) } else { 0 };
        }
        let fd = descriptor()?;
        handshake(&fd, wanted)?;
        Ok(Self { inner: Arc::new(Inner { fd, features: Features(wanted) }) })
    }

    /// A descriptor that was opened and set up elsewhere, for instance by the process whose memory
    /// it is. It must be non-blocking, and `features` what it was set up with.
    ///
    /// # Example
    ///
    /// ```
    /// # use pagelock_vmm::{Events, Inbox};
    /// # use pagelock_vmm::uffd::{Uffd, Wish};
    /// # let Ok(own) = Uffd::open(Wish::default()) else { return Ok(()) }; // refused here
    /// // As another process would receive it:
    /// let (sent, features) = (own.fd().try_clone_to_owned()?, own.features());
    /// let inbox = Inbox::new(Uffd::from_fd(sent, features))?;
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn from_fd(fd: OwnedFd, features: Features) -> Self {
        Self { inner: Arc::new(Inner { fd, features }) }
    }

    /// What it was set up with.
    ///
    /// # Example
    ///
    /// ```
    /// # use pagelock_vmm::uffd::{Uffd, Wish};
    /// # let Ok(uffd) = Uffd::open(Wish::default()) else { return Ok(()) }; // refused here
    /// println!("{:?}", uffd.features());
    /// # Ok::<_, std::io::Error>(())
    /// ```
    #[must_use]
    pub fn features(&self) -> Features {
        self.inner.features
    }

    /// Whether the two are handles of one descriptor.
    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    /// Registers a range for `mode` (bits `UFFDIO_REGISTER_MODE_*`); the calls that it supports, as
    /// a set of the numbers `_UFFDIO_*`.
    pub(super) fn register(&self, start: usize, len: usize, mode: u32) -> io::Result<u64> {
        let range = range(start, len);
        let mut arg = sys::uffdio_register { range, mode: mode.into(), ioctls: 0 };
        self.call::<{ number::<sys::uffdio_register>(sys::_UFFDIO_REGISTER) }, _>(&mut arg)?;
        Ok(arg.ioctls)
    }

    pub(super) fn unregister(&self, start: usize, len: usize) -> io::Result<()> {
        const UNREGISTER: Opcode = ioctl::opcode::read::<sys::uffdio_range>(
            sys::UFFDIO as u8,
            sys::_UFFDIO_UNREGISTER as u8,
        );
        self.call::<UNREGISTER, _>(&mut range(start, len))
    }

    /// Wakes the threads that sleep for the range: they fault again if there still is no page.
    pub(super) fn wake(&self, start: usize, len: usize) -> io::Result<()> {
        const WAKE: Opcode =
            ioctl::opcode::read::<sys::uffdio_range>(sys::UFFDIO as u8, sys::_UFFDIO_WAKE as u8);
        self.call::<WAKE, _>(&mut range(start, len))
    }

    /// Puts copies up; `false` if there was a page somewhere in the range already. Wakes for what
    /// it has put up.
    ///
    /// # Safety
    ///
    /// `src` can be read for `len` bytes. The range is used only by the kernel, and by accesses
    /// that bear with pages that appear.
    pub(super) unsafe fn copy(
        &self,
        dst: usize,
        src: *const u8,
        len: usize,
        small: usize,
        protected: bool,
    ) -> io::Result<bool> {
        let (mut done, mut all) = (0, true);
        while done < len {
            let mut arg = sys::uffdio_copy {
                dst: (dst + done) as u64,
                src: src as u64 + done as u64,
                len: (len - done) as u64,
                mode: if protected { sys::UFFDIO_COPY_MODE_WP.into() } else { 0 },
                copy: 0,
            };
            match self.call::<{ number::<sys::uffdio_copy>(sys::_UFFDIO_COPY) }, _>(&mut arg) {
                Ok(()) => done = len,
                // In part: what is behind it decides.
                Err(_) if arg.copy > 0 => done += arg.copy as usize,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    all = false;
                    done += small;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(all)
    }

    /// Puts zeroes up, as [`copy`](Self::copy). Not for hugetlb.
    pub(super) fn zero(&self, start: usize, len: usize, small: usize) -> io::Result<bool> {
        let (mut done, mut all) = (0, true);
        while done < len {
            let range = range(start + done, len - done);
            let mut arg = sys::uffdio_zeropage { range, mode: 0, zeropage: 0 };
            match self
                .call::<{ number::<sys::uffdio_zeropage>(sys::_UFFDIO_ZEROPAGE) }, _>(&mut arg)
            {
                Ok(()) => done = len,
                Err(_) if arg.zeropage > 0 => done += arg.zeropage as usize,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    all = false;
                    done += small;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(all)
    }

    /// Maps what is behind the mapping already, as [`copy`](Self::copy).
    pub(super) fn resume(&self, start: usize, len: usize, protected: bool) -> io::Result<bool> {
        // UFFDIO_CONTINUE_MODE_WP, which the bindings leave out.
        let mode = if protected { 1 << 1 } else { 0 };
        let mut arg = sys::uffdio_continue { range: range(start, len), mode, mapped: 0 };
        match self.call::<{ number::<sys::uffdio_continue>(sys::_UFFDIO_CONTINUE) }, _>(&mut arg) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            // Nothing is behind it. A message of a minor fault may be older than that.
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::FAULT.raw_os_error()) => {
                Err(io::ErrorKind::NotFound.into())
            }
            Err(error) => Err(error),
        }
    }

    /// Moves pages to where none are, by their table entries.
    pub(super) fn move_page(&self, dst: usize, src: usize, len: usize) -> io::Result<()> {
        let mut arg = sys::uffdio_move {
            dst: dst as u64,
            src: src as u64,
            len: len as u64,
            mode: 0,
            move_: 0,
        };
        self.call::<{ number::<sys::uffdio_move>(sys::_UFFDIO_MOVE) }, _>(&mut arg)
    }

    /// Protects against writes, or allows them and wakes.
    pub(super) fn protect(&self, start: usize, len: usize, on: bool) -> io::Result<()> {
        // UFFDIO_WRITEPROTECT_MODE_WP, which the bindings leave out; without it writers are woken.
        let mode = u64::from(on);
        let mut arg = sys::uffdio_writeprotect { range: range(start, len), mode };
        self.call::<{ number::<sys::uffdio_writeprotect>(sys::_UFFDIO_WRITEPROTECT) }, _>(&mut arg)
    }

    /// Has every access fail, where no page is.
    pub(super) fn poison(&self, start: usize, len: usize) -> io::Result<()> {
        let mut arg = sys::uffdio_poison { range: range(start, len), mode: 0, updated: 0 };
        self.call::<{ number::<sys::uffdio_poison>(sys::_UFFDIO_POISON) }, _>(&mut arg)
    }

    fn call<const CODE: Opcode, T>(&self, arg: &mut T) -> io::Result<()> {
        // SAFETY: the code carries the size of `T`, and `T` is what the kernel's header says the
        // call takes. What the calls do to memory the callers above answer for: all but `copy` put
        // up, move or drop pages of ranges that are used by raw pointers and guests alone.
        Ok(unsafe { ioctl::ioctl(&self.inner.fd, Updater::<CODE, T>::new(arg)) }?)
    }
}

fn range(start: usize, len: usize) -> sys::uffdio_range {
    sys::uffdio_range { start: start as u64, len: len as u64 }
}

fn handshake(fd: &OwnedFd, features: u64) -> io::Result<u64> {
    let mut arg = sys::uffdio_api { api: sys::UFFD_API.into(), features, ioctls: 0 };
    // SAFETY: the argument is what the call takes, and it touches no other memory.
    unsafe {
        ioctl::ioctl(
            fd,
            Updater::<{ number::<sys::uffdio_api>(sys::_UFFDIO_API) }, _>::new(&mut arg),
        )
    }?;
    Ok(arg.features)
}

/// `USERFAULTFD_IOC_NEW`: takes flags, and answers with a descriptor.
struct New(UserfaultfdFlags);

// SAFETY: the call takes an integer and answers with a new descriptor.
unsafe impl Ioctl for New {
    type Output = OwnedFd;
    const IS_MUTATING: bool = false;

    fn opcode(&self) -> Opcode {
        ioctl::opcode::none(sys::UFFDIO as u8, 0)
    }

    fn as_ptr(&mut self) -> *mut c_void {
        std::ptr::without_provenance_mut(self.0.bits() as usize)
    }

    unsafe fn output_from_ptr(out: IoctlOutput, _: *mut c_void) -> rustix::io::Result<OwnedFd> {
        // SAFETY: just made, and nobody else's.
        Ok(unsafe { OwnedFd::from_raw_fd(out) })
    }
}

fn descriptor() -> io::Result<OwnedFd> {
    let flags = UserfaultfdFlags::CLOEXEC | UserfaultfdFlags::NONBLOCK;
    if let Ok(device) = open("/dev/userfaultfd", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()) {
        // SAFETY: as `New` says.
        if let Ok(fd) = unsafe { ioctl::ioctl(device, New(flags)) } {
            return Ok(fd);
        }
    }
    let user_mode_only = UserfaultfdFlags::from_bits_retain(sys::UFFD_USER_MODE_ONLY);
    // SAFETY: it makes a descriptor. What is done with it is said at the calls.
    let made = unsafe {
        rustix::mm::userfaultfd(flags).or_else(|_| rustix::mm::userfaultfd(flags | user_mode_only))
    };
    Ok(made?)
}

impl fmt::Debug for Uffd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Uffd")
            .field("fd", &self.inner.fd)
            .field("features", &self.inner.features)
            .finish()
    }
}
