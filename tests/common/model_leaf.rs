//! The leaf codec and the conversions between leaves, against the documented layout.
//!
//! [`decode`] takes a word apart by the picture in the documentation and says what [`Leaf::decode`]
//! must make of it. [`convert`] puts a leaf through any chain of conversions: whatever becomes of
//! it, it never allows more than it did, nor more than it was restricted to.
//!
//! With `--cfg pagelock_fuzz` steps derive `arbitrary::Arbitrary`.

use pagelock::leaf::{FRAME_LIMIT, FrameTooLarge, Leaf, Marker, Rights, Tracking, UnknownLeaf};

fn rights(number: u64) -> Option<Rights> {
    [Rights::Read, Rights::ReadExclusive, Rights::Write].get(usize::try_from(number).ok()?).copied()
}

fn tracking(bits: u64) -> Tracking {
    let bit = |n: u64| bits >> n & 1 == 1;
    Tracking { accessed: bit(0), dirty: bit(1), soft_dirty: bit(2), uffd_wp: bit(3) }
}

/// The leaf that a word stands for, by the picture.
fn by_the_picture(word: u64) -> Option<Leaf> {
    let (kind, right, seen, zero, number) =
        (word & 0xf, word >> 4 & 3, word >> 6 & 0xf, word >> 10 & 3, word >> 12);
    if zero != 0 {
        return None;
    }
    let tracking = tracking(seen);
    match (kind, right, seen) {
        (0, 0, 0) if number == 0 => Some(Leaf::None),
        (1, _, _) => Some(Leaf::Present { pfn: number, rights: rights(right)?, tracking }),
        (2, 0, _) => Some(Leaf::Swap { slot: number, tracking }),
        (3, _, _) => Some(Leaf::Migration { pfn: number, rights: rights(right)?, tracking }),
        (4, _, _) => Some(Leaf::DevicePrivate { pfn: number, rights: rights(right)?, tracking }),
        (5, _, _) => Some(Leaf::DeviceExclusive { pfn: number, rights: rights(right)?, tracking }),
        (6, 0, 0) => Some(Leaf::Poison { pfn: number }),
        (7, 0, 0) => {
            let markers = [Marker::UffdWp, Marker::Poison, Marker::Guard];
            markers.get(usize::try_from(number).ok()?).copied().map(Leaf::Marker)
        }
        _ => None,
    }
}

/// A word is the leaf that the picture says, and no other word is; or it is an error that names it.
pub(crate) fn decode(word: u64) {
    match (Leaf::decode(word), by_the_picture(word)) {
        (Ok(leaf), Some(expected)) => {
            assert_eq!(leaf, expected, "{word:#018x}");
            assert_eq!(leaf.encode(), Ok(word));
        }
        (Err(error), None) => {
            assert_eq!(error, UnknownLeaf { word });
            assert!(error.to_string().contains(&format!("{word:#018x}")));
        }
        (found, expected) => panic!("{word:#018x}: {found:?}, where the picture says {expected:?}"),
    }
}

/// Something that is done to a leaf. One that the leaf has nothing for is skipped.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(pagelock_fuzz, derive(arbitrary::Arbitrary))]
pub(crate) enum Step {
    ToMigration,
    ToPresent {
        pfn: u64,
    },
    ToDevicePrivate {
        pfn: u64,
    },
    ToDeviceExclusive,
    Restrict {
        most: u8,
    },
    /// There and back.
    Encode,
}

/// Puts the leaf of `word`, if it is one, through `steps`.
pub(crate) fn convert(word: u64, steps: &[Step]) {
    decode(word);
    let Ok(mut leaf) = Leaf::decode(word) else { return };
    let (mut most, seen) = (leaf.rights(), tracking_of(leaf));
    for step in steps {
        let before = leaf;
        let place = before.pfn();
        let (next, expected_place) = match *step {
            Step::ToMigration => (before.to_migration(), place),
            Step::ToPresent { pfn } => (before.to_present(pfn), Some(pfn)),
            Step::ToDevicePrivate { pfn } => (before.to_device_private(pfn), Some(pfn)),
            Step::ToDeviceExclusive => (before.to_device_exclusive(), place),
            Step::Restrict { most: to } => {
                let to = rights(u64::from(to % 3)).unwrap();
                most = most.map(|most| most.min(to));
                (Some(before.restrict(to)), place)
            }
            Step::Encode => match before.encode() {
                Ok(word) => {
                    decode(word);
                    (Leaf::decode(word).ok(), place)
                }
                Err(FrameTooLarge { number }) => {
                    assert!(number >= FRAME_LIMIT && Some(number) == place, "{before:?}");
                    (Some(before), place)
                }
            },
        };
        let Some(next) = next else {
            let has_rights = before.rights().is_some();
            let already = matches!((step, before), (Step::ToMigration, Leaf::Migration { .. }));
            let elsewhere =
                matches!(step, Step::ToDeviceExclusive) && !matches!(before, Leaf::Present { .. });
            assert!(!has_rights || already || elsewhere, "{before:?} refuses {step:?}");
            continue;
        };
        let kind = match (step, next) {
            (Step::ToMigration, Leaf::Migration { .. })
            | (Step::ToPresent { .. }, Leaf::Present { .. })
            | (Step::ToDevicePrivate { .. }, Leaf::DevicePrivate { .. })
            | (Step::ToDeviceExclusive, Leaf::DeviceExclusive { .. }) => true,
            (Step::Restrict { .. } | Step::Encode, _) => {
                core::mem::discriminant(&before) == core::mem::discriminant(&next)
            }
            _ => false,
        };
        assert!(kind, "{before:?} became {next:?} by {step:?}");
        assert_eq!(next.rights(), most, "{before:?} became {next:?} by {step:?}");
        assert_eq!(tracking_of(next), seen, "{before:?} became {next:?} by {step:?}");
        assert_eq!(next.pfn(), expected_place, "{before:?} became {next:?} by {step:?}");
        leaf = next;
    }
}

fn tracking_of(leaf: Leaf) -> Option<Tracking> {
    match leaf {
        Leaf::Present { tracking, .. }
        | Leaf::Swap { tracking, .. }
        | Leaf::Migration { tracking, .. }
        | Leaf::DevicePrivate { tracking, .. }
        | Leaf::DeviceExclusive { tracking, .. } => Some(tracking),
        _ => None,
    }
}
