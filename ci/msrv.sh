#!/usr/bin/env bash
# Proves: the library, the storm and the tests compile with the oldest compiler, the `rust-version`
# of Cargo.toml, so both commands of the README do; and no package that they need asks for a newer
# one.
# Costs: 2 minutes. Unpacks Debian's build of that compiler into a temporary folder; nothing is
# installed. Says so if it cannot be had.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

wanted=$(sed -n 's/^rust-version *= *"\(.*\)"/\1/p' Cargo.toml)
scratch

# A rustup toolchain of that version will do as well.
if command -v rustup >/dev/null && rustup toolchain list | grep -q "^$wanted"; then
    toolchain=$(rustup toolchain list | grep -m1 "^$wanted" | cut -d' ' -f1)
    rustc=$(rustup which --toolchain "$toolchain" rustc)
else
    fetch() {
        command -v apt-get >/dev/null && command -v dpkg >/dev/null || return
        apt-get update -qq || apt-get update -qq || true
        local version library=libstd-rust-web-$wanted llvm
        version=$(apt-cache madison rustc-web |
            awk -v w="$wanted." 'index($3, w) == 1 { print $3; exit }')
        [ -n "$version" ] || return
        llvm=$(apt-cache show "$library=$version" | grep -o -m1 'libllvm[0-9]*' || true)
        (
            cd "$SCRATCH" || return
            apt-get download -qq "rustc-web=$version" "libstd-rust-web-dev=$version" \
                "$library=$version" ${llvm:+"$llvm"}
            for deb in *.deb; do dpkg -x "$deb" rust; done
        )
    }
    if ! fetch && ! { sleep 5; fetch; }; then
        skipped "no compiler of version $wanted to be had, so \`rust-version\` was not checked"
        exit 0
    fi
    rustc=$SCRATCH/rust/usr/bin/rustc
    export LD_LIBRARY_PATH=$SCRATCH/rust/usr/lib/x86_64-linux-gnu
fi
"$rustc" --version
# old ARGUMENT...: cargo with that compiler.
old() { RUSTC=$rustc CARGO_TARGET_DIR=$SCRATCH/target cargo "$@"; }
for features in '' 'std,lock_api,stats' 'std,shared'; do
    old check --quiet --package pagelock --lib --no-default-features --features "$features"
done
# A package that asks for a newer compiler is named here; compiling shows the rest.
cargo metadata --locked --format-version 1 >"$SCRATCH/metadata"
python3 - "$wanted" "$SCRATCH/metadata" <<'END'
import json, sys

def version(text):
    return tuple(map(int, text.split(".")))[:2]

data = json.load(open(sys.argv[2]))
packages = {package["id"]: package for package in data["packages"]}
needs = {node["id"]: [dep["pkg"] for dep in node["deps"]] for node in data["resolve"]["nodes"]}
seen, left = set(), list(data["workspace_default_members"])
while left:
    one = left.pop()
    if one not in seen:
        seen.add(one)
        left += needs[one]
oldest = version(sys.argv[1])
newer = [p for p in map(packages.get, seen) if version(p["rust_version"] or "1.0") > oldest]
print(f"{len(seen)} packages for both commands")
lines = (f"{p['name']} {p['version']} asks for {p['rust_version']}" for p in newer)
sys.exit("\n".join(lines) or None)
END
old check --quiet --locked --example storm
old check --quiet --locked --tests
printf 'compiles with %s\n' "$wanted"
