//! The system calls: a file without a name, its seals, its locks, its mappings.

use super::SegmentError;
use core::ffi::{CStr, c_int};
use core::ptr::{self, NonNull};
use core::sync::atomic::{
    AtomicPtr, AtomicU32,
    Ordering::{Acquire, Relaxed, Release},
};

/// A descriptor of an open file description that no other process has, so that its locks end with
/// this process.
#[derive(Debug)]
pub(super) struct File(c_int);

fn errno() -> i32 {
    // SAFETY: the address of this thread's errno, which is valid as long as the thread is.
    unsafe { *libc::__errno_location() }
}

/// What a call answered, unless it failed.
fn checked(call: &'static str, rc: impl Into<i64>) -> Result<i64, SegmentError> {
    match rc.into() {
        -1 => Err(SegmentError::System { call, errno: errno() }),
        rc => Ok(rc),
    }
}

impl File {
    /// A new file of no bytes, that will not shrink.
    pub(super) fn create(name: &CStr) -> Result<Self, SegmentError> {
        // SAFETY: reads the name, which ends with a zero.
        let fd = checked("memfd_create", unsafe {
            libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING)
        })?;
        let file = Self(fd as c_int);
        // SAFETY: no effect but on this file.
        checked("fcntl(F_ADD_SEALS)", unsafe {
            libc::fcntl(file.0, libc::F_ADD_SEALS, libc::F_SEAL_SHRINK)
        })?;
        Ok(file)
    }

    /// The file that `fd` is open on, opened once more: a descriptor that was passed on, or
    /// inherited, shares its locks with the process that passed it.
    ///
    /// # Safety
    ///
    /// `fd` is open, and the caller's to use.
    pub(super) unsafe fn reopen(fd: c_int) -> Result<Self, SegmentError> {
        const PREFIX: &[u8] = b"/proc/self/fd/";
        // Checked before it is opened: opening a device may have an effect, and uses this process's
        // rights, which the peer that sent the descriptor may lack.
        stays(fd)?;
        // The digits from the end; the rest is zeroes, of which one ends the path.
        let (mut path, mut digits) = ([0u8; PREFIX.len() + 12], [0u8; 11]);
        let (mut left, mut n) = (fd.unsigned_abs(), 0);
        while n == 0 || left > 0 {
            digits[n] = b'0' + (left % 10) as u8;
            (left, n) = (left / 10, n + 1);
        }
        path[..PREFIX.len()].copy_from_slice(PREFIX);
        path[PREFIX.len()..]
            .iter_mut()
            .zip(digits[..n].iter().rev())
            .for_each(|(to, from)| *to = *from);
        // SAFETY: reads the path, which ends with a zero.
        let again = checked("open", unsafe {
            libc::open(path.as_ptr().cast(), libc::O_RDWR | libc::O_CLOEXEC)
        })?;
        Ok(Self(again as c_int))
    }

    pub(super) fn fd(&self) -> c_int {
        self.0
    }

    pub(super) fn bytes(&self) -> Result<u64, SegmentError> {
        // SAFETY: integers, of which all zeroes are a value.
        let mut of: libc::stat64 = unsafe { core::mem::zeroed() };
        // SAFETY: fills in the structure that it is given.
        checked("fstat", unsafe { libc::fstat64(self.0, &mut of) })?;
        Ok(of.st_size.try_into().unwrap_or(0))
    }

    /// Makes it at least so long. It never gets shorter: the seal sees to that if others are
    /// faster.
    pub(super) fn lengthen(&self, bytes: u64) -> Result<(), SegmentError> {
        if self.bytes()? >= bytes {
            return Ok(());
        }
        // SAFETY: no effect but on this file.
        let made =
            checked("ftruncate", unsafe { libc::ftruncate64(self.0, bytes as libc::off64_t) });
        if self.bytes()? >= bytes { Ok(()) } else { made.map(drop) }
    }

    /// The first bytes, as words; `None` if it has fewer.
    pub(super) fn read<const N: usize>(&self) -> Result<Option<[u32; N]>, SegmentError> {
        let mut words = [0u32; N];
        let bytes = size_of_val(&words);
        // SAFETY: fills in the array that it is given.
        let got = unsafe { libc::pread64(self.0, words.as_mut_ptr().cast(), bytes, 0) };
        Ok((checked("pread", got as i64)? == bytes as i64).then_some(words))
    }

    pub(super) fn write(&self, words: &[u32]) -> Result<(), SegmentError> {
        let bytes = size_of_val(words);
        // SAFETY: reads the slice that it is given.
        let done = unsafe { libc::pwrite64(self.0, words.as_ptr().cast(), bytes, 0) };
        match checked("pwrite", done as i64)? {
            n if n == bytes as i64 => Ok(()),
            _ => Err(SegmentError::System { call: "pwrite", errno: libc::ENOSPC }),
        }
    }

    /// Maps the first `bytes`, of which there may be fewer yet; over what is at `at`, if given.
    ///
    /// # Safety
    ///
    /// What is at `at` is the caller's to replace.
    pub(super) unsafe fn map(
        &self,
        bytes: usize,
        at: Option<NonNull<u8>>,
    ) -> Result<NonNull<u8>, SegmentError> {
        let fixed = if at.is_some() { libc::MAP_FIXED } else { 0 };
        // SAFETY: a new mapping, or one in place of the caller's.
        unsafe { mmap(bytes, at, libc::MAP_SHARED | libc::MAP_NORESERVE | fixed, self.0) }
    }

    /// Locks byte `at`. `false` if another description has it.
    pub(super) fn try_lock(&self, at: i64) -> Result<bool, i32> {
        self.set(libc::F_OFD_SETLK, libc::F_WRLCK, at)
    }

    /// Sleeps until no owner has locked byte `at`. `false` if a signal was faster. Locks it for
    /// others to see as [`Lock::Passing`], until this is dropped.
    pub(super) fn await_end(&self, at: i64) -> Result<bool, i32> {
        self.set(libc::F_OFD_SETLKW, libc::F_RDLCK, at)
    }

    pub(super) fn unlock(&self, at: i64) {
        // It fails for no reason that leaves the lock ours.
        let _ = self.set(libc::F_OFD_SETLK, libc::F_UNLCK, at);
    }

    /// What lock another description has on byte `at`. If the system does not say, it may be an
    /// owner's.
    pub(super) fn lock_of_another(&self, at: i64) -> Lock {
        let mut lock = byte(libc::F_WRLCK, at);
        // SAFETY: fills in the structure that it is given.
        let asked = unsafe { libc::fcntl(self.0, libc::F_OFD_GETLK, &mut lock) };
        match c_int::from(lock.l_type) {
            libc::F_UNLCK if asked != -1 => Lock::None,
            libc::F_RDLCK if asked != -1 => Lock::Passing,
            _ => Lock::Owned,
        }
    }

    fn set(&self, how: c_int, what: c_int, at: i64) -> Result<bool, i32> {
        let lock = byte(what, at);
        // SAFETY: reads the structure that it is given.
        if unsafe { libc::fcntl(self.0, how, &lock) } != -1 {
            return Ok(true);
        }
        match errno() {
            libc::EAGAIN | libc::EACCES | libc::EINTR => Ok(false),
            errno => Err(errno),
        }
    }
}

