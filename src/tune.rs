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
    /// The kernel's figure is 5 (`vm.page_lock_unfairness`), and there the last step can still be lost. On a page that is hardly ever free each
    /// promise costs the time of a wake for everybody it is made to. Where there is time between holds it makes no difference. The
    /// curves are in [`tuning`](crate::docs::tuning).
    pub const BYPASS_BOUND = 8, model 1;
}

tuned! {
    /// How many pauses a locker makes before it looks again, when it has come upon a page that is taken.
    ///
    /// A pause is 10 to 45 ns, as the processor has it. In so many short holds follow one another; and where two threads take turns with holds of
    /// a microsecond, who waits arrives about as long before the release.
    pub(crate) const ARRIVAL_PAUSES = 8, model 0;
}

tuned! {
    /// How many more, if the page was released and taken again meanwhile.
    ///
    /// Short holds come in runs: an owner that comes back for the page finds its line and its data in its own cache, and nobody's look slows it.
    /// To let a run go on for another microsecond or two brings 1.5 to 1.8 times the holds.
    pub(crate) const RUN_PAUSES = 160, model 0;
}

tuned! {
    /// How often it then looks, two pauses apart, before it gives its processor away.
    ///
    /// Two to ten microseconds: a shorter hold costs no switch of threads.
    pub(crate) const LOOKS = 100, model 1;
}

tuned! {
    /// How often it [gives its processor away](crate::Futex::relax) and looks as often again, before it sleeps.
    pub(crate) const YIELDS = 1, model 1;
}

tuned! {
    /// Every so many holds, whoever comes upon a page that is taken gives its processor away at once.
    ///
    /// As long as holds are shorter than the looking, two threads can pass the page back and forth and never leave their
    /// processors, until the scheduler's tick; all others wait for whole time slices. The lower, the shorter the longest wait, and the fewer the
    /// holds of a microsecond. A power of two, so that it goes evenly into the 256 generations. 0 is never.
    pub(crate) const GIVE_WAY = 32, model 1;
}

tuned! {
    /// For so many holds in a row.
    ///
    /// One hold is met by lockers on all processors but the owner's, and the next owner is often one of those that have just given way. Three
    /// are enough for each of two processors to change hands once.
    pub(crate) const GIVE_WAY_HOLDS = 3, model 1;
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
