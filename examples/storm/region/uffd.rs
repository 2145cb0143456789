//! The few calls of userfaultfd that a region needs, one page at a time.
//!
//! Opened in SIGBUS mode: a fault neither sleeps in the kernel nor queues a message, but signals
//! the thread that ran into it. So there is no reader here, and no thread to wake: every call says
//! DONTWAKE where it can.
//!
//! One page at a time also means that no call can be done in part, and the error number says it
//! all:
//!
//! * `EAGAIN`: the address space was being changed, or the page was; nothing was done. Tried again,
//!   within limits.
//! * `EEXIST`: there is a page already. It was *not* overwritten, and that is the point: a slow
//!   thread cannot put old contents over newer ones. Pages are locked by the caller, so here it
//!   means a mistake, and it is passed on. (But a move may say so wrongly; the
//!   [region](super::anon) that moves tells the two apart.)
//! * `ENOENT`: no page at the source of a move; or, for a range, no such registered memory.
//! * `EBUSY`: the page to be moved is pinned, or not this process's alone (after a fork); passed
//!   on.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::map::{Mapping, os_result};
use super::{PAGE, Pretend};

// Features, by the names of the kernel's header.
pub const PAGEFAULT_FLAG_WP: u64 = 1 << 0;
pub const MISSING_SHMEM: u64 = 1 << 5;
const SIGBUS: u64 = 1 << 7;
pub const WP_HUGETLBFS_SHMEM: u64 = 1 << 12;
pub const MOVE: u64 = 1 << 16;

// What to trap on in a registered range.
pub const MODE_MISSING: u64 = 1 << 0;
pub const MODE_WP: u64 = 1 << 1;

// Numbers of the calls, also bits of the mask that registering answers with.
const NR_REGISTER: u8 = 0x00;
pub const NR_COPY: u8 = 0x03;
pub const NR_MOVE: u8 = 0x05;
pub const NR_WRITEPROTECT: u8 = 0x06;
const NR_API: u8 = 0x3f;

const API: u64 = 0xaa;
const USER_MODE_ONLY: i32 = 1;
const COPY_DONTWAKE: u64 = 1 << 0;
const MOVE_DONTWAKE: u64 = 1 << 0;
const WRITEPROTECT_WP: u64 = 1 << 0;
const WRITEPROTECT_DONTWAKE: u64 = 1 << 1;

#[repr(C)]
struct ApiArg {
    api: u64,
    features: u64,
    ioctls: u64,
}

#[repr(C)]
struct RegisterArg {
    start: u64,
    len: u64,
    mode: u64,
    ioctls: u64,
}

/// Of both `UFFDIO_COPY` and `UFFDIO_MOVE`.
#[repr(C)]
struct TransferArg {
    dst: u64,
    src: u64,
    len: u64,
    mode: u64,
    done: i64,
}

#[repr(C)]
struct WriteProtectArg {
    start: u64,
    len: u64,
    mode: u64,
}

/// `_IO(0xAA, 0)` of /dev/userfaultfd, and `_IOWR(0xAA, nr, Arg)` of the descriptor.
///
/// Three architectures (mips, powerpc, sparc) number these otherwise. There the first call fails,
/// and a caller of [`Uffd::open`] falls back as on a kernel that has none.
const IOC_NEW: u32 = 0xaa00;
const fn iowr<Arg>(nr: u8) -> u32 {
    (3 << 30) | ((size_of::<Arg>() as u32) << 16) | (0xaa << 8) | nr as u32
}

/// How often a call that says "again" is made. A try takes about a microsecond when the processor
/// is free.
pub const PATIENCE: u32 = 100_000;

pub struct Uffd {
    fd: OwnedFd,
    retries: AtomicU64,
}

