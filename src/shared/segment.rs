//! A segment: made, found, grown.

use super::file::{self, File, Lock, Process};
use super::layout::{
    self, Head, MAX_SEATS, PageCell, RECOVERY_LOCK, SEAT_LOCKS, SEATS_AT, SeatCell,
};
use super::platform::Entry;
use super::{RecoverError, SegmentError, Size};
use crate::defer::defer;
use crate::sync::AtomicU32;
use core::ffi::{CStr, c_int};
use core::mem::{ManuallyDrop, size_of};
use core::ptr::NonNull;
use core::sync::atomic::{
    AtomicBool, AtomicU32 as PrivateU32,
    Ordering::{Acquire, Relaxed, Release},
};

/// How often to try a seat that a thread has locked to wait for its owner's end.
const PASSERS: u32 = 1000;

/// Pages, seats and an event table in a file without a name (a memfd), mapped into this process.
///
/// Another process attaches (`Segment::attach`) by a descriptor that it inherits, or is sent over
/// a socket (`SCM_RIGHTS`), and finds the same pages, at another address. That descriptor is not
/// this segment's own: see [how it is passed on](super#passing-a-segment-on).
///
/// # Whom to trust with what
///
/// A process that has the descriptor can write every byte. What it writes cannot make this process
/// access memory outside of the segment: the numbers at its top are copied once, checked, and not
/// read again, the file cannot shrink, and the index in a note is checked where it is used. It
/// *can* make this process wait, or own a page that another owns, or trip an assertion of a debug
/// build. So access what a page's lock protects as memory that every process with the descriptor
/// can write.
///
/// # Fork
///
/// A child that is forked and goes on without `exec` keeps the parent's seats from being seen as
/// dead, and must not use the parent's [`Seat`](super::Seat)s. It attaches for itself, and closes
/// or drops what it has inherited.
#[derive(Debug)]
pub struct Segment {
    pub(super) file: File,
    at: NonNull<u8>,
    /// What its top said when it was mapped. Not read again.
    size: Size,
    /// How many pages are known to be there: never more than the file has.
    pages: PrivateU32,
    /// The process that has mapped it.
    process: Process,
    /// The seats that this process has, a bit each: the kernel does not tell threads apart.
    taken: [PrivateU32; MAX_SEATS as usize / 32],
    /// A thread of this process recovers.
    recovers: AtomicBool,
    entry: ManuallyDrop<Entry>,
}

// SAFETY: the mapping belongs to the process, and all that is accessed in it are atomics.
unsafe impl Send for Segment {}
// SAFETY: as above.
unsafe impl Sync for Segment {}