/// Checks that what is mapped of the file stays: it is sealed against shrinking, and of ordinary
/// memory (huge pages can run out, and then an access is a signal).
fn stays(fd: c_int) -> Result<(), SegmentError> {
    // SAFETY: asks, no more.
    let seals = match unsafe { libc::fcntl(fd, libc::F_GET_SEALS) } {
        // Of a file that cannot have any.
        -1 if errno() == libc::EINVAL => 0,
        seals => checked("fcntl(F_GET_SEALS)", seals)?,
    };
    // SAFETY: integers, of which all zeroes are a value.
    let mut of: libc::statfs = unsafe { core::mem::zeroed() };
    // SAFETY: fills in the structure that it is given.
    checked("fstatfs", unsafe { libc::fstatfs(fd, &mut of) })?;
    // Its type is another on each system.
    #[allow(clippy::unnecessary_cast)]
    let is_ordinary = of.f_type as i64 == libc::TMPFS_MAGIC as i64;
    let is_sealed = seals & i64::from(libc::F_SEAL_SHRINK) != 0;
    if is_sealed && is_ordinary { Ok(()) } else { Err(SegmentError::NotSealed) }
}

/// A lock of a byte.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Lock {
    None,
    /// Of a thread that has waited for the owner's end, and goes on.
    Passing,
    Owned,
}

fn byte(what: c_int, at: i64) -> libc::flock64 {
    // SAFETY: integers, of which all zeroes are a value. (`l_pid` has to be 0.)
    let mut lock: libc::flock64 = unsafe { core::mem::zeroed() };
    lock.l_type = what as libc::c_short;
    lock.l_whence = libc::SEEK_SET as libc::c_short;
    (lock.l_start, lock.l_len) = (at, 1);
    lock
}

impl Drop for File {
    fn drop(&mut self) {
        // SAFETY: it is ours, and not used afterwards.
        unsafe { libc::close(self.0) };
    }
}

