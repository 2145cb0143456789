//! What stands in for `owner` and `slow` where their features are off: nothing at all.
#![allow(dead_code)] // Each of the two stands in alone where the other is on.

pub(crate) mod owner {
    use crate::futex::Futex;
    use crate::page::PageLock;
    use crate::word::State;
    use core::fmt;

    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub(crate) enum Taken {}

    impl Taken {
        pub(crate) const fn is_of(&self, _: State) -> bool {
            match *self {}
        }
    }

    impl fmt::Display for Taken {
        fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
            match *self {}
        }
    }

    pub(crate) struct Ended;

    pub(crate) const fn of(_: usize) -> Option<Taken> {
        None
    }

    #[inline(always)]
    pub(crate) const fn note<F: Futex>(_: &PageLock<F>) {}

    #[inline(always)]
    pub(crate) const fn end(_: usize) -> Ended {
        Ended
    }
}

pub(crate) mod slow {
    use crate::owner::Taken;

    pub(crate) struct Waiting;

    #[inline(always)]
    pub(crate) const fn wait(_: usize) -> Waiting {
        Waiting
    }

    pub(crate) const fn hold_ended(_: &Taken) {}
}
