//! Tells the model, which the tests share, that its operations are to be drawn from bytes.

fn main() {
    println!("cargo::rustc-check-cfg=cfg(pagelock_fuzz)");
    println!("cargo::rustc-check-cfg=cfg(pagelock_loom, pagelock_shuttle, pagelock_delay)");
    println!("cargo::rustc-cfg=pagelock_fuzz");
    println!("cargo::rerun-if-changed=build.rs");
}
