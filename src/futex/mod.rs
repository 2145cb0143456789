//! What the crate needs from a platform: sleep while a word has a value, wake by address, and a
//! table of event words.
//!
//! [`Futex`] is the whole of it; [`FutexTimed`] adds deadlines for platforms with a clock. The lock
//! is generic over them with static dispatch, so a platform of no size costs nothing. Shipped:
//!
//! | type | for | deadlines |
//! |---|---|---|
//! | [`OsFutex`] | programs on an operating system; without a futex it spins | Linux, Android |
//! | [`SharedFutex`] | headers in memory that processes share (Linux, Android) | yes |
//! | [`SpinFutex`] | cores with nothing else to run; targets without an operating system | no |
//!
//! A kernel or unikernel writes its own: a wait queue, or halt and inter-processor interrupt;
//! [`porting`](crate::porting) goes through one step by step. Each method says what an
//! implementation may assume and must promise. A program that only wants to hear of releases
//! [adapts](Adapt) one of these.
//!
//! # From handlers
//!
//! A signal handler or an interrupt may wait and wake, as far as it may call the platform's own
//! methods; the crate takes no lock of its own, and allocates nothing. The methods of [`OsFutex`]
//! and [`SharedFutex`] on Linux may be called there, and leave `errno` as it was. A handler that
//! *waits* for a lock of the interrupted code waits for ever, as with every lock. So does a handler
//! that waits for a page which that code waits to *own*: behind a closed [gate](crate::lock) the
//! page may be kept for it. A handler also keeps that code from running: if the code was about to
//! wake others, they wait too ([what holds a chain up](slot#what-holds-a-chain-up)).
//!
//! # System calls
//!
//! On Linux and Android the crate makes these system calls and no others; a filter (seccomp) must
//! allow them:
//!
//! | call | for | if it is refused |
//! |---|---|---|
//! | `futex`, `FUTEX_WAIT_BITSET` | sleeping | `FUTEX_WAIT` |
//! | `futex`, `FUTEX_WAIT` | | `sched_yield`, and look again |
//! | `futex`, `FUTEX_WAKE` | waking one sleeper, or all | `FUTEX_WAKE_BITSET` |
//! | `futex`, `FUTEX_WAKE_BITSET` | waking a few of many | `FUTEX_WAKE`, of all |
//! | `sched_yield` | waiting a moment | pauses of the processor |
//! | `clock_gettime` of `CLOCK_MONOTONIC` | deadlines | no deadline is reached during a sleep |
//! | `gettid` | feature `owner` alone | the owner's thread is unknown |
//!
//! With `FUTEX_PRIVATE_FLAG`, except for [`SharedFutex`]; where pointers have 32 bits and `time_t`
//! has 64, `futex_time64` too. Where there is a vDSO, `clock_gettime` is no system call. Whatever
//! error a filter answers with, a refusal costs speed and not life, as long as a thread that can
//! sleep by `futex` can also be woken by it.

mod adapt;
#[cfg(all(
    any(target_os = "linux", target_os = "android"),
    not(any(pagelock_loom, pagelock_shuttle))
))]
pub(crate) mod linux;
#[cfg(any(pagelock_loom, pagelock_shuttle))]
#[doc(hidden)]
pub mod model;
mod os;
mod platform;
#[cfg(all(
    any(target_os = "linux", target_os = "android"),
    not(any(pagelock_loom, pagelock_shuttle))
))]
mod shared;
pub mod slot;
mod spin;
mod time;

pub use adapt::Adapt;
pub use os::OsFutex;
pub(crate) use platform::tell_in_any_case;
pub use platform::{EVERY_CLASS, Futex, Sleep};
#[cfg(all(
    any(target_os = "linux", target_os = "android"),
    not(any(pagelock_loom, pagelock_shuttle))
))]
pub use shared::{SharedFutex, SharedSlot};
pub use slot::EventSlot;
pub use spin::SpinFutex;
pub use time::{FutexTimed, MonotonicTime};
