//! Linux's own tests of `hmm` (`tools/testing/selftests/mm/hmm-tests.c`), as far as they are about
//! this protocol, by the same names: a device with memory of its own reads and writes a process's
//! memory, has pages moved to it and back, and has some to itself. Each asserts what the original
//! asserts: contents, counts, rights, errors; and at the end that every reference, entry and frame
//! is accounted for.
//!
//! | original | here | how |
//! |---|---|---|
//! | `open_close` | `open_close` | |
//! | `anon_read`, `anon_read_prot` | same | |
//! | `anon_write`, `anon_write_prot` | same | |
//! | `anon_write_child`, `anon_write_child_shared` | same | fork and copy-on-write of the software memory manager |
//! | `anon_write_huge` | same | a large page is a page table's worth of ordinary ones |
//! | `anon_write_hugetlbfs` | – | a file system's pages, which do not migrate so |
//! | `file_read`, `file_write` | – | there are no files: a page cache and its locks are the caller's |
//! | `migrate`, `migrate_fault`, `migrate_release`, `migrate_multiple` | same | |
//! | `migrate_shared` | same | the refusal is the memory manager's; without it shared pages do move |
//! | `hmm2.migrate_mixed` | `migrate_mixed` | two devices |
//! | `anon_read_multiple`, `anon_teardown` | same | |
//! | `mixedmap` | same | a page that a driver has mapped |
//! | `hmm2.snapshot` | `snapshot` | two devices |
//! | `compound` | same | |
//! | `hmm2.double_map` | `double_map` | two devices |
//! | `exclusive`, `exclusive_mprotect`, `exclusive_cow` | same | |
//! | `hmm_gup_test` | same | |
//! | `hmm_cow_in_device` | same | |
//! | `migrate_anon_huge_empty`, `_zero` | same | a large entry, and one for each page |
//! | `migrate_anon_huge_free`, `_fault` | same | freed at once: nothing here is freed lazily |
//! | `migrate_anon_huge_err`, `_zero_err` | same | for want of large pages, as there, and of any |
//! | `migrate_partial_unmap_fault`, `migrate_remap_fault` | same; a whole large page in `migrate_remap_whole_fault` | |
//! | `benchmark_thp_migration` | same | short; asserts that a large page is one page to move |
//! | `userfaultfd_read` | same | |
//!
//! Those marked "same" run with devices whose memory the processor cannot access (`device_private`)
//! and with devices whose memory it can (`device_coherent`), as the original's variants do, over
//! the [software memory manager](pagelock_soft). Where one process with one mapping is enough they
//! run once more on [real memory](real), with page faults that are signals. There the rest is
//! wanting: for a page that two processes map, and for write protection, `UFFDIO_MOVE` is of no
//! use.
//!
//! Then there are four that Linux does not have: [`beyond`] and [`mixed`].

#![cfg(all(feature = "std", target_os = "linux", not(pagelock_loom)))]

#[macro_use]
#[path = "../common/mod.rs"]
mod common;

mod access;
mod beyond;
mod called_off;
mod exclusive;
mod gup;
mod handler;
mod huge;
mod migrate;
mod mixed;
#[cfg(not(miri))]
mod real;
#[cfg(not(miri))]
mod real_engine;
#[cfg(not(miri))]
mod real_memory;
#[cfg(not(miri))]
mod real_pins;
#[cfg(not(miri))]
mod region;

/// Each test with devices of either kind.
macro_rules! variants {
    ($($module:ident: $($test:ident)*;)*) => {
        mod device_private {
            use crate::common::hmm_soft::Variant::Private;
            $($(#[test] fn $test() { super::$module::$test(Private); })*)*
        }
        mod device_coherent {
            use crate::common::hmm_soft::Variant::Coherent;
            $($(#[test] fn $test() { super::$module::$test(Coherent); })*)*
        }
    };
}

variants! {
    access: open_close anon_read anon_read_prot anon_write anon_write_prot anon_write_child
        anon_write_child_shared anon_write_huge anon_read_multiple anon_teardown
        device_read_past_its_deadline mixedmap compound snapshot double_map;
    migrate: migrate migrate_fault migrate_release migrate_shared migrate_mixed migrate_multiple
        hmm_cow_in_device hmm_gup_test userfaultfd_read;
    exclusive: exclusive exclusive_mprotect exclusive_cow;
    huge: migrate_anon_huge_empty migrate_anon_huge_zero migrate_anon_huge_free
        migrate_anon_huge_fault migrate_partial_unmap_fault migrate_remap_fault
        migrate_remap_whole_fault migrate_anon_huge_err migrate_anon_huge_zero_err
        benchmark_thp_migration;
}
