extern crate std;

use super::*;
use core::cell::Cell;

/// A platform that says that it has woken so many, and notes for how many it was asked, and of
/// which class.
#[derive(Clone, Copy)]
struct Reaches<'n> {
    woken: u32,
    asked: &'n Cell<Option<(u32, u32)>>,
}

// SAFETY: it looks at no word.
unsafe impl Futex for Reaches<'_> {
    const CLASSES: bool = true;

    fn wait(&self, _word: &AtomicU32, _expected: u32) -> Sleep {
        unreachable!("nobody sleeps here")
    }

    fn wake_one(&self, _word: *const AtomicU32) {}

    fn wake_all(&self, _word: *const AtomicU32) {
        unreachable!("it has classes")
    }

    fn wake_class(&self, _word: *const AtomicU32, n: u32, class: u32) -> u32 {
        self.asked.set(Some((n, class)));
        self.woken
    }

    fn event(&self, _index: usize) -> &EventSlot<Self> {
        unreachable!("the tests have theirs")
    }

    fn events(&self) -> usize {
        1
    }
}

fn slot<'n>(sequence: u32, sleepers: u32) -> EventSlot<Reaches<'n>> {
    let (sequence, sleepers) = (AtomicU32::new(sequence), AtomicU32::new(sleepers));
    EventSlot { sequence, sleepers, ..EventSlot::new() }
}

#[test]
fn a_release_that_counts_nobody_calls_nobody() {
    let asked = Cell::new(None);
    let slot = slot(7, 0);
    slot.tell(Reaches { woken: 0, asked: &asked });
    assert_eq!((slot.sequence(), asked.get()), (8, None));
}

#[test]
fn a_release_wakes_a_few_of_all_but_the_newest() {
    for sleepers in [1, FIRST, FIRST + 1, 40] {
        let asked = Cell::new(None);
        let slot = slot(7, sleepers);
        slot.tell(Reaches { woken: FIRST, asked: &asked });
        assert_eq!(asked.get(), Some((FIRST, !class(8))));
        assert_eq!(
            slot.drained.load(Relaxed) == 8,
            sleepers <= FIRST,
            "{sleepers}: with more there is a chain"
        );
        assert_eq!(slot.telling.load(Relaxed), 0, "it is not at it any more");
    }
}

#[test]
fn nobody_is_left_when_a_wake_finds_too_few() {
    let asked = Cell::new(None);
    let slot = slot(7, 40);
    slot.tell(Reaches { woken: FIRST - 1, asked: &asked });
    assert_eq!(slot.drained.load(Relaxed), 8);
}

#[test]
fn a_hint_from_the_last_time_round_is_forgotten() {
    let asked = Cell::new(None);
    let slot = slot(u32::MAX, 40);
    assert_eq!(slot.drained.load(Relaxed), 0, "what all zeroes say of the sequence that comes");
    slot.tell(Reaches { woken: FIRST, asked: &asked });
    assert_eq!(slot.sequence(), 0);
    assert_ne!(slot.drained.load(Relaxed), 0);
}

#[test]
fn a_wake_is_passed_on_exactly_if_one_was_used_up_and_somebody_may_be_left() {
    for (drained, ended, now, asks) in [
        (3, Sleep::Woken, 8, Some((NEXT, !class(8)))),
        (3, Sleep::Woken, 7, Some((NEXT, !class(7)))),
        (8, Sleep::Woken, 8, None),
        (3, Sleep::Unknown, 8, None),
        (3, Sleep::Interrupted, 8, None),
        (3, Sleep::TimedOut, 8, None),
        (3, Sleep::TimedOut, 7, None),
    ] {
        let asked = Cell::new(None);
        let slot = slot(now, 5);
        slot.drained.store(drained, Relaxed);
        let slept = slot.sleep(Reaches { woken: NEXT, asked: &asked }, 7, |word, its_class| {
            assert_eq!(its_class, class(7));
            assert!(core::ptr::eq(word, &slot.sequence));
            ended
        });
        assert_eq!(asked.get(), asks, "{ended:?} {now}");
        assert_eq!(slept == Sleep::TimedOut, ended == Sleep::TimedOut && now == 7);
        assert_eq!((slot.sleepers(), slot.drained.load(Relaxed)), (5, drained), "{ended:?} {now}");
    }
}

#[test]
fn a_sleeper_counts_until_it_is_awake_or_its_sleep_panics() {
    let asked = Cell::new(None);
    let slot = slot(7, 0);
    let turns = Cell::new(0);
    let slept = slot.sleep(Reaches { woken: 0, asked: &asked }, 7, |_, _| {
        assert_eq!(slot.sleepers(), 1);
        turns.set(turns.get() + 1);
        if turns.get() < 3 { Sleep::Interrupted } else { Sleep::TimedOut }
    });
    assert!(slept == Sleep::TimedOut && slot.sleepers() == 0);
    #[cfg(feature = "std")]
    {
        let panics = || {
            _ = slot.sleep(Reaches { woken: 0, asked: &asked }, 7, |_, _| {
                panic!("an assertion of the platform's")
            })
        };
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(panics)).expect_err("it goes on");
        assert_eq!(slot.sleepers(), 0);
    }
}

