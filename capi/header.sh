#!/usr/bin/env bash
# header.sh FILE: makes pagelock.h from the sources, by cbindgen ($CBINDGEN, or on the path).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
"${CBINDGEN:-cbindgen}" --quiet --config cbindgen.toml --output "$1" .
# cbindgen writes numbers in decimal and signed. They are masks.
while IFS= read -r line; do
    if [[ $line =~ ^(#define PAGELOCK_[A-Z_]+)\ ([0-9]+)$ ]]; then
        format='%s 0x%08xu\n'
        [[ $line != *_SHIFT* ]] || format='%s %du\n'
        # shellcheck disable=SC2059 # one of the two above
        printf "$format" "${BASH_REMATCH[1]}" "${BASH_REMATCH[2]}"
    else
        printf '%s\n' "$line"
    fi
done <"$1" >"$1.new"
mv "$1.new" "$1"
