#!/usr/bin/env bash
# Proves: the packed crate is complete (it builds from the archive alone) and holds what it should and nothing else.
# Costs: half a minute. Packs what is committed; `--allow-dirty` as the argument packs the working tree.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

cargo package --quiet --list "$@"
cargo package "$@"
