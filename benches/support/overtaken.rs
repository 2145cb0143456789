//! How often a locker or faulter is overtaken: the page lock on a platform that watches what becomes of each wake.
//!
//! The platform is the operating system's. Around each sleep it notes, for the thread that sleeps, how the sleep ended: a wake is *lost* if the
//! page is locked when the sleeper has come to, or if it has to sleep once more. Each owner logs whether it was a *newcomer*, one that was not
//! counted as a sleeper when it took the page. A wake is lost to newcomers if any of those who had the page since its sleeper
//! registered was one: that is more than [`pagelock::BYPASS_BOUND`] speaks of, for it may have been a newcomer that came before the wake. What
//! is lost beyond the bound goes to sleepers that the page was promised to together with this one, in whatever order they come to.
//!
//! One thing the platform cannot see: whether a faulter that has looked at the event table stands in the crowd, or could be counted as a sleeper
//! after all. It is taken for one of the crowd, and so for a newcomer when it has the page.

use super::locks::Lock;
use core::cell::Cell;
use core::cmp::Ordering;
use core::sync::atomic::{
    AtomicU32, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
    fence,
};
use pagelock::futex::{EventSlot, Sleep};
use pagelock::{Futex, OsFutex, PageGuard, PageLock};

/// Lost wakes are told apart up to so many, more than anybody may lose; the last stands for all that is more.
pub const MOST: usize = 2 * pagelock::BYPASS_BOUND as usize;

/// How many of the acquisitions that slept lost so many wakes.
#[derive(Clone, Copy)]
pub struct Tally {
    pub lost: [u64; MOST + 1],
    pub to_newcomers: [u64; MOST + 1],
}

impl Tally {
    /// Of the lock that was made last: one fight at a time.
    pub fn of_last() -> Self {
        let read = |of: &[AtomicU64; MOST + 1]| core::array::from_fn(|i| of[i].load(Relaxed));
        Self { lost: read(&LOST), to_newcomers: read(&TO_NEWCOMERS) }
    }

    /// Acquisitions that slept.
    pub fn slept(&self) -> u64 {
        self.lost.iter().sum()
    }

    /// The part of those that lost `n` wakes; not a number if nobody slept.
    pub fn part(&self, n: core::ops::RangeInclusive<usize>) -> f64 {
        self.lost[n].iter().sum::<u64>() as f64 / self.slept() as f64
    }
}

/// The most that anybody lost.
pub fn most(of: &[u64; MOST + 1]) -> usize {
    of.iter().rposition(|&n| n > 0).unwrap_or(0)
}

static LOST: [AtomicU64; MOST + 1] = [const { AtomicU64::new(0) }; MOST + 1];
static TO_NEWCOMERS: [AtomicU64; MOST + 1] = [const { AtomicU64::new(0) }; MOST + 1];

/// How often to look for an entry of the log: some seconds, so that an owner that is not running is waited for.
const PATIENCE: u32 = 10_000_000;

/// Who had the page in which generation: the number of the hold, from 1, twice, and one more for a newcomer.
static LOG: [AtomicU64; 256] = [const { AtomicU64::new(0) }; 256];

fn logged(generation: u8) -> &'static AtomicU64 {
    &LOG[usize::from(generation)]
}

/// What this thread's acquisition has come to so far.
#[derive(Clone, Copy)]
struct Now {
    slept: bool,
    /// The generation of the hold that it waits for the end of, and the number of that hold; none in the crowd, which is not counted.
    registered: Option<(u8, u64)>,
    /// A locker looks there to stand in the crowd, or to tell it.
    looked_at_events: bool,
    /// Woken, and neither asleep again nor seen to have lost that wake.
    woken: bool,
    lost: usize,
    to_newcomers: usize,
}

const NOTHING: Now = Now { slept: false, registered: None, looked_at_events: false, woken: false, lost: 0, to_newcomers: 0 };

thread_local! {
    static TURN: Cell<bool> = const { Cell::new(false) };
    static NOW: Cell<Now> = const { Cell::new(NOTHING) };
}

impl Now {
    /// The page is seen locked, in `generation`, by a thread that was woken for it.
    fn lose(&mut self, generation: u8) {
        self.woken = false;
        self.lost += 1;
        self.to_newcomers += usize::from(self.newcomers_since(generation));
    }

    fn newcomers_since(&self, generation: u8) -> bool {
        // In the crowd it is outside the promises: whoever was faster counts.
        let Some((registered, hold)) = self.registered else { return true };
        (1..=generation.wrapping_sub(registered)).any(|ahead| {
            let wanted = hold + u64::from(ahead);
            for _ in 0..PATIENCE {
                let entry = logged(registered.wrapping_add(ahead)).load(Relaxed);
                match (entry >> 1).cmp(&wanted) {
                    // The present owner has not come to log yet.
                    Ordering::Less => OsFutex.relax(),
                    Ordering::Equal => return entry & 1 == 1,
                    // Overwritten, 256 holds later. What it was promised nobody waits for so long.
                    Ordering::Greater => break,
                }
            }
            // Not known, so not to our credit.
            true
        })
    }
}

/// What the state word says of this, as its documentation has it.
const LOCKED: u32 = 1;

const fn generation(word: u32) -> u8 {
    (word >> 24) as u8
}

/// The operating system's futex, watched.
#[derive(Clone, Copy)]
pub struct Watched;

// SAFETY: it loads the words that it is shown.
unsafe impl Futex for Watched {
    const CLASSES: bool = OsFutex::CLASSES;

