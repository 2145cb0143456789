#!/usr/bin/env bash
# Proves: the public API of the library has changed since the last release only as far as its
# version says (cargo-semver-checks). Says SKIPPED if nothing was released, or if the tool cannot be
# had.
# Costs: 2 minutes; 10 more to compile the tool. Not in .ci/run: before a release.
#
#   ci/semver.sh [REV]    compares with REV; the latest tag `v*` by default
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

VERSION=0.51.0

baseline=${1:-$(git describe --tags --abbrev=0 --match 'v*' 2>/dev/null || true)}
if [ -z "$baseline" ]; then
    skipped "there is no tag of a release, so there was nothing to compare the API with"
    exit 0
fi
if [ "$(cargo semver-checks --version 2>/dev/null)" != "cargo-semver-checks $VERSION" ] &&
    ! cargo install --locked --quiet "cargo-semver-checks@$VERSION"; then
    skipped "cargo-semver-checks $VERSION cannot be had, so the API was not compared"
    exit 0
fi
# Not `pagelock::sync`, which is hidden, nor the model checkers' features.
cargo semver-checks --package pagelock --baseline-rev "$baseline" \
    --only-explicit-features --features std,lock_api,shared,stats
