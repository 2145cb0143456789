#!/usr/bin/env python3
"""Checks every Markdown file of the tree; called by ci/docs.sh.

* A relative link leads to a file that is there, and its fragment to a heading of that file.
  Links that rustdoc resolves (`crate::..`, `fn@..`, `macro@..`) are rustdoc's to check.
* A path in backticks (`ci/docs.sh`, `src/wait/`) is there; `*` and capitals stand for any name.
* A table has at most 6 columns. A line of prose has at most 100 characters.

Exit status 1 if something is wrong, after all of it was said.
"""

import glob
import os
import re
import subprocess
import sys

COLUMNS, WIDTH = 6, 100
FOLDERS = "benches|capi|ci|docs|examples|fuzz|soft|src|tests|vmm"
PATH = re.compile(rf"`((?:{FOLDERS})/[\w./*-]*)(?:[ #`])")
LINK = re.compile(r"!?\[(?:[^\[\]]|\[[^\]]*\])*\]\(([^()\s]+(?:\([^()]*\))?)\)")
DEFINED = re.compile(r"^\[[^\]]+\]:\s+(\S+)", re.M)


def files():
    listed = ["git", "ls-files", "-co", "--exclude-standard", "*.md"]
    names = subprocess.run(listed, check=True, capture_output=True, text=True).stdout.split("\n")
    # One line for each picture, which ci/docs.sh writes.
    return [f for f in names if f and os.path.exists(f) and f != "docs/pictures.md"]


def without_code(text):
    return re.sub(
        r"^ *```.*?^ *```[^\n]*$", lambda m: "\n" * m[0].count("\n"), text, flags=re.M | re.S
    )


def anchors(path, kept={}):
    """The fragments that GitHub and rustdoc make of a file's headings."""
    if path not in kept:
        seen, found = {}, set()
        for heading in re.findall(r"^#{1,6} +(.*)$", without_code(open(path).read()), re.M):
            plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").lower()
            name = re.sub(r"[^\w\- ]", "", plain.strip()).replace(" ", "-")
            count = seen.get(name, 0)
            seen[name] = count + 1
            found.add(name if count == 0 else f"{name}-{count}")
        kept[path] = found
    return kept[path]


def dead(path, target):
    if re.match(r"[a-z]+:(//|[^:])|mailto:", target) or re.match(
        r"(crate|self|super|\w+@|\w+::)", target
    ):
        return None
    file, _, fragment = target.partition("#")
    where = os.path.normpath(os.path.join(os.path.dirname(path), file)) if file else path
    if not os.path.exists(where):
        return f"no such file: {target}"
    if fragment and where.endswith(".md") and fragment not in anchors(where):
        return f"no such heading: {target}"
    return None


def missing(path, target):
    """Whether no file of the tree, or beside `path`, is meant by `target`."""
    pattern = re.sub(r"\b(?!README)[A-Z]{2,}\b", "*", target)
    roots = ("", os.path.dirname(path))
    return not any(glob.glob(os.path.join(root, pattern)) for root in roots)


def columns(line):
    line = re.sub(r"`[^`]*`", "", line.replace(r"\|", ""))
    return line.strip().strip("|").count("|") + 1


def faults(path):
    text = without_code(open(path).read())
    lines = text.split("\n")
    for number, line in enumerate(lines, 1):
        if line.startswith("|"):
            if columns(line) > COLUMNS:
                yield number, f"a table of {columns(line)} columns"
        elif len(line) > WIDTH and " " in line.strip():
            yield number, f"{len(line)} characters"
    # What has gone is named in the changelog.
    for number, line in enumerate(text.split("\n") if path != "CHANGELOG.md" else [], 1):
        for target in PATH.findall(line):
            if missing(path, target):
                yield number, f"no such path: {target}"
    inline = re.sub(r"`[^`\n]*`", "", text)
    for number, line in enumerate(inline.split("\n"), 1):
        for target in LINK.findall(line) + DEFINED.findall(line):
            wrong = dead(path, target)
            if wrong:
                yield number, wrong


def main():
    assert missing("README.md", "ci/no.sh") and not missing("README.md", "ci/*.sh")
    assert dead("README.md", "no/such.md") and dead("README.md", "#no-such-heading")
    assert columns("| a | b | c | d | e | f | g |") == 7
    found = [f"{path}:{n}: {what}" for path in files() for n, what in faults(path)]
    print(
        "\n".join(found) or f"{len(files())} Markdown files: links, tables and lines are in order"
    )
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
