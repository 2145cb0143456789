#!/usr/bin/env bash
# Proves: the core needs neither std nor an allocator nor a C library. A program linked without them
# (ci/no_std_proof) locks, waits, pins and migrates pages on a platform of its own, and its exit
# status says that this worked.
# Costs: 15 seconds cold. x86-64 Linux only; elsewhere it says so.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

if [ "$(uname -sm)" != "Linux x86_64" ]; then
    skipped "the program's entry and exit are for x86-64 Linux, and this is $(uname -sm)"
    exit 0
fi
scratch
build() {
    CARGO_TARGET_DIR=$SCRATCH \
        cargo build --locked --release --manifest-path ci/no_std_proof/Cargo.toml "$@"
}
build
program=$SCRATCH/release/no_std_proof
if command -v nm readelf >/dev/null; then
    undefined=$(nm -u "$program")
    [ -z "$undefined" ] || { printf 'it asks for: %s\n' "$undefined"; exit 1; }
    ! readelf -d "$program" | grep -q NEEDED || { echo 'it asks for libraries'; exit 1; }
fi
status=0
"$program" || status=$?
[ "$status" = 0 ] || { echo "check number $status failed (255: it panicked)"; exit 1; }

# The control: the same program must not build when the crate is asked for std.
if cargo_says=$(build --features std 2>&1); then
    echo "it builds with std as well, so building proves nothing"
    exit 1
fi
grep -q 'panic_impl' <<<"$cargo_says" || {
    printf 'the control failed for another reason:\n%s\n' "$cargo_says"
    exit 1
}
echo "links without std, alloc and libc, and works"
