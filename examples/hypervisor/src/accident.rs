//! What ends a run before its time, and the exit status for it.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Accident {
    /// A byte is not as expected.
    Lost(String),
    /// Something outside failed.
    Outside(String),
    /// Ctrl-C.
    Interrupted,
}

impl Accident {
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Lost(_) => 1,
            Self::Outside(_) => 3,
            Self::Interrupted => 130,
        }
    }
}

impl std::fmt::Display for Accident {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Lost(what) | Self::Outside(what) => f.write_str(what),
            Self::Interrupted => f.write_str("interrupted"),
        }
    }
}

impl From<anyhow::Error> for Accident {
    fn from(error: anyhow::Error) -> Self {
        Self::Outside(format!("{error:#}"))
    }
}

impl From<std::io::Error> for Accident {
    fn from(error: std::io::Error) -> Self {
        Self::Outside(error.to_string())
    }
}

/// The first accident, and whether everything ends.
#[derive(Debug, Default)]
pub(crate) struct Brake {
    stop: AtomicBool,
    first: OnceLock<Accident>,
}

impl Brake {
    /// Everything ends; `accident` counts if it is the first.
    pub(crate) fn pull(&self, accident: Accident) {
        let _ = self.first.set(accident);
        self.stop();
    }

    /// Everything ends, since the time is up.
    pub(crate) fn stop(&self) {
        self.stop.store(true, SeqCst);
    }

    pub(crate) fn is_pulled(&self) -> bool {
        self.stop.load(SeqCst)
    }

    pub(crate) fn accident(&self) -> Option<&Accident> {
        self.first.get()
    }
}
