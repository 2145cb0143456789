//! The caller's bits, as a value.

use core::fmt;

/// The five bits of the state word that belong to the caller, as a number from 0 to 31.
///
/// Any thread may read them ([`PageLock::user`](crate::PageLock::user)), the owner writes them
/// ([`PageGuard::set_user`](crate::PageGuard::set_user)), and the crate never looks at them.
///
/// They print as the number that they are, in any base:
///
/// ```
/// use pagelock::UserBits;
///
/// assert_eq!(format!("{:#07b}", UserBits::new(0b101)), "0b00101");
/// assert_eq!(format!("{:#x}", UserBits::new(0x1f)), "0x1f");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct UserBits(u8);

impl UserBits {
    /// Makes user bits of the lowest five bits of `bits`.
    ///
    /// ```
    /// use pagelock::UserBits;
    ///
    /// assert_eq!(UserBits::new(31).get(), 31);
    /// assert_eq!(UserBits::new(32), UserBits::default());
    /// ```
    #[must_use]
    pub const fn new(bits: u8) -> Self {
        Self(bits & 0x1f)
    }

    /// Returns the bits as a number from 0 to 31.
    ///
    /// ```
    /// use pagelock::UserBits;
    ///
    /// const DIRTY: u8 = 1 << 2;
    /// assert_ne!(UserBits::new(0b101).get() & DIRTY, 0);
    /// ```
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0
    }
}

impl From<UserBits> for u8 {
    fn from(bits: UserBits) -> Self {
        bits.get()
    }
}

macro_rules! formats {
    ($($base:ident),*) => { $(
        impl fmt::$base for UserBits {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::$base::fmt(&self.0, f)
            }
        }
    )* };
}
formats!(Binary, Octal, LowerHex, UpperHex);
