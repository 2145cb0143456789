//! `docs/verification.md` tells the truth: every check that it names exists, every invariant and
//! failure class has a row, what a row was shown to catch is found by one of its checks, and no
//! check is in no row. What `docs/protocol.md` names exists too.

#![cfg(not(pagelock_loom))]

mod promises;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from)
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

/// The tests in a file: their names, and whether they are ignored. Those of `proptest!` are
/// functions with parameters.
fn tests_in(text: &str) -> Vec<(&str, bool)> {
    let (mut is_test, mut is_ignored, mut found) = (false, false, Vec::new());
    for line in text.lines().map(str::trim_start) {
        let mut rest = line;
        while let Some((attribute, after)) =
            rest.strip_prefix("#[").and_then(|rest| rest.split_once(']'))
        {
            is_test |= attribute == "test";
            is_ignored |= attribute.starts_with("ignore");
            rest = after.trim_start();
        }
        if let Some(function) = rest.strip_prefix("fn ") {
            let name = function.split(['(', '<']).next().unwrap_or_default();
            // In a macro it is `$name`: see `variants`.
            if is_test && !name.starts_with('$') {
                found.push((name, is_ignored));
            }
            (is_test, is_ignored) = (false, false);
        } else if !rest.is_empty() && !rest.starts_with("//") {
            (is_test, is_ignored) = (false, false);
        }
    }
    found
}

/// The file with the tests of a program, or of one of its modules: `tests/NAME.rs`,
/// `tests/NAME/main.rs`, or `tests/NAME/mod.rs`.
fn file_of(name: &str) -> Option<String> {
    let of = |ending| format!("tests/{name}{ending}");
    [of(".rs"), of("/main.rs"), of("/mod.rs")].into_iter().find(|path| root().join(path).is_file())
}

