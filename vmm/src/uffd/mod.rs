//! Linux's userfaultfd, as it is.
//!
//! * [`Uffd`]: a descriptor, and each of its calls with what it really answers.
//! * [`Ram`]: memory of a region: anonymous, of a memfd, or a mapping of others; pages of 4
//!   KiB, or of 2 MiB from hugetlb.
//!
//! What the manual does not say, or not where it is looked for:
//!
//! | | |
//! |---|---|
//! | `EAGAIN` while a removal waits to be read | no page can be put up until then: the region reads it |
//! | `EAGAIN` with a count | a copy of several pages was done in part: it goes on behind that |
//! | `EEXIST` | nothing was written over, *and nobody was woken*: the caller wakes |
//! | `UFFDIO_CONTINUE` that says `EFAULT` | nothing is behind the mapping any more: fetch the page |
//! | `UFFDIO_COPY` of 2 MiB that says `EEXIST` | there is one, or none is left: a look decides |
//! | `UFFDIO_MOVE` that says `EEXIST` | Linux 6.18 says so of some moves that it did |
//! | `UFFDIO_MOVE` that says `EBUSY` | pinned, or shared after a fork: it stays; or merged by KSM: a write parts it |
//! | `MADV_DONTNEED` of a pinned page | succeeds, and the device's writes are lost: so pages are moved |
//! | `MADV_DONTNEED` where removals are events | sleeps until the event is read |
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
