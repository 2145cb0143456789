//! What the header costs and what memory is a header: eight bytes, and eight zero bytes will do.

use crate::common::watched;
use core::mem::{MaybeUninit, align_of, needs_drop, size_of, size_of_val};
use pagelock::futex::{Adapt, EventSlot, SpinFutex};
use pagelock::{Cancel, Futex, OsFutex, PageGuard, PageLock, PagePin, PageRef, Wake};

static ONE: PageLock = PageLock::new();
static MANY: [PageLock; 4096] = [const { PageLock::new() }; 4096];

#[test]
fn a_header_is_eight_bytes() {
    assert_eq!((size_of::<PageLock>(), align_of::<PageLock>()), (8, 4));
    assert_eq!((size_of::<PageLock<SpinFutex>>(), align_of::<PageLock<SpinFutex>>()), (8, 4));
    assert_eq!(size_of_val(&MANY), 8 * 4096);
}

#[test]
fn a_header_has_no_destructor() {
    assert!(!needs_drop::<PageLock>());
}

#[test]
fn a_platform_with_a_size_is_all_that_a_header_grows_by() {
    #[derive(Clone, Copy)]
    struct Handle(#[allow(dead_code)] u32);
    impl Adapt for Handle {
        type Base = OsFutex;
        fn base(&self) -> &OsFutex {
            &OsFutex
        }
    }
    assert_eq!(size_of::<PageLock<Handle>>(), 12);
    assert!(PageLock::with_futex(Handle(7)).try_lock().is_some());
}

#[test]
fn a_guard_is_a_pointer() {
    assert_eq!(size_of::<PageGuard<'_>>(), size_of::<usize>());
    assert_eq!(size_of::<Option<PageGuard<'_>>>(), size_of::<usize>());
    assert_eq!(size_of::<PageRef<'_>>(), size_of::<usize>());
    assert_eq!(size_of::<PagePin<'_>>(), size_of::<usize>());
}

#[test]
fn zeroed_memory_is_a_header() {
    watched(&[], || {
        let mut memory = MaybeUninit::<PageLock>::zeroed();
        // SAFETY: the documentation promises that all zeroes are a valid header.
        let page = unsafe { memory.assume_init_mut() };
        assert_eq!(format!("{page:?}"), format!("{:?}", PageLock::new()));
        let guard = page.lock();
        assert!(page.try_lock().is_none());
        drop(guard);
        page.activate(1).unwrap();
        assert!(page.try_get().is_ok() && page.try_pin().is_ok());
        assert_eq!(page.wait_unlocked(()), Wake::NotLocked);
    });
}

#[test]
fn a_new_header_is_zeroed_memory() {
    let page = PageLock::new();
    // SAFETY: eight bytes of two integers, without padding; nobody else uses them.
    let bytes = unsafe { core::ptr::from_ref(&page).cast::<[u8; 8]>().read() };
    assert_eq!(bytes, [0; 8]);
}

/// `#[repr(C)]`: the state at offset 0, the counts at offset 4, so that tools and other languages
/// can read them.
#[test]
fn the_state_comes_first_and_then_the_counts() {
    let page = PageLock::new();
    let words = || {
        // SAFETY: two integers, and nobody writes to them meanwhile.
        unsafe { core::ptr::from_ref(&page).cast::<[u32; 2]>().read_volatile() }
    };
    assert_eq!(words(), [0, 0]);
    let guard = page.lock();
    let [state, counts] = words();
    assert!(state != 0 && counts == 0);
    page.activate(5).unwrap();
    assert_eq!(words(), [state, 5]);
    let pin = page.try_pin().unwrap();
    assert_eq!(words(), [state, 5 | 1 << 19]);
    drop((pin, guard));
}

#[test]
fn headers_in_statics_work() {
    let (first, last) = (&MANY[0], &MANY[4095]);
    let guard = first.lock();
    assert!(first.is_locked() && !last.is_locked() && !ONE.is_locked());
    assert!(last.try_lock().is_some() && ONE.try_lock().is_some());
    drop(guard);
}

#[test]
fn the_event_table_takes_at_most_16_kib() {
    assert_eq!(size_of::<EventSlot>(), 16);
    // Slots are padded to cache lines, of at most 128 bytes on the targets where there are many
    // slots.
    let apart = |i: usize| core::ptr::from_ref(const { &OsFutex }.event(i)).addr();
    let padded = apart(1) - apart(0);
    assert!(padded >= size_of::<EventSlot>());
    assert!(OsFutex.events() * padded <= 16 << 10, "{} slots of {padded} bytes", OsFutex.events());
    assert_eq!(size_of::<OsFutex>(), 0);
}

#[test]
fn every_header_has_an_event_slot() {
    for page in &MANY {
        assert!(OsFutex.event_index(core::ptr::from_ref(page).addr()) < OsFutex.events());
    }
}

#[test]
fn a_switch_is_small_and_can_be_static() {
    static SWITCH: Cancel = Cancel::new();
    assert_eq!(size_of_val(&SWITCH), 4);
    assert!(!SWITCH.is_cancelled());
}

#[test]
fn user_bits_stay_through_everything_else() {
    watched(&[], || {
        use pagelock::{FreezeRule, UserBits};
        let page = PageLock::new();
        page.activate(1).unwrap();
        for bits in 0..32 {
            let mut guard = page.lock();
            guard.set_user(UserBits::new(bits));
            assert_eq!(page.user().get(), bits);
            guard.begin_migration().freeze(FreezeRule::ExactRefs(1)).unwrap().commit_in_place();
            page.lock().unlock_fair();
            assert_eq!(page.user().get(), bits);
        }
        page.lock().poison();
        assert_eq!(page.user().get(), 31);
    });
}

#[test]
fn every_release_is_a_new_generation() {
    let page = PageLock::new();
    for n in 0..600u32 {
        assert_eq!(u32::from(page.generation()), n % 256);
        let guard = page.lock();
        assert_eq!(u32::from(page.generation()), n % 256);
        if n % 2 == 0 { drop(guard) } else { drop(guard.begin_migration()) }
    }
    assert!(!page.is_locked() && page.refs() == 0, "the carry has gone nowhere: {page:?}");
}
