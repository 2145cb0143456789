//! One name for the systems whose futexes work between processes and have deadlines, and one for
//! those that have segments.

use std::env;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-check-cfg=cfg(futex_of_linux, segments)");
    let os = env::var("CARGO_CFG_TARGET_OS").unwrap_or_default();
    if env::var_os("CARGO_FEATURE_OS").is_some() && ["linux", "android"].contains(&os.as_str()) {
        println!("cargo:rustc-cfg=futex_of_linux");
    }
    if env::var_os("CARGO_FEATURE_SHARED").is_some() && os == "linux" {
        println!("cargo:rustc-cfg=segments");
    }
}
