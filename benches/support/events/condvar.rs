//! Condition variables, of std and of parking_lot.

use super::{Event, Queue};
use crate::support::Padded;
use std::sync::{Condvar, Mutex};

/// What a condition variable guards: whether somebody has the hold, and how many there were.
#[derive(Default)]
struct Held {
    on: bool,
    ends: u64,
}

pub struct StdCondvar {
    held: Padded<Mutex<Held>>,
    condvar: Padded<Condvar>,
}

impl Event for StdCondvar {
    const NAME: &'static str = "std-condvar";

    fn new() -> Self {
        Self { held: Padded::default(), condvar: Padded::default() }
    }

    fn begin(&self) {
        let held = self.held.0.lock().unwrap();
        self.condvar.0.wait_while(held, |held| held.on).unwrap().on = true;
    }

    fn wait(&self, ready: &dyn Fn()) -> u32 {
        let mut held = self.held.0.lock().unwrap();
        ready();
        let (mut slept, ends) = (0, held.ends);
        while held.on && held.ends == ends {
            held = self.condvar.0.wait(held).unwrap();
            slept += 1;
        }
        slept
    }

    fn end(&self) {
        let mut held = self.held.0.lock().unwrap();
        held.on = false;
        held.ends += 1;
        drop(held);
        self.condvar.0.notify_all();
    }
}

impl Queue for StdCondvar {
    fn pass_through(&self) {
        self.begin();
        self.end();
    }
}

pub struct ParkingLotCondvar {
    held: Padded<parking_lot::Mutex<Held>>,
    condvar: Padded<parking_lot::Condvar>,
}

impl Event for ParkingLotCondvar {
    const NAME: &'static str = "parking_lot-condvar";

    fn new() -> Self {
        Self { held: Padded::default(), condvar: Padded::default() }
    }

    fn begin(&self) {
        let mut held = self.held.0.lock();
        self.condvar.0.wait_while(&mut held, |held| held.on);
        held.on = true;
    }

    fn wait(&self, ready: &dyn Fn()) -> u32 {
        let mut held = self.held.0.lock();
        ready();
        let (mut slept, ends) = (0, held.ends);
        while held.on && held.ends == ends {
            self.condvar.0.wait(&mut held);
            slept += 1;
        }
        slept
    }

    fn end(&self) {
        let mut held = self.held.0.lock();
        held.on = false;
        held.ends += 1;
        drop(held);
        self.condvar.0.notify_all();
    }
}

impl Queue for ParkingLotCondvar {
    fn pass_through(&self) {
        self.begin();
        self.end();
    }
}
