#!/usr/bin/env bash
# Proves: the packed crate is complete (it builds from the archive alone) and holds what it should
# and nothing else; the lock file of a package that depends on it has at most 14 packages; the API
# names no type or trait of another crate without re-exporting it.
# Costs: half a minute. Packs what is committed; `--allow-dirty` as the argument packs the working
# tree.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

cargo package --quiet --package pagelock --list "$@"
cargo package --package pagelock "$@"

scratch
cargo init --quiet --vcs none --name consumer "$SCRATCH/consumer"
printf 'pagelock = { path = "%s" }\n[workspace]\n' "$PWD" >>"$SCRATCH/consumer/Cargo.toml"
(cd "$SCRATCH/consumer" && cargo generate-lockfile --quiet)
packages=$(grep -c '^\[\[package\]\]' "$SCRATCH/consumer/Cargo.lock")
echo "$packages packages in a consumer's lock file"
[ "$packages" -le 14 ]

# rustdoc's JSON is not stable; without this variable a stable compiler does not write it.
RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR=$TARGET/public cargo rustdoc --quiet --package pagelock --lib \
    --all-features -- -Z unstable-options --output-format json
python3 ci/public.py "$TARGET/public/doc/pagelock.json"
