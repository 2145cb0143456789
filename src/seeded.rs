//! Bugs that are put in on purpose, to see that the checkers find them.
//!
//! `seeded!("name")` is `false`, a constant, in every build but two kinds: one with `--cfg pagelock_bug="name"`, where it is `true`,
//! and one with `--cfg pagelock_bug="chosen"`, where the environment variable `PAGELOCK_BUG` says at run time which bug is in: so that
//! one build serves all of them. `ci/seeded.sh` does that; its list says of each what it is and who must find it.

/// Whether the named bug is in.
macro_rules! seeded {
    ($name:tt) => {
        cfg!(pagelock_bug = $name) || $crate::seeded::is_chosen($name)
    };
}
pub(crate) use seeded;

/// No: this is a normal build, or has one bug that was chosen when it was built.
#[cfg(not(pagelock_bug = "chosen"))]
#[inline(always)]
pub(crate) const fn is_chosen(_name: &str) -> bool {
    false
}

#[cfg(pagelock_bug = "chosen")]
pub(crate) use chosen::is_chosen;
#[cfg(pagelock_bug = "chosen")]
#[allow(unused_imports)] // For `ci/orderings.py`, which puts calls of it into a copy of the sources.
pub(crate) use chosen::weakened;

#[cfg(pagelock_bug = "chosen")]
mod chosen {
    extern crate std;

    use core::sync::atomic::Ordering::{self, AcqRel, Acquire, Relaxed, Release, SeqCst};
    use std::string::String;
    use std::sync::OnceLock;

    fn chosen() -> &'static str {
        static CHOSEN: OnceLock<String> = OnceLock::new();
        CHOSEN.get_or_init(|| std::env::var("PAGELOCK_BUG").unwrap_or_default())
    }

    pub(crate) fn is_chosen(name: &str) -> bool {
        chosen() == name
    }

    /// `ordering`, which is the one at `site`, unless the environment chooses `site=Weaker`.
    #[allow(dead_code)]
    pub(crate) fn weakened(site: &str, ordering: Ordering) -> Ordering {
        match chosen().strip_prefix(site).and_then(|rest| rest.strip_prefix('=')) {
            None => ordering,
            Some("Relaxed") => Relaxed,
            Some("Acquire") => Acquire,
            Some("Release") => Release,
            Some("AcqRel") => AcqRel,
            Some(other) => {
                assert_eq!(other, "SeqCst", "no ordering");
                SeqCst
            }
        }
    }
}
