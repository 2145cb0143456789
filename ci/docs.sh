#!/usr/bin/env bash
# Proves: the documentation builds without a warning in every set of features, so no link in it is
# dead and nothing public is without a word; every link of the Markdown files leads to a file and a
# heading; tables have at most 6 columns and prose lines at most 100; the documentation shows the
# pictures that the repository shows; no folder has a smaller share of public functions with an
# example than it had.
# Costs: a minute and a half cold. `--write` puts the pictures into the documentation first;
# `--markdown` checks the Markdown files alone.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

# README and the guide name pictures, pages and the API by reference. No file stands beside a page
# of the documentation, so each reference is defined before, as the item or the picture itself.
pictures() {
    local name
    echo '[api]: crate::PageLock'
    for name in kernel vmm pager processes c; do echo "[in-$name]: crate::guide::$name"; done
    echo '[porting]: crate::porting'
    for name in states page fault killed contended; do
        printf '[%s]: data:image/svg+xml;base64,%s\n' "$name" "$(base64 --wrap=0 "docs/$name.svg")"
    done
}

[ "${1:-}" != --write ] || pictures >docs/pictures.md
pictures | cmp - docs/pictures.md || {
    echo "docs/pictures.md is not what docs/*.svg are: ci/docs.sh --write"
    exit 1
}
if command -v python3 >/dev/null; then
    python3 ci/markdown.py
else
    skipped "no python3, so links in Markdown files were not checked"
fi
[ "${1:-}" != --markdown ] || exit 0
for features in "" --no-default-features --all-features \
    "--no-default-features --features shared"; do
    # shellcheck disable=SC2086 # a list of words
    RUSTDOCFLAGS="-D warnings" cargo doc --quiet --no-deps -p pagelock $features
done
# As docs.rs builds it, with a nightly compiler, for the notes which feature an item needs.
RUSTC_BOOTSTRAP=1 RUSTDOCFLAGS="--cfg docsrs -D warnings" CARGO_TARGET_DIR=$TARGET/docsrs \
    cargo doc --quiet --no-deps -p pagelock --all-features
RUSTDOCFLAGS="-D warnings" \
    cargo doc --quiet --no-deps --all-features -p pagelock-soft -p pagelock-vmm

# examples PACKAGE FOLDER=SHARE...: by rustdoc's JSON, which is unstable.
examples() {
    RUSTC_BOOTSTRAP=1 cargo rustdoc --quiet --all-features -p "$1" -- \
        -Z unstable-options --output-format json
    python3 ci/examples.py "${@:2}" <"$TARGET/doc/${1//-/_}.json"
}
if command -v python3 >/dev/null; then
    examples pagelock src/=100 src/mm/=100 src/shared/=100
    examples pagelock-vmm vmm/=99
else
    skipped "no python3, so examples were not counted"
fi