/// None contains another, so a wake that leaves one out reaches all others.
#[test]
fn a_wake_of_all_but_one_class_reaches_every_other() {
    let values =
        (0..0x400).chain(0xfc00..0x1_0000).chain([0x5555, 0xaaaa, 0x1234, 0xffff_fffe, u32::MAX]);
    for left_out in [0u32, 1, 0x7fff, 0x8000, 0xffff, 0x1_0000, u32::MAX] {
        assert_eq!(class(left_out).count_ones(), 16);
        for other in values.clone() {
            assert_eq!(
                class(other) & !class(left_out) == 0,
                other & 0xffff == left_out & 0xffff,
                "{other:x}, {left_out:x}"
            );
        }
    }
}

/// So many headers, a distance apart, and in how many slots they are: no fewer than chance would
/// have it, but for one time in a million.
#[cfg(target_pointer_width = "64")] // 32 bits have no room for such distances.
fn spread(from: usize, headers: usize, distance: usize, slots: usize) -> usize {
    let mut used = std::vec![false; slots];
    for header in 0..headers {
        let at = index(from.wrapping_add(header * distance), slots);
        used[at] = true;
    }
    used.into_iter().filter(|&used| used).count()
}

/// The least that one may expect of `headers` thrown at random into `slots`: the mean less five
/// deviations.
#[cfg(target_pointer_width = "64")] // 32 bits have no room for such distances.
fn by_chance(headers: usize, slots: usize) -> usize {
    let (n, m) = (headers as f64, slots as f64);
    let (missed, missed_twice) = ((1.0 - 1.0 / m).powf(n), (1.0 - 2.0 / m).max(0.0).powf(n));
    let variance = m * (missed - missed_twice) + m * m * (missed_twice - missed * missed);
    (m * (1.0 - missed) - 5.0 * variance.max(0.0).sqrt() - 1.0).floor().max(0.0) as usize
}

#[cfg(target_pointer_width = "64")] // 32 bits have no room for such distances.
#[test]
fn headers_at_any_distance_have_as_many_slots_as_chance_gives() {
    let powers = (3..40).map(|shift| 1usize << shift);
    // Those that a product by the golden ratio is at its worst with.
    let mut fibonacci = (8usize, 13usize);
    let worst = core::iter::from_fn(move || {
        fibonacci = (fibonacci.1, fibonacci.0 + fibonacci.1);
        (fibonacci.0 < 1 << 36).then_some(fibonacci.0 * 8)
    });
    let odd = [
        24,
        40,
        48,
        56,
        72,
        80,
        96,
        112,
        192,
        320,
        4096 + 64,
        4096 * 3,
        (2 << 20) + 4096,
        6 << 20,
        1000 * 8,
        8 * 12_345_679,
    ];
    for distance in powers.chain(worst).chain(odd) {
        for slots in [1, 2, 16, 64, 100, 128, 1 << 12] {
            for (from, headers) in [
                (0, 1024),
                (0x7f00_0000_0000, 1024),
                (0x7f3a_5c01_2340, 200),
                (0x5555_5555_6000, 16),
            ] {
                let (spread, least) =
                    (spread(from, headers, distance, slots), by_chance(headers, slots));
                assert!(
                    spread >= least,
                    "{headers} headers {distance:#x} apart from {from:#x}: \
                     {spread} of {slots} slots, not {least}"
                );
            }
        }
    }
}

/// As an allocator places them: some to a slab, slabs in arenas far apart.
#[cfg(target_pointer_width = "64")] // 32 bits have no room for such distances.
#[test]
fn headers_in_an_allocators_arenas_have_as_many_slots_as_chance_gives() {
    for arena in [64usize << 20, 32 << 20, 4 << 20, 1 << 16] {
        for size in [48, 64, 112, 256, 1040] {
            for slots in [64, 128, 256] {
                let mut used = std::vec![false; slots];
                for header in 0..512 {
                    let (in_arena, of_slab) = (header / 64, header % 64);
                    used[index(0x7f10_0000_0030 + in_arena * arena + of_slab * size, slots)] = true;
                }
                let spread = used.into_iter().filter(|&used| used).count();
                assert!(
                    spread >= by_chance(512, slots),
                    "{size} bytes in arenas of {arena:#x}: {spread} of {slots}"
                );
            }
        }
    }
}

#[test]
fn every_address_has_a_slot_of_the_table() {
    for slots in [1, 3, 64, 1 << 20] {
        for address in [0, 8, usize::MAX >> 17 & !7, usize::MAX - 7, usize::MAX] {
            assert!(index(address, slots) < slots);
        }
    }
}
