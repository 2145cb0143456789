//! What a page is in plain numbers: the model of one.

use crate::model::Model;
use core::fmt::Write as _;
use pagelock::{CountError, FreezeRule, GetError, MAX_PINS, MAX_REFS, PinError, Put, Wake};

impl Model {
    /// What the page's `Debug` should say.
    pub(crate) fn text(&self) -> String {
        let mut text =
            String::from(if self.locked { "PageLock { locked" } else { "PageLock { free" });
        for (is, word) in [
            (self.migrating, "migrating"),
            (self.poisoned, "poisoned"),
            (self.locked && self.awaited, "awaited"),
        ] {
            if is {
                write!(text, ", {word}").unwrap();
            }
        }
        if self.user != 0 {
            write!(text, ", user {}", self.user).unwrap();
        }
        write!(
            text,
            ", generation {}; {} references, {} pins",
            self.generation, self.refs, self.pins
        )
        .unwrap();
        text + if self.frozen { ", frozen }" } else { " }" }
    }

    pub(crate) fn take(&mut self) {
        self.locked = true;
        self.awaited = false;
    }

    /// Says whether a thread asked.
    pub(crate) fn release(&mut self) -> bool {
        self.locked = false;
        self.migrating = false;
        self.frozen = false;
        self.generation = self.generation.wrapping_add(1);
        self.awaited
    }

    pub(crate) fn can_activate(&self, refs: u32) -> Result<(), CountError> {
        if refs == 0 {
            Err(CountError::Zero)
        } else if refs > MAX_REFS {
            Err(CountError::Overflow { have: 0, asked: refs })
        } else if self.poisoned {
            Err(CountError::Poisoned)
        } else if (self.refs, self.pins) != (0, 0) {
            Err(CountError::Live { refs: self.refs, pins: self.pins })
        } else if self.frozen {
            Err(CountError::Frozen)
        } else {
            Ok(())
        }
    }

    pub(crate) fn can_get(&self) -> Result<(), GetError> {
        if self.poisoned {
            Err(GetError::Poisoned)
        } else if self.frozen {
            Err(GetError::Frozen)
        } else if (self.refs, self.pins) == (0, 0) {
            Err(GetError::Free)
        } else if self.refs == MAX_REFS {
            Err(GetError::Overflow)
        } else {
            Ok(())
        }
    }

    pub(crate) fn can_pin(&self) -> Result<(), PinError> {
        if self.poisoned {
            Err(PinError::Poisoned)
        } else if self.frozen {
            Err(PinError::Frozen)
        } else if self.migrating {
            Err(PinError::Migrating)
        } else if (self.refs, self.pins) == (0, 0) {
            Err(PinError::Free)
        } else if self.pins == MAX_PINS {
            Err(PinError::Overflow)
        } else {
            Ok(())
        }
    }

    pub(crate) fn can_freeze(&self, rule: FreezeRule) -> bool {
        let refs = match rule {
            FreezeRule::ExactRefs(n) => n == self.refs,
            FreezeRule::Unpinned => true,
            rule => unreachable!("{rule:?}"),
        };
        refs && self.pins == 0 && !self.poisoned
    }

    pub(crate) fn put(&mut self) -> Put {
        self.refs -= 1;
        self.left()
    }

    pub(crate) fn unpin(&mut self) -> Put {
        self.pins -= 1;
        self.left()
    }

    pub(crate) fn left(&self) -> Put {
        if (self.refs, self.pins) == (0, 0) { Put::Last } else { Put::Kept }
    }

    pub(crate) fn wake(&self, is_on: bool) -> Option<Wake> {
        if self.poisoned {
            Some(Wake::Poisoned)
        } else if is_on {
            None // It would sleep.
        } else {
            Some(Wake::NotLocked)
        }
    }
}
