//! The numbers that somebody chose, in one place, each with the measurement that it was chosen by.
//!
//! They change how fast things are, never whether they are right. Under the model checkers they are as small as can be, so that what
//! they bound is reached within a model's few steps. A build with `--cfg pagelock_tune` takes them from the environment at compile
//! time, for the sweep that draws the curves (`ci/sweep.sh`).

/// `chosen`, unless this is a model or a sweep.
macro_rules! tuned {
    ($(#[$attr:meta])* $vis:vis const $name:ident = $chosen:expr, model $model:expr;) => {
        $(#[$attr])*
        $vis const $name: u32 = if cfg!(any(pagelock_loom, pagelock_shuttle)) {
            $model
        } else if cfg!(pagelock_tune) {
            from_environment(option_env!(concat!("PAGELOCK_", stringify!($name))), $chosen)
        } else {
            $chosen
        };
    };
}

tuned! {
    /// How often a sleeping locker can be woken only to find the page taken by somebody who came later. After that the page is
    /// promised to it and to those who slept before it.
    ///
    /// The kernel's figure is 5 (`vm.page_lock_unfairness`), and there the last step can still be lost. Throughput is the same from 1 to
    /// never; the longest wait grows with it. The curves are in [`tuning`](crate::docs::tuning).
    pub const BYPASS_BOUND = 1, model 1;
}

tuned! {
    /// How many rounds of exponential backoff a locker makes at first: 1 + 2 + 4 + 8 + 16 pauses.
    ///
    /// About a microsecond: a hold that is shorter ends before the locker gives its processor away. With 3 rounds and 5 yields
    /// sections of a microsecond had 0.58 times the best peer's throughput, because each hold cost a switch of threads; with these 0.90 to
    /// 0.95 times. The curves are in [`tuning`](crate::docs::tuning).
    #[cfg_attr(pagelock_loom, allow(dead_code))]
    pub(crate) const SPIN_ROUNDS = 5, model 0;
}

tuned! {
    /// How often it then [gives its processor away](crate::Futex::relax) and looks again, before it sleeps.
    ///
    /// Without it short sections have half the throughput; with more, longer ones lose theirs to switches of threads.
    #[cfg_attr(pagelock_loom, allow(dead_code))]
    pub(crate) const YIELDS = 1, model 1;
}

tuned! {
    /// How many sleepers a release wakes itself: all of them, if its slot has no more.
    ///
    /// So few that its call is short, and more than one, so that a chain does not hang on one sleeper that is slow to run. What it costs is in
    /// [`tuning`](crate::docs::tuning).
    pub const FIRST = 16, model 1;
}

tuned! {
    /// How many each woken sleeper wakes in turn.
    ///
    /// The more, the fewer of them need to: each call for the platform's queue costs, and each link of the chain has to run before the next.
    /// But a faulter that wakes others is kept from its own access by 1.6 µs for each.
    pub const NEXT = 64, model 1;
}

/// A number from the environment of the build.
const fn from_environment(value: Option<&str>, otherwise: u32) -> u32 {
    let Some(digits) = value else { return otherwise };
    let (digits, mut n, mut i) = (digits.as_bytes(), 0, 0);
    assert!(!digits.is_empty(), "a number was expected");
    while i < digits.len() {
        assert!(digits[i].is_ascii_digit(), "a number was expected");
        n = n * 10 + (digits[i] - b'0') as u32;
        i += 1;
    }
    n
}

#[cfg(test)]
mod tests {
    use super::from_environment;

    #[test]
    fn numbers_are_read_as_they_are_written() {
        assert_eq!(from_environment(None, 3), 3);
        assert_eq!(from_environment(Some("0"), 3), 0);
        assert_eq!(from_environment(Some("7"), 3), 7);
        assert_eq!(from_environment(Some("1290"), 3), 1290);
    }

    #[test]
    #[should_panic(expected = "a number was expected")]
    fn what_is_no_number_is_refused() {
        let _ = from_environment(Some("12a"), 3);
    }

    #[test]
    #[should_panic(expected = "a number was expected")]
    fn an_empty_number_is_refused() {
        let _ = from_environment(Some(""), 3);
    }
}
