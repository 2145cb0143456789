//! What a simulated thread does with the machine.

use crate::model_schedule::{At, FRAMES, MAPPINGS, Machine, PAGES, POISON};
use crate::schedule::{TOLD, Turns, at, block_on};
use core::time::Duration;
use pagelock::leaf::Leaf;
use pagelock::mm::{Access, Fault, FaultError, Faulter, Strategy, resolve};
use pagelock::{
    Claim, FreezeRule, FutexTimed, Limits, PageGuard, PageRef, PinError, Put, Wait, Wake,
};

impl<const C: bool> Machine<C> {
    pub(crate) fn put_up(&self, frame: usize) {
        self.replace(frame / 2, |leaf| match frame % 2 {
            0 => leaf.to_present(frame as u64),
            _ => leaf.to_device_private(frame as u64),
        });
    }

    /// Moves a page from a frame to the other: takes down its mappings, freezes, copies, puts up
    /// the new entries, commits. The source's lock is released in any case.
    pub(crate) fn migrate(
        &self,
        from: usize,
        to: usize,
        guard: PageGuard<'_, Turns<C>>,
        reference: PageRef<'_, Turns<C>>,
    ) -> bool {
        let (page, references) = (from / 2, MAPPINGS as u32 + 1);
        let migration = guard.begin_migration();
        self.replace(page, Leaf::to_migration);
        let rule =
            if self.by_pins { FreezeRule::Unpinned } else { FreezeRule::ExactRefs(references) };
        let frozen = match migration.freeze(rule) {
            Ok(frozen) => frozen,
            Err(busy) => {
                self.put_up(from);
                drop(reference);
                self.disown(from);
                busy.into_migration().abort();
                return false;
            }
        };
        // With another page's lock held, one may try for a second, and not wait for it.
        let free = self.headers[to].try_lock().map(|guard| {
            self.own(to);
            (self.headers[to].refs() == 0, guard)
        });
        let destination = match free {
            Some((true, guard)) => guard,
            other => {
                self.put_up(from);
                if let Some((_, guard)) = other {
                    self.release(to, guard, false);
                }
                drop(reference);
                self.disown(from);
                frozen.abort();
                return false;
            }
        };
        assert_eq!(self.headers[from].pins(), 0, "a pinned page is moved");
        let bytes = self.bytes[from].replace(POISON);
        at("copies");
        assert_eq!(
            bytes,
            self.ledger[page].get(),
            "page {page} was written to while it was copied, or not all of it came"
        );
        self.bytes[to].set(bytes);
        self.put_up(to);
        // While the counts are frozen: after the commit it would be one too many for the next
        // migration.
        assert_eq!(reference.put(), Put::Kept);
        self.disown(from);
        self.disown(to);
        // SAFETY: the entries' references, which are raw, and move with the entries.
        let committed = unsafe { frozen.commit_to_moving(destination, MAPPINGS as u32) }
            .expect("the destination is free and ours");
        assert!(self.by_pins || committed.source == Put::Last);
        true
    }

    /// Reads and writes a page through a mapping, faulting as often as it takes.
    pub(crate) fn access(&self, name: At, strategy: Strategy, cancellable: bool) {
        loop {
            let mut faulter = Faulter::new(strategy);
            if cancellable {
                faulter = faulter.cancellable(&self.switch);
            }
            match resolve(self, name, Access::Write, &mut faulter) {
                Ok(Fault::Resolved | Fault::Present) => {}
                Err(FaultError::Cancelled) => {
                    assert!(cancellable && self.switch.is_cancelled());
                    return;
                }
                other => panic!("{name:?}: {other:?}"),
            }
            let entry = self.entry(name);
            let Leaf::Present { pfn, .. } = entry.leaf() else { continue };
            let (frame, ledger) = (pfn as usize, &self.ledger[name.page]);
            assert_eq!(
                frame,
                2 * name.page,
                "a page is present where the processor cannot reach it"
            );
            assert_eq!(self.bytes[frame].get(), ledger.get(), "{name:?} has lost a write");
            ledger.set(ledger.get() + 1);
            self.bytes[frame].set(ledger.get());
            return;
        }
    }

    /// Pushes a page out to the device, if it is in memory and nobody has it locked.
    pub(crate) fn push_out(&self, name: At) {
        let entry = self.entry(name);
        let Leaf::Present { pfn, .. } = entry.leaf() else { return };
        let frame = pfn as usize;
        let Some(guard) = self.headers[frame].try_lock() else { return };
        self.own(frame);
        let Ok(reference) = self.headers[frame].try_get() else {
            panic!("a mapped page has references, and its lock is ours")
        };
        drop(entry);
        self.migrate(frame, frame + 1, guard, reference);
    }

