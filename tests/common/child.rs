//! Processes to be killed: forks of this one, which share memory with it.

use core::ptr;
use core::time::Duration;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A fork that was not waited for. Dropping it kills it.
pub(crate) struct Child(libc::pid_t);

/// What became of one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    Exit(i32),
    Signal(i32),
    Stopped,
}

/// Runs `body` in a fork, which ends with its status; 101 if it panics. It must not take locks of
/// this process: of its threads only the one that forks goes on there.
pub(crate) fn fork(body: impl FnOnce() -> u8) -> Child {
    // SAFETY: the caller's promise; the allocator of the C library may be used after a fork.
    match unsafe { libc::fork() } {
        -1 => panic!("fork: {}", std::io::Error::last_os_error()),
        0 => {
            // SAFETY: asks for the end of this process when the thread that forked ends; it has no
            // other effect.
            unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
            let status = catch_unwind(AssertUnwindSafe(body)).map_or(101, i32::from);
            // SAFETY: ends the process, without running anything of the parent's.
            unsafe { libc::_exit(status) }
        }
        pid => Child(pid),
    }
}

impl Child {
    pub(crate) fn signal(&self, signal: i32) {
        // SAFETY: it was not waited for, so the number is its own.
        assert_eq!(unsafe { libc::kill(self.0, signal) }, 0);
    }

    /// Waits until it has ended, or was stopped.
    pub(crate) fn wait(&self) -> End {
        self.wait_with(libc::WUNTRACED).unwrap()
    }

    /// What became of it, if anything has.
    pub(crate) fn poll(&self) -> Option<End> {
        self.wait_with(libc::WUNTRACED | libc::WNOHANG)
    }

    fn wait_with(&self, options: i32) -> Option<End> {
        let mut status = 0;
        loop {
            // SAFETY: fills in the status; the child is ours.
            match unsafe { libc::waitpid(self.0, &mut status, options) } {
                0 => return None,
                -1 => assert_eq!(std::io::Error::last_os_error().raw_os_error(), Some(libc::EINTR)),
                _ if libc::WIFSTOPPED(status) => return Some(End::Stopped),
                _ if libc::WIFSIGNALED(status) => return Some(End::Signal(libc::WTERMSIG(status))),
                _ => return Some(End::Exit(libc::WEXITSTATUS(status))),
            }
        }
    }

    /// Kills it and waits for its end.
    pub(crate) fn kill(self) {
        self.signal(libc::SIGKILL);
        assert_eq!(self.wait(), End::Signal(libc::SIGKILL));
        core::mem::forget(self);
    }

    /// Waits for its end, of which it must not be killed.
    pub(crate) fn status(self) -> i32 {
        let end = self.wait();
        core::mem::forget(self);
        match end {
            End::Exit(status) => status,
            end => panic!("{end:?}"),
        }
    }

    /// It has been waited for.
    pub(crate) fn reaped(self) {
        core::mem::forget(self);
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // SAFETY: it was not waited for, so the number is its own.
        unsafe { libc::kill(self.0, libc::SIGKILL) };
        let _ = self.wait();
    }
}

/// Memory of zeroes that forks from here on share.
pub(crate) fn shared<T>() -> &'static T {
    // SAFETY: a new mapping; nothing else is affected.
    let at = unsafe {
        libc::mmap(
            ptr::null_mut(),
            size_of::<T>(),
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    assert_ne!(at, libc::MAP_FAILED);
    // SAFETY: mapped for good, and its users are of atomics, for which zeroes are valid.
    unsafe { &*at.cast() }
}

pub(crate) fn sleep(micros: u64) {
    std::thread::sleep(Duration::from_micros(micros));
}
