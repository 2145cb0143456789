#!/usr/bin/env python3
"""Puts the bugs of ci/seeded.bugs, and every weaker ordering that ci/orderings.py can think of, into a copy of the tree.

    weave.py check             whether each bug of the list still fits the sources and its finders exist; names all that do not
    weave.py copy DIR          makes the copy DIR, in which the environment variable PAGELOCK_BUG chooses one of them at run time
    weave.py copy DIR BUG      makes a copy that has this one bug, for good
    weave.py alone [NAME...]   the bugs that need a copy of their own, or those with NAME in their names, each with its finders

A function with bugs becomes `if is_chosen("a") { its body with a } else if ... { its body }`, so one build serves all bugs, and without a
choice it does what the sources say. The sources themselves are not touched. The head of ci/seeded.bugs says how a bug is written.
"""

import bisect
import os
import re
import sys

import orderings

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
LIST = os.path.join(ROOT, "ci", "seeded.bugs")
# What a copy consists of.
KEPT = ("Cargo.toml", "Cargo.lock", "README.md", "CHANGELOG.md", "src", "soft", "tests", "docs", "fuzz")
# What has bugs beside the core: packages whose files the list names with their folder.
BESIDE = ("soft",)
NOT_KEPT = ("fuzz/target", "fuzz/corpus", "fuzz/artifacts", "fuzz/seeds")
# These compile sources of the crate once more, in a crate of their own.
WITH_WORDS = ("tests/property_words.rs", "fuzz/fuzz_targets/words.rs")


def bugs():
    """The bugs of the list, in its order: name, what, finders, edits of {file, function, old, new, line}. A weakened ordering has no edits."""
    found = []
    for number, line in enumerate(read(LIST).splitlines(), 1):
        kind, rest = line[:2].rstrip(), line[2:]
        if not line.strip() or kind.startswith("#"):
            continue
        if kind not in ("?", "@", "-", "+"):
            name, colon, what = line.partition(": ")
            if not colon:
                raise SystemExit(f"ci/seeded.bugs:{number}: neither `NAME: WHAT` nor one of ? @ - +")
            found.append({"name": name, "what": what.strip(), "finders": [], "edits": [], "line": number})
        elif kind == "?":
            found[-1]["finders"] += rest.split()
        elif kind == "@":
            file, *function = rest.split()
            found[-1]["edits"].append({"file": file, "function": "".join(function), "old": [], "new": [], "line": number})
        else:
            found[-1]["edits"][-1]["old" if kind == "-" else "new"].append(rest)
    return found


def is_alone(bug):
    return any(not edit["function"] for edit in bug["edits"])


def read(path):
    with open(path) as f:
        return f.read()


# Comments, strings and characters, in which braces mean nothing.
NO_CODE = re.compile(r'//[^\n]*|/\*.*?\*/|b?r(#*)".*?"\1|b?"(?:\\.|[^"\\])*"|\'(?:\\.[^\']*|[^\'\\\n])\'', re.S)


def code(text):
    """`text` with only its code left, every character of it where it was; and without unit tests."""
    text = NO_CODE.sub(lambda m: re.sub(r"[^\n]", " ", m.group()), text)
    return orderings.without_tests(text)


def path_of(file):
    """Where the file is that the list names: in the core's src/, unless the name says more."""
    return file if file.startswith(tuple(f"{package}/" for package in BESIDE)) else f"src/{file}"


class Source:
    """A file with sources, and where its functions are."""

    def __init__(self, file):
        self.text = read(os.path.join(ROOT, path_of(file)))
        self.code = code(self.text)
        self.lines = [m.start() for m in re.finditer(r"^", self.text, re.M)]
        self.functions = []
        blocks = [
            (m.group(), m.end() - 1, self.closed(m.end() - 1))
            for m in re.finditer(r"^[ \t]*(?:pub(?:\([^)]*\))? +)?(?:unsafe +)?(?:impl|trait)\b[^{;]*\{", self.code, re.M)
        ]
        for m in re.finditer(r"\bfn\s+(\w+)", self.code):
            begin = self.body(m.end())
            if begin is not None:
                around = [header for header, start, end in blocks if start < m.start() < end]
                self.functions.append((m.group(1), around[-1] if around else "", m.start(), begin, self.closed(begin)))

    def closed(self, at):
        return orderings.balanced(self.code, at, "{", "}")

    def body(self, at):
        """Where the body of the function begins whose name ends at `at`; none, if it has none."""
        depth = 0
        for i in range(at, len(self.code)):
            c = self.code[i]
            depth += (c in "([") - (c in ")]")
            if depth == 0 and c == "{":
                return i
            if depth < 0 or depth == 0 and c == ";":
                return None
        return None

    def line(self, at):
        return bisect.bisect_right(self.lines, at)


