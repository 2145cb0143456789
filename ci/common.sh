# What the scripts beside this one share. Sourced, not run.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

TARGET=${CARGO_TARGET_DIR:-$PWD/target}

# skipped WHY: says what could not be done here. Nothing has failed by it, and nothing is proved either; so it also goes into the file
# that PAGELOCK_SKIPS names, if any, for the summary of .ci/run.
skipped() {
    printf '\n*** SKIPPED: %s\n\n' "$*"
    [ -z "${PAGELOCK_SKIPS:-}" ] || printf '%s\n' "$*" >>"$PAGELOCK_SKIPS"
}

# install COMMAND PACKAGE...: Debian packages, if a command of theirs is missing. Tries twice, because mirrors hiccup; false if that is in vain.
install() {
    command -v "$1" >/dev/null && return
    command -v apt-get >/dev/null || return
    local sudo=
    [ "$(id -u)" = 0 ] || sudo='sudo -n'
    local attempt
    for attempt in 1 2; do
        if { $sudo apt-get update -qq || true; } && $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${@:2}" >/dev/null; then
            command -v "$1" >/dev/null
            return
        fi
        sleep $((attempt * 5))
    done
    return 1
}

# scratch: a temporary folder that goes when the script ends. In $SCRATCH.
scratch() {
    SCRATCH=$(mktemp -d)
    trap 'rm -rf "$SCRATCH"' EXIT
}

# core_alone DIR: the copy of the tree that DIR holds has no workspace members beside the core and what its tests depend on.
core_alone() {
    sed -i -e '/^members = \[$/,/^]$/d' -e '/^default-members = /d' "$1/Cargo.toml"
}

# checker KIND TREE [FEATURES]: compiles tests/KIND of TREE under the model checker KIND (loom, shuttle), optimised but with the
# crate's own assertions, and prints where the program is. Apart from the ordinary build, which has other flags.
checker() {
    local json
    json=$(cd "$2" && RUSTFLAGS="--cfg pagelock_$1 ${RUSTFLAGS:-}" CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS=true CARGO_TARGET_DIR=$TARGET/$1 \
        cargo test --quiet --release --features "stats,_$1" --test "$1" --no-run --message-format=json)
    sed -n "/\"name\":\"$1\"/s/.*\"executable\":\"\([^\"]*\)\".*/\1/p" <<<"$json"
}

# cargo_fuzz: that cargo-fuzz is there, in the version that is used.
cargo_fuzz() {
    local version=0.13.2
    if [ "$(cargo fuzz --version 2>/dev/null)" != "cargo-fuzz $version" ]; then
        cargo install --locked --quiet "cargo-fuzz@$version" >&2
    fi
}

# fuzzer COMMAND TARGET ARGUMENT...: cargo-fuzz's command for a target, without a sanitizer, which
# works on the stable toolchain. A peer may make assertions fail, so `segment` is built as it ships.
fuzzer() {
    local command=$1 target=$2 as=()
    shift 2
    local -x CARGO_TARGET_DIR=$TARGET/fuzz RUSTFLAGS="--cfg pagelock_delay ${RUSTFLAGS:-}"
    if [ "$target" = segment ]; then
        as=(-O)
        local -x CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS=false CARGO_PROFILE_RELEASE_OVERFLOW_CHECKS=false
    fi
    cargo fuzz "$command" -s "${PAGELOCK_SANITIZER:-none}" "${as[@]}" "$target" "$@"
}

# with_bugs KIND...: compiles test programs in which PAGELOCK_BUG chooses a bug or a weakened ordering: loom, shuttle, lib, fuzz (all
# targets), or files of tests/. They are made from a copy of the tree that ci/weave.py has put all of them into. Prints `KIND<tab>PATH`
# lines, for fuzz `fuzz:TARGET<tab>PATH`.
with_bugs() {
    local copy=$TARGET/seeded/tree
    python3 ci/weave.py copy "$copy"
    programs_of "$copy" "$@"
}

# bugs_alone [NAME...]: as with_bugs, for the bugs that are built by themselves, each with what its finders need. Prints `BUG/KIND<tab>PATH` lines.
bugs_alone() {
    local bug finders copy
    while read -r bug finders; do
        copy=$TARGET/seeded/alone/$bug
        python3 ci/weave.py copy "$copy" "$bug"
        # shellcheck disable=SC2086 # a list of words
        programs_of "$copy" $(tr ' ' '\n' <<<"$finders" | cut -d: -f1 | sort -u) | sed "s,^,$bug/,"
    done < <(python3 ci/weave.py alone "$@")
}

# programs_of COPY KIND...
programs_of() {
    local copy=$1 kind ordinary=() json
    shift
    for kind in "$@"; do
        case $kind in
            loom | shuttle) printf '%s\t%s\n' "$kind" "$(checker "$kind" "$copy")" ;;
            fuzz) fuzz_programs "$copy" ;;
            steps) printf '%s\t%s\n' "$kind" "$(stepped "$copy" "$kind")" ;;
            lib) ordinary+=(--lib) ;;
            *) ordinary+=(--test "$kind") ;;
        esac
    done
    if [ "${#ordinary[@]}" != 0 ]; then
        json=$(cd "$copy" && CARGO_TARGET_DIR=$TARGET cargo test --quiet --features stats,shared --no-run --message-format=json "${ordinary[@]}")
        sed -n 's/.*"kind":\["\(lib\|test\)"\].*"name":"\([^"]*\)".*"executable":"\([^"]*\)".*/\2\t\3/p' <<<"$json" | sed 's/^pagelock\t/lib\t/'
    fi
}

# stepped TREE TEST: compiles that file of tests with atomics that call a hook at each step, and prints where the program is.
stepped() {
    local json
    json=$(cd "$1" && RUSTFLAGS="--cfg pagelock_delay ${RUSTFLAGS:-}" CARGO_TARGET_DIR=$TARGET/delay \
        cargo test --quiet --features shared --test "$2" --no-run --message-format=json)
    sed -n "/\"name\":\"$2\"/s/.*\"executable\":\"\([^\"]*\)\".*/\1/p" <<<"$json"
}

fuzz_programs() {
    local copy=$1 target
    cargo_fuzz
    mkdir -p "$copy/built"
    for target in "$copy"/fuzz/fuzz_targets/*.rs; do
        target=$(basename "$target" .rs)
        (cd "$copy" && fuzzer build "$target" >&2)
        # The next build of the tree itself goes to the same place.
        cp "$TARGET/fuzz"/*/release/"$target" "$copy/built/"
        printf 'fuzz:%s\t%s\n' "$target" "$copy/built/$target"
    done
}
