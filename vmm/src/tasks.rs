//! The same for tasks: a loop that serves faults, and a wait for a page.
//!
//! Nothing here needs a runtime. The loop is told by its caller how to wait for a descriptor and
//! how to start a task; with tokio that is `AsyncFd` and `tokio::spawn`.

use crate::fetch::Fetch;
use crate::inbox::Inbox;
use crate::owned::Owned;
use crate::region::Region;
use crate::seats::What;
use crate::server::{Served, Settings, Tally};
use event_listener::Event;
use pagelock::Claim;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::task::Poll;

/// A switch that ends a [loop](Inbox::serve).
#[derive(Debug, Default)]
pub struct Stop {
    thrown: AtomicBool,
    event: Event,
}

impl Stop {
    /// One that is not thrown.
    ///
    /// # Example
    ///
    /// ```
    /// # use pagelock_vmm::Stop;
    /// static STOP: Stop = Stop::new();
    /// assert!(!STOP.is_thrown());
    /// ```
    #[must_use]
    pub const fn new() -> Self {
        Self { thrown: AtomicBool::new(false), event: Event::new() }
    }

    /// Throws it, for good.
    ///
    /// # Example
    ///
    /// ```
    /// # use pagelock_vmm::Stop;
    /// let stop = Stop::new();
    /// stop.stop();
    /// assert!(stop.is_thrown());
    /// ```
    pub fn stop(&self) {
        self.thrown.store(true, SeqCst);
        self.event.notify(usize::MAX);
    }

    /// Whether it is thrown.
    ///
    /// # Example
    ///
    /// ```
    /// # use pagelock_vmm::Stop;
    /// assert!(!Stop::new().is_thrown());
    /// ```
    #[must_use]
    pub fn is_thrown(&self) -> bool {
        self.thrown.load(SeqCst)
    }
}

impl Inbox {
    /// Serves faults until `stop` is thrown: `fetch` is given each page that needs bytes of the
    /// store, and starts a task that [fills](Fetch::fill) it. A task that is dropped, by a time-out
    /// for instance, tells the faulter like any other end.
    ///
    /// `ready` waits until the [events' descriptor](crate::Events::fd) is readable. It may return
    /// too early, and must not miss what has arrived since it last returned.
    ///
    /// # Errors
    ///
    /// What `ready` or reading the events failed with.
    ///
    /// # Example
    ///
    /// ```no_run
    /// # async fn example() -> std::io::Result<()> {
    /// use pagelock_vmm::{Inbox, Settings, Stop};
    /// use tokio::io::unix::AsyncFd;
    ///
    /// let inbox = Inbox::open()?;
    /// // SAFETY: the descriptor is the inbox's, which outlives this.
    /// let fd = &unsafe { AsyncFd::register(inbox.events().fd()) }?;
    /// let ready = || async move { Ok(fd.readable().await?.clear_ready()) };
    /// let fetch = |fetch: pagelock_vmm::Fetch| {
    ///     tokio::spawn(async move {
    ///         let bytes = vec![0; fetch.region().page_size()]; // ... from the network
    ///         fetch.fill(&bytes)
    ///     });
    /// };
    /// inbox.serve(&Settings::threads(1), &Stop::new(), ready, fetch).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn serve<R: Future<Output = io::Result<()>>>(
        &self,
        settings: &Settings,
        stop: &Stop,
        mut ready: impl FnMut() -> R,
        mut fetch: impl FnMut(Fetch),
    ) -> io::Result<Served> {
        let tally = Tally::default();
        loop {
            // Each before the look that it covers.
            let (stopped, aside) = (stop.event.listen(), self.news.listen());
            while !stop.is_thrown() {
                let Some(arrived) = self.next()? else { break };
                if let Some(page) = settings.deal(&arrived, &tally) {
                    fetch(page);
                }
            }
            if stop.is_thrown() {
                return Ok(tally.served());
            }
            let (mut stopped, mut aside, mut ready) = (pin!(stopped), pin!(aside), pin!(ready()));
            std::future::poll_fn(|context| {
                let woken = stopped.as_mut().poll(context).is_ready()
                    | aside.as_mut().poll(context).is_ready();
                if woken { Poll::Ready(Ok(())) } else { Pin::as_mut(&mut ready).poll(context) }
            })
            .await?;
        }
    }
}

impl Region {
    /// Waits, as a task, until the owner of `page` has released it. Returns at once if it has none.
    /// Others may be faster: look again.
    ///
    /// # Example
    ///
    /// ```
    /// # use pagelock_vmm::{NotPinned, Pin, Region};
    /// # async fn pin(region: std::sync::Arc<Region>) -> Result<Pin, NotPinned> {
    /// loop {
    ///     match region.pin(7) {
    ///         Err(NotPinned::Leaving) => region.released(7).await,
    ///         done => return done,
    ///     }
    /// }
    /// # }
    /// ```
    pub async fn released(self: &Arc<Self>, page: usize) {
        let listener = self.headers.context().tasks_of(page).listen();
        if self.is_in_flight(page) {
            listener.await;
        }
    }

    /// Sleeps until the owner of `page` has released it, as [`released`](Self::released). Not for a
    /// thread that serves faults, nor for the owner itself.
    ///
    /// # Example
    ///
    /// ```
    /// # use pagelock_vmm::soft::SoftRam;
    /// let (_, region) = SoftRam::region(8)?;
    /// let owner = region.prefetch(0..1).next().unwrap();
    /// let device = std::thread::spawn({
    ///     let region = region.clone();
    ///     move || region.wait_released(0)
    /// });
    /// owner.fill(&[7; 4096])?;
    /// device.join().unwrap();
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn wait_released(&self, page: usize) {
        if let Some(header) = self.headers.get(page) {
            let _ = header.wait_unlocked(());
        }
    }

    /// Whether the page has an owner, whose release then tells.
    fn is_in_flight(self: &Arc<Self>, page: usize) -> bool {
        let Some(header) = self.headers.get(page).filter(|header| header.is_locked()) else {
            return false;
        };
        match header.claim() {
            Claim::InFlight => true,
            Claim::Owner(guard) => {
                // Free by now. For this moment it is owned here, so it must end as an owner does: a
                // discard may be asked for meanwhile.
                drop(Owned::new(self, page, guard, What::Look));
                false
            }
            _ => false,
        }
    }
}