impl Uffd {
    /// A descriptor with these features and SIGBUS mode.
    pub fn open(features: u64, pretend: Pretend) -> io::Result<Self> {
        let features = features | SIGBUS;
        let mut hidden = 0;
        if pretend.no_move {
            hidden |= MOVE;
        }
        if pretend.no_write_protect {
            hidden |= PAGEFAULT_FLAG_WP | WP_HUGETLBFS_SHMEM;
        }
        if pretend.no_userfaultfd {
            return Err(io::Error::from_raw_os_error(libc::ENOSYS));
        }
        // Asking for a feature that is not there fails without saying which, and a descriptor can
        // be set up only once. So the question is put to one descriptor, by asking for nothing, and
        // the wish to the next.
        let offered = handshake(&new_descriptor()?, 0)?;
        if features & !(offered & !hidden) != 0 {
            return Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP));
        }
        let fd = new_descriptor()?;
        handshake(&fd, features)?;
        Ok(Self { fd, retries: AtomicU64::new(0) })
    }

    /// Registers a mapping; fails where the kernel does not offer all of `calls` for this kind of
    /// memory.
    pub fn register(&self, map: &Mapping, mode: u64, calls: &[u8]) -> io::Result<()> {
        let mut arg = RegisterArg {
            start: map.at(0) as u64,
            len: (map.pages() * PAGE) as u64,
            mode,
            ioctls: 0,
        };
        // SAFETY: the argument is the one of this call. It changes how faults in a mapping of ours
        // are reported, and no memory.
        unsafe { self.call(NR_REGISTER, &mut arg) }?;
        match calls.iter().all(|nr| arg.ioctls & (1 << nr) != 0) {
            true => Ok(()),
            false => Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP)),
        }
    }

    /// Puts a copy of a page where none is. The page appears whole, for all mappings of a file at
    /// once, and without write protection in this one.
    ///
    /// # Safety
    ///
    /// `src` is a readable page and `dst` a page of a registered mapping that only atomics and the
    /// kernel access.
    pub unsafe fn copy(&self, dst: *mut u8, src: *const u8) -> io::Result<()> {
        self.patiently(PATIENCE, &[libc::EAGAIN], || {
            let mut arg = TransferArg {
                dst: dst as u64,
                src: src as u64,
                len: PAGE as u64,
                mode: COPY_DONTWAKE,
                done: 0,
            };
            // SAFETY: the argument is the one of this call; the caller vouches for both pages. The
            // kernel refuses (EEXIST) to write over a page that is there.
            unsafe { self.call(NR_COPY, &mut arg) }
        })
    }

    /// Moves a page, by its table entry, to where none is: with respect to every access it is at
    /// the one place or at the other.
    ///
    /// # Safety
    ///
    /// Both are pages of registered mappings of private anonymous memory that only atomics and the
    /// kernel access.
    pub unsafe fn move_page(&self, dst: *mut u8, src: *mut u8) -> io::Result<()> {
        self.patiently(PATIENCE, &[libc::EAGAIN], || {
            let mut arg = TransferArg {
                dst: dst as u64,
                src: src as u64,
                len: PAGE as u64,
                mode: MOVE_DONTWAKE,
                done: 0,
            };
            // SAFETY: the argument is the one of this call; the caller vouches for both pages. The
            // kernel refuses to move onto a page that is there.
            unsafe { self.call(NR_MOVE, &mut arg) }
        })
    }

    /// Sets or clears the write protection of one page of one mapping. Setting it twice is setting
    /// it once, so starting over is right; when it returns, no processor has the old entry cached.
    pub fn write_protect(&self, addr: *mut u8, on: bool) -> io::Result<()> {
        self.patiently(PATIENCE, &[libc::EAGAIN], || {
            let mut arg = WriteProtectArg {
                start: addr as u64,
                len: PAGE as u64,
                // The two flags together are refused.
                mode: match on {
                    true => WRITEPROTECT_WP,
                    false => WRITEPROTECT_DONTWAKE,
                },
            };
            // SAFETY: the argument is the one of this call. It makes stores fault, or not, and
            // changes no memory; a range that is not registered is refused (ENOENT).
            unsafe { self.call(NR_WRITEPROTECT, &mut arg) }
        })
    }

    /// Repeats an operation while it fails with one of these errors, so often.
    ///
    /// It yields in between: the one that is in the way may be waiting for this processor.
    pub fn patiently(
        &self,
        tries: u32,
        again: &[i32],
        mut operation: impl FnMut() -> io::Result<()>,
    ) -> io::Result<()> {
        let mut left = tries;
        loop {
            match operation() {
                Err(error)
                    if left > 0 && error.raw_os_error().is_some_and(|e| again.contains(&e)) =>
                {
                    left -= 1;
                    self.retries.fetch_add(1, Relaxed);
                    // SAFETY: gives up the processor, touches no memory.
                    unsafe { libc::sched_yield() };
                }
                result => return result,
            }
        }
    }

    /// How often the kernel said "again" so far.
    pub fn retries(&self) -> u64 {
        self.retries.load(Relaxed)
    }

    /// # Safety
    ///
    /// `Arg` is what the kernel's call `nr` takes, and whatever that does to memory is sound.
    unsafe fn call<Arg>(&self, nr: u8, arg: &mut Arg) -> io::Result<()> {
        // SAFETY: passed on to the caller.
        unsafe { ioctl(&self.fd, nr, arg) }
    }
}

/// # Safety
///
/// As for [`Uffd::call`].
unsafe fn ioctl<Arg>(fd: &OwnedFd, nr: u8, arg: &mut Arg) -> io::Result<()> {
    // SAFETY: the number carries the size of `Arg`, which the kernel reads and writes no further
    // than.
    os_result(unsafe { libc::ioctl(fd.as_raw_fd(), iowr::<Arg>(nr) as _, arg) })
}

/// Tells the kernel which features to use, once a descriptor; says which there are.
fn handshake(fd: &OwnedFd, features: u64) -> io::Result<u64> {
    let mut arg = ApiArg { api: API, features, ioctls: 0 };
    // SAFETY: the argument is the one of this call, which touches no other memory.
    unsafe { ioctl(fd, NR_API, &mut arg) }?;
    Ok(arg.features)
}

/// By the device where there is one that we may open, else by the system call; there, without the
/// privilege, for faults of user mode only, which are all that SIGBUS mode resolves anyway.
fn new_descriptor() -> io::Result<OwnedFd> {
    let flags = libc::O_CLOEXEC | libc::O_NONBLOCK;
    // SAFETY: the path is a C string; opening a file touches no memory of ours.
    let device =
        unsafe { libc::open(c"/dev/userfaultfd".as_ptr(), libc::O_RDWR | libc::O_CLOEXEC) };
    if device >= 0 {
        // SAFETY: just opened, and nobody else's.
        let device = unsafe { OwnedFd::from_raw_fd(device) };
        // SAFETY: this call takes flags, no pointer.
        let fd = unsafe { libc::ioctl(device.as_raw_fd(), IOC_NEW as _, flags) };
        if fd >= 0 {
            // SAFETY: just made, and nobody else's.
            return Ok(unsafe { OwnedFd::from_raw_fd(fd) });
        }
    }
    for flags in [flags, flags | USER_MODE_ONLY] {
        // SAFETY: the system call takes flags, no pointer.
        let fd = unsafe { libc::syscall(libc::SYS_userfaultfd, flags) };
        if fd >= 0 {
            // SAFETY: just made, and nobody else's; a descriptor fits an int.
            return Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) });
        }
    }
    Err(io::Error::last_os_error())
}
