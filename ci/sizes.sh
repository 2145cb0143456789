#!/usr/bin/env bash
# Proves: no group of the library's functions is more than a tenth larger than docs/sizes.md says;
# what that page says cannot panic does not; the rest has no panic but bounds checks, and no more
# than it says. Programs of ci/sizes are linked, and not run.
# Costs: 1 minute. x86-64 Linux only.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

if [ "$(uname -sm)" != "Linux x86_64" ]; then
    skipped "the sizes are those on x86-64 Linux, and this is $(uname -sm)"
    exit 0
fi
export CARGO_TARGET_DIR=$TARGET/sizes
program=$CARGO_TARGET_DIR/release/sizes
failed=0

# build LEVEL FEATURES
build() {
    CARGO_PROFILE_RELEASE_OPT_LEVEL=$1 RUSTFLAGS="-D warnings" \
        cargo build --quiet --locked --release --manifest-path ci/sizes/Cargo.toml --features "$2"
}

# group NAME LEVEL BYTES
group() {
    local bytes
    build "$2" "$1"
    bytes=$(size -A "$program" |
        awk '/^\.(text|rodata|data\.rel\.ro)/ { sum += $2 } END { print sum }')
    printf '%-10s opt-level %s: %6d bytes, said to be %d\n' "$1" "$2" "$bytes" "$3"
    if [ $((bytes * 10)) -gt $(($3 * 11)) ]; then
        echo "too large"
        failed=1
    fi
}

groups=0
while read -r name small fast; do
    groups=$((groups + 1))
    group "$name" s "$small"
    group "$name" 3 "$fast"
done < <(sed -n 's/^| `\([a-z_]*\)` |.*| \([0-9]*\) | \([0-9]*\) |$/\1 \2 \3/p' docs/sizes.md)
[ "$groups" -ge 7 ] || { echo "docs/sizes.md has no table of sizes"; exit 1; }

checks=$(sed -n 's/^In a migration .* no more than \([0-9]*\) bounds checks.*/\1/p' docs/sizes.md)
for level in s 3; do
    for name in lock core whole drain resolve; do
        build "$level" "$name,no_panic" || {
            echo "a panic can be reached in $name (opt-level $level)"
            failed=1
        }
    done
    said=$CARGO_TARGET_DIR/said
    if build "$level" lock,no_panic,panics 2>"$said" ||
        ! grep -q a_panic_can_be_reached "$said"; then
        echo "a panic that can be reached is not noticed"
        failed=1
    fi
    # Calls of what panics, by kind.
    build "$level" all
    calls=$(objdump -d --no-show-raw-insn "$program" |
        sed -nE 's/.*call.*<([^+>]*(panic|fail|index)[^+>]*)>/\1/p')
    while read -r function; do
        case $function in
            *panic_bounds_check* | *slice_index_fail* | *slice_*_index_*) ;;
            # These are called by those.
            *9panicking9panic_fmt* | *rust_begin_unwind*) ;;
            *) echo "another kind of panic (opt-level $level): $function"; failed=1 ;;
        esac
    done <<<"$calls"
    found=$(grep -c 'bounds_check\|index' <<<"$calls")
    printf 'opt-level %s: %d bounds checks in migrations\n' "$level" "$found"
    [ "$found" -le "$checks" ] || { echo "docs/sizes.md says no more than $checks"; failed=1; }
done
exit "$failed"
