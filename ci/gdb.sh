#!/usr/bin/env bash
# Proves: gdb shows a page, whatever its state, in the words of `{:?}`, with the script that the
# crate puts into programs with debug information; and the script is in there.
# Costs: seconds warm.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

install gdb gdb || { skipped "there is no gdb"; exit 0; }
said=$(cargo test --quiet --test gdb -- --nocapture)
printf '%s\n' "$said"
! grep -q SKIPPED <<<"$said" || { skipped "$(grep SKIPPED <<<"$said")"; exit 0; }

# Of a program that nobody has named a script for, and that gdb is told to trust.
program=$(cargo test --quiet --test gdb --no-run --message-format=json |
    sed -n 's/.*"name":"gdb".*"executable":"\([^"]*\)".*/\1/p')
gdb --batch --nx -iex 'set auto-load safe-path /' -ex 'help pagelock' "$program" |
    grep '^pagelock ADDRESS'
