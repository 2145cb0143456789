#!/usr/bin/env bash
# The library compiles where there is no Linux: once as on the systems that `atomic-wait` serves, once as where there is none.
#
# Their toolchains are not needed: in a copy, the conditions in the source are turned so that this machine takes the other branches. What
# those do when they run is not checked.
# Cost: 15 s.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
scratch

[ "$(uname -s)" = Linux ] || {
    skipped "this is not Linux, so the ordinary build has taken the other branches"
    exit 0
}

check() {
    local name=$1 features
    for features in --no-default-features --all-features; do
        echo "$name, $features"
        RUSTFLAGS="-D warnings -A unexpected_cfgs" CARGO_TARGET_DIR="$TARGET/portable" \
            cargo check --quiet --lib --manifest-path "$SCRATCH/Cargo.toml" "$features"
    done
}

cp -r Cargo.toml Cargo.lock README.md src soft benches examples tests "$SCRATCH"
core_alone "$SCRATCH"
find "$SCRATCH/src" -name '*.rs' -exec sed -i 's/target_os = "linux"/target_os = "elsewhere"/g' {} +
check "no operating system"
find "$SCRATCH/src" -name '*.rs' -exec sed -i 's/target_os = "freebsd"/target_os = "linux"/g' {} +
check "atomic-wait"
