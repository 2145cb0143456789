//! The README begins with a server that runs.

#[test]
fn the_readmes_server_is_the_example_and_has_at_most_30_lines() {
    let [readme, example] = [include_str!("../README.md"), include_str!("../examples/server.rs")];
    let shown =
        readme.split("```rust,no_run\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let code = example.split_once('\n').unwrap().1; // behind the line of documentation
    assert_eq!(shown, code);
    // The core's README shows it too.
    assert!(include_str!("../../README.md").contains(shown));
    assert!(shown.lines().count() <= 30);
    assert!(readme.lines().take_while(|line| !line.starts_with("```rust")).count() < 10);
}
