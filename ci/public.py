#!/usr/bin/env python3
"""Checks that the public API names no type or trait of another crate that its users cannot name.

    public.py FILE      FILE is rustdoc's JSON of the library; called by ci/package.sh

Such an item, or its whole crate, is in a `pub use`. What std has is there without. Blanket
implementations of other crates' traits are theirs, and not looked at.
"""

import json
import sys

STD = ("core", "alloc", "std")
# These are in the API. If they are not found in it, this looks in the wrong places.
KNOWN = ("crossbeam_utils::cache_padded::CachePadded", "lock_api::mutex::Mutex")


def names(part):
    """The ids of all types and traits that a piece of a declaration names."""
    if isinstance(part, dict):
        if "id" in part and "path" in part:
            yield part["id"]
        for inner in part.values():
            yield from names(inner)
    elif isinstance(part, list):
        for inner in part:
            yield from names(inner)


def main():
    with open(sys.argv[1]) as f:
        library = json.load(f)
    crates = {int(i): crate["name"] for i, crate in library["external_crates"].items()}
    paths = {int(i): path for i, path in library["paths"].items()}
    exported, foreign = set(), {}
    for item in library["index"].values():
        (kind, inner), *_ = item["inner"].items()
        if kind == "use":
            exported.add(inner["id"])
        elif not (kind == "impl" and (inner["blanket_impl"] or inner["is_synthetic"])):
            for name in names(inner):
                if name in paths and crates.get(paths[name]["crate_id"], "std") not in STD:
                    foreign.setdefault(name, item["name"] or "an impl")
    full = {name: "::".join(paths[name]["path"]) for name in foreign}
    whole = {paths[i]["path"][0] for i in exported if i in paths and len(paths[i]["path"]) == 1}
    missing = sorted(set(KNOWN) - set(full.values()))
    if missing:
        sys.exit(f"not found in the API: {missing}")
    hidden = [
        f"{full[name]}, in {where}: its users cannot name it"
        for name, where in foreign.items()
        if name not in exported and paths[name]["path"][0] not in whole
    ]
    if hidden:
        sys.exit("\n".join(hidden))
    print(f"the API names {len(full)} items of other crates, and re-exports each or its crate")


if __name__ == "__main__":
    main()
