//! Real pages that are pinned, by the test and by io_uring, stay where they are.

use crate::region::PAGE;
use crate::{
    common::{
        dmirror::{Device, Host, after},
        machine::RAM,
    },
    real::{real, tier_at, written},
    real_engine::RealEntry,
    real_memory::{DEVICE, Real},
};
use core::sync::atomic::Ordering::SeqCst;
use pagelock::Limits;
use pagelock::mm::drain::Unlocked;
use pagelock::mm::migrate::{Mode, Order, Outcome, Skip, Slot, migrate as migrate_slots};
use pagelock::mm::pin::{PinOrder, PinPolicy, Term, pin_page};
use pagelock::mm::{Access, Tiers};
use pagelock_soft::{At, TierId};
use std::io::{self, Write as _};

/// Everything may be pinned, where it can be accessed.
struct Anywhere;

impl PinPolicy<Real> for Anywhere {
    type Refused = ();

    fn permit(&self, _: &Real, _: At, _: &RealEntry<'_>, _: Access, _: Term) -> Result<(), ()> {
        Ok(())
    }

    fn home(&self, _: &Real, tier: TierId) -> Option<TierId> {
        (tier != RAM).then_some(RAM)
    }
}

/// A pin brings a page back from the device, by the fault path on real tables, and keeps it in its
/// frame: no migration moves it, and what the processor writes is where the pin says. When it is
/// dropped the page can be moved again.
#[test]
fn a_pinned_page_stays() {
    let unlocked = &mut Unlocked::promise();
    let Some(real) = real(|_| 0) else { return };
    let device = Device::new(real, DEVICE);
    let mut b = written(real, 2, |i| i);
    for (turn, term) in [Term::Short, Term::Long].into_iter().enumerate() {
        assert_eq!(b.migrate_to(&device), Ok(2));
        assert_eq!(tier_at(real, b.at), DEVICE);
        let order = PinOrder::new(Access::Write, term, Limits::none());
        let pinned = pin_page(real, b.at, &order, &Anywhere, real, unlocked)
            .unwrap_or_else(|e| panic!("{term:?}: {e:?}"));
        assert_eq!(real.tier(pinned.pfn()), RAM);
        for mut slot in [Slot::at(b.at), Slot::frame(pinned.pfn())] {
            let order = Order::to(DEVICE).mode(Mode::SyncLight).tries(2);
            let _ = migrate_slots(real, core::slice::from_mut(&mut slot), &order, real, unlocked);
            assert_eq!(slot.outcome(), Outcome::Skipped(Skip::Pinned { pins: 1 }));
        }
        let value = |i| i + turn as u32 + 1;
        b.set(value);
        let mut bytes = [0; PAGE];
        real.load(b.at, pinned.pfn(), &mut bytes);
        assert_eq!(u32::from_ne_bytes(bytes[4..8].try_into().unwrap()), value(1));
        assert_eq!(real.entry(b.at).leaf().pfn(), Some(pinned.pfn()));
        drop(pinned);
        b.expect(value);
    }
    assert_eq!(b.migrate_to(&device), Ok(2));
    b.expect(|i| i + 2);
    real.close();
}

/// A ring of the system's with `buffer` registered, or a word about why there is none.
fn ring_with(buffer: *mut u8, bytes: usize) -> Option<io_uring::IoUring> {
    let registered = io_uring::IoUring::new(4).and_then(|ring| {
        let buffer = libc::iovec { iov_base: buffer.cast(), iov_len: bytes };
        // SAFETY: the memory is mapped for good, and accessed by atomics and the kernel only.
        unsafe { ring.submitter().register_buffers(&[buffer]) }?;
        Ok(ring)
    });
    match registered {
        Ok(ring) => Some(ring),
        Err(why) => {
            let _ = writeln!(
                io::stderr(),
                "\nio_uring: SKIPPED, no buffer can be registered here: {why}"
            );
            None
        }
    }
}

