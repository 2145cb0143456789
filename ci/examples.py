#!/usr/bin/env python3
"""What share of the public functions have an example that runs, from rustdoc's JSON on stdin.

    examples.py FOLDER=SHARE...            fails where a folder's share is smaller, in percent
    examples.py --missing FOLDER=SHARE...  names the functions without an example as well

A function is a public function, an inherent method, or a method of a public trait's definition. It
belongs to the longest FOLDER that its file is in. An example is a block of code in its
documentation that `cargo test --doc` runs, or must refuse to compile.
"""

import json
import re
import sys

FENCE = re.compile(r"^ *```(.*)$", re.M)
# Blocks that nothing runs.
NOT_RUN = {"text", "ignore", "no_run", "console", "toml", "c", "asm"}


def has_example(docs):
    fences = FENCE.findall(docs or "")[::2]
    return any(not NOT_RUN.intersection(re.split(r"[,\s]+", fence.strip())) for fence in fences)


def functions(crate):
    """Each public function of the crate: its file, its name, whether it has an example."""
    index = crate["index"]
    within = {}
    for item in index.values():
        (kind, inner), = item["inner"].items()
        if kind == "trait":
            name = item["name"]
        elif kind == "impl" and inner["trait"] is None:
            name = next(iter(inner["for"].values())).get("path", "?").split("::")[-1]
        elif kind == "impl":
            name = None
        else:
            continue
        within |= {str(method): name for method in inner["items"]}
    for key, item in index.items():
        if item["crate_id"] != 0 or "function" not in item["inner"] or item["span"] is None:
            continue
        parent = within.get(key, "")
        if parent is not None:
            name = f"{parent}::{item['name']}".lstrip(":")
            yield item["span"]["filename"], name, has_example(item["docs"])


def main():
    arguments = sys.argv[1:]
    names_missing = arguments[:1] == ["--missing"]
    floors = (argument.split("=") for argument in arguments[names_missing:])
    least = {folder: int(share) for folder, share in floors}
    found = {folder: [] for folder in least}
    for file, name, has in functions(json.load(sys.stdin)):
        folder = max((f for f in least if file.startswith(f)), key=len, default=None)
        if folder:
            found[folder].append((file, name, has))
    failed = False
    for folder, functions_in in found.items():
        missing = sorted((file, name) for file, name, has in functions_in if not has)
        n, total = len(functions_in) - len(missing), len(functions_in)
        # A folder without functions is one that has moved.
        share = 100 * n // total if total else -1
        fails = share < least[folder]
        print(f"{folder}: {n} of {total} public functions have an example, {share} %"
              + (f": TOO FEW, {least[folder]} % is the least" if fails else ""))
        if fails or names_missing:
            print("".join(f"    {file}: {name}\n" for file, name in missing), end="")
        failed |= fails
    sys.exit(failed)


if __name__ == "__main__":
    main()