/// The tests in a file, with those that `hmm/main.rs` has a macro make.
fn tests_of_file(path: &str) -> Vec<(String, bool)> {
    let text = read(path);
    let mut found: Vec<_> = tests_in(&text)
        .into_iter()
        .map(|(name, is_ignored)| (name.to_owned(), is_ignored))
        .collect();
    if let Some((_, made)) = text.split_once("\nvariants! {\n") {
        let made = made.split('}').next().unwrap_or_default();
        found.extend(
            made.split([' ', '\n', ';'])
                .filter(|s| !s.is_empty() && !s.ends_with(':'))
                .map(|s| (s.to_owned(), false)),
        );
    }
    found
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
fn fault(name: &str, unit_tests: &BTreeSet<String>) -> Option<String> {
    let (kind, rest) = name.split_once(':')?;
    let exists = |path: String| {
        (!root().join(&path).is_file()).then(|| format!("`{name}`: there is no {path}"))
    };
    let line = |path: &str, wanted: &dyn Fn(&str) -> bool| {
        let text = fs::read_to_string(root().join(path)).unwrap_or_default();
        (!text.lines().any(wanted)).then(|| format!("`{name}`: not in {path}"))
    };
    let test = |program: &str, test: &str| {
        let (module, test) = test.rsplit_once("::").unwrap_or(("", test));
        let part = format!("{program}/{}", module.replace("::", "/"));
        let Some(file) = file_of(part.trim_end_matches('/')) else {
            return Some(format!("`{name}`: there is no tests/{part}"));
        };
        match tests_of_file(&file).iter().find(|(name, _)| name == test) {
            // The soak is run by its script.
            Some((_, is_ignored)) => {
                (*is_ignored && program != "soak").then(|| format!("`{name}`: is ignored"))
            }
            None => Some(format!("`{name}`: no test {test} in {file}")),
        }
    };
    match kind {
        "lib" => (!unit_tests.contains(rest)).then(|| format!("`{name}`: no such unit test")),
        "fuzz" | "ci" | "model" | "bug" if is_packed() => None,
        "fuzz" => exists(format!("fuzz/fuzz_targets/{rest}.rs")),
        "ci" => exists(format!("ci/{rest}.sh")),
        "model" => line("ci/model.sh", &|l| l.starts_with(&format!("check {rest} "))),
        "bug" => line("ci/seeded.bugs", &|l| l.starts_with(&format!("{rest}: "))),
        program => test(program, rest),
    }
}

/// The names in backticks that are of the form `kind:rest`.
fn names(text: &str) -> BTreeSet<&str> {
    let is_name = |s: &&str| {
        let Some((kind, rest)) = s.split_once(':') else { return false };
        let word = |s: &str| {
            !s.is_empty() && s.chars().all(|c| c.is_ascii_alphanumeric() || "_-./:=#".contains(c))
        };
        word(kind) && word(rest) && !rest.starts_with(':')
    };
    text.split('`').skip(1).step_by(2).filter(is_name).collect()
}

/// The map without the table that explains the forms of names.
fn tables(map: &str) -> &str {
    &map[map.find("## Invariants: safety").expect("the tables have headings")..]
}

/// The rows that begin with an invariant's, a failure class's or a promise's name, as cells.
fn rows(map: &str) -> Vec<Vec<&str>> {
    let is_row = |cells: &Vec<&str>| {
        let id = cells[0];
        id.starts_with(['I', 'L', 'P'])
            && id.len() > 1
            && id[1..].chars().all(|c| c.is_ascii_digit())
    };
    let lines = tables(map).lines().filter(|l| l.starts_with("| "));
    lines
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .filter(is_row)
        .collect()
}

fn unit_tests() -> BTreeSet<String> {
    let mut files = Vec::new();
    rust_files(&root().join("src"), &mut files);
    let texts: Vec<String> = files.iter().map(|f| fs::read_to_string(f).unwrap()).collect();
    texts.iter().flat_map(|text| tests_in(text)).map(|(name, _)| name.to_owned()).collect()
}

/// The bugs of `ci/seeded.bugs`, each with its finders. None in a packed crate.
fn bugs(list: &str) -> Vec<(&str, Vec<&str>)> {
    let mut found: Vec<(&str, Vec<&str>)> = Vec::new();
    for line in list.lines().filter(|l| !l.is_empty() && !l.starts_with(['#', ' '])) {
        if let Some(finders) = line.strip_prefix("? ") {
            found.last_mut().expect("a bug begins with its name").1.extend(finders.split(' '));
        } else if !["@", "-", "+"].contains(&line.split(' ').next().unwrap()) {
            found.push((
                line.split_once(": ").expect("a bug has a name and says what it is").0,
                Vec::new(),
            ));
        }
    }
    found
}

fn seeded_list() -> String {
    if is_packed() { String::new() } else { read("ci/seeded.bugs") }
}

/// What is wrong with the column of a row that says which bugs its checks were shown to catch.
fn uncaught(row: &[&str], bugs: &[(&str, Vec<&str>)]) -> Vec<String> {
    let [id, _, checks, caught] = row else { return vec![format!("{row:?} has not four cells")] };
    let checks = names(checks);
    let shown = names(caught);
    let mut faults = Vec::new();
    if shown.is_empty() && caught.len() < 20 {
        faults.push(format!("{id}: shown to catch nothing, and no reason: {caught}"));
    }
    // A case of the model and a test that shows the opposite are controls, not bugs.
    for bug in shown.iter().filter_map(|name| name.strip_prefix("bug:")) {
        let finders = bugs
            .iter()
            .find(|(name, _)| *name == bug)
            .map(|(_, finders)| finders.as_slice())
            .unwrap_or_default();
        if !finders.iter().any(|finder| checks.contains(finder)) {
            faults.push(format!(
                "{id}: none of its checks is to find {bug}; its finders are {finders:?}"
            ));
        }
    }
    faults
}

#[test]
fn every_name_stands_for_something() {
    let map = map();
    let names = names(tables(&map));
    assert!(names.len() > 100, "only {} names were found", names.len());
    let unit_tests = unit_tests();
    let protocol = read("docs/protocol.md");
    let names = names.union(&self::names(&protocol)).copied().collect::<BTreeSet<_>>();
    let faults: Vec<String> = names.iter().filter_map(|name| fault(name, &unit_tests)).collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn names_that_stand_for_nothing_are_noticed() {
    let unit_tests = BTreeSet::from(["some_test".to_owned()]);
    for name in [
        "lib:no_such_test",
        "wait:no_such_test",
        "wait:no_such_part::no_such_test",
        "wait:wakes::no_such_test",
        "mm:pins::settled", // a helper
        "no_such_file:no_such_test",
        "loom:wait::no_such_model",
        "loom:no_part",
        "loom:main::explore",
        "shuttle:no_such_part::no_such_scenario",
        "hmm:no_such_test",
    ] {
        assert!(fault(name, &unit_tests).is_some(), "{name}");
    }
    if !is_packed() {
        for name in
            ["fuzz:no_such_target", "ci:no_such_script", "model:no_such_case", "bug:no_such_bug"]
        {
            assert!(fault(name, &unit_tests).is_some(), "{name}");
        }
    }
    for name in ["lib:some_test", "hmm:exclusive", "hmm:anon_read", "soak:soak"] {
        assert_eq!(fault(name, &unit_tests), None);
    }
}

#[test]
fn tests_are_told_from_helpers() {
    let text = "#[test]\n/// Says.\n#[cfg(unix)]\nfn one() {}\nfn helper() {}\n    #[test]\n    fn two(x in y()) {}\n\
        #[test]\n#[ignore = \"so\"]\nfn three() {}\n#[test] fn $four() {}\n#[inline]\nfn five() {}\n";
    assert_eq!(tests_in(text), [("one", false), ("two", false), ("three", true)]);
    let mut files = Vec::new();
    rust_files(&root().join("tests"), &mut files);
    rust_files(&root().join("src"), &mut files);
    for file in files.iter().filter(|f| !f.ends_with("tests/map/main.rs")) {
        let text = fs::read_to_string(file).unwrap();
        let marked = text.lines().filter(|l| l.trim_start().starts_with("#[test]")).count();
        assert_eq!(tests_in(&text).len(), marked, "{}", file.display());
    }
}

#[test]
fn every_invariant_and_failure_class_has_a_row_with_a_check() {
    let map = map();
    let rows = rows(&map);
    let list = seeded_list();
    let bugs = bugs(&list);
    let mut ids = BTreeSet::new();
    let mut faults = Vec::new();
    for row in &rows {
        let id = row[0];
        assert!(ids.insert(id), "{id} has two rows");
        assert!(row.len() == 4 || row.len() == 3 && id.starts_with('P'), "{row:?}");
        assert!(row.iter().all(|c| !c.is_empty()), "{row:?}");
        assert!(!names(row[2]).is_empty(), "{id} has no check");
        if row.len() == 4 && !is_packed() {
            faults.extend(uncaught(row, &bugs));
        }
    }
    for id in (1..=39).map(|i| format!("I{i}")).chain((1..=14).map(|i| format!("L{i}"))) {
        assert!(ids.contains(id.as_str()), "{id} has no row");
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn what_a_row_does_not_catch_is_noticed() {
    let bugs = bugs(
        "# x\n\nwet: it is wet\n? wait:rain\n? loom:sea::swim\n@ sea.rs dry\n- dry: true\n+ dry: false\n",
    );
    let faults = |checks, caught| uncaught(&["I1", "dry", checks, caught], &bugs).len();
    assert_eq!(faults("`wait:rain`", "`bug:wet`"), 0);
    assert_eq!(faults("`loom:sea::swim` `wait:sun`", "`bug:wet` `model:flood`"), 0);
    assert_eq!(faults("`wait:sun`", "`bug:wet`"), 1);
    assert_eq!(faults("`wait:rain`", "`bug:dry`"), 1);
    assert_eq!(faults("`wait:rain`", "–"), 1);
    assert_eq!(faults("`wait:rain`", "nothing to break: it never rains"), 0);
}

/// A check that no row names is one that nobody knows the purpose of.
#[test]
fn every_check_is_in_a_row() {
    let map = map();
    let named: BTreeSet<&str> = rows(&map).iter().flat_map(|row| names(row[2])).collect();
    let mut missing = Vec::new();
    for kind in ["loom", "shuttle"] {
        let mut files = Vec::new();
        rust_files(&root().join("tests").join(kind), &mut files);
        for file in files {
            let part = file.file_stem().unwrap().to_str().unwrap();
            for (test, _) in tests_in(&fs::read_to_string(&file).unwrap()) {
                let name = format!("{kind}:{part}::{test}");
                if !named.contains(name.as_str()) {
                    missing.push(name);
                }
            }
        }
    }
    let mut files = Vec::new();
    rust_files(&root().join("tests"), &mut files);
    for file in files {
        let path = file.strip_prefix(root()).unwrap().to_str().unwrap();
        let tests = tests_of_file(path);
        let program = path.trim_start_matches("tests/").trim_end_matches(".rs");
        let prefix = match program.trim_end_matches("/main").split_once('/') {
            Some((program, module)) => format!("{program}:{}::", module.replace('/', "::")),
            None => format!("{}:", program.trim_end_matches("/main")),
        };
        let is_named = |test: &str| named.contains(format!("{prefix}{test}").as_str());
        if !program.starts_with("map/")
            && !tests.is_empty()
            && !tests.iter().any(|(test, _)| is_named(test))
        {
            missing.push(format!("any test of {path}"));
        }
    }
    assert!(missing.is_empty(), "in no row:\n{}", missing.join("\n"));
}
