//! Processors: which of the batches is the caller's own, and how to reach the others.

#[cfg(feature = "std")]
use core::sync::atomic::Ordering::Relaxed;

/// Processors: threads that stand for them, or cores.
///
/// Both methods may be called with locks held, and wait for nobody: see the
/// [table](crate::mm#what-is-held-when-the-embedder-is-called).
pub trait Cpus {
    /// The index of the caller's own batch. It does no harm if the caller is on another processor
    /// by the time it gets the answer.
    ///
    /// ```
    /// use pagelock::mm::drain::{Cpus, OneCpu};
    /// assert_eq!(OneCpu.current(), 0);
    /// ```
    fn current(&self) -> usize;

    /// Asks processor `cpu` to call [`Batches::run`](super::Batches::run) soon, by an interrupt or
    /// a worker. That call comes after this one, as sending an interrupt and queueing work
    /// guarantee. The default says that there is no need: the drainer can empty the batch itself.
    ///
    /// ```
    /// use pagelock::mm::drain::{Cpus, OneCpu, Reach};
    /// assert_eq!(OneCpu.kick(0), Reach::Direct);
    /// ```
    fn kick(&self, cpu: usize) -> Reach {
        let _ = cpu;
        Reach::Direct
    }
}

/// One processor.
///
/// ```
/// use pagelock::OsFutex;
/// use pagelock::mm::drain::{Batch, Batches, CachePadded, OneCpu};
/// static BATCHES: Batches<[CachePadded<Batch>; 1]> =
///     Batches::new(OneCpu, OsFutex, [CachePadded::new(Batch::with_futex(OsFutex))]);
/// assert!(BATCHES.add(7, |_| {}));
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct OneCpu;

impl Cpus for OneCpu {
    fn current(&self) -> usize {
        0
    }
}

/// Threads that stand for processors: each is given a number when it first asks, in turn.
///
/// ```
/// use pagelock::mm::drain::{Cpus, ThreadCpus};
/// let mine = ThreadCpus.current();
/// assert_eq!(ThreadCpus.current(), mine);
/// let other = std::thread::spawn(|| ThreadCpus.current()).join().unwrap();
/// assert_ne!(other, mine);
/// ```
#[cfg(feature = "std")]
#[cfg_attr(docsrs, doc(cfg(feature = "std")))]
#[derive(Clone, Copy, Debug, Default)]
pub struct ThreadCpus;

#[cfg(feature = "std")]
impl Cpus for ThreadCpus {
    fn current(&self) -> usize {
        use core::sync::atomic::AtomicUsize;
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        std::thread_local! {
            // Relaxed: the numbers differ; nothing else matters.
            static CPU: usize = NEXT.fetch_add(1, Relaxed);
        }
        CPU.with(|cpu| *cpu)
    }
}

/// How a drainer gets at another processor's batch; what [`Cpus::kick`] answers.
///
/// ```
/// use pagelock::mm::drain::{Cpus, Reach};
/// struct Cores;
/// impl Cpus for Cores {
///     fn current(&self) -> usize { 0 }
///     fn kick(&self, cpu: usize) -> Reach {
///         // send_interrupt(cpu), whose handler calls `Batches::run(cpu, ..)`
///         let _ = cpu;
///         Reach::Kicked
///     }
/// }
/// assert_eq!(Cores.kick(1), Reach::Kicked);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Reach {
    /// By itself, or by the thread that holds the batch just then.
    Direct,
    /// The processor was told and will call [`Batches::run`](super::Batches::run); the drainer
    /// sleeps until then.
    Kicked,
}