def pattern(lines):
    """The lines, however they are broken into lines and whatever is said about them between."""
    gap = r"(?:\s|//[^\n]*\n)*"
    tokens = re.findall(r"\w+|[^\w\s]", " ".join(lines))
    tokens = ["(?:,%s)?%s" % (gap, re.escape(t)) if t in ")]}" else re.escape(t) for t in tokens]
    return re.compile((r"\b" if re.match(r"\w", tokens[0]) else "") + gap.join(tokens) + (r"\b" if re.match(r"\w", tokens[-1]) else ""))


class Misfit(Exception):
    pass


def place(sources, edit):
    """(begin, end) of the one body in which the edit's lines stand once, or of the whole file."""
    where = f"{edit['file']} {edit['function']}".rstrip()
    if not os.path.exists(os.path.join(ROOT, path_of(edit["file"]))):
        raise Misfit(f"there is no {path_of(edit['file'])}")
    if not any(line.strip() for line in edit["old"]):
        raise Misfit(f"{where}: no lines to replace")
    if edit["file"] not in sources:
        sources[edit["file"]] = Source(edit["file"])
    source = sources[edit["file"]]
    old = pattern(edit["old"])
    if not edit["function"]:
        count = len(old.findall(source.text))
        if count != 1:
            raise Misfit(f"{where}: {count} places have these lines")
        return 0, len(source.text)
    kind, _, name = edit["function"].rpartition("::")
    named = [f for f in source.functions if f[0] == name and (not kind or re.search(rf"\b{kind}\b", f[1]))]
    if not named:
        raise Misfit(f"{where}: there is no such function")
    have = [(f, len(old.findall(source.text[f[3] : f[4]]))) for f in named]
    fit = [f for f, count in have if count == 1]
    if len(fit) == 1:
        return fit[0][3], fit[0][4]
    many = [f"{count} times from line {source.line(f[2])} on" for f, count in have if count > 0]
    raise Misfit(f"{where}: its lines are not there" if not many else f"{where}: its lines are there {', '.join(many)}")


def unknown_finders(listed):
    """The finders that name no test, scenario or fuzz target."""
    texts = {}

    def is_in(path, test):
        if path not in texts:
            texts[path] = read(os.path.join(ROOT, path)) if os.path.exists(os.path.join(ROOT, path)) else ""
        return re.search(rf"\bfn {re.escape(test)}\(", texts[path])

    sources = [os.path.join(folder, file) for folder, _, files in os.walk(os.path.join(ROOT, "src")) for file in files]
    unit_tests = [name for path in sources for name in re.findall(r"#\[test\]\s+fn (\w+)", read(path))]
    for bug in listed:
        for finder in bug["finders"]:
            kind, _, test = finder.partition(":")
            if kind == "lib":
                exists = any(test.split("::")[-1] in name for name in unit_tests)
            elif kind == "fuzz":
                exists = os.path.exists(os.path.join(ROOT, "fuzz", "fuzz_targets", f"{test}.rs"))
            elif kind in ("loom", "shuttle"):
                part, _, test = test.partition("::")
                exists = is_in(f"tests/{kind}/{part}.rs", test)
            else:
                exists = is_in(f"tests/{kind}.rs", test)
            if not exists:
                yield f"ci/seeded.bugs:{bug['line']}: {bug['name']}: there is no {finder}"


