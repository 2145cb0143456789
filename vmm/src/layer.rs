//! What the tracker needs of the memory below it, and of the place where faults arrive.

use std::any::Any;
use std::io;
use std::os::fd::BorrowedFd;

/// The memory of one region: whole pages, put up, taken away and protected under the feet of their
/// users. [`uffd::Ram`](crate::uffd::Ram) is the kernel's; [`soft`](crate::soft) is one in
/// software, for tests and for machines where userfaultfd is refused.
///
/// `at` is the page's offset in bytes from the region's base. The page's owner makes each call,
/// except `wake`, which anybody may make.
///
/// An error of kind [`WouldBlock`](io::ErrorKind::WouldBlock) says that nothing was done because
/// an [`Event`] waits to be read first; the caller reads, and tries again.
pub trait Layer: Send + Sync {
    /// The address of the region's first byte in this process.
    ///
    /// ```
    /// # use pagelock_vmm::{Layer, soft::SoftRam};
    /// # let ram = SoftRam::new(2, 4096);
    /// assert_eq!(ram.base() % ram.page_size(), 0);
    /// ```
    fn base(&self) -> usize;

    /// How many bytes the region has: a multiple of the page size.
    ///
    /// ```
    /// # use pagelock_vmm::{Layer, soft::SoftRam};
    /// # let ram = SoftRam::new(2, 4096);
    /// assert_eq!(ram.len(), 2 * 4096);
    /// ```
    fn len(&self) -> usize;

    /// Whether there are none.
    ///
    /// ```
    /// # use pagelock_vmm::{Layer, soft::SoftRam};
    /// # let ram = SoftRam::new(2, 4096);
    /// assert!(!ram.is_empty());
    /// ```
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of a page.
    ///
    /// ```
    /// # use pagelock_vmm::{Layer, soft::SoftRam};
    /// # let ram = SoftRam::new(2, 4096);
    /// assert_eq!(ram.page_size(), 4096);
    /// ```
    fn page_size(&self) -> usize;

    /// Puts `bytes` up where no page is, and wakes the threads that sleep for it. With `protected`,
    /// the first write to it faults. `false` if there is a page: it was left alone, and nobody was
    /// woken.
    ///
    /// ```
    /// # use pagelock_vmm::{Layer, soft::SoftRam};
    /// # let ram = SoftRam::new(2, 4096);
    /// assert!(ram.fill(4096, &[7; 4096], false)?);
    /// assert!(!ram.fill(4096, &[8; 4096], false)?); // left alone
    /// # Ok::<_, std::io::Error>(())
    /// ```
    fn fill(&self, at: usize, bytes: &[u8], protected: bool) -> io::Result<bool>;

    /// As `fill`, with zeroes that can be written.
    ///
    /// ```
    /// # use pagelock_vmm::{Layer, soft::SoftRam};
    /// # let ram = SoftRam::new(2, 4096);
    /// assert!(ram.zero(0)?);
    /// assert!(!ram.zero(0)?);
    /// # Ok::<_, std::io::Error>(())
    /// ```
    fn zero(&self, at: usize) -> io::Result<bool>;

    /// Lets a page be used that exists behind the mapping already (a minor fault). As `fill`;
    /// [`NotFound`](io::ErrorKind::NotFound) if none does, and
    /// [`Unsupported`](io::ErrorKind::Unsupported) where nothing can be behind the mapping.
    ///
    /// ```
    /// # use pagelock_vmm::{Layer, soft::SoftRam};
    /// # let ram = SoftRam::new(2, 4096);
    /// // Nothing can be behind memory in software.
    /// let error = ram.resume(0, false).unwrap_err();
    /// assert_eq!(error.kind(), std::io::ErrorKind::Unsupported);
    /// ```
    fn resume(&self, at: usize, protected: bool) -> io::Result<bool>;

    /// Takes a page away, with what was last written to it: no access comes between. Fails with
    /// [`ResourceBusy`](io::ErrorKind::ResourceBusy) if the kernel keeps it where it is, and with
    /// [`NotFound`](io::ErrorKind::NotFound) if there is none. `protected` says whether it is.
    ///
    /// ```
    /// # use pagelock_vmm::{Layer, soft::SoftRam};
    /// # let ram = SoftRam::new(2, 4096);
    /// ram.fill(0, &[7; 4096], false)?;
    /// let mut bytes = [0; 4096];
    /// ram.take(0, &mut bytes, false)?;
    /// assert_eq!(bytes, [7; 4096]);
    /// assert!(!ram.is_there(0));
    /// # Ok::<_, std::io::Error>(())
    /// ```
    fn take(&self, at: usize, into: &mut [u8], protected: bool) -> io::Result<()>;

    /// Takes a page away for good. It must not cause an [`Event::Remove`].
    ///
    /// ```
    /// # use pagelock_vmm::{Layer, soft::SoftRam};
    /// # let ram = SoftRam::new(2, 4096);
    /// ram.zero(0)?;
    /// ram.drop_page(0)?;
    /// assert!(!ram.is_there(0));
    /// # Ok::<_, std::io::Error>(())
    /// ```
    fn drop_page(&self, at: usize) -> io::Result<()>;

    /// Has writes to a page that is there fault, or not any more. The latter also wakes.
    ///
    /// ```
    /// # use pagelock_vmm::{Layer, soft::SoftRam};
    /// # let ram = SoftRam::new(2, 4096);
    /// ram.zero(0)?;
    /// ram.protect(0, true)?; // the next write faults
    /// ram.protect(0, false)?;
    /// # Ok::<_, std::io::Error>(())
    /// ```
    fn protect(&self, at: usize, on: bool) -> io::Result<()>;

