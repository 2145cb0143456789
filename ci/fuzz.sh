#!/usr/bin/env bash
# Proves: no sequence of operations on one page, as far as a fuzzer gets in the time, tells the crate from a plain model of it.
# Costs: 2 to 3 minutes cold (cargo-fuzz and its library are compiled), then the time given. Argument: seconds (30).
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

FOR=${1:-30}
VERSION=0.13.2

if [ "$(cargo fuzz --version 2>/dev/null)" != "cargo-fuzz $VERSION" ]; then
    cargo install --locked --quiet "cargo-fuzz@$VERSION"
fi
scratch
mkdir -p "$SCRATCH/corpus"
# Without a sanitizer it runs on the stable toolchain. The corpus found is thrown away: what is worth keeping goes to fuzz/seeds.
CARGO_TARGET_DIR=$TARGET/fuzz cargo fuzz run -s none page "$SCRATCH/corpus" fuzz/seeds/page -- -max_total_time="$FOR" -max_len=512 -artifact_prefix="$SCRATCH/" || {
    for found in "$SCRATCH"/crash-*; do
        [ -e "$found" ] || continue
        printf 'the input that fails, base64: %s\n' "$(base64 -w0 "$found")"
    done
    exit 1
}
# cargo-fuzz makes these whether it needs them or not.
rmdir fuzz/artifacts/page fuzz/artifacts fuzz/corpus/page fuzz/corpus 2>/dev/null || true
