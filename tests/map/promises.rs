//! What the documentation promises: every call of an embedder is in the table of locks, and every
//! quotation in the map is still there.

use super::{map, read, root, rust_files};
use std::collections::BTreeSet;
use std::fs;

/// An embedder finds in one table which locks are held when it is called. The names of the calls
/// there, without their traits.
fn table_of_locks(text: &str) -> BTreeSet<&str> {
    let table = text.split_once("//! | call |").expect("there is one").1;
    let rows = table.lines().skip(1).take_while(|line| line.starts_with("//! |"));
    let calls = rows
        .filter_map(|row| row.split('|').nth(1))
        .flat_map(|cell| cell.split('`').skip(1).step_by(2));
    calls.map(|call| call.rsplit("::").next().unwrap()).collect()
}

/// The traits that embedders implement, each with the names of its methods and the line before its
/// comment.
fn traits(text: &str) -> Vec<(&str, Vec<&str>, bool)> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices("\npub trait ") {
        let rest = &text[at + 11..];
        let name = rest.split(|c: char| !c.is_alphanumeric()).next().unwrap();
        let body = &rest[..rest.find("\n}\n").unwrap_or(rest.find('}').unwrap())];
        let methods = body
            .lines()
            .filter_map(|line| line.strip_prefix("    fn ")?.split(['(', '<']).next())
            .collect();
        let comment = text[..=at].rsplit("\n\n").next().unwrap();
        found.push((name, methods, comment.contains("#what-is-held-when-the-embedder-is-called")));
    }
    found
}

#[test]
fn every_call_of_the_embedders_is_in_the_table_of_locks() {
    let front = read("src/mm/mod.rs");
    let table = table_of_locks(&front);
    let mut count = 0;
    for file in
        ["tables", "memory", "tier", "rmap", "areas", "pin/policy", "drain/mod", "drain/cpus"]
    {
        let text = read(format!("src/mm/{file}.rs"));
        for (name, methods, leads_to_it) in
            traits(&text).into_iter().filter(|(_, methods, _)| !methods.is_empty())
        {
            assert!(leads_to_it, "the documentation of {name} does not lead to the table");
            let missing: Vec<_> = methods
                .iter()
                .filter(|method| !table.contains(*method) && name != "Entry")
                .collect();
            assert!(missing.is_empty(), "{name}: {missing:?} are not in the table");
            count += methods.len();
        }
    }
    assert!(count > 30, "only {count} calls were found");
    assert!(
        !table_of_locks("//! | call | PTL |\n//! |---|---|\n//! | [`A::b`] | – |\n").contains("c"),
        "what is not there is missed"
    );
}

/// Promises are quoted. A quotation that the documentation does not say (any more) is a row to look
/// at.
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
    if root().join("soft").is_dir() {
        rust_files(&root().join("soft/src"), &mut files);
    }
    let mut said = [
        "README.md",
        "docs/guide.md",
        "docs/guide/kernel.md",
        "docs/guide/full_kernel.md",
        "docs/guide/vmm.md",
        "docs/guide/pager.md",
        "docs/guide/processes.md",
        "docs/limits.md",
        "docs/porting.md",
        "docs/stuck.md",
    ]
    .map(read)
    .join("\n");
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
