//! The page lock for programs in C and C++: what `pagelock.h` declares.
//!
//! The header is made from these sources by cbindgen and lies in `include/`; `ci/capi.sh` checks
//! that it is up to date. Functions, stages and answers are those of the Rust crate, whose
//! documentation explains them; here stands what C adds:
//!
//! * A page is a [`pagelock_page`], eight bytes, valid when zeroed. A [stage](types) is a struct of
//!   one pointer, and a type of its own for each, so that a compiler sees what may be called.
//! * No guard unlocks by itself. A page that is not released stays locked.
//! * The page-table lock is a function and its argument, called exactly once, before any sleep.
//! * The [platform](platform) is the operating system, or a table of functions that is set once.
//!
//! No std and no allocator. Nothing unwinds into the caller: a panic, which only the library with
//! assertions can come to, ends the program.
//!
//! # What every function assumes
//!
//! A pointer to a page, a switch, limits or an answer is not null unless the function says so, is
//! aligned, and points to what its type says for as long as the call takes. A page is used by this
//! library's functions alone, from any threads. A stage was given by one of them and not been given
//! back. Every `unsafe` below rests on that, and says what it needs besides.

#![no_std]
#![allow(non_camel_case_types)] // The names are C's.

// In the order of the header.
mod types;

mod error;

mod limits;

mod lock;

mod wait;

mod counts;

mod migration;

mod death;

mod platform;
mod sleep;

mod word;

#[cfg(segments)]
mod segment;

#[cfg(feature = "panic-handler")]
mod panic;

/// The version of this header: major, minor, patch, eight bits each.
pub const PAGELOCK_VERSION: u32 = 0x0000_0100;

const _: () = {
    let parts = [
        env!("CARGO_PKG_VERSION_MAJOR"),
        env!("CARGO_PKG_VERSION_MINOR"),
        env!("CARGO_PKG_VERSION_PATCH"),
    ];
    let mut version = 0;
    let mut i = 0;
    while i < parts.len() {
        let part = parts[i].as_bytes();
        assert!(part.len() == 1, "write a loop here");
        version = version << 8 | (part[0] - b'0') as u32;
        i += 1;
    }
    assert!(version == PAGELOCK_VERSION);
};

/// The version of the library, to be compared with PAGELOCK_VERSION of the header: while the major
/// version is 0, major and minor have to be the same.
#[unsafe(no_mangle)]
pub extern "C" fn pagelock_version() -> u32 {
    PAGELOCK_VERSION
}
