//! Processors: which of the batches is the caller's own, and how to reach the others.

#[cfg(feature = "std")]
use core::sync::atomic::Ordering::Relaxed;

/// Processors: threads that stand for them, or cores.
///
/// Both may be called with locks held, and wait for nobody: [the
/// table](crate::mm#what-is-held-when-the-embedder-is-called).
pub trait Cpus {
    /// Which of the batches is the caller's own. Nobody minds if the caller is on another processor
    /// by the time it gets the answer.
    fn current(&self) -> usize;

    /// Asks processor `cpu` to call [`Batches::run`] soon, by an interrupt or a worker. That call
    /// comes after this one, as sending an interrupt and queueing work see to. The default says
    /// that there is no need: the drainer can empty the batch itself.
    fn kick(&self, cpu: usize) -> Reach {
        let _ = cpu;
        Reach::Direct
    }
}

/// One processor.
#[derive(Clone, Copy, Debug, Default)]
pub struct OneCpu;

impl Cpus for OneCpu {
    fn current(&self) -> usize {
        0
    }
}

/// Threads that stand for processors: each is given a number when it first asks, in turn.
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
            // Relaxed: all that matters is that the numbers differ.
            static CPU: usize = NEXT.fetch_add(1, Relaxed);
        }
        CPU.with(|cpu| *cpu)
    }
}

/// How a drainer gets at another processor's batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reach {
    /// By itself, or by who has the batch just then.
    Direct,
    /// The processor was told, will call [`Batches::run`], and the drainer sleeps until then.
    Kicked,
}
