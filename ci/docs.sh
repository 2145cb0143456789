#!/usr/bin/env bash
# Proves: the documentation builds without a warning: no dead link, nothing public without a word.
# Costs: half a minute cold.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --all-features
