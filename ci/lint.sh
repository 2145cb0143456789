#!/usr/bin/env bash
# Proves: formatted; each seeded bug fits the sources; no warning from the compiler or clippy with any set of features; the core builds without std.
# Costs: about 3 minutes cold (dev-dependencies), seconds warm.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

python3 ci/weave.py check
cargo fmt --check --all
for apart in fuzz ci/no_std_proof ci/sizes; do
    cargo fmt --check --manifest-path "$apart/Cargo.toml"
done
for features in '' 'alloc' 'std' 'std,lock_api' 'std,stats' 'lock_api,stats' 'shared' 'owner' 'tracing' 'std,lock_api,shared,stats,tracing'; do
    printf -- '-- clippy, features: %s\n' "${features:-none}"
    cargo clippy --quiet --all-targets --no-default-features --features "$features" -- -D warnings
done
printf -- '-- check, the library alone without features\n'
RUSTFLAGS="-D warnings" CARGO_TARGET_DIR="$TARGET/lint" cargo check --quiet --package pagelock --lib --no-default-features
