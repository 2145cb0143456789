//! Moving pages: collect, unmap, check, copy, finalize, and drain when everything is released.
//!
//! ```text
//! slots ─collect─▶ Collected ─unmap─▶ Unmapped ─check─▶ Checked ─copy─▶ Copied ─finalize─▶ Summary
//!       try-lock,           every     (local   freeze:          allocate,      entries,     │
//!       own reference,      other     drain)   exactly the      copy           then locks,  ▼
//!       first entry down    entry              references in                   then         drain,
//!                           down               the hand                       references   no lock
//! ```
//!
//! Each stage has the thread's [`Unlocked`](super::drain::Unlocked), so that a thread waits for
//! nothing, by a drain or by another migration, before the last stage is gone. Each arrow consumes
//! the stage before, so none can be left out or done twice. Migration is best effort, page by page:
//! the obstacle that a page meets at any step becomes its [`Outcome`], the page is put back as it
//! was, and the others go on. Dropping a stage puts everything back, also while a panic unwinds.
//!
//! ```
//! use pagelock::mm::drain::{Drain, Unlocked};
//! use pagelock::mm::migrate::{Order, Slot, collect};
//! use pagelock_soft::TierId;
//! # let (mm, at) = pagelock_soft::example();
//! let mut slots: Vec<_> = at.pages(4).map(Slot::at).collect();
//! let mut unlocked = Unlocked::promise(); // the top of a thread
//! let collected = collect(&mm, &mut slots, &Order::to(TierId(1)), &mut unlocked);
//! let checked = collected.unmap().drain_local(&mm).check();
//! assert_eq!(checked.copy().finalize().done, 4);
//! mm.all(&mut unlocked); // nothing is held any more
//! ```
//!
//! What holds, and where:
//!
//! * From the first entry that is taken down to the last that is put up the page is locked (I12),
//!   and as many migration entries as are put up are found again: `finalize` walks the reverse map,
//!   which also has those that fork and move have made meanwhile (I13).
//! * A page's lock is tried while another is held, never waited for (I23). [`Mode::SyncLight`] and
//!   [`Mode::Sync`] go on, one page at a time, with the pages that are left. They may wait for one
//!   lock, because they hold none.
//! * Waiters have no references, so they cannot make a migration fail (I9, I31). References of
//!   others can: the page is put back, *all* locks are released, the batches are drained, and then
//!   it is tried again (I30, I32).
//! * A fault handler that owns a page passes it in as [`FaultPage`], by [`collect_for_fault`]. The
//!   migration neither locks nor unlocks that page (I22), and there is no `Unlocked`, and no drain.
//!
//! The caller owns the work list: one [`Slot`] a page. The caller's implementations may fail, and
//! must not panic where entries are put up (reverse map, tables): elsewhere a panic puts everything
//! back.
//!
//! # Words
//!
//! An [`Order`] says what to move where. A page's *order*, as in
//! [`Span::order`](super::Span::order), is the kernel's: its size as a power of two. One *pass*
//! goes through the stages with the pages of one *batch*, as many as [`Order::batch`] says; the
//! batches that are drained are the processors' [batches](super::drain) of references.
//!
//! # What the kernel has for it
//!
//! | there | here |
//! |---|---|
//! | `migrate_vma_collect`: hole, zero page | [`Skip::Hole`], or filled |
//! | swap, migration entry | [`Skip::Swapped`], [`Skip::Migrating`] |
//! | poison, marker | [`Skip::Poisoned`], [`Skip::Marker`] |
//! | exclusive entry | [`Skip::Exclusive`], unless it may be waited for |
//! | not of the selected kind or owner | [`Skip::NotSelected`] |
//! | no page; lock not had | [`Skip::NoFrame`], [`Skip::Locked`] |
//! | anonymous, exclusive and maybe pinned | [`Skip::Pinned`], [`Abort::Pinned`] |
//! | unevictable, private data, writeback | [`Skip::Refused`] |
//! | still mapped | [`Abort::StillMapped`] |
//! | unexpected references; freeze lost | [`Abort::Referenced`] |
//! | slot of the cache changed | [`Abort::CacheChanged`] |
//! | no destination, or left out by the driver | [`Abort::NoDestination`], [`Abort::Declined`] |
//! | destination's lock busy | [`Abort::DestinationBusy`] |
//! | destination of another size, of no use | [`Abort::SizeMismatch`], [`Abort::BadDestination`] |
//! | a fault came first where a hole was | [`Abort::HoleFilled`] |
//! | large page, split, failed | [`Outcome::Split`], [`Abort::SplitFailed`] |
//! | source unreadable | [`Outcome::Poisoned`] |
//! | reference count of one at the start | [`Outcome::Freed`] |
//! | arguments (`-EINVAL`), cgroup | the caller's: there are no areas here |
//! | address space going away | the caller's; [`Entry::hole`](super::Entry::hole) says no |

mod bring_back;
mod check;
mod collect;
mod copy;
mod dst;
mod evict;
mod fault_page;
mod finalize;
mod hole;
mod jobs;
mod order;
mod outcome;
mod parts;
mod pass;
mod place;
mod run;
mod slot;
mod split;
mod stages;
mod unmap;

pub use bring_back::bring_back;
pub use evict::evict;
pub use fault_page::FaultPage;
pub use jobs::{Job, Jobs};
pub use order::{Mode, Order, Select};
pub use outcome::{Abort, Outcome, Skip, Summary};
pub use run::migrate;
pub use slot::{PageName, Slot};
/// The former name of [`PageName`].
#[deprecated(since = "0.1.0", note = "renamed to `PageName`")]
pub type What<A> = PageName<A>;
pub use stages::{Checked, Collected, Copied, Unmapped, collect, collect_for_fault};
