//! Linux's own tests of `hmm` (`tools/testing/selftests/mm/hmm-tests.c`), as far as they are about this protocol, by the same names.
#![cfg(all(feature = "alloc", feature = "std", target_os = "linux", not(pagelock_loom)))]

mod common;

#[path = "hmm/access.rs"]
mod access;
#[path = "hmm/beyond.rs"]
mod beyond;
#[path = "hmm/exclusive.rs"]
mod exclusive;
#[path = "hmm/gup.rs"]
mod gup;
#[path = "hmm/handler.rs"]
mod handler;
#[path = "hmm/huge.rs"]
mod huge;
#[path = "hmm/migrate.rs"]
mod migrate;
#[path = "hmm/mixed.rs"]
mod mixed;
#[cfg(not(miri))]
#[path = "hmm/real.rs"]
mod real;
#[cfg(not(miri))]
#[path = "hmm/region.rs"]
mod region;

/// Each test with devices of either kind.
macro_rules! variants {
    ($($module:ident: $($test:ident)*;)*) => {
        mod device_private {
            $($(#[test] fn $test() { super::$module::$test(crate::common::hmm_soft::Variant::Private); })*)*
        }
        mod device_coherent {
            $($(#[test] fn $test() { super::$module::$test(crate::common::hmm_soft::Variant::Coherent); })*)*
        }
    };
}

variants! {
    access: open_close anon_read anon_read_prot anon_write anon_write_prot anon_write_child anon_write_child_shared anon_write_huge
        anon_read_multiple anon_teardown mixedmap compound snapshot double_map;
    migrate: migrate migrate_fault migrate_release migrate_shared migrate_mixed migrate_multiple hmm_cow_in_device hmm_gup_test
        userfaultfd_read;
    exclusive: exclusive exclusive_mprotect exclusive_cow;
    huge: migrate_anon_huge_empty migrate_anon_huge_zero migrate_anon_huge_free migrate_anon_huge_fault migrate_partial_unmap_fault
        migrate_remap_fault migrate_anon_huge_err migrate_anon_huge_zero_err benchmark_thp_migration;
}

#[test]
fn many_threads_fault_on_one_device_page() {
    beyond::many_threads_fault_on_one_device_page();
}

#[test]
fn a_mixed_batch_with_a_page_of_several_mappings() {
    mixed::a_mixed_batch_with_a_page_of_several_mappings();
}

#[test]
fn sleepers_of_a_failed_migration_find_the_old_page() {
    beyond::sleepers_of_a_failed_migration_find_the_old_page();
}

#[test]
fn a_faulter_that_is_called_off_leaves_no_trace() {
    beyond::a_faulter_that_is_called_off_leaves_no_trace();
}

#[test]
fn called_off_while_the_page_is_released() {
    beyond::called_off_while_the_page_is_released();
}