    /// Only lockers sleep on a page.
    fn wait(&self, word: &AtomicU32, expected: u32) -> Sleep {
        let mut now = NOW.get();
        if now.woken {
            now.lose(generation(expected));
        }
        // Acquire: the locker has read `expected`, so the log of the hold before that one is seen. If a later one is, because this thread
        // was not running meanwhile, then the word has changed: there will be no sleep, and no wake to lose.
        fence(Acquire);
        let before = logged(generation(expected).wrapping_sub(1)).load(Relaxed) >> 1;
        now.slept = true;
        now.registered = Some((generation(expected), before + 1));
        let ended = OsFutex.wait(word, expected);
        now.woken = is_wake(ended);
        // Acquire: as above, of the hold before the one that is seen.
        let seen = word.load(Acquire);
        if now.woken && seen & LOCKED != 0 {
            now.lose(generation(seen));
        }
        NOW.set(now);
        ended
    }

    fn wake_one(&self, word: *const AtomicU32) {
        OsFutex.wake_one(word);
    }

    fn wake_all(&self, word: *const AtomicU32) {
        OsFutex.wake_all(word);
    }

    fn relax(&self) {
        OsFutex.relax();
    }

    /// In the event table: of lockers, the crowd.
    fn wait_class(&self, word: &AtomicU32, expected: u32, class: u32) -> Sleep {
        let mut now = NOW.get();
        now.lost += usize::from(now.woken);
        now.to_newcomers += usize::from(now.woken);
        let ended = OsFutex.wait_class(word, expected, class);
        now.slept = true;
        now.registered = None;
        now.woken = is_wake(ended);
        NOW.set(now);
        ended
    }

    fn wake_class(&self, word: *const AtomicU32, n: u32, class: u32) -> u32 {
        OsFutex.wake_class(word, n, class)
    }

    fn event(&self, index: usize) -> &EventSlot<Self> {
        static EVENTS: [EventSlot<Watched>; 128] = [const { EventSlot::new() }; 128];
        NOW.set(Now { looked_at_events: true, ..NOW.get() });
        &EVENTS[index]
    }

    fn events(&self) -> usize {
        128
    }
}

fn is_wake(sleep: Sleep) -> bool {
    matches!(sleep, Sleep::Woken | Sleep::Unknown)
}

/// The page lock, on it. With `FAULTERS`, every other acquisition of a thread is that of a faulter who has lost often enough, by
/// [`PageLock::lock_releasing`], and only those are tallied: the others are who might overtake them.
pub struct WatchedPage<const FAULTERS: bool>(PageLock<Watched>);

impl<const FAULTERS: bool> WatchedPage<FAULTERS> {
    fn word(&self) -> &AtomicU32 {
        // SAFETY: the state word is the first of the two words of a header, which is `repr(C)`; it lives and is shared as long as the header.
        unsafe { &*core::ptr::from_ref(&self.0).cast::<AtomicU32>() }
    }

    /// The page, and whether it was taken by a newcomer.
    fn lock(&self, faulter: bool) -> (PageGuard<'_, Watched>, Now, bool) {
        NOW.set(NOTHING);
        let (seen, crowded) = (Cell::new(0), Cell::new(false));
        let guard = match faulter {
            true => self.0.lock_releasing(Ptl { word: self.word(), seen: &seen, crowded: &crowded }),
            false => self.0.lock(),
        };
        let now = NOW.replace(NOTHING);
        // A faulter may be registered and never sleep. It was not if it stood in the crowd when it let go of the page table, or if the hold
        // of that moment is its own.
        let took_at_once = seen.get() & LOCKED != 0 && generation(seen.get()) == self.0.generation();
        (guard, now, now.registered.is_none() && (!faulter || took_at_once || crowded.get()))
    }
}

/// Whether this thread, about to let go of its page-table lock, may stand in the crowd.
fn is_in_crowd() -> bool {
    NOW.get().looked_at_events
}

/// A page-table lock, which notes how things are when it is let go of.
struct Ptl<'a> {
    word: &'a AtomicU32,
    seen: &'a Cell<u32>,
    crowded: &'a Cell<bool>,
}

impl Drop for Ptl<'_> {
    fn drop(&mut self) {
        self.seen.set(self.word.load(Relaxed));
        self.crowded.set(is_in_crowd());
    }
}

impl<const FAULTERS: bool> Lock for WatchedPage<FAULTERS> {
    const NAME: &'static str = if FAULTERS { "lock_releasing, watched" } else { "pagelock, watched" };

    /// Forgets what was seen of the one before.
    fn new() -> Self {
        LOST.iter().chain(&TO_NEWCOMERS).chain(&LOG).for_each(|n| n.store(0, Relaxed));
        Self(PageLock::with_futex(Watched))
    }

    fn with<R>(&self, f: impl FnOnce() -> R) -> R {
        let faulter = FAULTERS && TURN.replace(!TURN.get());
        let (guard, now, newcomer) = self.lock(faulter);
        let generation = self.0.generation();
        let hold = (logged(generation.wrapping_sub(1)).load(Relaxed) >> 1) + 1;
        // Release: of two entries, who sees the later one sees the earlier.
        logged(generation).store(hold << 1 | u64::from(newcomer), Release);
        if now.slept && faulter == FAULTERS {
            LOST[now.lost.min(MOST)].fetch_add(1, Relaxed);
            TO_NEWCOMERS[now.to_newcomers.min(MOST)].fetch_add(1, Relaxed);
        }
        let answer = f();
        drop(guard);
        answer
    }

    fn try_pair(&self) -> bool {
        unimplemented!("nobody is overtaken who does not wait")
    }
}
