#!/usr/bin/env bash
# Proves: programs in C11 and C++17 use the page lock (capi/). pagelock.h is what cbindgen makes of
# the sources; the README's fault handler in C, 8 threads, adds up, on the operating system and on a
# platform of functions; every function does what the header says; a C and a Rust process share
# pages; in seats of a segment, each is killed and the other ends what it had begun; a hostile
# segment is refused, or used without harm; a program without libc links and runs; nothing can
# panic; the optimised library is quiet about broken contracts, and the one with assertions is not;
# address and undefined-behaviour sanitizers are content with the C side; the README's first program
# runs; post-copy brings every page in once.
# Costs: 1 minute warm; 3 cold, most of it cbindgen.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
scratch

[ "$(uname -s)" = Linux ] || {
    skipped "the C tests are for Linux"
    exit 0
}
install cc gcc && install make make || {
    skipped "there is no C compiler"
    exit 0
}

LIB=$TARGET/capi-lib OUT=$SCRATCH
C=(cc -std=c11 -D_GNU_SOURCE -O1 -g -Wall -Wextra -Werror -Icapi/include -pthread)
say() { printf -- '-- %s\n' "$*"; }
# fails WHY COMMAND...: that it fails, and says WHY.
fails() {
    local why=$1 said
    shift
    if said=$("$@" 2>&1); then echo "this ought to fail ($why): $*"; exit 1; fi
    grep -q -- "$why" <<<"$said" || {
        printf 'it fails for another reason than %s:\n%s\n' "$why" "$said"
        exit 1
    }
}
# ends STATUS COMMAND...: that it ends so.
ends() {
    local expected=$1 status
    shift
    status=$(bash -c 'ulimit -c 0; "$@" >/dev/null; echo $?' - "$@" 2>/dev/null)
    [ "$status" = "$expected" ] || {
        echo "exit status $status, not $expected: $*"
        exit 1
    }
}

say "warnings"
cargo fmt --check -p pagelock-capi
cargo clippy --quiet -p pagelock-capi --all-targets -- -D warnings
cargo clippy --quiet -p pagelock-capi --no-default-features -- -D warnings
cargo clippy --quiet -p pagelock-capi --no-default-features --features os --all-targets -- \
    -D warnings

say "pagelock.h"
if [ "$("$TARGET/tools/bin/cbindgen" --version 2>/dev/null)" = "cbindgen 0.29.0" ] ||
    CARGO_TARGET_DIR=$TARGET/cbindgen \
        cargo install --locked --quiet --root "$TARGET/tools" cbindgen@0.29.0; then
    CBINDGEN=$TARGET/tools/bin/cbindgen bash capi/header.sh "$OUT/pagelock.h"
    diff -u capi/include/pagelock.h "$OUT/pagelock.h" || {
        echo "pagelock.h is out of date: make -C capi header"
        exit 1
    }
else
    skipped "cbindgen cannot be had, so pagelock.h was not made anew"
fi

say "the libraries"
for kind in '' FREESTANDING=1 CHECKED=1; do
    make --silent -C capi "BUILD=$LIB" $kind
