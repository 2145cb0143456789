//! Linux's own tests of references, migrations and reverse mappings, re-expressed.

#![cfg(all(feature = "std", not(pagelock_loom)))]

#[macro_use]
#[path = "../common/mod.rs"]
mod common;

mod cow;
mod gup;
mod gup_longterm;
mod migration;
#[cfg(all(target_os = "linux", not(miri)))]
mod migration_real;
#[cfg(all(target_os = "linux", not(miri)))]
#[path = "../common/real.rs"]
mod real;
mod rmap;
