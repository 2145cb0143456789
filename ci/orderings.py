#!/usr/bin/env python3
"""Finds every atomic access in src/ and what it asks of memory. `ci/orderings.sh` and `ci/seeded.sh` call it.

    orderings.py list              the accesses, one a line
    orderings.py check             whether the table in docs/orderings.md has exactly these
    orderings.py mutants           every way to weaken one ordering or to drop one fence, one a line
    orderings.py copy DIR          a copy of the tree in which the environment variable PAGELOCK_BUG chooses one of the mutants,
                                   when it is built with --cfg pagelock_bug="chosen"

An access is named by file, function, word and operation: `lock.rs/take/state.compare_exchange`. The model checkers' own futex,
the machine in software that tests run on (`mm/soft`), unit tests and the seeded bugs are left out.
"""

import os
import re
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TABLE = os.path.join(ROOT, "docs", "orderings.md")
LEFT_OUT = ("futex/model.rs", "seeded.rs", "sync.rs", "mm/soft/")
OPERATIONS = r"load|store|swap|compare_exchange|compare_exchange_weak|fetch_\w+|compare_and_swap"
ACCESS = re.compile(r"([A-Za-z_]\w*)(?:\[[^\]]*\]|\([^()]*\))?\s*\.\s*(" + OPERATIONS + r")\s*\(|\b(fence)\s*\(")
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


def code(text):
    """`text` without comments, unit tests and seeded bugs, every other character where it was."""
    for m in re.finditer(r"//[^\n]*", text):
        text = blank(text, m.start(), m.end())
    for begins in (r"#\[cfg\((?:all\()?test\b[^\n]*\s*mod \w+ (?=\{)", r"(?<!else )if seeded!\([^{]*(?=\{)"):
        while m := re.search(begins, text):
            text = blank(text, m.start(), balanced(text, m.end(), "{", "}"))
    return text


def accesses():
    """(file, name, operation, [(ordering, start, end)]) of every access."""
    src = os.path.join(ROOT, "src")
    for folder, _, files in sorted(os.walk(src)):
        for file in sorted(files):
            path = os.path.relpath(os.path.join(folder, file), src)
            if not file.endswith(".rs") or path.startswith(LEFT_OUT) or file == "tests.rs" or "/tests/" in path:
                continue
            with open(os.path.join(src, path)) as f:
                text = code(f.read())
            functions = [(m.start(), m.group(1)) for m in re.finditer(r"\bfn\s+(\w+)", text)]
            seen = {}
            for m in ACCESS.finditer(text):
                end = balanced(text, m.end() - 1, "(", ")")
                orderings = [(o.group(1), o.start(), o.end()) for o in ORDERING.finditer(text, m.end(), end)]
                # Of a nested call the inner one is found by itself.
                inner = [i for i in ACCESS.finditer(text, m.end(), end)]
                orderings = [o for o in orderings if not any(i.start() < o[1] < balanced(text, i.end() - 1, "(", ")") for i in inner)]
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
    wrong += [f"docs/orderings.md says {listed[n]} of {n}, which has {o}" for n, o in there.items() if listed.get(n, o) != o]
    if wrong:
        raise SystemExit("\n".join(wrong))
    print(f"docs/orderings.md: all {len(there)} atomic accesses are in the table, with the orderings they have")


def copy(to):
    kept = {"Cargo.toml", "Cargo.lock", "README.md", "src", "tests", "benches", "examples", "docs", "CHANGELOG.md"}
    for top in kept:
        start = os.path.join(ROOT, top)
        files = [start] if os.path.isfile(start) else [os.path.join(d, f) for d, _, fs in os.walk(start) for f in fs]
        for path in files:
            with open(path, "rb") as f:
                text = f.read()
            relative = os.path.relpath(path, ROOT)
            if relative.startswith("src/") and relative.endswith(".rs"):
                text = instrumented(text.decode(), relative[4:]).encode()
            put(os.path.join(to, relative), text)
    # What is gone here must not be compiled there.
    for top in kept:
        for folder, _, files in os.walk(os.path.join(to, top)):
            for file in files:
                path = os.path.join(folder, file)
                if not os.path.exists(os.path.join(ROOT, os.path.relpath(path, to))):
                    os.remove(path)


def put(path, text):
    """Writes the file, if it is not what is there: what has not changed is not compiled again."""
    if os.path.exists(path):
        with open(path, "rb") as f:
            if f.read() == text:
                return
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as f:
        f.write(text)


def instrumented(text, path):
    edits = []
    for file, name, operation, orderings in accesses():
        if file != path:
            continue
        for i, (ordering, start, end) in enumerate(orderings):
            if operation == "fence":
                fence = text.rindex("fence", 0, start)
                after = balanced(text, text.index("(", fence), "(", ")")
                edits.append((fence, after, f'if !crate::seeded::is_chosen("{name}=dropped") {{ {text[fence:after]} }}'))
            elif ordering in WEAKER:
                edits.append((start, end, f'crate::seeded::weakened("{key(name, i)}", {text[start:end]})'))
    for start, end, new in sorted(edits, reverse=True):
        text = text[:start] + new + text[end:]
    return text


def main():
    match sys.argv[1:]:
        case ["list"]:
            for _, name, _, orderings in accesses():
                print(f"{name}\t{spelled(orderings)}")
        case ["check"]:
            check()
        case ["mutants"]:
            print("\n".join(mutants()))
        case ["copy", to]:
            os.makedirs(to, exist_ok=True)
            copy(to)
        case _:
            raise SystemExit(__doc__)


main()
