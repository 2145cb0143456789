//! Owners and waiters in words: for the moment when a guest hangs.

use crate::place::PageState;
use crate::region::Region;
use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

/// A page that has an owner.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Held {
    /// The page.
    pub page: usize,
    /// Its guest physical address.
    pub guest: u64,
    /// What its header says.
    pub state: PageState,
    /// What its owner does: "fetch", "eviction". Empty if that is not known.
    pub what: &'static str,
    /// What its owner has [noted](crate::Fetch::note).
    pub note: Cow<'static, str>,
    /// For how long it has been owned, if that is known.
    pub since: Option<Duration>,
    /// Threads that have faulted on it meanwhile, by their number in the system; the first few.
    pub waiters: Vec<u32>,
}

/// What a region's pages are held up by: [`Region::report`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Report {
    /// The pages that are owned, the longest first.
    pub held: Vec<Held>,
    /// How many faults no server has read yet, as the kernel counts; `None` if it does not say.
    pub unread: Option<u64>,
    /// How many faulters sleep in the kernel, those included.
    pub asleep: Option<u64>,
}

impl Region {
    /// The pages that have been owned for `at_least` so long, and what the kernel says of faulters.
    ///
    /// It looks at every header and takes nothing, so it can be called at any time.
    ///
    /// # Example
    ///
    /// ```
    /// # use pagelock_vmm::soft::SoftRam;
    /// # use std::time::Duration;
    /// let (_, region) = SoftRam::region(8)?;
    /// let owner = region.prefetch(2..3).next().unwrap();
    /// let report = region.report(Duration::ZERO);
    /// assert_eq!((report.held[0].page, report.held[0].what), (2, "prefetch"));
    /// println!("{report}");
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn report(&self, at_least: Duration) -> Report {
        let seats = self.seats.all();
        let mut held: Vec<_> = self
            .states(0..self.pages())
            .filter(|(_, state)| state.owned)
            .map(|(page, state)| {
                let guest = self.guest_address(page).unwrap_or_default();
                let generation = self.header(page).map_or(0, |header| header.generation());
                let waiters = self.seats.waiters(page, generation);
                match seats.iter().find(|seat| seat.page == page) {
                    Some(seat) => {
                        let (what, note, since) = (seat.what, seat.note.clone(), Some(seat.held));
                        Held { page, guest, state, what, note, since, waiters }
                    }
                    None => Held {
                        page,
                        guest,
                        state,
                        what: "",
                        note: Cow::Borrowed(""),
                        since: None,
                        waiters,
                    },
                }
            })
            .filter(|held| held.since.is_none_or(|since| since >= at_least))
            .collect();
        held.sort_by_key(|held| std::cmp::Reverse(held.since));
        let pending = self.inbox.events().pending().ok();
        Report {
            held,
            unread: pending.map(|pending| pending.0),
            asleep: pending.map(|pending| pending.1),
        }
    }
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "page {} (guest {:#x}), {:?}", self.page, self.guest, self.state.place)?;
        match (self.what, self.since) {
            ("", _) => write!(f, ": owned, by an unknown owner")?,
            (what, Some(since)) => write!(f, ": {what} for {since:.1?}")?,
            (what, None) => write!(f, ": {what}")?,
        }
        if !self.note.is_empty() {
            write!(f, ", \"{}\"", self.note)?;
        }
        if self.state.pins > 0 {
            write!(f, ", {} pins", self.state.pins)?;
        }
        match (self.waiters.as_slice(), self.state.awaited) {
            ([], true) => write!(f, "; a faulter waits"),
            ([], false) => Ok(()),
            (threads, _) => write!(f, "; threads {threads:?} wait"),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.held.len() {
            0 => writeln!(f, "no page has been owned for that long")?,
            1 => writeln!(f, "1 page is owned:")?,
            n => writeln!(f, "{n} pages are owned:")?,
        }
        for held in &self.held {
            writeln!(f, "  {held}")?;
        }
        match (self.unread, self.asleep) {
            (Some(unread), Some(asleep)) => {
                write!(f, "in the kernel {asleep} faulters sleep, {unread} of them unread")
            }
            _ => write!(f, "the kernel does not say how many sleep"),
        }
    }
}
