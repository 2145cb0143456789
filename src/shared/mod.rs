//! Headers shared by processes that may be killed at any instruction, and life after that.
//!
//! (Feature `shared`, Linux.)
//!
//! | type | is |
//! |---|---|
//! | [`Segment`] | headers, event table and seats in a memfd; created, [attached](Segment::attach_raw), grown |
//! | [`Seat`] | what one thread does with the pages, noted before each step |
//! | [`SeatGuard`], [`SeatMigration`], [`SeatFrozen`], [`SeatRef`], [`SeatPin`] | the core's guards and stages, with their notes |
//! | [`Segment::recover`] | ends what the dead have begun, page by page, with the survivor deciding |
//!
//! # Example
//!
//! ```
//! use pagelock::FreezeRule;
//! use pagelock::shared::{Segment, Size};
//!
//! let segment = Segment::create(c"guest", Size::of(256).seats(8))?;
//! // ... the other process calls Segment::attach, with a descriptor that is opened anew.
//! let seat = segment.sit()?; // one for each thread
//! let page = seat.activate(3)?;
//! drop(seat.pin(3)?);
//! let frozen = seat.lock(3)?.begin_migration().freeze(FreezeRule::Unpinned).unwrap();
//! frozen.commit_in_place();
//! # drop(page);
//!
//! // When another process has died:
//! let recovered = segment.recover(|left| println!("{left:?}"))?;
//! assert_eq!(recovered.pages, 0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Passing a segment on
//!
//! Do not pass on the segment's own descriptor, but one that is opened anew, as below. The locks
//! that show that this process lives belong to its own descriptor, and last until every copy of
//! that is closed: while another process has a copy, nobody sees this one die. Both descriptors
//! are closed by `exec`, unless they become a standard stream or lose `FD_CLOEXEC`.
//!
//! ```no_run
//! use pagelock::shared::{Segment, Size};
//! use std::{fs::File, process::Command};
//!
//! let segment = Segment::create(c"guest", Size::of(1024))?;
//! let anew = File::open(format!("/proc/self/fd/{}", segment.as_raw_fd()))?;
//! let manager = Command::new("manager").stdin(anew).spawn()?;
//!
//! // In the manager:
//! let segment = Segment::attach(std::io::stdin())?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Which owners are dead
//!
//! The kernel knows. The owner of a seat has a lock on one byte of the file (`F_OFD_SETLK`, on a
//! description of its own), and the kernel lets go of it when the process has ended, and not
//! before. So a process that is stopped is alive; a process number that comes round misleads no
//! one; and of several survivors that try to get the seat of a dead owner, one gets it, and if that
//! one dies as well, the next. A robust mutex would do the same for trusted peers only: its list
//! runs through the shared memory, and the C library follows and writes the pointers that it finds
//! there.
//!
//! # Rules
//!
//! * All use the pages through seats. There is no other way in this module; a program in another
//!   language that knows the [layout] keeps to the same order of steps.
//! * A note comes before the step that it announces, and is struck out after the last: after the
//!   release, and after all were told.
//! * A locker that waits strikes its note out first. It sleeps in the event table, where the dead
//!   leave nothing that could keep a page from anybody.
//!
//! # Counts
//!
//! A seat that changes a count of a page keeps the others out for those few instructions, by its
//! number in the page's `changer` word. A thread that is stopped there keeps others from counting
//! on this page; if it has died there, a waiter finds out and settles it.
//!
//! # Orderings
//!
//! | access | ordering | pairs with |
//! |---|---|---|
//! | a note's step: store | Release | the survivor's load (Acquire): a reader of a step sees what was before it |
//! | between the note and the compare-exchange that takes the page: fence | Release | the survivor's fence between the page and the notes (Acquire): an owner's note is seen |
//! | `changer`: compare-exchange, store | Acquire, Release | each other: the count is what the last one left |
//! | page, `before`, `tag`: store, load | Relaxed | nothing: seen with the step, or after a death of which the kernel has told |
//! | the number of pages, the caller's words | Relaxed | nothing |

/// An example in a function's documentation: lines with a segment of 8 pages, and a seat in it.
macro_rules! example {
    ($($line:literal)*) => {
        concat!(
            "\n# Example\n\n```\n# use pagelock::{*, shared::*};\n",
            "# let segment = Segment::create(c\"pages\", Size::of(8).up_to(16))?;\n",
            "# let seat = segment.sit()?;\n",
            $($line, "\n",)*
            "# Ok::<(), Box<dyn std::error::Error>>(())\n```",
        )
    };
}

mod counts;
mod error;
mod file;
mod held;
pub mod layout;
pub mod note;
mod platform;
mod recover;
mod seat;
mod segment;

pub use counts::{SeatPin, SeatRef};
pub use error::{RecoverError, SeatError, SegmentError, SitError};
pub use held::{Held, SeatBusy, SeatCommitError, SeatFrozen, SeatGuard, SeatMigration};
pub use layout::Size;
pub use platform::{InSegment, MAX_SEGMENTS};
pub use recover::{Left, Recovered, When};
pub use seat::Seat;
pub use segment::Segment;