    /// Pins a page where it is, if it can be, and sees that it stays there.
    pub(crate) fn pin(&self, name: At, turns: usize) {
        let entry = self.entry(name);
        let Some(pfn) = entry.leaf().pfn() else { return };
        let frame = pfn as usize;
        match self.headers[frame].try_pin() {
            Ok(pin) => {
                drop(entry);
                for _ in 0..turns {
                    at("holds a pin");
                    assert_eq!(
                        self.bytes[frame].get(),
                        self.ledger[name.page].get(),
                        "a pinned page has moved"
                    );
                }
                drop(pin);
            }
            Err(PinError::Migrating | PinError::Frozen) => {
                let woken = self.headers[frame].wait_migration(entry);
                assert!(matches!(woken, Wake::Released | Wake::NotLocked), "{woken:?}");
            }
            // The entries are up and the commit, which moves the references, is still to come;
            // until then the frame is locked.
            Err(PinError::Free) => {
                let woken = self.headers[frame].wait_unlocked(entry);
                assert!(matches!(woken, Wake::Released | Wake::NotLocked), "{woken:?}");
            }
            Err(other) => panic!("a mapped page cannot be pinned: {other:?}"),
        }
    }

    pub(crate) fn refer(&self, name: At, turns: usize) {
        let entry = self.entry(name);
        let Some(pfn) = entry.leaf().pfn() else { return };
        let reference = self.headers[pfn as usize].try_get();
        drop(entry);
        (0..turns).for_each(|_| at("holds a reference"));
        drop(reference);
    }

    pub(crate) fn hold(&self, frame: usize, guard: PageGuard<'_, Turns<C>>, turns: usize) {
        self.own(frame);
        let mut guard = guard;
        if turns % 3 == 2 {
            guard = guard.begin_migration().cancel();
        }
        (0..turns).for_each(|_| at("holds a lock"));
        self.release(frame, guard, turns % 2 == 1);
    }

    pub(crate) fn wait(&self, name: At, frame: usize, kind: usize, turns: usize) {
        let entry = self.entry(name);
        let deadline =
            Turns::<C>.after(Duration::from_nanos(turns as u64)).expect("the clock has room");
        let mut wait = if kind % 2 == 0 { Wait::unlocked() } else { Wait::migration() };
        if kind & 2 != 0 {
            wait.limits = wait.limits.until(deadline);
        }
        if kind & 4 != 0 {
            wait.limits = wait.limits.unless(&self.switch);
        }
        let woken = self.headers[frame].wait_with(entry, wait);
        match woken {
            Wake::Released | Wake::NotLocked => {}
            Wake::TimedOut => assert!(kind & 2 != 0, "{woken:?}"),
            Wake::Cancelled => assert!(kind & 4 != 0 && self.switch.is_cancelled(), "{woken:?}"),
            other => panic!("{other:?}"),
        }
    }

    /// Claims a frame until it has it, and waits in between for the platform to be told.
    pub(crate) fn claim(&self, frame: usize, turns: usize) {
        loop {
            match self.headers[frame].claim() {
                Claim::Owner(guard) => return self.hold(frame, guard, turns),
                // No turn is given up between the claim and this, but the release may have been
                // told before.
                Claim::InFlight => {
                    block_on(TOLD + frame, "has claimed a page and waits to be told")
                }
                other => panic!("{other:?}"),
            }
        }
    }

    /// One operation, by three bytes.
    pub(crate) fn operate(&self, what: [u8; 3]) {
        let [op, place, how] = what.map(usize::from);
        let name = At { mapping: place / 2 % MAPPINGS, page: place % PAGES };
        let (frame, turns) = (place / 4 % FRAMES, how % 6);
        let page = &self.headers[frame];
        let strategy = match how % 8 {
            0 => Strategy::TryAndRetry,
            1 => Strategy::EntryInFault,
            2 => Strategy::WaitThenLock { after: 0 },
            3 => Strategy::WaitThenLock { after: 1 },
            // Not `ReferenceAndSleep`: with enough faulters its references abort every migration
            // that they wait for, for ever, as this machine shows within a few seconds.
            _ => Strategy::Wait,
        };
        match op % 16 {
            0..5 => self.access(name, strategy, how & 8 != 0),
            5..8 => self.push_out(name),
            8 => self.pin(name, turns),
            9 => self.refer(name, turns),
            10 => self.hold(frame, page.lock(), turns),
            11 => {
                let soon = Turns::<C>
                    .after(Duration::from_nanos(1 + turns as u64))
                    .expect("the clock has room");
                if let Ok(guard) = page.lock_within(Limits::none().until(soon)) {
                    self.hold(frame, guard, turns);
                }
            }
            12 => {
                let entry = self.entry(name);
                self.hold(frame, page.lock_releasing(entry), turns);
            }
            13 => self.wait(name, frame, how, turns),
            14 => self.claim(frame, turns),
            _ => match how % 4 {
                0 => self.switch.cancel(),
                _ => self.wait(name, frame, how, turns),
            },
        }
    }
}
