//! gdb, with the script that the crate brings, shows pages in the words of `{:?}`.
//!
//! Where there is no gdb, or it may not trace, the test says SKIPPED and proves nothing;
//! `ci/gdb.sh` installs it and reports that.

#![cfg(all(target_os = "linux", not(any(pagelock_loom, pagelock_shuttle))))]

use pagelock::word::state::GENERATION_SHIFT;
use pagelock::{FreezeRule, Frozen, Migration, PageGuard, PageLock, PagePin, PageRef};
use std::collections::BTreeMap;
use std::env;
use std::fmt::Debug;
use std::process::Command;

/// Set for the program that runs under gdb.
const UNDER_GDB: &str = "PAGELOCK_TEST_UNDER_GDB";
const BITS: usize = 64;

/// What gdb is asked to show.
struct Shown<'a> {
    /// Each bit of the two words alone, then none and all.
    words: [PageLock; BITS + 2],
    guard: PageGuard<'a>,
    migration: Migration<'a>,
    frozen: Frozen<'a>,
    reference: PageRef<'a>,
    pin: PagePin<'a>,
}

const STAGES: [&str; 5] = ["guard", "migration", "frozen", "reference", "pin"];

fn parts() -> impl Iterator<Item = String> {
    (0..BITS + 2).map(|i| format!("words[{i}]")).chain(STAGES.map(String::from))
}

/// Where the program stops.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn pagelock_test_stops_here(shown: &Shown<'_>) {
    std::hint::black_box(shown);
}

fn header(words: u64) -> PageLock {
    // SAFETY: eight bytes of two integers, which may have any value: nobody locks this page.
    unsafe { std::mem::transmute(words) }
}

fn page() -> &'static PageLock {
    let page: &PageLock = Box::leak(Box::new(header(7 << GENERATION_SHIFT)));
    page.activate(3).unwrap();
    page
}

/// The program under gdb: says what `{:?}` says, and stops.
fn show() {
    let words = std::array::from_fn(|i| match i {
        BITS => header(0),
        _ if i > BITS => header(u64::MAX),
        _ => header(1 << i),
    });
    let (reference, pin) = (page().try_get().unwrap(), page().try_pin().unwrap());
    let frozen = page().lock().begin_migration().freeze(FreezeRule::ExactRefs(3)).unwrap();
    let migration = page().lock().begin_migration();
    let shown = Shown { words, guard: page().lock(), migration, frozen, reference, pin };
    let Shown { words, guard, migration, frozen, reference, pin } = &shown;
    let stages: [&dyn Debug; 5] = [guard, migration, frozen, reference, pin];
    let said = words.iter().map(|page| page as &dyn Debug).chain(stages);
    for (part, said) in parts().zip(said) {
        println!("debug says {part} = {said:?}");
    }
    pagelock_test_stops_here(&shown);
    let Shown { frozen, migration, .. } = shown;
    frozen.abort();
    migration.abort();
}

#[test]
fn gdb_says_of_a_page_what_debug_says() {
    if env::var_os(UNDER_GDB).is_some() {
        return show();
    }
    let mut gdb = Command::new("gdb");
    gdb.args(["--batch", "--nx", "-ex", "set print elements 0"])
        .args(["-ex", concat!("source ", env!("CARGO_MANIFEST_DIR"), "/src/gdb/pagelock.py")])
        .args(["-ex", "break pagelock_test_stops_here", "-ex", "run"])
        .args(["-ex", "echo by address = \\n", "-ex", "pagelock shown.guard.page"]);
    for part in parts() {
        gdb.args(["-ex", &format!("echo gdb says {part} = \\n")]).args([
            "-ex",
            &format!("output shown.{part}"),
            "-ex",
            "echo \\n",
        ]);
    }
    gdb.arg("--args").arg(env::current_exe().unwrap());
    gdb.args(["--exact", "gdb_says_of_a_page_what_debug_says", "--nocapture"]).env(UNDER_GDB, "1");
    let output = match gdb.output() {
        Ok(output) => output,
        Err(why) => return println!("SKIPPED: gdb does not run: {why}"),
    };
    let stdout = String::from_utf8_lossy(&output.stdout).replace(" = \n", " = ");
    let stderr = String::from_utf8_lossy(&output.stderr);
    if !stdout.contains("debug says") && stderr.contains("ptrace") {
        return println!("SKIPPED: gdb may not trace here: {stderr}");
    }
    let said = |who| -> BTreeMap<&str, &str> {
        stdout.lines().filter_map(|l| l.split_once(who)?.1.split_once(" = ")).collect()
    };
    let (debug, gdb) = (said("debug says "), said("gdb says "));
    assert_eq!(debug.len(), parts().count(), "{stdout}\n{stderr}");
    for (part, words) in &debug {
        assert_eq!(gdb.get(part), Some(words), "{part}\n{stdout}\n{stderr}");
    }
    let page = stdout.lines().find_map(|l| l.strip_prefix("by address = ")).unwrap();
    assert_eq!(debug["guard"], format!("PageGuard({page})"));
}
