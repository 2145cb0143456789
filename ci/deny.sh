#!/usr/bin/env bash
# Proves: every dependency has a licence that deny.toml allows, comes from the registry, and has no
# known advisory (cargo-deny). Says SKIPPED for what cannot be had: the tool, or the advisories.
# Costs: seconds; 10 minutes to compile the tool. Not in .ci/run: before a release, and in the
# workflow.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

VERSION=0.20.2

if [ "$(cargo deny --version 2>/dev/null)" != "cargo-deny $VERSION" ] &&
    ! cargo install --locked --quiet "cargo-deny@$VERSION"; then
    skipped "cargo-deny $VERSION cannot be had, so dependencies were not checked"
    exit 0
fi
cargo deny check bans licenses sources
cargo deny fetch 2>/dev/null || {
    skipped "the advisories cannot be fetched here, so dependencies were not compared with them"
    exit 0
}
cargo deny --offline check advisories
