#!/usr/bin/env bash
# Proves: formatted; each seeded bug fits the sources, and compiles; the lock files of all packages
# are up to date; no warning from the compiler or clippy with any set of features, nor, if it is
# installed, from shellcheck; the core builds without std.
# Costs: about 3 minutes cold (dev-dependencies), seconds warm.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

python3 ci/weave.py check
cargo fmt --check --all
# Packages that are no members of the workspace, each with a lock file of its own.
for apart in fuzz ci/no_std_proof ci/sizes examples/unikernel; do
    cargo fmt --check --manifest-path "$apart/Cargo.toml"
done
for manifest in Cargo.toml {fuzz,ci/no_std_proof,ci/sizes,examples/unikernel}/Cargo.toml; do
    cargo metadata --locked --quiet --format-version 1 --manifest-path "$manifest" >/dev/null || {
        echo "the lock file beside $manifest is not up to date"
        exit 1
    }
done
if command -v shellcheck >/dev/null; then
    # Not: `cd` without `|| exit`, because every script stops at a failure; commas in an array.
    shellcheck --severity=warning --shell=bash --exclude=SC2164,SC2054 \
        ci/*.sh .ci/run examples/unikernel/run.sh
else
    echo 'shellcheck is not installed, so the scripts were not checked by it'
fi
for features in '' alloc std std,lock_api std,stats lock_api,stats shared \
    owner tracing std,lock_api,shared,stats,tracing; do
    printf -- '-- clippy, features: %s\n' "${features:-none}"
    cargo clippy --quiet --all-targets --no-default-features --features "$features" -- -D warnings
done
printf -- '-- check, the library with every seeded bug\n'
python3 ci/weave.py copy "$TARGET/seeded/tree"
(
    cd "$TARGET/seeded/tree"
    CARGO_TARGET_DIR=$TARGET cargo check --quiet --lib --features stats,shared
)
printf -- '-- check, the library alone without features\n'
RUSTFLAGS="-D warnings" CARGO_TARGET_DIR="$TARGET/lint" \
    cargo check --quiet --package pagelock --lib --no-default-features
