#!/usr/bin/env bash
# Proves: the memory manager in software, pagelock-soft, has no warnings by itself, its example
# runs, and its documentation builds. The core's tests of mm check what it does.
# Costs: half a minute cold.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

cargo fmt --check --package pagelock-soft
cargo clippy --quiet --package pagelock-soft --all-targets -- -D warnings
cargo test --quiet --package pagelock-soft
RUSTDOCFLAGS="-D warnings" cargo doc --quiet --no-deps --package pagelock-soft
