//! Linux's userfaultfd, as it is.
//!
//! * [`Uffd`]: a descriptor, and each of its calls with what it really answers.
//! * [`Ram`]: memory of a region: anonymous, of a memfd, or somebody else's mapping; pages of 4
//!   KiB, or of 2 MiB from hugetlb.
//!
//! What the manual does not say, or not where it is looked for:
//!
//! | | |
//! |---|---|
//! | `EAGAIN` while a removal waits to be read | every call that puts a page up fails until the event is read: [`WouldBlock`](io::ErrorKind::WouldBlock), and the region reads it |
//! | `EAGAIN` with a count | a copy of several pages was done in part: it goes on behind that |
//! | `EEXIST` | nothing was written over, *and nobody was woken*: the caller wakes |
//! | `UFFDIO_CONTINUE` that says `EFAULT` | nothing is behind the mapping any more: the page was taken out after the minor fault was queued, and is to be fetched |
//! | `UFFDIO_COPY` of a huge page that says `EEXIST` | there is one, or no huge page is left: it is looked up which |
//! | `UFFDIO_MOVE` that says `EEXIST` | Linux 6.18 says so of some moves that it did; as a place in the staging area is known to be empty, it was |
//! | `UFFDIO_MOVE` that says `EBUSY` | the page is pinned by the kernel, or shared after a fork: it stays; or KSM has merged it: a write of what is there parts it, and it moves |
//! | `MADV_DONTNEED` of a pinned page | succeeds, and the device goes on with a page that is nobody's. So pages are moved out where the kernel can |
//! | `MADV_DONTNEED` where removals are events | sleeps until the event is read: a thread that serves faults must not call it |
//! | faults are read before removals | whatever came first; see [`Inbox`] for what that means |
//! | a descriptor without `O_NONBLOCK` | `poll` says error at once |

mod calls;
mod events;
mod ram;
mod staging;
mod wish;
mod written;

pub use calls::Uffd;
pub use ram::{HUGE, Ram, SMALL};
pub use wish::{Features, Wish};

#[allow(unused_imports)] // For the documentation.
use crate::inbox::Inbox;
#[allow(unused_imports)] // As above.
use std::io;

#[cfg(test)]
mod tests;
