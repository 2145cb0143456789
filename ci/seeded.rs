//! Which of the bugs that `ci/weave.py` has put into this copy of the tree is in: the environment
//! variable `PAGELOCK_BUG` says so at run time, and one build serves all of them.

extern crate std;

use core::sync::atomic::Ordering::{self, AcqRel, Acquire, Relaxed, Release, SeqCst};
use std::string::String;
use std::sync::OnceLock;

fn chosen() -> &'static str {
    static CHOSEN: OnceLock<String> = OnceLock::new();
    CHOSEN.get_or_init(|| std::env::var("PAGELOCK_BUG").unwrap_or_default())
}

/// Whether the named bug is in.
pub(crate) fn is_chosen(name: &str) -> bool {
    chosen() == name
}

/// `ordering`, which is the one at `site`, unless the environment chooses `site=Weaker`.
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