/// # Safety
///
/// What is at `at`, if given, is the caller's to replace.
unsafe fn mmap(
    bytes: usize,
    at: Option<NonNull<u8>>,
    flags: c_int,
    fd: c_int,
) -> Result<NonNull<u8>, SegmentError> {
    let to = at.map_or(ptr::null_mut(), |at| at.as_ptr().cast());
    // SAFETY: the caller's promise; without `at` nothing that exists is affected.
    let at = unsafe { libc::mmap(to, bytes, libc::PROT_READ | libc::PROT_WRITE, flags, fd, 0) };
    let failed = || SegmentError::System { call: "mmap", errno: errno() };
    if at == libc::MAP_FAILED { Err(failed()) } else { NonNull::new(at.cast()).ok_or_else(failed) }
}

/// Puts memory of zeroes in the place of `bytes` at `at`.
///
/// # Safety
///
/// What is there is the caller's to replace.
pub(super) unsafe fn blank(at: NonNull<u8>, bytes: usize) -> Result<(), SegmentError> {
    // SAFETY: the caller's promise.
    unsafe { mmap(bytes, Some(at), libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED, -1) }
        .map(drop)
}

/// # Safety
///
/// What is there is the caller's, and not used afterwards.
pub(super) unsafe fn unmap(at: NonNull<u8>, bytes: usize) {
    // SAFETY: the caller's promise.
    unsafe { libc::munmap(at.as_ptr().cast(), bytes) };
}

/// This process's number.
pub(super) fn pid() -> u32 {
    // SAFETY: asks, no more.
    unsafe { libc::getpid() as u32 }
}

/// Which process this is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Process {
    pid: u32,
    /// Another one than any of its forefathers has. Parent and child can both be number 1, each in
    /// a namespace of its own. 0 if the system cannot tell.
    birth: u32,
}

/// This process.
pub(super) fn process() -> Process {
    Process { pid: pid(), birth: birth() }
}

/// A word of which a fork finds a copy that is zero (`MADV_WIPEONFORK`); null before the first use.
static BIRTH: AtomicPtr<AtomicU32> = AtomicPtr::new(ptr::null_mut());
/// The last birth that this process or one of its forefathers has had.
static BIRTHS: AtomicU32 = AtomicU32::new(0);

fn birth() -> u32 {
    // Acquire: pairs with the Release in `birth_word`.
    let Some(word) = NonNull::new(BIRTH.load(Acquire)).or_else(birth_word) else { return 0 };
    // SAFETY: mapped for good, and an atomic.
    let word = unsafe { word.as_ref() };
    // Relaxed, here and below: the numbers stand for nothing.
    match word.load(Relaxed) {
        0 => {
            let new = BIRTHS.fetch_add(1, Relaxed) + 1;
            word.compare_exchange(0, new, Relaxed, Relaxed).map_or_else(|had| had, |_| new)
        }
        birth => birth,
    }
}

#[cold]
fn birth_word() -> Option<NonNull<AtomicU32>> {
    const BYTES: usize = 4096;
    // SAFETY: a new mapping.
    let at = unsafe { mmap(BYTES, None, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1) }.ok()?;
    // SAFETY: of that mapping, which no other thread knows.
    let is_wiped = unsafe { libc::madvise(at.as_ptr().cast(), BYTES, libc::MADV_WIPEONFORK) } == 0;
    let word = at.as_ptr().cast::<AtomicU32>();
    // Release: pairs with the Acquire in `birth`. Acquire: to see another thread's word.
    let kept = is_wiped.then(|| BIRTH.compare_exchange(ptr::null_mut(), word, Release, Acquire));
    if kept != Some(Ok(ptr::null_mut())) {
        // SAFETY: ours, and not used.
        unsafe { unmap(at, BYTES) };
    }
    match kept? {
        Ok(_) => NonNull::new(word),
        Err(of_another) => NonNull::new(of_another),
    }
}

#[cfg(test)]
mod tests {
    use super::process;

    /// `kill` and locks go by the number, and this by the other: the number may be the same.
    #[test]
    fn a_fork_has_another_birth_than_its_parent() {
        let parent = process();
        assert!(parent.birth != 0 && parent == process());
        // SAFETY: the child asks who it is, which neither locks nor allocates, and ends.
        let child = unsafe {
            let child = libc::fork();
            if child == 0 {
                let own = process();
                let is_right = own.birth != parent.birth && own.birth != 0 && own == process();
                libc::_exit(i32::from(!is_right));
            }
            child
        };
        let mut status = -1;
        // SAFETY: fills in the status.
        assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
        assert_eq!(status, 0);
    }
}
