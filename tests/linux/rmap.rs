//! The kernel's selftests/mm/rmap.c, re-expressed: processes that have forked from one another,
//! several levels deep, map the same page; one of them has it moved, and all find it where it is
//! then, with what was in it.
//!
//! | row of the kernel's | here |
//! |---|---|
//! | `migrate.anon` | private memory, which a fork shares until it is written to |
//! | `migrate.shm` | shared memory |
//! | `migrate.file` | a page that a cache finds as well, mapped by each process for itself |
//! | `migrate.ksm` | not: pages merged because they are alike have a reverse map of their own, which is the memory manager's |

use crate::common::{
    Lots,
    machine::{DEVICE, FAR, Mm, RAM, machine, move_one},
    rounds,
};
use pagelock::leaf::Rights;
use pagelock::mm::Tiers;
use pagelock::mm::migrate::{Order, Outcome};
use pagelock_soft::{Area, AreaKind, At, SpaceId};

const LEVELS: usize = 3;
const TEXT: &[u8] = b"the same page";

/// Every process forks once a level: two to the power of the levels in the end.
fn grown(mm: &Mm, root: SpaceId, lots: &mut Lots) -> Vec<SpaceId> {
    let mut all = vec![root];
    for _ in 0..LEVELS {
        for parent in all.clone() {
            // Some end early, and their children are somebody else's.
            if all.len() > 2 && lots.draw(8) == 0 {
                continue;
            }
            all.push(mm.fork(parent).unwrap());
        }
    }
    all
}

/// One of them has it moved, and then each has it there.
fn all_follow(mm: &'static Mm, all: &[SpaceId], page: usize, lots: &mut Lots) {
    for to in [FAR, RAM, DEVICE, RAM] {
        let mover = all[lots.draw(all.len() as u64) as usize].page(page);
        let Outcome::Moved { pfn } = move_one(mm, mover, &Order::to(to)) else {
            panic!("to {to:?}")
        };
        for space in all {
            assert_eq!(mm.frame_at(space.page(page)), Some(pfn));
        }
        mm.audit().unwrap();
    }
    for space in all {
        let mut bytes = [0; TEXT.len()];
        mm.read(space.page(page), 0, &mut bytes).unwrap();
        assert_eq!(&bytes, TEXT);
    }
}

fn trees(begin: impl Fn(&'static Mm, At), kind: AreaKind) {
    for seed in 0..rounds(8) {
        let (mm, _) = machine();
        let mut lots = Lots::of(seed);
        let root = mm.spawn().unwrap();
        let at = root.page(3);
        begin(mm, at);
        mm.write(at, 0, TEXT).unwrap();
        let mut all = grown(mm, root, &mut lots);
        all_follow(mm, &all, at.page, &mut lots);
        // One ends, wherever it was in the tree; and one writes.
        let ends = all.swap_remove(lots.draw(all.len() as u64) as usize);
        mm.exit(ends);
        all_follow(mm, &all, at.page, &mut lots);
        let writer = all.swap_remove(lots.draw(all.len() as u64) as usize);
        mm.write(writer.page(at.page), 0, b"T").unwrap();
        let mut first = [0];
        mm.read(all[0].page(at.page), 0, &mut first).unwrap();
        assert_eq!(first[0] == b'T', kind == AreaKind::Shared);
        mm.write(writer.page(at.page), 0, &TEXT[..1]).unwrap();
        all_follow(mm, &all, at.page, &mut lots);
        all.push(writer);
        all.into_iter().for_each(|space| mm.exit(space));
        mm.uncache(1);
        mm.audit().unwrap();
        assert_eq!([RAM, DEVICE, FAR].map(|tier| mm.free_frames(tier)), [127, 128, 128]);
    }
}

#[test]
fn migrate_anon() {
    trees(|mm, at| mm.map(at, 1).unwrap(), AreaKind::Private);
}

#[test]
fn migrate_shm() {
    trees(|mm, at| mm.map_shared(at, 1).unwrap(), AreaKind::Shared);
}

#[test]
fn migrate_file() {
    let file = |mm: &'static Mm, at: At| {
        mm.map_shared(at, 1).unwrap();
        mm.cache(1, mm.frame_at(at).unwrap()).unwrap();
    };
    trees(file, AreaKind::Shared);
}

/// hmm-tests' `migrate_file_private`: a file's page that is mapped privately stays the file's, and
/// is where the cache finds it; what was written to is a copy, and is moved by itself.
#[test]
fn migrate_file_private() {
    let (mm, _) = machine();
    let file = mm.spawn().unwrap();
    mm.map_shared(file.page(0), 2).unwrap();
    for page in 0..2 {
        mm.write(file.page(page), 0, TEXT).unwrap();
        mm.cache(page as u64, mm.frame_at(file.page(page)).unwrap()).unwrap();
    }
    let space = mm.spawn().unwrap();
    let area = Area { kind: AreaKind::Private, rights: Some(Rights::Write) };
    for page in 0..2 {
        mm.share(file.page(page), space.page(page), area).unwrap();
        mm.entry(space.page(page))
            .set_leaf(mm.entry(file.page(page)).leaf().restrict(Rights::Read));
    }
    mm.write(space.page(1), 0, b"mine").unwrap();
    for page in 0..2 {
        assert!(matches!(move_one(mm, space.page(page), &Order::to(FAR)), Outcome::Moved { .. }));
        assert_eq!(mm.tier(mm.frame_at(space.page(page)).unwrap()), FAR);
        assert_eq!(mm.cached_at(page as u64), mm.frame_at(file.page(page)));
    }
    assert_eq!(mm.frame_at(space.page(0)), mm.frame_at(file.page(0)), "still the file's");
    assert_eq!(mm.tier(mm.frame_at(file.page(1)).unwrap()), RAM, "nobody has asked for it");
    let mut bytes = [0; 4];
    for (at, expected) in
        [(space.page(0), b"the "), (space.page(1), b"mine"), (file.page(1), b"the ")]
    {
        mm.read(at, 0, &mut bytes).unwrap();
        assert_eq!(&bytes, expected);
    }
    mm.audit().unwrap();
}
