//! Links at 1 MiB, with nothing that is not in the program itself.

fn main() {
    let here = std::env::var("CARGO_MANIFEST_DIR").expect("cargo says where the manifest is");
    let script = format!(
        "-Wl,-T,{here}/link.ld,--gc-sections,--build-id=none,-z,max-page-size=4096,-z,norelro"
    );
    for arg in ["-nostartfiles", "-nostdlib", "-static", "-no-pie", script.as_str()] {
        println!("cargo:rustc-link-arg-bins={arg}");
    }
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=link.ld");
}