impl Segment {
    /// A new segment, of pages that are unlocked and free. `name` is for humans; it is seen in
    /// `/proc/self/maps`.
    ///
    /// # Errors
    ///
    /// [`SegmentError`]: the size is none, or the system refuses.
    ///
    /// # Example
    ///
    /// ```
    /// use pagelock::shared::{Segment, Size};
    ///
    /// let segment = Segment::create(c"pages", Size::of(1024))?;
    /// let seat = segment.sit()?;
    /// let guard = seat.lock(7)?;
    /// drop(guard);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn create(name: &CStr, size: Size) -> Result<Self, SegmentError> {
        size.check()?;
        let file = File::create(name)?;
        file.lengthen(size.bytes(size.pages))?;
        file.write(&layout::words(size))?;
        // SAFETY: it was opened just now.
        Self::of(unsafe { File::reopen(file.fd()) }?)
    }

    /// Maps the segment that `fd` is open on. The descriptor stays the caller's; the segment has
    /// one of its own, which it opens through `/proc`.
    ///
    /// # Errors
    ///
    /// [`SegmentError`]: the file is no segment, or none that this program can use.
    ///
    /// # Safety
    ///
    /// `fd` is open, and the caller's to use.
    #[doc = example!(
        "// SAFETY: it is open."
        "let again = unsafe { Segment::attach_raw(segment.as_raw_fd()) }?;"
        "assert_eq!(again.pages(), 8);"
    )]
    pub unsafe fn attach_raw(fd: c_int) -> Result<Self, SegmentError> {
        // SAFETY: the caller's promise.
        Self::of(unsafe { File::reopen(fd) }?)
    }

    /// [`attach_raw`](Self::attach_raw) of a descriptor that Rust knows to be open.
    ///
    /// # Errors
    ///
    /// As there.
    #[doc = example!(
        "let again = Segment::attach(&segment)?; // as another process does"
        "let guard = seat.lock(3)?;"
        "assert!(again.sit()?.try_lock(3).is_err());"
    )]
    #[cfg(feature = "std")]
    pub fn attach(fd: impl std::os::fd::AsFd) -> Result<Self, SegmentError> {
        use std::os::fd::AsRawFd;
        // SAFETY: it is borrowed, so it is open.
        unsafe { Self::attach_raw(fd.as_fd().as_raw_fd()) }
    }

    fn of(file: File) -> Result<Self, SegmentError> {
        let words = file.read()?.ok_or(SegmentError::NoSegment)?;
        let size = layout::read(words, file.bytes()?)?;
        let bytes =
            usize::try_from(size.bytes(size.capacity)).map_err(|_| SegmentError::Size(size))?;
        // SAFETY: nothing that exists is replaced.
        let at = unsafe { file.map(bytes, None) }?;
        // SAFETY: within the mapping.
        let pages = unsafe { at.add(size.pages_at() as usize) }.cast();
        let entry =
            Entry::new(&file, pages, bytes - size.pages_at() as usize).inspect_err(|_| {
                // SAFETY: mapped just now, and not used.
                unsafe { file::unmap(at, bytes) };
            })?;
        let (taken, recovers) =
            ([const { PrivateU32::new(0) }; MAX_SEATS as usize / 32], AtomicBool::new(false));
        let (pages, process) = (PrivateU32::new(size.pages), file::process());
        let entry = ManuallyDrop::new(entry);
        Ok(Self { file, at, size, pages, process, taken, recovers, entry })
    }

    /// The segment's own descriptor. Do not close it: the locks that show that this process lives
    /// end with it. Do not pass it on either: a copy in another process keeps them. What to pass
    /// on is the same file, [opened anew](super#passing-a-segment-on).
    #[doc = example!(
        "let path = format!(\"/proc/self/fd/{}\", segment.as_raw_fd());"
        "let fd = std::fs::File::open(path)?; // to be inherited, or sent by SCM_RIGHTS"
        "assert_eq!(Segment::attach(fd)?.pages(), 8);"
    )]
    #[must_use]
    pub fn as_raw_fd(&self) -> c_int {
        self.file.fd()
    }

    /// How many pages there are, as far as this process has looked.
    #[doc = example!("assert_eq!(segment.pages(), 8);")]
    #[must_use]
    pub fn pages(&self) -> u32 {
        // Relaxed: only grows, and what it stands for was mapped before.
        self.pages.load(Relaxed)
    }

    /// How many pages there can be.
    #[doc = example!("assert_eq!(segment.capacity(), 16);")]
    #[must_use]
    pub fn capacity(&self) -> u32 {
        self.size.capacity
    }

    /// How many seats there are.
    #[doc = example!("assert_eq!(segment.seats(), 64);")]
    #[must_use]
    pub fn seats(&self) -> u32 {
        self.size.seats
    }

    /// The two words at the top of the segment that are the caller's.
    #[doc = example!(
        "use pagelock::sync::Ordering::Relaxed;"
        "segment.user_words()[0].store(7, Relaxed);"
    )]
    #[must_use]
    pub fn user_words(&self) -> &[AtomicU32; 2] {
        // SAFETY: as for `number_of_pages`.
        unsafe { &(*self.at.as_ptr().cast::<Head>()).user }
    }

    /// The caller's word of a page. `None` if there is no such page.
    #[doc = example!(
        "use pagelock::sync::Ordering::Relaxed;"
        "segment.page_word(3).unwrap().store(7, Relaxed);"
        "assert!(segment.page_word(8).is_none());"
    )]
    #[must_use]
    pub fn page_word(&self, page: u32) -> Option<&AtomicU32> {
        Some(&self.page(page)?.user)
    }

    /// Where this process has mapped the page's cell, for debuggers and other languages: a reader
    /// of its header. It is changed through a seat alone. `None` if there is no such page.
    ///
    /// The address holds as long as the segment is not dropped.
    #[doc = example!(
        "let cell = segment.page_cell(3).unwrap();"
        "// SAFETY: mapped as long as the segment is."
        "assert!(!unsafe { &(*cell).lock }.is_locked());"
    )]
    #[must_use]
    pub fn page_cell(&self, page: u32) -> Option<*const PageCell> {
        self.page(page).map(core::ptr::from_ref)
    }

    /// Makes room for `pages` pages in all, if there is less. Pages that exist stay where they are.
    /// The other processes see the new ones once they [look](Self::refresh).
    ///
    /// # Errors
    ///
    /// [`SegmentError::Capacity`], or the system refuses; nothing has changed then.
    #[doc = example!(
        "assert_eq!(segment.grow(12)?, 12);"
        "assert!(segment.grow(17).is_err(), \"the capacity is 16\");"
    )]
    pub fn grow(&self, pages: u32) -> Result<u32, SegmentError> {
        let capacity = self.size.capacity;
        if pages > capacity {
            return Err(SegmentError::Capacity { capacity });
        }
        self.file.lengthen(self.size.bytes(pages))?;
        let word = self.number_of_pages();
        // Relaxed, here and below: its reader checks what the number stands for.
        let mut seen = word.load(Relaxed);
        while seen < pages {
            match word.compare_exchange(seen, pages, Relaxed, Relaxed) {
                Ok(_) => break,
                Err(now) => seen = now,
            }
        }
        self.refresh()
    }

    /// Looks up and returns how many pages there are now.
    ///
    /// # Errors
    ///
    /// The system refuses to say how long the file is.
    #[doc = example!(
        "let other = Segment::attach(&segment)?;"
        "segment.grow(12)?;"
        "assert_eq!((other.pages(), other.refresh()?), (8, 12));"
    )]
    pub fn refresh(&self) -> Result<u32, SegmentError> {
        // Read once. It may say anything; the file's length does not, and does not get less.
        let said = self.number_of_pages().load(Relaxed).min(self.size.capacity);
        let room =
            self.file.bytes()?.saturating_sub(self.size.bytes(0)) / size_of::<PageCell>() as u64;
        let pages = said.min(room.try_into().unwrap_or(u32::MAX));
        Ok(self.pages.fetch_max(pages, Relaxed).max(pages))
    }

    fn number_of_pages(&self) -> &AtomicU32 {
        // SAFETY: the mapping begins with the head, as long as this lives, and the file has these
        // bytes. Of the head only its atomics are referred to: a peer may write the rest at any
        // time.
        unsafe { &(*self.at.as_ptr().cast::<Head>()).pages }
    }

    /// A page; `None` if it is not known to be there.
    #[inline]
    pub(super) fn page(&self, page: u32) -> Option<&PageCell> {
        if page >= self.pages() {
            return None;
        }
        // SAFETY: the file has it and it is mapped, as long as this lives. It consists of atomics,
        // for which any bytes are valid.
        Some(unsafe {
            self.at
                .add(self.size.pages_at() as usize)
                .cast::<PageCell>()
                .add(page as usize)
                .as_ref()
        })
    }

    /// Seat number `seat`, which is below [`seats`](Self::seats).
    pub(super) fn cell(&self, seat: u32) -> &SeatCell {
        debug_assert!(seat < self.size.seats);
        // There is at least one. Whatever is asked for, this does not lead outside.
        let seat = seat.min(self.size.seats - 1) as usize;
        // SAFETY: as for a page; the bytes of all seats were there when the segment was attached.
        unsafe { self.at.add(SEATS_AT as usize).cast::<SeatCell>().add(seat).as_ref() }
    }

    /// Whether this is another process, that has inherited this by `fork`, and shares its locks.
    pub(super) fn is_forked(&self) -> bool {
        file::process() != self.process
    }

    /// Takes seat `seat` for a thread of this process, if no living thread has it. The kernel gives
    /// it back when this process ends.
    pub(super) fn occupy(&self, seat: u32) -> Result<bool, i32> {
        let (word, bit) = self.bit(seat);
        // Acquire: pairs with `leave`.
        if word.fetch_or(bit, Acquire) & bit != 0 {
            return Ok(false);
        }
        let (at, mut tries) = (SEAT_LOCKS + i64::from(seat), 0);
        let got = loop {
            let got = self.file.try_lock(at);
            // A thread that waited for the owner's end holds the lock for a moment only.
            if got != Ok(false) || tries == PASSERS || self.file.lock_of_another(at) == Lock::Owned
            {
                break got;
            }
            tries += 1;
            crate::futex::linux::relax();
        };
        if got != Ok(true) {
            word.fetch_and(!bit, Release);
        }
        got
    }

    /// Gives a seat up that `occupy` has taken.
    pub(super) fn leave(&self, seat: u32) {
        if self.is_forked() {
            // The lock is the parent's.
            return;
        }
        let (word, bit) = self.bit(seat);
        self.file.unlock(SEAT_LOCKS + i64::from(seat));
        // Release: pairs with `occupy`.
        word.fetch_and(!bit, Release);
    }

    /// Whether seat `seat` has a living owner now. The kernel says so.
    pub(super) fn is_occupied(&self, seat: u32) -> bool {
        let (word, bit) = self.bit(seat);
        word.load(Acquire) & bit != 0
            || self.file.lock_of_another(SEAT_LOCKS + i64::from(seat)) == Lock::Owned
    }

    fn bit(&self, seat: u32) -> (&PrivateU32, u32) {
        // The remainder, of a number that is less in any case, spares a check that could panic.
        (&self.taken[seat as usize / 32 % self.taken.len()], 1 << (seat % 32))
    }

    /// Runs `body` as the only one that recovers.
    pub(super) fn alone<R>(
        &self,
        body: impl FnOnce() -> Result<R, RecoverError>,
    ) -> Result<R, RecoverError> {
        if self.is_forked() {
            return Err(RecoverError::Forked);
        }
        // Acquire, and Release below: they pair with each other.
        if self.recovers.swap(true, Acquire) {
            return Err(RecoverError::Busy);
        }
        let _end = defer(|| self.recovers.store(false, Release));
        match self.file.try_lock(RECOVERY_LOCK) {
            Ok(true) => {}
            Ok(false) => return Err(RecoverError::Busy),
            Err(errno) => return Err(RecoverError::System { errno }),
        }
        let _unlock = defer(|| self.file.unlock(RECOVERY_LOCK));
        body()
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        // SAFETY: once, here.
        unsafe { ManuallyDrop::drop(&mut self.entry) };
        // SAFETY: ours, and no borrow of it is left. (The size fitted when it was mapped.)
        unsafe { file::unmap(self.at, self.size.bytes(self.size.capacity) as usize) };
    }
}

#[cfg(feature = "std")]
impl std::os::fd::AsFd for Segment {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        // SAFETY: open as long as this lives.
        unsafe { std::os::fd::BorrowedFd::borrow_raw(self.file.fd()) }
    }
}
