//! What a page says of itself when it is stuck.

use crate::futex::Futex;
use crate::owner::Taken;
use crate::page::PageLock;
use crate::word::{Count, State};
use core::fmt;

impl<F: Futex> PageLock<F> {
    /// Returns all that the page and its event slot say, to print: for a watchdog, a debugger, or
    /// the log of a page that no thread gets (Linux: `dump_page`).
    ///
    /// It reads each word once, takes nothing, waits for nothing and allocates nothing, so a signal
    /// handler may call it, also for a page that the interrupted code owns. The two words are two
    /// loads (Relaxed), and the slot is a third: together they are no snapshot unless the page
    /// stands still, as a stuck page does. Print two of them some time apart.
    ///
    /// With feature `owner` it also says where and by which thread the page was taken.
    ///
    /// # Example
    ///
    /// ```
    /// use pagelock::PageLock;
    ///
    /// let page = PageLock::new();
    /// page.activate(2)?;
    /// let migration = page.lock().begin_migration();
    /// let said = page.dump().to_string();
    /// assert!(said.contains("locked, migrating, generation 0; 2 references, 0 pins"));
    /// assert!(said.contains("A migrator owns it."));
    /// # drop(migration);
    /// # Ok::<(), pagelock::CountError>(())
    /// ```
    pub fn dump(&self) -> Dump {
        let (state, count, address) = (self.state(), self.counts(), self.key());
        let slot = self.futex.event_index(address);
        let asleep = self.futex.event(slot).sleepers();
        let taken = crate::owner::of(address).filter(|taken| taken.is_of(state));
        Dump { address, state, count, slot, asleep, taken }
    }
}

/// A page as [`PageLock::dump`] found it. Displayed, it is a line with what the words say, and a
/// line for each thing that follows from them: the owner, the waiters, and what they wait for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use = "it is there to be printed"]
pub struct Dump {
    address: usize,
    state: State,
    count: Count,
    slot: usize,
    asleep: u32,
    taken: Option<Taken>,
}

impl Dump {
    /// Returns the header's address.
    ///
    /// ```
    /// let page = pagelock::PageLock::new();
    /// assert_eq!(page.dump().address(), &raw const page as usize);
    /// ```
    #[must_use]
    pub const fn address(&self) -> usize {
        self.address
    }

    /// Returns the two words, as [`word`](crate::word) describes them: the state, then the counts.
    ///
    /// ```
    /// use pagelock::word::state::LOCKED;
    ///
    /// let page = pagelock::PageLock::new();
    /// page.activate(3).unwrap();
    /// let guard = page.lock();
    /// assert_eq!(page.dump().words(), [LOCKED, 3]);
    /// # drop(guard);
    /// ```
    #[must_use]
    pub const fn words(&self) -> [u32; 2] {
        [self.state.0, self.count.0]
    }

    /// Returns where the page was taken, if that is [recorded](crate::owner).
    ///
    /// ```
    /// let page = pagelock::PageLock::new();
    /// let guard = page.lock();
    /// assert_eq!(page.dump().taken().unwrap().at().file(), file!());
    /// # drop(guard);
    /// ```
    #[cfg(all(feature = "owner", not(any(pagelock_loom, pagelock_shuttle))))]
    #[cfg_attr(docsrs, doc(cfg(feature = "owner")))]
    #[must_use]
    pub const fn taken(&self) -> Option<Taken> {
        self.taken
    }

    /// Frozen by a migration. A poisoned page's counts are frozen for good.
    const fn is_frozen(&self) -> bool {
        self.count.is_frozen() && !self.state.is_poisoned()
    }

    fn owner(&self) -> &'static str {
        let state = self.state;
        match (state.is_locked(), state.is_migrating(), self.is_frozen()) {
            (true, true, true) if self.count.pins() > 0 => {
                "A migrator owns it and waits for the last unpin; new references are refused."
            }
            (true, true, true) => {
                "A migrator owns it and has frozen it; references and pins are refused."
            }
            (true, true, false) => "A migrator owns it.",
            (true, false, false) => "It is owned, and not by a migrator.",
            (_, _, true) => "Its counts are frozen without a migrator: torn, or left by the dead.",
            (false, _, false) if state.is_closed() => {
                "Nobody owns it. It is kept for a sleeper, which has been woken or is stopped."
            }
            (false, _, false) => "Nobody owns it.",
        }
    }

    fn lockers(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state;
        match state.sleepers() {
            0 => return Ok(()),
            1 => f.write_str("\n  1 locker sleeps for it")?,
            n => write!(f, "\n  {n} lockers sleep for it")?,
        }
        if state.is_locked() && !state.has_lock_waiters() {
            f.write_str(", one of them awake, so the release wakes none")?;
        }
        f.write_str(match (state.is_closed(), state.has_crowd()) {
            (false, _) => "; the gate is open, so newcomers may overtake.",
            (true, false) => "; the gate is closed to newcomers.",
            (true, true) => "; the gate is closed, and newcomers wait outside.",
        })
    }

    /// The sleepers of the event slot. No word says for which page each of them waits.
    fn waiters(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (slot, asleep) = (self.slot, self.asleep);
        let tells = match (self.state.has_event_waiters(), self.state.has_crowd()) {
            (true, _) if self.state.is_taken() => "Its release tells",
            (_, true) => "The opened gate tells",
            _ if asleep == 0 => return Ok(()),
            _ => "It shares",
        };
        let (s, are) = if asleep == 1 { ("", "is") } else { ("s", "are") };
        write!(f, "\n  {tells} event slot {slot}, where {asleep} thread{s} {are} asleep.")
    }
}

impl fmt::Display for Dump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, state, mut count, .. } = *self;
        if state.is_poisoned() {
            count = count.thawed();
        }
        write!(f, "page {address:#x}: {state:?}; {count:?}\n  {}", self.owner())?;
        if state.is_poisoned() {
            f.write_str("\n  Its contents are lost; references, pins and waits are refused.")?;
        }
        self.lockers(f)?;
        self.waiters(f)?;
        self.taken.map_or(Ok(()), |taken| write!(f, "\n  It was taken {taken}."))
    }
}
