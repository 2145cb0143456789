//! The platform as the core wants it: the table's functions, or the operating system's.

use super::{chosen, pagelock_event, pagelock_platform};
use crate::limits::nanos;
use crate::sleep::slept;
use core::marker::PhantomData;
use core::time::Duration;
#[cfg(feature = "os")]
use pagelock::OsFutex;
#[cfg(not(feature = "os"))]
use pagelock::futex::SpinFutex as OsFutex;
use pagelock::futex::{EventSlot, Futex, FutexTimed, MonotonicTime, Sleep};
use pagelock::sync::AtomicU32;

/// Whatever platform this program has. Of no size: it looks.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Here {
    c: PhantomData<()>,
}

/// The library's own event table: one slot for each cache line, 8 KiB.
#[repr(align(64))]
struct Line(EventSlot<Here>);
const SLOTS: usize = 128;
static EVENTS: [Line; SLOTS] = [const { Line(EventSlot::new()) }; SLOTS];

const _: () = assert!(size_of::<EventSlot<Here>>() == size_of::<pagelock_event>());
const _: () = assert!(align_of::<EventSlot<Here>>() == align_of::<pagelock_event>());

/// The platform that sleeps and wakes.
enum Sleeper {
    Table(&'static pagelock_platform),
    System,
    #[cfg(futex_of_linux)]
    Shared(pagelock::futex::SharedFutex<'static>),
}

fn sleeper() -> Sleeper {
    match chosen() {
        Some(table) if table.has_wait() => Sleeper::Table(table),
        #[cfg(futex_of_linux)]
        Some(table) if !table.events.is_null() => {
            // SAFETY: the table was checked: there are so many, for good; they are zeroed at first,
            // and the type of the core's slot says only whose it is.
            let events =
                unsafe { core::slice::from_raw_parts(table.events.cast(), table.n_events) };
            pagelock::futex::SharedFutex::new(events, table.first_page.addr())
                .map_or(Sleeper::System, Sleeper::Shared)
        }
        _ => Sleeper::System,
    }
}

impl Here {
    pub(crate) const fn new() -> Self {
        Self { c: PhantomData }
    }

    /// Whether there are deadlines.
    pub(crate) fn has_clock(self) -> bool {
        match sleeper() {
            Sleeper::Table(table) => table.now.is_some(),
            _ => cfg!(futex_of_linux),
        }
    }
}

// SAFETY: the functions of the table are shown words to load and not to store to, which their
// documentation says and the C program has promised; the system stores to none.
unsafe impl Futex for Here {
    // A table that does not tell classes apart wakes all, and says that no sleeper is left; a
    // release needs no more.
    const CLASSES: bool = OsFutex::CLASSES;

    fn wait(&self, word: &AtomicU32, expected: u32) -> Sleep {
        match sleeper() {
            Sleeper::Table(table) => table.wait.map_or(Sleep::Unknown, |wait| {
                // SAFETY: the word is live, and only loaded.
                slept(unsafe { wait(table.context, word.as_ptr(), expected) })
            }),
            Sleeper::System => OsFutex.wait(word, expected),
            #[cfg(futex_of_linux)]
            Sleeper::Shared(shared) => shared.wait(word, expected),
        }
    }

    fn wake_one(&self, word: *const AtomicU32) {
        match sleeper() {
            Sleeper::Table(table) => {
                if let Some(wake) = table.wake_one {
                    // SAFETY: an address, as the function expects.
                    unsafe { wake(table.context, word.cast()) };
                }
            }
            Sleeper::System => OsFutex.wake_one(word),
            #[cfg(futex_of_linux)]
            Sleeper::Shared(shared) => shared.wake_one(word),
        }
    }

    fn wake_all(&self, word: *const AtomicU32) {
        match sleeper() {
            Sleeper::Table(table) => {
                if let Some(wake) = table.wake_all {
                    // SAFETY: an address, as the function expects.
                    unsafe { wake(table.context, word.cast()) };
                }
            }
            Sleeper::System => OsFutex.wake_all(word),
            #[cfg(futex_of_linux)]
            Sleeper::Shared(shared) => shared.wake_all(word),
        }
    }

    fn wait_class(&self, word: &AtomicU32, expected: u32, class: u32) -> Sleep {
        match sleeper() {
            Sleeper::System => OsFutex.wait_class(word, expected, class),
            _ => self.wait(word, expected),
        }
    }

    fn wake_class(&self, word: *const AtomicU32, n: u32, class: u32) -> u32 {
        match sleeper() {
            Sleeper::System => OsFutex.wake_class(word, n, class),
            _ => {
                self.wake_all(word);
                0
            }
        }
    }

    fn relax(&self) {
        match chosen() {
            Some(pagelock_platform { relax: Some(relax), context, .. }) => {
                // SAFETY: as the function expects.
                unsafe { relax(*context) };
            }
            Some(table) if table.has_wait() => (0..32).for_each(|_| core::hint::spin_loop()),
            _ => OsFutex.relax(),
        }
    }

    fn event(&self, index: usize) -> &EventSlot<Self> {
        match chosen() {
            // SAFETY: there are so many, for good, and zeroed at first; the core asks for none
            // beyond.
            Some(table) if !table.events.is_null() => unsafe {
                &*table.events.cast::<EventSlot<Self>>().add(index)
            },
            // SAFETY: as above.
            _ => unsafe { &EVENTS.get_unchecked(index).0 },
        }
    }

    fn events(&self) -> usize {
        match chosen() {
            Some(table) if !table.events.is_null() => table.n_events,
            _ => SLOTS,
        }
    }

    fn event_index(&self, page: usize) -> usize {
        match sleeper() {
            #[cfg(futex_of_linux)]
            Sleeper::Shared(shared) => shared.event_index(page),
            // As many slots as the library has; which, is up to the platform.
            _ => OsFutex.event_index(page) % SLOTS,
        }
    }

    fn tell(&self, page: usize) {
        self.tell_event(page);
        if let Some(pagelock_platform { tell: Some(tell), context, .. }) = chosen() {
            // SAFETY: an address, as the function expects.
            unsafe { tell(*context, core::ptr::without_provenance_mut(page)) };
        }
    }
}

impl FutexTimed for Here {
    /// Without a clock no deadline is taken, so none asks; if one did, every deadline has come.
    fn now(&self) -> MonotonicTime {
        match sleeper() {
            Sleeper::Table(table) => table.now.map_or(MonotonicTime::MAX, |now| {
                // SAFETY: as the function expects.
                MonotonicTime::since_zero(Duration::from_nanos(unsafe { now(table.context) }))
            }),
            _ => system_now(),
        }
    }

    fn wait_until(&self, word: &AtomicU32, expected: u32, class: u32, at: MonotonicTime) -> Sleep {
        match sleeper() {
            Sleeper::Table(table) => table.wait_until.map_or(Sleep::TimedOut, |wait| {
                // SAFETY: the word is live, and only loaded.
                slept(unsafe { wait(table.context, word.as_ptr(), expected, nanos(at)) })
            }),
            #[cfg(futex_of_linux)]
            Sleeper::System => OsFutex.wait_until(word, expected, class, at),
            #[cfg(not(futex_of_linux))]
            Sleeper::System => {
                let _ = class;
                Sleep::TimedOut
            }
            #[cfg(futex_of_linux)]
            Sleeper::Shared(shared) => shared.wait_until(word, expected, class, at),
        }
    }
}

#[cfg(futex_of_linux)]
fn system_now() -> MonotonicTime {
    MonotonicTime::now()
}

#[cfg(not(futex_of_linux))]
fn system_now() -> MonotonicTime {
    MonotonicTime::MAX
}