done
# What of this crate is in a library, core and the compiler's own functions aside.
ours() {
    local library=$1
    mkdir -p "$OUT/objects"
    rm -f "$OUT/objects"/*
    # shellcheck disable=SC2046 # a list of words
    ar x --output "$OUT/objects" "$library" $(ar t "$library" | grep '^pagelock')
    ls "$OUT/objects"/*.o
}
for kind in hosted freestanding; do
    object=$(ours "$LIB/$kind/libpagelock.a")
    ! nm "$object" | grep -E 'panic|unwrap_failed|expect_failed' || {
        echo "something in the $kind library can panic"
        exit 1
    }
    # shellcheck disable=SC2046,SC2183 # two words
    printf '%s: %s bytes of code and constants, %s of tables\n' "$kind" \
        $(size "$object" | awk 'NR == 2 { print $1, $2 + $3 }')
done
# linked LIBRARY PATTERN: the bytes of code and constants that the functions that match add to a
# program.
linked() {
    local functions nothing
    functions=$(nm --defined-only "$1" 2>/dev/null |
        awk -v of="$2" '$2 == "T" && $3 ~ of { print "-Wl,-u," $3 }' | sort -u)
    echo 'int main(void) { return 0; }' >"$OUT/nothing.c"
    cc -O2 "$OUT/nothing.c" -o "$OUT/nothing"
    nothing=$(size "$OUT/nothing" | awk 'NR == 2 { print $1 }')
    # shellcheck disable=SC2086 # words
    cc -O2 "$OUT/nothing.c" $functions "$1" -Wl,--gc-sections -o "$OUT/linked"
    size "$OUT/linked" | awk -v nothing="$nothing" 'NR == 2 { print $1 - nothing }'
}
printf 'each function linked: hosted %s bytes, without segments %s, freestanding %s\n' \
    "$(linked "$LIB/hosted/libpagelock.a" '^pagelock_')" \
    "$(linked "$LIB/hosted/libpagelock.a" '^pagelock_([^s]|s[^e]|set)')" \
    "$(linked "$LIB/freestanding/libpagelock.a" '^pagelock_')"
nm "$(ours "$LIB/hosted-checked/libpagelock.a")" | grep panic >/dev/null || {
    echo "the check for panics sees none in the library with assertions"
    exit 1
}
undefined=$(nm -u "$(ours "$LIB/freestanding/libpagelock.a")")
[ -z "$undefined" ] || { printf 'the freestanding library asks for: %s\n' "$undefined"; exit 1; }

say "C"
# c NAME OPTION...: compiles and runs tests/NAME.c.
c() {
    local name=$1
    shift
    "${C[@]}" "$@" "capi/tests/$name.c" "$LIB/hosted/libpagelock.a" -o "$OUT/$name"
}
kinds=('')
if echo 'int main(void) { return 0; }' |
    "${C[@]}" -fsanitize=address,undefined -xc - -o "$OUT/sane" 2>/dev/null; then
    kinds+=('-fsanitize=address,undefined -fno-sanitize-recover=all')
else
    skipped "the C compiler has no sanitizers"
fi
cargo build --quiet --release -p pagelock-capi --example partner --example peer
for kind in "${kinds[@]}"; do
    echo "${kind:-optimised}"
    # shellcheck disable=SC2086 # words
    c contract $kind
    "$OUT/contract"
    # shellcheck disable=SC2086
    c handler $kind
    "$OUT/handler"
    # shellcheck disable=SC2086
    c handler $kind -DCALLBACKS
    "$OUT/handler"
    # shellcheck disable=SC2086
    c memfd $kind
    "$OUT/memfd" "$TARGET/release/examples/partner"
    # shellcheck disable=SC2086
    c segment $kind
    "$OUT/segment"
    # shellcheck disable=SC2086
    c peers $kind
    "$OUT/peers" "$TARGET/release/examples/peer"
    # shellcheck disable=SC2086
    c hostile $kind
    "$OUT/hostile"
done

say "controls: faults that the tests see"
c handler -DCONTROL
ends 134 "$OUT/handler"
ends 142 "$OUT/memfd" "$TARGET/release/examples/partner" alone
ends 134 "$OUT/peers" "$TARGET/release/examples/peer" alone
ends 134 "$OUT/peers" "$TARGET/release/examples/peer" careless
c hostile
ends 134 "$OUT/hostile" control

say "C++"
if install c++ g++; then
    CXX=(c++ -std=c++17 -Wall -Wextra -Werror -Icapi/include -pthread)
    "${CXX[@]}" capi/tests/header.cpp "$LIB/hosted/libpagelock.a" -o "$OUT/header"
    "$OUT/header"
    fails 'noexcept' "${CXX[@]}" -fsyntax-only -DMISTAKE=1 capi/tests/header.cpp
    fails 'pagelock_frozen' "${CXX[@]}" -fsyntax-only -DMISTAKE=2 capi/tests/header.cpp
    fails 'nodiscard' "${CXX[@]}" -fsyntax-only -DMISTAKE=3 capi/tests/header.cpp
    fails 'pagelock_wake' "${CXX[@]}" -fsyntax-only -DMISTAKE=4 capi/tests/header.cpp
    fails 'const pagelock_page' "${CXX[@]}" -fsyntax-only -DMISTAKE=5 capi/tests/header.cpp
    fails 'pagelock_seat_frozen' "${CXX[@]}" -fsyntax-only -DMISTAKE=6 capi/tests/header.cpp
    fails 'noexcept' "${CXX[@]}" -fsyntax-only -DMISTAKE=7 capi/tests/header.cpp
else
    skipped "there is no C++ compiler"
fi

say "without libc"
if [ "$(uname -m)" = x86_64 ]; then
    cc -std=c11 -ffreestanding -nostdlib -static -O2 -Wall -Wextra -Werror -Wl,--gc-sections \
        -Icapi/include capi/tests/freestanding.c "$LIB/freestanding/libpagelock.a" \
        -o "$OUT/freestanding"
    undefined=$(nm -u "$OUT/freestanding")
    [ -z "$undefined" ] || { printf 'it asks for: %s\n' "$undefined"; exit 1; }
    status=0
    "$OUT/freestanding" || status=$?
    [ "$status" = 0 ] || { echo "check number $status of the program failed"; exit 1; }
else
    skipped "the freestanding program's start is written for x86-64"
fi

say "broken contracts"
"${C[@]}" -Wno-implicit-fallthrough capi/tests/broken.c "$LIB/hosted-checked/libpagelock.a" \
    -o "$OUT/broken"
"$OUT/broken" 0 >/dev/null
for contract in 1 2 3 4; do
    ends 134 "$OUT/broken" "$contract"
done

# And with all contracts kept nothing is asserted in vain.
for name in segment peers; do
    "${C[@]}" "capi/tests/$name.c" "$LIB/hosted-checked/libpagelock.a" -o "$OUT/$name-checked"
    "$OUT/$name-checked" "$TARGET/release/examples/peer" >/dev/null
done

say "the examples"
if install pkg-config pkg-config; then
    make --silent -C capi "BUILD=$LIB" install "PREFIX=$OUT/installed"
    PKG_CONFIG_PATH=$OUT/installed/lib/pkgconfig \
        make --silent -C examples/c "OUT=$OUT" CFLAGS='-O2 -Wall -Wextra -Werror'
    sed -n '/^```c$/,/^```$/{//!p;/^```$/q}' capi/README.md | diff - <(sed 1d examples/c/fault.c) || {
        echo "the first program of capi/README.md is not examples/c/fault.c"
        exit 1
    }
    "$OUT/fault"
    status=0
    "$OUT/postcopy" || status=$?
    if [ "$status" = 77 ]; then
        skipped "there is no userfaultfd here"
    elif [ "$status" != 0 ]; then
        exit 1
    fi
else
    skipped "there is no pkg-config"
fi
