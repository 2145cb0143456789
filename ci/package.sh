#!/usr/bin/env bash
# Proves: the packed crate is complete (it builds from the archive alone) and holds what it should
# and nothing else; the lock file of a package that depends on it has at most 14 packages.
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
