#[derive(Clone, Copy)]
enum Leaf { Hot, Cold }

#[derive(Debug, PartialEq)]
enum Failed { Lost, OutOfTime }

/// Returns once the page is hot, or says why it will not be. Every turn sleeps or is the last.
fn fault(
    page: &PageLock, entry: &Mutex<Leaf>, limits: Limits<'_>, bring_back: impl Fn(),
) -> Result<(), Failed> {
    loop {
        let leaf = entry.lock().unwrap();                   // the page-table lock
        if let Leaf::Hot = *leaf { return Ok(()); }         // another thread has resolved it
        let Some(guard) = page.try_lock() else {
            match page.wait_with(leaf, Wait::unlocked().within(limits)) { // drops leaf, sleeps
                Wake::Released | Wake::NotLocked => continue,             // look again
                Wake::Poisoned => return Err(Failed::Lost),               // it cannot come back
                _ => return Err(Failed::OutOfTime),                       // late, or cancelled
            }
        };
        drop(leaf);                                         // pins may keep us asleep: not with it
        let migration = guard.begin_migration();            // from here on new pins are refused
        match migration.freeze_unpinned(FreezeRule::Unpinned, limits) {   // sleeps while pinned
            Ok(frozen) => {
                bring_back();                               // a panic in here aborts cleanly
                *entry.lock().unwrap() = Leaf::Hot;         // only the page's owner changes it
                frozen.commit_in_place();                   // unlocked; all waiters are told
            }
            Err(busy) if busy.reason().poisoned => return Err(Failed::Lost),
            Err(_) => return Err(Failed::OutOfTime),        // aborted, unlocked, told as well
        }
    }
}
