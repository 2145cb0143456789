//! Where, when and by which thread each page was taken. With feature `owner`, for debugging.
//!
//! A page has eight bytes and none for its owner. With this feature a small table beside the pages
//! has it: each call that takes a page writes a record, the page's release removes it.
//! [`PageLock::dump`] shows the page's record, [`holds`] all of them, for a watchdog that
//! looks for pages that are held too long.
//!
//! The place is the caller's line, as `#[track_caller]` has it. What takes pages on a caller's
//! behalf, as [`mm`](crate::mm) and the `lock_api` mutex do, shows its own line. The thread is the
//! system's number of it (Linux and Android), which `gdb` and `/proc` use; a stage that another
//! thread ends stays recorded under the first. The time is there where the system has a clock.
//!
//! The table has room for 256 pages that are held at once, and four of them for each place in it: a
//! record that finds no room is dropped, and none is pushed out, so a page that is stuck keeps its
//! own. A record outlives its page if no thread releases it, for instance if the memory of a locked
//! page is used for something else. A dump ignores a record of another hold than the one it shows.
//!
//! Without the feature there is no table, and not an instruction of this. With it, taking and
//! releasing a page cost a few dozen instructions, a look at the clock and a system call.
//!
//! # Example
//!
//! ```
//! use pagelock::{PageLock, owner};
//!
//! static PAGE: PageLock = PageLock::new();
//! let guard = PAGE.lock();
//! let hold = owner::holds().find(|hold| hold.page() == PAGE.dump().address()).unwrap();
//! assert_eq!(hold.at().line(), line!() - 2);
//! println!("{}", PAGE.dump()); // ... It was taken at src/main.rs:4:18 by thread 4711, 0ns ago.
//! # drop(guard);
//! ```
//!
//! # Orderings
//!
//! Nothing rests on the records, and the pages' own words do not wait for them. A page's owner is
//! the only one who writes or removes the page's record.
//!
//! | access | ordering | pairs with |
//! |---|---|---|
//! | free entry claimed: compare-exchange of `page` | Acquire | removal |
//! | record removed: store to `page` | Release | claim |
//! | place stored | Release | a look (Acquire) |
//! | looks, the rest of a record | Relaxed | nothing |
//!
//! The new record's place is stored after the old one's was removed. A thread that sees the place
//! sees the thread and the time.

use crate::futex::{Futex, slot};
use crate::page::PageLock;
use crate::word::State;
use core::fmt;
use core::panic::Location;
use core::ptr::null_mut;
use core::sync::atomic::{
    AtomicPtr, AtomicU32, AtomicUsize,
    Ordering::{Acquire, Relaxed, Release},
};
use core::time::Duration;

type Place = &'static Location<'static>;

/// That a page was taken: the record of one hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Taken {
    page: usize,
    at: Place,
    thread: u32,
    generation: u8,
    since: u32,
}

impl Taken {
    /// Returns the address of the page's header.
    ///
    /// ```
    /// use pagelock::PageLock;
    ///
    /// let page = PageLock::new();
    /// let guard = page.lock();
    /// let taken = page.dump().taken().unwrap();
    /// assert_eq!(taken.page(), &raw const page as usize);
    /// # drop(guard);
    /// ```
    #[must_use]
    pub const fn page(&self) -> usize {
        self.page
    }

    /// Returns the line that took the page.
    ///
    /// ```
    /// use pagelock::PageLock;
    ///
    /// let page = PageLock::new();
    /// let guard = page.lock();
    /// let taken = page.dump().taken().unwrap();
    /// assert_eq!(taken.at().line(), line!() - 2);
    /// # drop(guard);
    /// ```
    #[must_use]
    pub const fn at(&self) -> &'static Location<'static> {
        self.at
    }

    /// Returns the thread that took it, by the system's number. `None` where that is unknown.
    ///
    /// ```
    /// use pagelock::PageLock;
    ///
    /// let page = PageLock::new();
    /// let guard = page.lock();
    /// let taken = page.dump().taken().unwrap();
    /// assert_eq!(taken.thread().is_some(), cfg!(target_os = "linux"));
    /// # drop(guard);
    /// ```
    #[must_use]
    pub const fn thread(&self) -> Option<u32> {
        if self.thread == 0 { None } else { Some(self.thread) }
    }

    /// Returns how long ago that was, to a millisecond, up to 49 days. `None` where there is no
    /// clock.
    ///
    /// ```
    /// use pagelock::PageLock;
    ///
    /// let page = PageLock::new();
    /// let guard = page.lock();
    /// let taken = page.dump().taken().unwrap();
    /// println!("held for {:?}", taken.held().unwrap_or_default());
    /// # drop(guard);
    /// ```
    #[must_use]
    pub fn held(&self) -> Option<Duration> {
        since(self.since)
    }

    /// Whether it is the hold that `state` shows, and not an earlier one that was never removed.
    pub(crate) fn is_of(&self, state: State) -> bool {
        state.is_locked() && state.generation() == self.generation
    }
}