def placed(listed):
    """{file: {(begin, end): {bug: [edit]}}}, and the sources. Fails with all bugs that do not fit."""
    sources, by_file, wrong = {}, {}, []
    for bug in listed:
        for edit in bug["edits"]:
            try:
                at = place(sources, edit)
            except Misfit as misfit:
                wrong.append(f"ci/seeded.bugs:{edit['line']}: {bug['name']}: {misfit}")
            else:
                by_file.setdefault(edit["file"], {}).setdefault(at, {}).setdefault(bug["name"], []).append(edit)
    names = [bug["name"] for bug in listed]
    wrong += [f"{name} is there twice" for name in sorted({n for n in names if names.count(n) > 1})]
    wrong += [f"ci/seeded.bugs:{bug['line']}: {bug['name']}: nobody is to find it" for bug in listed if not bug["finders"]]
    wrong += [f"ci/seeded.bugs:{bug['line']}: {bug['name']}: has no edit" for bug in listed if not bug["edits"] and "=" not in bug["name"]]
    if wrong:
        raise SystemExit("\n".join(wrong) + f"\n{len(wrong)} of ci/seeded.bugs do not fit the sources")
    return by_file, sources


def changed(body, edits):
    for edit in edits:
        body = pattern(edit["old"]).sub(lambda _: "\n".join(edit["new"]), body, count=1)
    return body


def replaced(text, edits):
    """`text` with edits of (begin, end, new) that do not overlap."""
    for begin, end, new in sorted(edits, reverse=True):
        text = text[:begin] + new + text[end:]
    return text


def woven():
    """{file: text} of all files that have bugs or orderings in them, with all of them."""
    by_file, sources = placed([bug for bug in bugs() if not is_alone(bug)])
    weaker = orderings.edits()
    texts, changed_functions = {}, set()
    for file in sorted({*by_file, *weaker}):
        if file not in sources:
            sources[file] = Source(file)
        source = sources[file]
        inside = weaker.get(file, [])
        edits = []
        for (begin, end), some in by_file.get(file, {}).items():
            of_body = [e for e in inside if begin <= e[0] < end]
            inside = [e for e in inside if e not in of_body]
            body = source.text[begin:end]
            arms = "".join(f'if crate::seeded::is_chosen("{name}") {changed(body, es)} else ' for name, es in some.items())
            right = replaced(body, [(b - begin, e - begin, new) for b, e, new in of_body])
            edits.append((begin, end, "{ " + arms + right + " }"))
            changed_functions |= {(file, f[0]) for f in source.functions if f[3] == begin}
        texts[file] = replaced(source.text, [*edits, *inside])
    return unconst(texts, changed_functions)


def unconst(texts, changed_functions):
    """What asks the environment is not const, nor is what calls it. Callers go by the name, so they may be a few more than must be."""
    constant, sources = {}, {}
    for folder, _, files in os.walk(os.path.join(ROOT, "src")):
        for file in files:
            path = os.path.relpath(os.path.join(folder, file), os.path.join(ROOT, "src"))
            source = sources[path] = Source(path)
            for name, _, at, begin, end in source.functions:
                if re.search(r"\bconst\s+(?:unsafe\s+)?$", source.code[max(0, at - 20) : at]):
                    constant[path, name] = constant.get((path, name), "") + source.code[begin:end]
    todo, done = [f for f in changed_functions if f in constant], set()
    while todo:
        done.add(function := todo.pop())
        calls = re.compile(rf"\b{function[1]}\(")
        todo += [f for f, body in constant.items() if f not in done and f not in todo and calls.search(body)]
    for path, name in done:
        texts[path] = re.sub(rf"\bconst (unsafe )?fn {name}\b", r"\1fn " + name, texts.get(path, sources[path].text))
    return texts


def alone(name):
    """{file: text} of the files in which this one bug is, for good."""
    chosen = [bug for bug in bugs() if bug["name"] == name]
    if not chosen:
        raise SystemExit(f"there is no {name} in ci/seeded.bugs")
    by_file, sources = placed(chosen)
    return {
        file: replaced(sources[file].text, [(b, e, changed(sources[file].text[b:e], edits[name])) for (b, e), edits in places.items()])
        for file, places in by_file.items()
    }


