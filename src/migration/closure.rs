//! A whole migration around a closure.

use super::{FreezeRule, Frozen, NotMigrated};
use crate::futex::Futex;
use crate::lock::{PageGuard, Released};

impl<'a, F: Futex> PageGuard<'a, F> {
    /// Begins a migration, freezes the page by `rule`, and lets `work` move the bytes and put up
    /// the new entries. If `work` returns `Ok`, the migration is [committed in
    /// place](Frozen::commit_in_place). If it returns `Err` or panics, the migration is aborted.
    /// The page is unlocked in every case.
    ///
    /// To move a page's identity to another header, go through the stages by hand:
    /// [`Frozen::commit_to`].
    ///
    /// # Errors
    ///
    /// [`NotMigrated`]: the page is busy, and `work` was not called; or the error of `work`.
    ///
    /// # Example
    ///
    /// ```
    /// use pagelock::{FreezeRule, PageLock};
    ///
    /// fn compact(page: &PageLock) -> Result<(), Box<dyn std::error::Error>> {
    ///     let (_bytes, _released) = page.lock().migrate(FreezeRule::ExactRefs(1), |frozen| {
    ///         assert!(frozen.page().is_frozen());
    ///         std::fs::read("/proc/self/stat") // copies, puts up the new entries
    ///     })?;
    ///     Ok(())
    /// }
    ///
    /// let page = PageLock::new();
    /// page.activate(1).unwrap();
    /// compact(&page).unwrap();
    /// let pin = page.try_pin().unwrap();
    /// assert!(compact(&page).unwrap_err().to_string().contains("1 pins"));
    /// # drop(pin);
    /// ```
    pub fn migrate<R, E>(
        self,
        rule: FreezeRule,
        work: impl FnOnce(&mut Frozen<'a, F>) -> Result<R, E>,
    ) -> Result<(R, Released), NotMigrated<E>> {
        let mut frozen = self
            .begin_migration()
            .freeze(rule)
            .map_err(|busy| NotMigrated::Busy(busy.into_reason()))?;
        match work(&mut frozen) {
            Ok(answer) => Ok((answer, frozen.commit_in_place())),
            Err(own) => {
                frozen.abort();
                Err(NotMigrated::Own(own))
            }
        }
    }
}
