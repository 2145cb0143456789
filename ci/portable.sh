#!/usr/bin/env bash
# Proves: the library compiles without Linux: as on the systems that `atomic-wait` serves, as
# without a system, and with feature `spin` as on a system that it does not know. Without that
# feature the error there says why. Nothing of this runs: in a copy, the conditions in the source
# are turned so that this machine takes the other branches.
# Costs: 15 s.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
scratch

[ "$(uname -s)" = Linux ] || {
    skipped "this is not Linux, so the ordinary build has taken the other branches"
    exit 0
}

# compiles OPTION...
compiles() {
    CARGO_TARGET_DIR="$TARGET/portable" \
        cargo check --quiet --lib --manifest-path "$SCRATCH/Cargo.toml" "$@"
}

# check NAME [FEATURE]
check() {
    local name=$1 spin=${2:-} features
    for features in "--no-default-features --features=$spin" \
        "--features=alloc,std,lock_api,stats,$spin"; do
        echo "$name, $features"
        # shellcheck disable=SC2086 # words
        RUSTFLAGS="-D warnings -A unexpected_cfgs" compiles $features
    done
}

cp -r Cargo.toml Cargo.lock README.md docs src soft benches examples tests "$SCRATCH"
core_alone "$SCRATCH"
# elsewhere OS REPLACEMENT: in all conditions of the copy.
elsewhere() {
    find "$SCRATCH/src" -name '*.rs' \
        -exec sed -i "s/target_os = \"$1\"/target_os = \"$2\"/g" {} +
}
elsewhere linux elsewhere
check "an unknown system, with leave to spin" spin
if said=$(compiles 2>&1); then
    echo "it compiles for a system that it does not know"
    exit 1
fi
grep -q 'does not know how to sleep' <<<"$said" || {
    printf 'it fails for another reason:\n%s\n' "$said"
    exit 1
}
sed -i 's/target_os = "none"/target_os = "linux"/' "$SCRATCH/src/futex/os.rs"
check "no operating system"
elsewhere freebsd linux
check "atomic-wait"