impl fmt::Display for Taken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at {}", self.at)?;
        if let Some(thread) = self.thread() {
            write!(f, " by thread {thread}")?;
        }
        self.held().map_or(Ok(()), |held| write!(f, ", {held:?} ago"))
    }
}

/// The pages that are held now, as far as the table had room.
///
/// # Example
///
/// A watchdog:
///
/// ```
/// use pagelock::owner;
/// use std::time::Duration;
///
/// for hold in owner::holds() {
///     if hold.held() > Some(Duration::from_secs(10)) {
///         eprintln!("page {:#x} was taken {hold}", hold.page());
///     }
/// }
/// ```
pub fn holds() -> impl Iterator<Item = Taken> {
    TABLE.iter().flatten().filter_map(Entry::read)
}

struct Entry {
    /// The header's address; 0 if the entry is free.
    page: AtomicUsize,
    /// Null while the record is not complete.
    at: AtomicPtr<Location<'static>>,
    thread: AtomicU32,
    generation: AtomicU32,
    since: AtomicU32,
}

const SETS: usize = 64;
const WAYS: usize = 4;

static TABLE: [[Entry; WAYS]; SETS] = [const { [const { Entry::new() }; WAYS] }; SETS];

fn set(page: usize) -> &'static [Entry; WAYS] {
    &TABLE[slot::index(page, SETS)]
}

impl Entry {
    const fn new() -> Self {
        Self {
            page: AtomicUsize::new(0),
            at: AtomicPtr::new(null_mut()),
            thread: AtomicU32::new(0),
            generation: AtomicU32::new(0),
            since: AtomicU32::new(0),
        }
    }

    fn is_of(&self, page: usize) -> bool {
        self.page.load(Relaxed) == page
    }

    fn claim(&self, page: usize) -> bool {
        self.page.compare_exchange(0, page, Acquire, Relaxed).is_ok()
    }

    fn write(&self, generation: u8, at: Place) {
        self.thread.store(thread(), Relaxed);
        self.generation.store(generation.into(), Relaxed);
        self.since.store(now().unwrap_or(0), Relaxed);
        self.at.store(core::ptr::from_ref(at).cast_mut(), Release);
    }

    fn remove(&self) {
        self.at.store(null_mut(), Relaxed);
        self.page.store(0, Release);
    }

    fn read(&self) -> Option<Taken> {
        let page = self.page.load(Relaxed);
        // SAFETY: null, or what `write` has stored: a reference that lives for ever.
        let at = unsafe { self.at.load(Acquire).as_ref() }?;
        let (thread, since) = (self.thread.load(Relaxed), self.since.load(Relaxed));
        let generation = self.generation.load(Relaxed) as u8;
        // The entry may be another page's by now.
        (page != 0 && self.is_of(page)).then_some(Taken { page, at, thread, generation, since })
    }
}

/// The record of the page at `address`.
pub(crate) fn of(address: usize) -> Option<Taken> {
    set(address).iter().find(|entry| entry.is_of(address))?.read()
}

/// Records the caller as the owner of `page`, which it has just taken.
#[track_caller]
pub(crate) fn note<F: Futex>(page: &PageLock<F>) {
    let (address, at) = (page.key(), Location::caller());
    let set = set(address);
    // Its own entry, if an earlier owner has left one; or else a free one.
    let own = set.iter().find(|entry| entry.is_of(address));
    if let Some(entry) = own.or_else(|| set.iter().find(|entry| entry.claim(address))) {
        entry.write(page.generation(), at);
    }
}

/// Removes the record of a page, whose owner is about to release it. What comes back is dropped
/// after the release.
pub(crate) fn end(address: usize) -> Ended {
    let entry = set(address).iter().find(|entry| entry.is_of(address));
    Ended(entry.and_then(|entry| {
        let taken = entry.read();
        entry.remove();
        taken
    }))
}

/// A hold that is over.
pub(crate) struct Ended(Option<Taken>);

impl Drop for Ended {
    fn drop(&mut self) {
        if let Some(taken) = &self.0 {
            crate::slow::hold_ended(taken);
        }
    }
}

/// The calling thread's number, or 0.
fn thread() -> u32 {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        // SAFETY: takes nothing. It fails where it is refused.
        let call = || unsafe { libc::syscall(libc::SYS_gettid) };
        crate::futex::linux::keeping_errno(call).map_or(0, |thread| thread as u32)
    }
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    0
}

/// Milliseconds on a clock that only goes forward, and comes round after 49 days.
pub(crate) fn now() -> Option<u32> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let elapsed = Some(crate::futex::MonotonicTime::now().as_duration());
    #[cfg(all(feature = "std", not(any(target_os = "linux", target_os = "android"))))]
    let elapsed = {
        static BEGAN: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
        Some(BEGAN.get_or_init(std::time::Instant::now).elapsed())
    };
    #[cfg(not(any(feature = "std", target_os = "linux", target_os = "android")))]
    let elapsed = None::<Duration>;
    elapsed.map(|elapsed| elapsed.as_millis() as u32)
}

/// How long it is since `then`.
pub(crate) fn since(then: u32) -> Option<Duration> {
    now().map(|now| Duration::from_millis(now.wrapping_sub(then).into()))
}
