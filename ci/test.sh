#!/usr/bin/env bash
# Proves: the tests and the examples in the documentation pass, with the default features and with
# all of them.
# Costs: about 3 minutes cold, most of it compiling.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

cargo test
cargo test --all-features
