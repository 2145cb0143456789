#!/usr/bin/env bash
# The library compiles where there is no Linux: as on the systems that `atomic-wait` serves, as where there is none, and with feature
# `spin` as on one that it does not know; without that feature it says there why it does not.
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
    local name=$1 spin=${2:-} features
    for features in "--no-default-features --features=$spin" "--features=alloc,std,lock_api,stats,$spin"; do
        echo "$name, $features"
        # shellcheck disable=SC2086 # words
        RUSTFLAGS="-D warnings -A unexpected_cfgs" CARGO_TARGET_DIR="$TARGET/portable" \
            cargo check --quiet --lib --manifest-path "$SCRATCH/Cargo.toml" $features
    done
}

cp -r Cargo.toml Cargo.lock README.md docs src soft benches examples tests "$SCRATCH"
core_alone "$SCRATCH"
find "$SCRATCH/src" -name '*.rs' -exec sed -i 's/target_os = "linux"/target_os = "elsewhere"/g' {} +
check "an unknown system, with leave to spin" spin
if said=$(CARGO_TARGET_DIR="$TARGET/portable" cargo check --quiet --lib --manifest-path "$SCRATCH/Cargo.toml" 2>&1); then
    echo "it compiles for a system that it does not know"
    exit 1
fi
grep -q 'does not know how to sleep' <<<"$said" || { printf 'it fails for another reason:\n%s\n' "$said"; exit 1; }
sed -i 's/target_os = "none"/target_os = "linux"/' "$SCRATCH/src/futex/os.rs"
check "no operating system"
find "$SCRATCH/src" -name '*.rs' -exec sed -i 's/target_os = "freebsd"/target_os = "linux"/g' {} +
check "atomic-wait"