/// One transfer between the registered buffer and the file, from its start.
fn transfer(ring: &mut io_uring::IoUring, entry: io_uring::squeue::Entry) {
    // SAFETY: the buffer is the registered one, and stays; the file is open until this has
    // returned.
    unsafe { ring.submission().push(&entry) }.unwrap();
    ring.submit_and_wait(1).unwrap();
    let result = ring.completion().next().expect("it was waited for").result();
    assert_eq!(result, PAGE as i32, "{}", io::Error::from_raw_os_error(-result));
}

/// `gup_longterm`'s row of io_uring: the system has pinned the page by itself, and no count of ours
/// says so. So it would refuse to move it, and the registrant refuses before. Transfers
/// go on to be the page's; and when it is not registered any more it moves.
#[test]
fn a_buffer_that_io_uring_has_stays() {
    use io_uring::{opcode, types::Fd};
    let unlocked = &mut Unlocked::promise();
    let Some(real) = real(|_| 0) else { return };
    let device = Device::new(real, DEVICE);
    let mut b = written(real, 2, |i| i);
    let buffer = real.address(b.at.page);
    let Some(mut ring) = ring_with(buffer, PAGE) else { return real.close() };
    // SAFETY: makes a file without a name.
    let file = unsafe { libc::memfd_create(c"transfer".as_ptr(), 0) };
    assert!(file >= 0);
    // The control: without a word from `prepare` the system says no, and that is after the entry
    // was taken down.
    let pfn = real.entry(b.at).leaf().pfn().unwrap();
    // SAFETY: both are pages of the registered mapping, which is used by atomics and the kernel
    // only.
    let refused = unsafe { real.uffd.move_page(real.home(pfn), buffer) }.unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(libc::EBUSY));
    real.registered.store(pfn as usize, SeqCst);
    let order = Order::to(DEVICE).mode(Mode::SyncLight).tries(2);
    for turn in 1..3 {
        let mut slots = [Slot::at(b.at), Slot::at(after(b.at, 1))];
        let _ = migrate_slots(real, &mut slots, &order, real, unlocked);
        assert_eq!(
            slots[0].outcome(),
            Outcome::Skipped(Skip::Refused(())),
            "a page that the system has pinned"
        );
        assert!(slots[1].outcome().is_done(), "and its neighbour goes: {slots:?}");
        assert_eq!(tier_at(real, b.at), RAM);
        b.set(|i| i + turn);
        let out = opcode::WriteFixed::new(Fd(file), buffer, PAGE as u32, 0).offset(0);
        transfer(&mut ring, out.build());
        let mut bytes = [0; PAGE];
        // SAFETY: reads into an array of this call's.
        assert_eq!(unsafe { libc::pread(file, bytes.as_mut_ptr().cast(), PAGE, 0) }, PAGE as isize);
        assert_eq!(
            u32::from_ne_bytes(bytes[4..8].try_into().unwrap()),
            1 + turn,
            "a transfer out of the page"
        );
        bytes[4..8].copy_from_slice(&77_u32.to_ne_bytes());
        // SAFETY: writes an array of this call's.
        assert_eq!(unsafe { libc::pwrite(file, bytes.as_ptr().cast(), PAGE, 0) }, PAGE as isize);
        let into = opcode::ReadFixed::new(Fd(file), buffer, PAGE as u32, 0).offset(0);
        transfer(&mut ring, into.build());
        b.expect_in(0..1, |i| if i == 1 { 77 } else { i + turn });
    }
    ring.submitter().unregister_buffers().unwrap();
    drop(ring);
    real.registered.store(usize::MAX, SeqCst);
    // SAFETY: opened above, and used by nobody any more.
    unsafe { libc::close(file) };
    assert_eq!(b.migrate_to(&device), Ok(2));
    b.expect(|i| if i == 1 { 77 } else { i + 2 });
    real.close();
}
