# What the scripts beside this one share. Sourced, not run.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

TARGET=${CARGO_TARGET_DIR:-$PWD/target}

# skipped WHY: says what could not be done here. That is no failure, and proves nothing either; so
# it also goes into the file that PAGELOCK_SKIPS names, if any, for the summary of .ci/run.
skipped() {
    printf '\n*** SKIPPED: %s\n\n' "$*"
    [ -z "${PAGELOCK_SKIPS:-}" ] || printf '%s\n' "$*" >>"$PAGELOCK_SKIPS"
}

# install COMMAND PACKAGE...: Debian packages, if their COMMAND is missing. Tries twice, because
# mirrors hiccup; false if both fail.
install() {
    command -v "$1" >/dev/null && return
    command -v apt-get >/dev/null || return
    local sudo=
    [ "$(id -u)" = 0 ] || sudo='sudo -n'
    local attempt get=(env DEBIAN_FRONTEND=noninteractive apt-get -y -qq)
    for attempt in 1 2; do
        $sudo apt-get update -qq || true
        if $sudo "${get[@]}" install --no-install-recommends "${@:2}" >/dev/null; then
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

# core_alone DIR: removes from the copy of the tree in DIR all workspace members but the core and
# what its tests depend on.
core_alone() {
    sed -i -e '/^members = \[$/,/^]$/d' -e '/^default-members = /d' "$1/Cargo.toml"
}

# executable NAME: where the test program NAME is, out of cargo's messages on standard input.
executable() {
    sed -n "/\"name\":\"$1\"/s/.*\"executable\":\"\([^\"]*\)\".*/\1/p"
}

# checker KIND TREE: compiles tests/KIND of TREE under the model checker KIND (loom, shuttle),
# optimised but with the crate's own assertions, and prints where the program is. It has a target
# folder of its own, because the ordinary build has other flags.
checker() {
    (
        export RUSTFLAGS="--cfg pagelock_$1 ${RUSTFLAGS:-}" CARGO_TARGET_DIR=$TARGET/$1
        export CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS=true
        cd "$2"
        cargo test --quiet --release --features "stats,_$1" --test "$1" --no-run \
            --message-format=json | executable "$1"
    )
}

# cargo_fuzz: installs cargo-fuzz in the version that is used, if it is not there.
cargo_fuzz() {
    local version=0.13.2
    if [ "$(cargo fuzz --version 2>/dev/null)" != "cargo-fuzz $version" ]; then
        cargo install --locked --quiet "cargo-fuzz@$version" >&2
    fi
}

# fuzzer COMMAND TARGET ARGUMENT...: cargo-fuzz's command for a target. Without a sanitizer it runs
# on the stable toolchain. A peer may make assertions fail, so `segment` is built as it ships.
fuzzer() {
    local command=$1 target=$2 as=()
    shift 2
    local -x CARGO_TARGET_DIR=$TARGET/fuzz RUSTFLAGS="--cfg pagelock_delay ${RUSTFLAGS:-}"
    if [ "$target" = segment ]; then
        as=(-O)
        local -x CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS=false
        local -x CARGO_PROFILE_RELEASE_OVERFLOW_CHECKS=false
    fi
    cargo fuzz "$command" -s "${PAGELOCK_SANITIZER:-none}" "${as[@]}" "$target" "$@"
}

# with_bugs KIND...: compiles test programs in which PAGELOCK_BUG chooses a bug or a weakened
# ordering: loom, shuttle, lib, fuzz:TARGET, or files of tests/. They are made from a copy of the
# tree that ci/weave.py has put all of them into. Prints lines `KIND<tab>PATH`.
with_bugs() {
    local copy=$TARGET/seeded/tree
    python3 ci/weave.py copy "$copy"
    programs_of "$copy" "$@"
}

# bugs_alone [NAME...]: as with_bugs, for the bugs that are built by themselves, each with what its
# finders need. Prints lines `BUG/KIND<tab>PATH`.
bugs_alone() {
    local bug finders copy
    while read -r bug finders; do
        copy=$TARGET/seeded/alone/$bug
        python3 ci/weave.py copy "$copy" "$bug"
        # shellcheck disable=SC2046 # a list of words
        programs_of "$copy" $(tr ' ' '\n' <<<"$finders" | sed '/^fuzz:/!s/:.*//' | sort -u) |
            sed "s,^,$bug/,"
    done < <(python3 ci/weave.py alone "$@")
}

# programs_of COPY KIND...
programs_of() {
    local copy=$1 kind ordinary=()
    shift
    for kind in "$@"; do
        case $kind in
            loom | shuttle) printf '%s\t%s\n' "$kind" "$(checker "$kind" "$copy")" ;;
            fuzz:*) printf '%s\t%s\n' "$kind" "$(fuzz_program "$copy" "${kind#fuzz:}")" ;;
            steps) printf '%s\t%s\n' "$kind" "$(stepped "$copy" "$kind")" ;;
            lib) ordinary+=(--lib) ;;
            *) ordinary+=(--test "$kind") ;;
        esac
    done
    [ ${#ordinary[@]} = 0 ] || ordinary_programs "$copy" "${ordinary[@]}"
}

# ordinary_programs TREE OPTION...: unit tests and files of tests.
ordinary_programs() {
    (
        cd "$1"
        export CARGO_TARGET_DIR=$TARGET
        cargo test --quiet --features stats,shared,lock_api,tracing --no-run \
            --message-format=json "${@:2}"
    ) |
        grep -E '"kind":\["(lib|test)"\]' |
        sed -n 's/.*"name":"\([^"]*\)".*"executable":"\([^"]*\)".*/\1\t\2/p' |
        sed 's/^pagelock\t/lib\t/'
}

# stepped TREE TEST: compiles that file of tests with atomics that call a hook at each step, and
# prints where the program is.
stepped() {
    (
        export RUSTFLAGS="--cfg pagelock_delay ${RUSTFLAGS:-}" CARGO_TARGET_DIR=$TARGET/delay
        cd "$1"
        cargo test --quiet --features shared --test "$2" --no-run --message-format=json |
            executable "$2"
    )
}

# fuzz_program TREE TARGET: compiles that fuzz target, and prints where the program is.
fuzz_program() {
    cargo_fuzz
    mkdir -p "$1/built"
    (cd "$1" && fuzzer build "$2" >&2)
    # The next build of the tree itself goes to the same place.
    cp "$TARGET/fuzz"/*/release/"$2" "$1/built/"
    echo "$1/built/$2"
}
