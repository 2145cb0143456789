//! `docs/verification.md` tells the truth: every check that it names exists, and every invariant and failure class has a row.

#![cfg(not(pagelock_loom))]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from)
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn map() -> String {
    read("docs/verification.md")
}

/// A packed crate has neither the scripts nor the fuzz targets.
fn is_packed() -> bool {
    !root().join("ci").is_dir()
}

/// Whether `text` has a function `name`. The tests of `proptest!` are functions with parameters.
fn has_fn(text: &str, name: &str) -> bool {
    text.match_indices(&format!("fn {name}")).any(|(at, found)| {
        let before = text[..at].chars().next_back();
        matches!(before, None | Some(' ' | '\n')) && text[at + found.len()..].starts_with(['(', '<'])
    })
}

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

/// What is wrong with a name of the form `kind:rest`; `None` if it stands for something.
fn fault(name: &str, unit_tests: &str) -> Option<String> {
    let (kind, rest) = name.split_once(':')?;
    let exists = |path: String| (!root().join(&path).is_file()).then(|| format!("`{name}`: there is no {path}"));
    let line = |path: &str, wanted: &dyn Fn(&str) -> bool| {
        let text = fs::read_to_string(root().join(path)).unwrap_or_default();
        (!text.lines().any(wanted)).then(|| format!("`{name}`: not in {path}"))
    };
    let function = |path: &str, function: &str| {
        if !root().join(path).is_file() {
            return Some(format!("`{name}`: there is no {path}"));
        }
        (!has_fn(&read(path), function)).then(|| format!("`{name}`: no fn {function} in {path}"))
    };
    match kind {
        "lib" => (!has_fn(unit_tests, rest)).then(|| format!("`{name}`: no such unit test")),
        "loom" | "shuttle" => match rest.split_once("::") {
            Some((part, test)) => function(&format!("tests/{kind}/{part}.rs"), test),
            None => Some(format!("`{name}`: no part of {kind}'s tests is named")),
        },
        "fuzz" | "ci" | "model" | "bug" if is_packed() => None,
        "fuzz" => exists(format!("fuzz/fuzz_targets/{rest}.rs")),
        "ci" => exists(format!("ci/{rest}.sh")),
        "model" => line("ci/model.sh", &|l| l.starts_with(&format!("check {rest} "))),
        "bug" => line("ci/seeded.list", &|l| l.starts_with(&format!("{rest} |"))),
        file => function(&format!("tests/{file}.rs"), rest),
    }
}

/// The names in backticks that are of the form `kind:rest`, outside the table that explains the forms.
fn names(map: &str) -> BTreeSet<&str> {
    let explained = map.find("## Invariants: safety").expect("the tables have headings");
    let is_name = |s: &&str| {
        let Some((kind, rest)) = s.split_once(':') else { return false };
        let word = |s: &str| !s.is_empty() && s.chars().all(|c| c.is_ascii_alphanumeric() || "_-./:=#".contains(c));
        word(kind) && word(rest) && !rest.starts_with(':')
    };
    map[explained..].split('`').skip(1).step_by(2).filter(is_name).collect()
}

#[test]
fn every_name_stands_for_something() {
    let mut files = Vec::new();
    rust_files(&root().join("src"), &mut files);
    let unit_tests: String = files.iter().map(|f| fs::read_to_string(f).unwrap()).collect();
    let map = map();
    let names = names(&map);
    assert!(names.len() > 100, "only {} names were found", names.len());
    let faults: Vec<String> = names.iter().filter_map(|name| fault(name, &unit_tests)).collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn names_that_stand_for_nothing_are_noticed() {
    for name in [
        "lib:no_such_test",
        "wait:no_such_test",
        "wait:all_come",
        "no_such_file:no_such_test",
        "loom:wait::no_such_model",
        "loom:no_part",
        "shuttle:no_such_part::no_such_scenario",
    ] {
        assert!(fault(name, "fn some_test() {}").is_some(), "{name}");
    }
    if !is_packed() {
        for name in ["fuzz:no_such_target", "ci:no_such_script", "model:no_such_case", "bug:no_such_bug"] {
            assert!(fault(name, "").is_some(), "{name}");
        }
    }
    assert_eq!(fault("lib:some_test", "    fn some_test() {}"), None);
}

#[test]
fn every_invariant_and_failure_class_has_a_row_with_a_check() {
    let map = map();
    let row = |id: String| {
        let start = format!("| {id} |");
        let mut rows = map.lines().filter(|l| l.starts_with(&start));
        let row = rows.next().unwrap_or_else(|| panic!("{id} has no row"));
        assert_eq!(rows.next(), None, "{id} has two rows");
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        assert_eq!(cells.len(), 4, "{row}");
        assert!(cells.iter().all(|c| !c.is_empty()), "{row}");
        assert!(cells[2].contains(':') && cells[2].contains('`'), "{id} has no check");
    };
    (1..=39).for_each(|i| row(format!("I{i}")));
    (1..=14).for_each(|i| row(format!("L{i}")));
}

/// Promises are quoted. A quotation that the documentation does not say (any more) is a row to look at.
#[test]
fn promises_are_quotations() {
    // Without markup, and without where links lead.
    let plain = |s: &str| {
        let mut parts = s.split("](");
        let mut text = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            text.push_str(part.split_once(')').map_or(part, |(_, rest)| rest));
        }
        text.replace(['`', '*', '[', ']'], "").split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let mut files = Vec::new();
    rust_files(&root().join("src"), &mut files);
    let mut said = read("README.md");
    for file in files {
        for line in fs::read_to_string(file).unwrap().lines() {
            let line = line.trim_start();
            let doc = line.strip_prefix("///").or_else(|| line.strip_prefix("//!"));
            said.push_str(doc.unwrap_or("\n"));
            said.push('\n');
        }
    }
    let said = plain(&said);
    let map = map();
    let (mut quoted, mut unsaid) = (0, Vec::new());
    for row in map.lines().filter(|l| l.starts_with("| P")) {
        let promise = row.trim_matches('|').split('|').nth(1).unwrap();
        for quotation in promise.split('"').skip(1).step_by(2) {
            quoted += 1;
            if !said.contains(&plain(quotation)) {
                unsaid.push(quotation);
            }
        }
    }
    assert!(unsaid.is_empty(), "nothing says: {unsaid:?}");
    assert!(quoted > 20, "only {quoted} quotations");
}
