//! Where a page is: the caller's bits of its header.

use pagelock::UserBits;

/// Where a page's bytes are. Kept in the header, written by the page's owner.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Place {
    /// In the store. What a region begins with.
    #[default]
    Out,
    /// In memory.
    In,
    /// Nowhere: it was discarded, and reads as zeroes.
    Discarded,
}

const PLACE: u8 = 0b011;
const PROTECTED: u8 = 0b100;

impl Place {
    pub(crate) const fn of(user: UserBits) -> Self {
        match user.get() & PLACE {
            0 => Self::Out,
            1 => Self::In,
            _ => Self::Discarded,
        }
    }

    /// The bits of a page here. If it is `protected`, the next write to it is noticed. That
    /// outlives an eviction: the page comes back protected.
    pub(crate) const fn bits(self, protected: bool) -> UserBits {
        let place = match self {
            Self::Out => 0,
            Self::In => 1,
            Self::Discarded => 2,
        };
        UserBits::new(if protected { place | PROTECTED } else { place })
    }
}

pub(crate) const fn is_protected(user: UserBits) -> bool {
    user.get() & PROTECTED != 0
}

/// What a page's header says at one moment: [`Region::states`](crate::Region::states).
///
/// Whether the page is *dirty* is not there. To find the dirty pages among many, a bitmap is read
/// some eighty times faster than headers are, so that belongs into a bitmap beside the region, for
/// instance `vm-memory`'s.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct PageState {
    /// Where the page is.
    pub place: Place,
    /// It has an owner: a fetch, an eviction, a cleaning is under way.
    pub owned: bool,
    /// The owner's release will tell: the page was asked for meanwhile.
    pub awaited: bool,
    /// The next write is noticed, also if the page is out meanwhile: see
    /// [`Region::clean`](crate::Region::clean).
    pub protected: bool,
    /// How many pins keep it in.
    pub pins: u32,
    /// Its contents are lost.
    pub poisoned: bool,
}