    /// Reads a page that is there and protected.
    ///
    /// ```
    /// # use pagelock_vmm::{Layer, soft::SoftRam};
    /// # let ram = SoftRam::new(2, 4096);
    /// ram.fill(0, &[7; 4096], true)?;
    /// let mut bytes = [0; 4096];
    /// ram.read(0, &mut bytes)?;
    /// assert_eq!(bytes, [7; 4096]);
    /// # Ok::<_, std::io::Error>(())
    /// ```
    fn read(&self, at: usize, into: &mut [u8]) -> io::Result<()>;

    /// Has every access to a page that is not there fail (SIGBUS), and wakes;
    /// [`AlreadyExists`](io::ErrorKind::AlreadyExists) if it is there.
    ///
    /// ```
    /// # use pagelock_vmm::{Layer, soft::SoftRam};
    /// # let ram = SoftRam::new(2, 4096);
    /// ram.poison(0)?;
    /// ram.zero(4096)?;
    /// let error = ram.poison(4096).unwrap_err();
    /// assert_eq!(error.kind(), std::io::ErrorKind::AlreadyExists);
    /// # Ok::<_, std::io::Error>(())
    /// ```
    fn poison(&self, at: usize) -> io::Result<()>;

    /// Wakes the threads that sleep for the page in the kernel: they try again.
    ///
    /// ```
    /// # use pagelock_vmm::{Layer, soft::SoftRam};
    /// # let ram = SoftRam::new(2, 4096);
    /// ram.wake(4096); // no thread sleeps for it: no effect
    /// ```
    fn wake(&self, at: usize);

    /// The region is gone: no more faults, and threads that sleep for any of its pages are woken.
    ///
    /// ```
    /// # use pagelock_vmm::{Layer, soft::SoftRam};
    /// # let ram = SoftRam::new(2, 4096);
    /// use pagelock_vmm::soft::Failed;
    /// ram.close()?;
    /// let access = ram.with(0, false, std::time::Duration::ZERO, |_| ());
    /// assert_eq!(access, Err(Failed::Gone));
    /// # Ok::<_, std::io::Error>(())
    /// ```
    fn close(&self) -> io::Result<()>;

    /// For a caller that knows the type.
    ///
    /// ```
    /// # use pagelock_vmm::{Layer, soft::SoftRam};
    /// # let ram = SoftRam::new(2, 4096);
    /// assert!(Layer::as_any(&ram).is::<SoftRam>());
    /// ```
    fn as_any(&self) -> &dyn Any;
}

/// Where faults and other events arrive. Each event is given out once.
pub trait Events: Send + Sync {
    /// The next event, if there is one. Never sleeps.
    ///
    /// ```
    /// # use pagelock_vmm::{Events, soft::SoftRam};
    /// # let ram = SoftRam::new(2, 4096);
    /// assert!(ram.next()?.is_none());
    /// # Ok::<_, std::io::Error>(())
    /// ```
    fn next(&self) -> io::Result<Option<Event>>;

    /// Readable while there is one.
    ///
    /// ```
    /// # use pagelock_vmm::{Events, soft::SoftRam};
    /// # let ram = SoftRam::new(2, 4096);
    /// let _to_poll = ram.fd();
    /// ```
    fn fd(&self) -> BorrowedFd<'_>;

    /// Whether [`Event::Remove`] may come: then it must be acted on before any page is put up.
    ///
    /// ```
    /// # use pagelock_vmm::{Events, soft::SoftRam};
    /// assert!(!SoftRam::new(2, 4096).has_removes());
    /// assert!(SoftRam::with_removes(2, 4096).has_removes());
    /// ```
    fn has_removes(&self) -> bool;

    /// How many faults are queued unread, and how many faulters sleep in all, as the kernel counts.
    ///
    /// ```
    /// # use pagelock_vmm::{Events, soft::SoftRam};
    /// # let ram = SoftRam::new(2, 4096);
    /// assert_eq!(ram.pending()?, (0, 0));
    /// # Ok::<_, std::io::Error>(())
    /// ```
    fn pending(&self) -> io::Result<(u64, u64)>;

    /// For a caller that knows the type.
    ///
    /// ```
    /// # use pagelock_vmm::{Events, soft::SoftRam};
    /// # let ram = SoftRam::new(2, 4096);
    /// assert!(Events::as_any(&ram).is::<SoftRam>());
    /// ```
    fn as_any(&self) -> &dyn Any;
}

/// What arrives.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// A thread sleeps at an address.
    Fault {
        /// Where: its host address.
        address: usize,
        /// What it ran into.
        kind: Kind,
        /// Whether it wanted to write.
        write: bool,
        /// The thread, or 0 if that is not known.
        thread: u32,
    },
    /// The process that maps them is about to take pages away: `madvise`, a balloon.
    Remove {
        /// The first host address.
        start: usize,
        /// The first host address behind it.
        end: usize,
    },
    /// Something that regions do not follow: an unmapping, a moved mapping, a fork.
    Other(&'static str),
}

/// What a faulter ran into.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Kind {
    /// There is no page.
    Missing,
    /// The page is write protected.
    Protected,
    /// The page is there, but not mapped here (shared memory).
    Minor,
}
