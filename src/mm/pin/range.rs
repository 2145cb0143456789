//! Many pages: all pinned, or none kept while one is waited for.

use super::page::{Look, look};
use super::{NotPinned, NotPinnedOf, PinOrder, PinPolicy, PinRangeError, Pinned, pin_page};
use crate::futex::FutexTimed;
use crate::mm::drain::{Drain, Unlocked};
use crate::mm::{Areas, Memory, Mm, Tables};
use core::fmt;

/// A page to pin, and its pin once it has one.
///
/// ```
/// use pagelock::mm::pin::PinSlot;
/// # let (mm, at) = pagelock_soft::example();
/// let slot: PinSlot<'_, pagelock_soft::Soft> = PinSlot::new(at);
/// assert!(slot.pinned.is_none() && slot.pfn.is_none());
/// ```
#[non_exhaustive]
pub struct PinSlot<'m, M: Mm> {
    /// Where it is.
    pub at: M::Address,
    /// The pin. Slots in a row whose pages are frames of one large page share one pin, which the
    /// first slot has: a pin of a large page is one of the whole.
    pub pinned: Option<Pinned<'m, M>>,
    /// The frame, while it is pinned.
    pub pfn: Option<u64>,
}

impl<M: Mm> PinSlot<'_, M> {
    /// A page that is not pinned yet.
    ///
    /// ```
    /// use pagelock::mm::pin::PinSlot;
    /// # let (mm, at) = pagelock_soft::example();
    /// let slots: Vec<PinSlot<'_, pagelock_soft::Soft>> = at.pages(4).map(PinSlot::new).collect();
    /// assert_eq!(slots[3].at, at.space.page(3));
    /// ```
    #[must_use]
    pub fn new(at: M::Address) -> Self {
        Self { at, pinned: None, pfn: None }
    }
}

impl<M: Mm> fmt::Debug for PinSlot<'_, M>
where
    <M as Tables>::Address: fmt::Debug,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PinSlot")
            .field("at", &self.at)
            .field("pfn", &self.pfn)
            .field("pinned", &self.pinned)
            .finish()
    }
}

/// Pins the pages of `slots`, passing over those that are pinned already: a call that ended early
/// can be made again.
///
/// Nothing is waited for with a pin in hand: a page may not move as long as it is pinned, and the
/// thread that would be waited for may itself wait for that ([`evict`](crate::mm::migrate::evict)).
/// So before a page is faulted in, moved or waited for, *every* pin in `slots` is dropped, also
/// those from an earlier call. Then all pages are brought in, and then all are pinned anew, as
/// often as it takes. Take a page that is in use already out of `slots`. Set a limit.
///
/// ```
/// use pagelock::mm::pin::{Backing, PinOrder, PinSlot, Term, pin_range};
/// use pagelock::mm::{Access, drain::Unlocked};
/// use pagelock::{Limits, OsFutex};
/// use pagelock_soft::Backed;
/// # let (mm, at) = pagelock_soft::example();
/// let mut slots: Vec<_> = at.pages(8).map(PinSlot::new).collect();
/// let order = PinOrder::new(Access::Write, Term::Short, Limits::<OsFutex>::none());
/// let policy = Backed(|_| Backing::Anonymous);
/// let mut unlocked = Unlocked::promise(); // the top of a thread
/// pin_range(&mm, &mut slots, &order, &policy, &mm, &mut unlocked).unwrap();
/// assert!(slots.iter().all(|slot| slot.pfn.is_some()));
/// ```
///
/// # Errors
///
/// [`PinRangeError`]: for the first page that cannot be pinned. Those before it are pinned, as far
/// as that was possible without waiting.
pub fn pin_range<'m, M, P>(
    mm: &'m M,
    slots: &mut [PinSlot<'m, M>],
    order: &PinOrder<'_, M::Futex>,
    policy: &P,
    drain: &impl Drain,
    unlocked: &mut Unlocked,
) -> Result<(), PinRangeError<NotPinnedOf<M, P>>>
where
    M: Areas + Mm + Memory<Futex: FutexTimed>,
    P: PinPolicy<M>,
{
    let rounds = order.patience.max(1);
    for _ in 0..rounds {
        match pin_ready(mm, slots, order, policy) {
            Ok(pinned) if pinned == slots.len() => return Ok(()),
            Ok(_) => {}
            Err(error) => return Err(error),
        }
        for slot in &mut *slots {
            (slot.pinned, slot.pfn) = (None, None);
        }
        // One after the other, and none of the pins is kept.
        for index in 0..slots.len() {
            if let Err(why) = pin_page(mm, slots[index].at, order, policy, drain, unlocked) {
                let ready = pin_ready(mm, &mut slots[..index], order, policy);
                let pinned = ready.unwrap_or_else(|error| error.pinned);
                return Err(PinRangeError { pinned, why });
            }
        }
    }
    let pinned = slots.iter().take_while(|slot| slot.pfn.is_some()).count();
    Err(PinRangeError { pinned, why: NotPinned::Busy { rounds } })
}

/// Pins as many pages as it can without waiting, up to the first that it cannot. Returns how many
/// are pinned then, from the first.
fn pin_ready<'m, M, P>(
    mm: &'m M,
    slots: &mut [PinSlot<'m, M>],
    order: &PinOrder<'_, M::Futex>,
    policy: &P,
) -> Result<usize, PinRangeError<NotPinnedOf<M, P>>>
where
    M: Areas + Mm + Memory<Futex: FutexTimed>,
    P: PinPolicy<M>,
{
    let mut last = None;
    for (pinned, slot) in slots.iter_mut().enumerate() {
        if slot.pfn.is_none() {
            let looked = look(mm, slot.at, order.access, order.term, policy, last);
            match looked.map_err(|why| PinRangeError { pinned, why })? {
                Look::Pinned(pin) => (slot.pfn, slot.pinned) = (Some(pin.pfn()), Some(pin)),
                Look::Within(pfn) => slot.pfn = Some(pfn),
                _ => return Ok(pinned),
            }
        }
        if let Some(pin) = &slot.pinned {
            last = mm.header(pin.pfn());
        }
    }
    Ok(slots.len())
}
