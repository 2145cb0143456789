//! Instructions of the hot paths, counted and not timed.

use super::Job;
use crate::support::counts::count;
use crate::support::table::{Better, Head, Role, Row};

pub const TITLE: &str = "Instructions of the hot paths";

/// The prefix of a peer's name in `ci/instructions.txt`, and whose it is.
const PEERS: [(&str, &str, Role); 4] = [
    ("raw-", "raw atomics", Role::Bound),
    ("parking_lot-", "parking_lot", Role::Peer),
    ("std-", "std", Role::Peer),
    ("usync-", "usync", Role::Peer),
];

pub fn jobs<'e>() -> Vec<Job<'e>> {
    vec![Job::new("instructions", "instructions", 45.0, |_, tables| {
        let counts = match count() {
            Ok(counts) => counts,
            Err(why) => return eprintln!("left out: {why}"),
        };
        let head = || {
            let note = "Function bodies without the return, exact, the same in every run; \
                        for this compiler.";
            Head::new("instructions", TITLE, "operation", "instructions", Better::Less).note(note)
        };
        let peer = |name: &str| PEERS.iter().find(|(prefix, ..)| name.starts_with(prefix));
        for (name, ours) in counts.iter().filter(|(name, _)| peer(name).is_none()) {
            let mut row = Row::new(name.as_str(), 0.0);
            row.add("pagelock", Role::Ours, vec![*ours]);
            for (prefix, whose, role) in PEERS {
                if let Some((_, theirs)) =
                    counts.iter().find(|(n, _)| n.strip_prefix(prefix) == Some(name))
                {
                    row.add(whose, role, vec![*theirs]);
                }
            }
            tables.row(head(), row);
        }
    })]
}
