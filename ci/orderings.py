#!/usr/bin/env python3
"""Finds every atomic access in src/ and its orderings. ci/orderings.sh and ci/weave.py call it.

    orderings.py list              the accesses, one a line
    orderings.py check             whether the table in docs/orderings.md has exactly these
    orderings.py mutants           every way to weaken one ordering or to drop one fence, one a line

An access is named by file, function, word and operation: `lock.rs/take/state.compare_exchange`.
Left out are the futex of the model checkers, unit tests, the segments of processes (`shared`,
whose kernel no model checker has; its front page has a table of its own), and the records of owners
(`owner`, `slow`), on which nothing rests. ci/weave.py puts the mutants into a copy of the tree.
"""

import os
import re
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TABLE = os.path.join(ROOT, "docs", "orderings.md")
LEFT_OUT = ("futex/model.rs", "sync.rs", "shared/", "owner.rs", "slow.rs")
OPERATIONS = r"load|store|swap|compare_exchange|compare_exchange_weak|fetch_\w+|compare_and_swap"
ACCESS = re.compile(
    r"(\w+)(?:\[[^\]]*\]|\([^()]*\))?\s*\.\s*(" + OPERATIONS + r")\s*\(|\b(fence)\s*\("
)
ORDERING = re.compile(r"\b(?:Ordering\s*::\s*)?(Relaxed|Acquire|Release|AcqRel|SeqCst)\b")
WEAKER = {
    "Acquire": ["Relaxed"],
    "Release": ["Relaxed"],
    "AcqRel": ["Acquire", "Release", "Relaxed"],
    # For a load or a store the model checkers and the compiler allow one of the two only.
    "SeqCst": ["Relaxed"],
}


def balanced(text, at, opening, closing):
    """The offset after the bracket that closes the one at `at`."""
    depth = 0
    for i in range(at, len(text)):
        depth += (text[i] == opening) - (text[i] == closing)
        if depth == 0:
            return i + 1
    raise SystemExit(f"unbalanced {opening}{closing}")


def blank(text, start, end):
    return text[:start] + re.sub(r"[^\n]", " ", text[start:end]) + text[end:]


def without_tests(text):
    """`text` without unit tests, every other character where it was."""
    while m := re.search(r"#\[cfg\((?:all\()?test\b[^\n]*\s*mod \w+ (?=\{)", text):
        text = blank(text, m.start(), balanced(text, m.end(), "{", "}"))
    return text


def code(text):
    """`text` without comments and unit tests, every other character where it was."""
    for m in re.finditer(r"//[^\n]*", text):
        text = blank(text, m.start(), m.end())
    return without_tests(text)


def accesses():
    """(file, name, operation, [(ordering, start, end)]) of every access."""
    src = os.path.join(ROOT, "src")
    for folder, _, files in sorted(os.walk(src)):
        for file in sorted(files):
            path = os.path.relpath(os.path.join(folder, file), src)
            if not file.endswith(".rs") or path.startswith(LEFT_OUT):
                continue
            if file == "tests.rs" or "/tests/" in path:
                continue
            with open(os.path.join(src, path)) as f:
                text = code(f.read())
            functions = [(m.start(), m.group(1)) for m in re.finditer(r"\bfn\s+(\w+)", text)]
            seen = {}
            for m in ACCESS.finditer(text):
                end = balanced(text, m.end() - 1, "(", ")")
                # A call inside this one is found by itself.
                inner = [
                    range(i.start() + 1, balanced(text, i.end() - 1, "(", ")"))
                    for i in ACCESS.finditer(text, m.end(), end)
                ]
                orderings = [
                    (o.group(1), o.start(), o.end())
                    for o in ORDERING.finditer(text, m.end(), end)
                    if not any(o.start() in call for call in inner)
                ]
                if not orderings:
                    continue
                operation = "fence" if m.group(3) else f"{m.group(1)}.{m.group(2)}"
                within = [name for at, name in functions if at < m.start()]
                name = f"{path}/{within[-1] if within else ''}/{operation}"
                seen[name] = seen.get(name, 0) + 1
                if seen[name] > 1:
                    name += f"#{seen[name]}"
                yield path, name, operation, orderings


def spelled(orderings):
    return ", ".join(o for o, _, _ in orderings)


def key(name, i):
    return name if i == 0 else name + "(failure)"


def mutants():
    for _, name, operation, orderings in accesses():
        for i, (ordering, _, _) in enumerate(orderings):
            if operation == "fence":
                yield f"{name}=dropped"
            else:
                for weaker in WEAKER.get(ordering, []):
                    yield f"{key(name, i)}={weaker}"


def check():
    there = {name: spelled(orderings) for _, name, _, orderings in accesses()}
    listed = {}
    with open(TABLE) as f:
        for line in f:
            cells = [c.strip() for c in line.strip().strip("|").split("|")]
            if line.startswith("| `") and len(cells) == 6 and "/" in cells[0]:
                name = cells[0].strip("`")
                if name in listed:
                    raise SystemExit(f"docs/orderings.md lists {name} twice")
                listed[name] = cells[1]
                if not all(cells):
                    raise SystemExit(f"docs/orderings.md: an empty cell for {name}")
    wrong = [f"not in docs/orderings.md: {n} ({o})" for n, o in there.items() if n not in listed]
    wrong += [f"not in src any more: {n}" for n in listed if n not in there]
    wrong += [
        f"docs/orderings.md says {listed[n]} of {n}, which has {o}"
        for n, o in there.items()
        if listed.get(n, o) != o
    ]
    if wrong:
        raise SystemExit("\n".join(wrong))
    print(f"docs/orderings.md: the table has all {len(there)} atomic accesses and their orderings")


def edits():
    """{file: [(begin, end, new)]}: edits by which a mutant can be chosen at run time."""
    found = {}
    for file, name, operation, orderings in accesses():
        for i, (ordering, start, end) in enumerate(orderings):
            if operation == "fence":
                with open(os.path.join(ROOT, "src", file)) as f:
                    text = f.read()
                fence = text.rindex("fence", 0, start)
                after = balanced(text, text.index("(", fence), "(", ")")
                new = f'if !crate::seeded::is_chosen("{name}=dropped") {{ {text[fence:after]} }}'
                found.setdefault(file, []).append((fence, after, new))
            elif ordering in WEAKER:
                strong = f"core::sync::atomic::Ordering::{ordering}"
                new = f'crate::seeded::weakened("{key(name, i)}", {strong})'
                found.setdefault(file, []).append((start, end, new))
    return found


def main():
    match sys.argv[1:]:
        case ["list"]:
            for _, name, _, orderings in accesses():
                print(f"{name}\t{spelled(orderings)}")
        case ["check"]:
            check()
        case ["mutants"]:
            print("\n".join(mutants()))
        case _:
            raise SystemExit(__doc__)


if __name__ == "__main__":
    main()
