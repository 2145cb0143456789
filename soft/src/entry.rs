//! An entry whose page-table lock is held.

use super::frames::frame;
use super::guarded::Guard;
use super::space::{Area, AreaKind, Table};
use super::{At, Soft};
use core::fmt;
use pagelock::futex::Futex;
use pagelock::leaf::{Leaf, Rights, UnknownLeaf};
use pagelock::mm::Entry;
use pagelock::mm::drain::Cpus;

/// An entry whose page-table lock is held.
///
/// ```
/// use pagelock::leaf::Leaf;
/// # let (mm, at) = pagelock_soft::example();
/// let entry = mm.entry(at); // no other thread changes it now
/// assert!(matches!(entry.leaf(), Leaf::Present { .. }));
/// ```
pub struct SoftEntry<'t, F: Futex, C: Cpus> {
    pub(super) mm: &'t Soft<F, C>,
    pub(super) at: At,
    pub(super) order: u32,
    /// `None` outside every space: such an entry says that nothing is there, and forgets what it is
    /// told.
    pub(super) table: Option<(Guard<'t, Table>, usize)>,
}

impl<F: Futex, C: Cpus> SoftEntry<'_, F, C> {
    /// Its address.
    ///
    /// ```
    /// # let (mm, at) = pagelock_soft::example();
    /// assert_eq!(mm.entry(at).at(), at);
    /// ```
    #[must_use]
    pub fn at(&self) -> At {
        self.at
    }

    /// What the entry says.
    ///
    /// ```
    /// use pagelock::leaf::Leaf;
    /// # let (mm, at) = pagelock_soft::example();
    /// assert_eq!(mm.entry(at.space.page(7)).leaf(), Leaf::None);
    /// ```
    #[must_use]
    pub fn leaf(&self) -> Leaf {
        self.get().unwrap_or(Leaf::None)
    }

    /// The address of its first page: another one for most pages of a large entry.
    ///
    /// ```
    /// # let (mm, at) = pagelock_soft::example();
    /// mm.map_large_hole(at.space.page(16), 3).unwrap();
    /// assert_eq!(mm.entry(at.space.page(18)).head(), at.space.page(16));
    /// ```
    #[must_use]
    pub fn head(&self) -> At {
        At { page: self.at.page & !((1 << self.order) - 1), ..self.at }
    }

    /// The distance, in pages, of the locked address from the first page.
    fn behind(&self) -> u64 {
        (self.at.page - self.head().page) as u64
    }

    /// What the address may be used for.
    ///
    /// ```
    /// use pagelock_soft::Area;
    /// # let (mm, at) = pagelock_soft::example();
    /// assert_eq!(mm.entry(at).area(), Area::PRIVATE);
    /// ```
    #[must_use]
    pub fn area(&self) -> Area {
        self.table.as_ref().map_or_else(Area::default, |(table, index)| table.areas[*index])
    }

    /// Whether something may be mapped here: it is a part of the space, and nothing is mapped yet.
    pub(super) fn is_unmapped(&self) -> bool {
        self.table.is_some() && self.area().kind == AreaKind::Unmapped
    }

    pub(super) fn set_area(&mut self, area: Area) {
        if let Some((table, index)) = &mut self.table {
            table.areas[*index] = area;
        }
    }

    /// Replaces the entry, all of it if it is a large one, by a word of the
    /// [encoding](Leaf::encode), or by a word that is no leaf.
    ///
    /// ```
    /// use pagelock::mm::Entry;
    /// # let (mm, at) = pagelock_soft::example();
    /// let mut entry = mm.entry(at.space.page(7));
    /// entry.set_word(u64::MAX);
    /// assert!(entry.get().is_err());
    /// ```
    pub fn set_word(&mut self, word: u64) {
        let Some((table, index)) = &mut self.table else { return };
        let at = At { page: self.at.page & !((1 << self.order) - 1), ..self.at };
        let (old, new) = (names(table.words[*index]), names(word));
        table.words[*index] = word;
        if old != new {
            let rmap = |pfn: u64| frame(&self.mm.frames, pfn).map(|frame| frame.rmap.lock());
            if let Some(mut rmap) = old.and_then(rmap) {
                rmap.remove(at);
            }
            if let Some(mut rmap) = new.and_then(rmap) {
                rmap.add(at);
            }
        }
    }

    /// Replaces the entry. References are the caller's business, the reverse map is not.
    ///
    /// ```
    /// use pagelock::leaf::{Leaf, Marker};
    /// # let (mm, at) = pagelock_soft::example();
    /// mm.entry(at.space.page(7)).set_leaf(Leaf::Marker(Marker::Guard));
    /// assert_eq!(mm.leaf(at.space.page(7)), Leaf::Marker(Marker::Guard));
    /// ```
    pub fn set_leaf(&mut self, leaf: Leaf) {
        self.set(leaf);
    }
}

/// The frame that an entry names, for the reverse map. Poison and zeroes name none.
fn names(word: u64) -> Option<u64> {
    match Leaf::decode(word) {
        Ok(Leaf::Poison { .. }) | Err(_) => None,
        Ok(leaf) => leaf.pfn().filter(|&pfn| pfn != 0),
    }
}

impl<F: Futex, C: Cpus> Entry for SoftEntry<'_, F, C> {
    fn get(&self) -> Result<Leaf, UnknownLeaf> {
        let leaf = self
            .table
            .as_ref()
            .map_or(Ok(Leaf::None), |(table, index)| Leaf::decode(table.words[*index]))?;
        Ok(leaf_behind(leaf, self.behind()))
    }

    fn set(&mut self, leaf: Leaf) {
        // Frames are few enough for any leaf.
        if let Ok(word) = leaf.map_pfn(|pfn| pfn.saturating_sub(self.behind())).encode() {
            self.set_word(word);
        }
    }

    fn order(&self) -> u32 {
        self.order
    }

    fn offset(&self) -> u64 {
        self.behind()
    }

    fn split(&mut self) -> bool {
        self.split_unowned()
    }

    fn hole(&self) -> Option<Rights> {
        let area = self.area();
        area.rights.filter(|_| area.kind == AreaKind::Private)
    }
}

/// What a large entry says, so many pages behind its first one. The frame of zeroes stands for all
/// of them.
pub(super) fn leaf_behind(leaf: Leaf, pages: u64) -> Leaf {
    leaf.map_pfn(|pfn| if pfn == 0 { 0 } else { pfn + pages })
}

impl<F: Futex, C: Cpus> fmt::Debug for SoftEntry<'_, F, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SoftEntry")
            .field("at", &self.at)
            .field("leaf", &self.leaf())
            .field("area", &self.area())
            .finish()
    }
}
