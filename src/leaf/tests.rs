//! Every leaf survives the way out and back, and every word is a leaf or an error.

extern crate std;

use super::encoding::*;
use super::*;
use proptest::prelude::*;
use std::string::ToString;

fn rights() -> impl Strategy<Value = Rights> {
    prop_oneof![Just(Rights::Read), Just(Rights::ReadExclusive), Just(Rights::Write)]
}

fn tracking() -> impl Strategy<Value = Tracking> {
    any::<[bool; 4]>().prop_map(|[accessed, dirty, soft_dirty, uffd_wp]| Tracking {
        accessed,
        dirty,
        soft_dirty,
        uffd_wp,
    })
}

fn leaf() -> impl Strategy<Value = Leaf> {
    let n = 0..FRAME_LIMIT;
    prop_oneof![
        Just(Leaf::None),
        (n.clone(), rights(), tracking()).prop_map(|(pfn, rights, tracking)| Leaf::Present {
            pfn,
            rights,
            tracking
        }),
        (n.clone(), tracking()).prop_map(|(slot, tracking)| Leaf::Swap { slot, tracking }),
        (n.clone(), rights(), tracking()).prop_map(|(pfn, rights, tracking)| Leaf::Migration {
            pfn,
            rights,
            tracking
        }),
        (n.clone(), rights(), tracking()).prop_map(|(pfn, rights, tracking)| Leaf::DevicePrivate {
            pfn,
            rights,
            tracking
        }),
        (n.clone(), rights(), tracking()).prop_map(|(pfn, rights, tracking)| {
            Leaf::DeviceExclusive { pfn, rights, tracking }
        }),
        n.prop_map(|pfn| Leaf::Poison { pfn }),
        prop_oneof![Just(Marker::UffdWp), Just(Marker::Poison), Just(Marker::Guard)]
            .prop_map(Leaf::Marker),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn decode_undoes_encode(leaf in leaf()) {
        prop_assert_eq!(Leaf::decode(leaf.encode().unwrap()), Ok(leaf));
    }

    #[test]
    fn a_word_is_a_leaf_or_an_error_that_names_it(word: u64) {
        match Leaf::decode(word) {
            Ok(leaf) => prop_assert_eq!(leaf.encode(), Ok(word)),
            Err(e) => prop_assert_eq!(e, UnknownLeaf { word }),
        }
    }

    #[test]
    fn no_round_trip_widens_rights(leaf in leaf(), most in rights(), pfn in 0..FRAME_LIMIT) {
        let before = leaf.rights();
        let (migration, present) = (leaf.to_migration(), leaf.to_present(pfn));
        let (private, exclusive) = (leaf.to_device_private(pfn), leaf.to_device_exclusive());
        for after in [migration, present, private, exclusive].into_iter().flatten() {
            prop_assert_eq!(after.rights(), before);
            // Protection while the page is on its way holds when it arrives.
            let arrived = after.restrict(most).to_present(pfn).unwrap();
            prop_assert_eq!(arrived.rights(), before.map(|r| r.min(most)));
        }
    }

    #[test]
    fn tracking_survives_the_way_out_and_back(
        pfn in 0..FRAME_LIMIT, rights in rights(), tracking in tracking(),
    ) {
        let before = Leaf::Present { pfn, rights, tracking };
        let there = before.to_migration().and_then(|l| l.to_device_private(1));
        let back = there.and_then(Leaf::to_migration).and_then(|l| l.to_present(pfn));
        prop_assert_eq!(back, Some(before));
    }
}

#[test]
fn a_leaf_names_its_frame_and_keeps_it_when_it_is_restricted() {
    let (rights, tracking) = (Rights::Write, Tracking { dirty: true, ..Tracking::default() });
    for (leaf, pfn) in [
        (Leaf::Present { pfn: 1, rights, tracking }, Some(1)),
        (Leaf::Migration { pfn: 2, rights, tracking }, Some(2)),
        (Leaf::DevicePrivate { pfn: 3, rights, tracking }, Some(3)),
        (Leaf::DeviceExclusive { pfn: 4, rights, tracking }, Some(4)),
        (Leaf::Poison { pfn: 5 }, Some(5)),
        (Leaf::None, None),
        (Leaf::Swap { slot: 6, tracking }, None),
        (Leaf::Marker(Marker::Guard), None),
    ] {
        let restricted = leaf.restrict(Rights::Read);
        assert_eq!((leaf.pfn(), restricted.pfn()), (pfn, pfn));
        assert_eq!(restricted.rights(), leaf.rights().map(|_| Rights::Read));
        if leaf.rights().is_none() {
            assert_eq!(restricted, leaf);
        }
    }
}

#[test]
fn what_cannot_be_converted_is_not() {
    let (rights, tracking) =
        (Rights::ReadExclusive, Tracking { soft_dirty: true, ..Tracking::default() });
    let present = Leaf::Present { pfn: 1, rights, tracking };
    let migration = Leaf::Migration { pfn: 1, rights, tracking };
    let exclusive = Leaf::DeviceExclusive { pfn: 1, rights, tracking };
    assert_eq!(present.to_migration(), Some(migration));
    assert_eq!(exclusive.to_migration(), Some(migration));
    assert_eq!(migration.to_migration(), None);
    assert_eq!(present.to_device_exclusive(), Some(exclusive));
    assert_eq!(migration.to_device_exclusive(), None);
    for leaf in [
        Leaf::None,
        Leaf::Swap { slot: 1, tracking },
        Leaf::Poison { pfn: 1 },
        Leaf::Marker(Marker::Guard),
    ] {
        assert_eq!((leaf.rights(), leaf.to_migration(), leaf.to_present(2)), (None, None, None));
        assert_eq!((leaf.to_device_private(2), leaf.to_device_exclusive()), (None, None));
    }
}

/// The picture at the top, bit by bit.
#[test]
fn the_encoding_is_the_one_that_is_documented() {
    let pfn = 0xf_ffff_ffff_ffff;
    let none = Tracking::default();
    let all = Tracking { accessed: true, dirty: true, soft_dirty: true, uffd_wp: true };
    for (leaf, word) in [
        (Leaf::None, 0),
        (Leaf::Present { pfn: 1, rights: Rights::Read, tracking: none }, 0x1001),
        (Leaf::Present { pfn: 0, rights: Rights::ReadExclusive, tracking: all }, 0x3d1),
        (Leaf::Swap { slot: 2, tracking: Tracking { accessed: true, ..none } }, 0x2042),
        (
            Leaf::Migration {
                pfn,
                rights: Rights::Write,
                tracking: Tracking { dirty: true, ..none },
            },
            0xffff_ffff_ffff_f0a3,
        ),
        (
            Leaf::DevicePrivate {
                pfn: 0,
                rights: Rights::Read,
                tracking: Tracking { soft_dirty: true, ..none },
            },
            0x104,
        ),
        (
            Leaf::DeviceExclusive {
                pfn: 0,
                rights: Rights::Read,
                tracking: Tracking { uffd_wp: true, ..none },
            },
            0x205,
        ),
        (Leaf::Poison { pfn: 3 }, 0x3006),
        (Leaf::Marker(Marker::UffdWp), 7),
        (Leaf::Marker(Marker::Poison), 0x1007),
        (Leaf::Marker(Marker::Guard), 0x2007),
    ] {
        assert_eq!(leaf.encode(), Ok(word), "{leaf:?}");
        assert_eq!(Leaf::decode(word), Ok(leaf));
    }
}

#[test]
fn zero_is_none_and_nothing_else_is() {
    assert_eq!(Leaf::decode(0), Ok(Leaf::None));
    assert!(Leaf::decode(1 << NUMBER_SHIFT).is_err());
}

#[test]
fn bad_words_say_what_was_seen() {
    for word in [
        8,
        15,
        PRESENT | 3 << RIGHTS_SHIFT,
        PRESENT | 1 << 10,
        POISON | ACCESSED,
        MARKER | 3 << NUMBER_SHIFT,
    ] {
        let e = Leaf::decode(word).unwrap_err();
        assert_eq!(e.word, word);
        assert!(e.to_string().contains(&std::format!("{word:#018x}")), "{e}");
    }
    let e = Leaf::Poison { pfn: FRAME_LIMIT }.encode().unwrap_err();
    assert!(e.to_string().contains("0x10000000000000"), "{e}");
}
