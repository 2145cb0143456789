#!/usr/bin/env bash
# Proves: the documentation builds without a warning: no dead link, nothing public without a word; the
# front page shows the picture that the repository shows.
# Costs: half a minute cold. `--write` puts the picture into the front page first.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

# README names the picture by reference; the front page of the library defines the reference before
# README does, as the picture itself, since no file stands beside a page of the documentation.
picture() {
    printf '[states]: data:image/svg+xml;base64,%s\n' "$(base64 --wrap=0 docs/states.svg)"
}

[ "${1:-}" != --write ] || picture >docs/states.md
picture | cmp - docs/states.md || { echo "docs/states.md is not docs/states.svg: ci/docs.sh --write"; exit 1; }
RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --all-features
