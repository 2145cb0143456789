#!/usr/bin/env bash
# Proves: the core needs neither std nor an allocator nor any C library: a program linked with none of them (ci/no_std_proof)
# locks, waits, pins and migrates pages on a platform of its own, and says so by its exit status.
# Costs: 15 seconds cold. x86-64 Linux only; elsewhere it says so.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

if [ "$(uname -sm)" != "Linux x86_64" ]; then
    skipped "the proof program's entry point and exit are written for x86-64 Linux, and this is $(uname -sm)"
    exit 0
fi
scratch
CARGO_TARGET_DIR=$SCRATCH cargo build --locked --release --manifest-path ci/no_std_proof/Cargo.toml
program=$SCRATCH/release/no_std_proof
if command -v nm readelf >/dev/null; then
    undefined=$(nm -u "$program")
    [ -z "$undefined" ] || { printf 'it asks for: %s\n' "$undefined"; exit 1; }
    ! readelf -d "$program" | grep -q NEEDED || { echo 'it asks for libraries'; exit 1; }
fi
status=0
"$program" || status=$?
[ "$status" = 0 ] || { echo "check number $status of the program failed (255: it panicked)"; exit 1; }

# The control: the same program must not build when the crate is asked for std.
if cargo_says=$(CARGO_TARGET_DIR=$SCRATCH cargo build --locked --release --features std --manifest-path ci/no_std_proof/Cargo.toml 2>&1); then
    echo "it builds with std as well, so building proves nothing"
    exit 1
fi
grep -q 'panic_impl' <<<"$cargo_says" || { printf 'the control failed for another reason:\n%s\n' "$cargo_says"; exit 1; }
echo "links without std, alloc and libc, and works"
