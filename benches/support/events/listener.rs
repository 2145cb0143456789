//! `event-listener`.

use super::{Beside, Event, WithLock};
use crate::support::Padded;
use crate::support::locks::RawFutex;
use core::sync::atomic::{
    AtomicU32,
    Ordering::{Acquire, Relaxed, Release},
};
use std::sync::Mutex;

pub struct EventListener {
    on: Padded<AtomicU32>,
    event: Padded<event_listener::Event>,
    ptl: Padded<Mutex<()>>,
}

impl Event for EventListener {
    const NAME: &'static str = "event-listener";

    fn new() -> Self {
        Self { on: Padded::default(), event: Padded::default(), ptl: Padded::default() }
    }

    fn begin(&self) {
        self.on.0.store(1, Relaxed);
    }

    fn wait(&self, ready: &dyn Fn()) -> u32 {
        use event_listener::Listener;
        let mut slept = 0;
        while self.on.0.load(Acquire) == 1 {
            let ptl = self.ptl.0.lock().unwrap();
            ready();
            let listener = self.event.0.listen();
            drop(ptl);
            if self.on.0.load(Acquire) == 1 {
                listener.wait();
                slept += 1;
            }
        }
        slept
    }

    fn end(&self) {
        self.on.0.store(0, Release);
        self.event.0.notify(usize::MAX);
    }
}

/// event-listener for waiters; for lockers a lock by the algorithm of std's, which programs most
/// often use beside it.
pub type ListenerQueue = Beside<EventListener, RawFutex>;

impl WithLock<RawFutex> for EventListener {
    const QUEUED: &'static str = "event-listener + three-state futex mutex";
}