def put(path, text):
    """Writes the file, if it is not what is there: what has not changed is not compiled again."""
    if os.path.exists(path):
        with open(path, "rb") as f:
            if f.read() == text:
                return
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as f:
        f.write(text)


def renamed(text, version):
    """A manifest by whose version cargo tells the copy from the tree, and keeps what it compiles of both."""
    return re.sub(r'^(version = "[^"]*)"', rf'\1-{version}"', text, count=1, flags=re.M)


def manifest(text, tests, version):
    """Cargo.toml without benchmarks and examples, and without what only those depend on: what is not there is not compiled."""
    text = renamed(text, version)
    text = re.sub(r"^\[workspace\]\n(?:[^\[\n].*\n|\[?\]\n)*", "[workspace]\n", text, count=1, flags=re.M)
    text = re.sub(r"^\[\[(?:bench|example)\]\]\n(?:[^\[\n].*\n)*", "", text, flags=re.M)
    head, mark, rest = text.partition("[dev-dependencies]\n")
    needed, mark_2, rest = rest.partition("\n[")
    lines = [line for line in needed.splitlines() if re.match(r"\w", line)]
    named = [line for line in lines if re.search(rf"\b{line.split()[0].replace('-', '_')}::", tests)]
    return head + mark + "\n".join(named) + "\n" + mark_2 + rest


def copy(to, texts, version):
    files = {}
    for top in KEPT:
        start = os.path.join(ROOT, top)
        for path in [start] if os.path.isfile(start) else [os.path.join(d, f) for d, _, fs in os.walk(start) for f in fs]:
            relative = os.path.relpath(path, ROOT)
            if not relative.startswith(NOT_KEPT):
                with open(path, "rb") as f:
                    files[relative] = f.read()
    for file, text in texts.items():
        files[path_of(file)] = text.encode()
    for src in ("src", *(f"{package}/src" for package in BESIDE)):
        files[f"{src}/seeded.rs"] = read(os.path.join(ROOT, "ci", "seeded.rs")).encode()
        # Bugs make dead code and whatever else a compiler warns of.
        lib = files[f"{src}/lib.rs"].replace(b"#![no_std]\n", b"#![no_std]\n#![allow(warnings)]\n", 1)
        files[f"{src}/lib.rs"] = lib + b"\nmod seeded;\n"
    for path in WITH_WORDS:
        source = f'#[path = "{"../" * path.count("/")}src/seeded.rs"]\n#[allow(warnings)]\nmod seeded;\n'
        before, mod, after = files[path].partition(b"#[path")
        files[path] = before + source.encode() + mod + after
    tests = b"\n".join(text for path, text in files.items() if path.startswith("tests/")).decode()
    files["Cargo.toml"] = manifest(files["Cargo.toml"].decode(), tests, version).encode()
    for package in BESIDE:
        text = renamed(files[f"{package}/Cargo.toml"].decode(), version)
        files[f"{package}/Cargo.toml"] = re.sub(r'^(pagelock = \{ path = "\.\."), version = "[^"]*"', r"\1", text, flags=re.M).encode()
    for relative, text in files.items():
        put(os.path.join(to, relative), text)
    # What is gone here must not be compiled there.
    for top in KEPT:
        for folder, _, names in os.walk(os.path.join(to, top)):
            for name in names:
                if os.path.relpath(os.path.join(folder, name), to) not in files:
                    os.remove(os.path.join(folder, name))


def main():
    match sys.argv[1:]:
        case ["check"]:
            listed = bugs()
            if unknown := list(unknown_finders(listed)):
                print("\n".join(unknown))
            placed(listed)
            if unknown:
                raise SystemExit(1)
            print(f"ci/seeded.bugs: {len(listed)} bugs; each fits the sources, and its finders exist")
        case ["copy", to]:
            copy(to, woven(), "woven")
        case ["copy", to, name]:
            copy(to, alone(name), name)
        case ["alone", *names]:
            for bug in bugs():
                if is_alone(bug) and (not names or any(name in bug["name"] for name in names)):
                    print(bug["name"], *bug["finders"])
        case _:
            raise SystemExit(__doc__)


if __name__ == "__main__":
    main()
