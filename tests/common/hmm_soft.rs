//! The software memory manager as what a device shares with a processor, and the fixtures of the
//! tests of `hmm`: two devices, either with memory that the processor cannot access, or with memory
//! that it can.

use super::dmirror::{Buffer, Denied, Device, Host, Mirrors};
use super::machine::{Mm, RAM};
use super::own::Own;
use core::ops::Range;
use pagelock::leaf::Rights;
use pagelock::mm::drain::ThreadCpus;
use pagelock::mm::exclusive::{ExclusiveError, make_exclusive};
use pagelock::mm::range::Notifier;
use pagelock::mm::{Access, Faulter, Strategy};
use pagelock_soft::{
    AccessError, Area, AreaKind, At, Config, Kind, SPLIT, Soft, SpaceId, TierConfig, TierId,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

impl Host for Mm {
    fn page_size(&self) -> usize {
        self.page_size()
    }

    fn notifier(&self, space: SpaceId) -> &Notifier<Own> {
        self.notifier(space).expect("there is such a space")
    }

    fn mirrors(&self) -> Arc<Mirrors> {
        let mut all = MIRRORS.lock().unwrap();
        Arc::clone(all.entry(core::ptr::from_ref(self).addr()).or_default())
    }

    fn load(&self, _at: At, pfn: u64, out: &mut [u8]) {
        self.read_frame(pfn, 0, out);
    }

    fn store(&self, _at: At, pfn: u64, bytes: &[u8]) {
        self.write_frame(pfn, 0, bytes);
    }

    fn cpu_read(&self, at: At, out: &mut [u8]) -> Result<(), Denied> {
        self.read(at, 0, out).map_err(denied)
    }

    fn cpu_write(&self, at: At, bytes: &[u8]) -> Result<(), Denied> {
        self.write(at, 0, bytes).map_err(denied)
    }

    fn frames(&self, tier: TierId) -> Range<u64> {
        self.frames_of(tier)
    }
}

fn denied(e: AccessError) -> Denied {
    match e {
        AccessError::NotMapped => Denied::Fault,
        AccessError::NotAllowed => Denied::Permission,
        e => panic!("{e}"),
    }
}

/// Those of each machine, by its address, where it stays.
static MIRRORS: Mutex<BTreeMap<usize, Arc<Mirrors>>> = Mutex::new(BTreeMap::new());

/// One attempt to resolve a fault, as if the processor had run into it.
pub(crate) fn attempt(mm: &Mm, at: At, access: Access) {
    // Whatever it comes to, the caller looks again.
    if let Err(e) = mm.fault(at, access, &mut Faulter::new(Strategy::Wait)) {
        assert!(matches!(e, AccessError::NotMapped | AccessError::NotAllowed), "{at:?}: {e}");
    }
}

/// Which kind of memory the devices have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Variant {
    Private,
    Coherent,
}

/// The first device's memory and the second's.
pub(crate) const DEVICES: [TierId; 2] = [TierId(1), TierId(2)];

/// Frames in each tier.
pub(crate) const FRAMES: usize = 1024;

/// A page table's worth of pages: what the tests have for a huge page.
pub(crate) const LARGE: usize = SPLIT;
pub(crate) const LARGE_ORDER: u32 = LARGE.trailing_zeros();

pub(crate) struct Fixture {
    pub(crate) mm: &'static Mm,
    pub(crate) own: Own,
    pub(crate) variant: Variant,
    pub(crate) space: SpaceId,
    pub(crate) devices: [Device<'static, Mm>; 2],
}

impl Fixture {
    /// As a kernel has it: a new page has a reference in a batch until that is drained.
    pub(crate) fn new(variant: Variant) -> Self {
        Self::with_batches(variant, 4)
    }

    /// Without batches, so that a migration by hand, stage by stage, need not drain them.
    pub(crate) fn unbatched() -> Self {
        Self::with_batches(Variant::Private, 0)
    }

    fn with_batches(variant: Variant, batches: usize) -> Self {
        let own = Own::new(64);
        let device = |owner| match variant {
            Variant::Private => Kind::Device { owner },
            Variant::Coherent => Kind::Coherent { owner },
        };
        let tiers =
            [Kind::System, device(1), device(2)].map(|kind| TierConfig { kind, frames: FRAMES });
        let config =
            Config { page_size: 256, pages: 512, spaces: 8, tiers: tiers.to_vec(), batches };
        // Never dropped, so that hooks and threads may refer to it.
        let mm: &'static Mm = Box::leak(Box::new(Soft::on(own, ThreadCpus, config)));
        // What was in a frame before is nobody's business; so something is.
        for pfn in 1..mm.frame_count() as u64 {
            mm.write_frame(pfn, 0, &[0xa5; 16]);
        }
        let mirrors = mm.mirrors();
        mm.on_invalidate(move |at, pages| mirrors.forget(at, pages));
        let space = mm.spawn().unwrap();
        Self { mm, own, variant, space, devices: DEVICES.map(|tier| Device::new(mm, tier)) }
    }

    pub(crate) fn device(&self) -> &Device<'static, Mm> {
        &self.devices[0]
    }

    pub(crate) fn buffer(&self, page: usize, pages: usize) -> Buffer<'static, Mm> {
        Buffer::new(self.mm, self.space.page(page), pages)
    }

    /// Anonymous memory that is the process's own.
    pub(crate) fn mapped(&self, pages: usize) -> Buffer<'static, Mm> {
        self.mm.map(self.space.page(0), pages).unwrap();
        self.buffer(0, pages)
    }

    /// As many pages as a huge page has, where nothing is yet: by one large entry, or one for each
    /// page.
    pub(crate) fn hole(&self, large: bool) -> Buffer<'static, Mm> {
        if !large {
            return self.mapped(LARGE);
        }
        self.mm.map_large_hole(self.space.page(0), LARGE_ORDER).unwrap();
        self.buffer(0, LARGE)
    }

    /// The same, with `i` as number `i`.
    pub(crate) fn written(&self, pages: usize) -> Buffer<'static, Mm> {
        let buffer = self.mapped(pages);
        buffer.set(|i| i);
        buffer
    }

    /// A huge page, with `i` as number `i`.
    pub(crate) fn large(&self, page: usize) -> Buffer<'static, Mm> {
        self.mm.map_large(self.space.page(page), LARGE_ORDER, RAM).unwrap();
        let buffer = self.buffer(page, LARGE);
        buffer.set(|i| i);
        buffer
    }

    /// Anonymous memory of the process with rights of the caller's choice.
    pub(crate) fn mapped_as(&self, page: usize, pages: usize, rights: Option<Rights>) {
        self.mm
            .map_as(self.space.page(page), pages, Area { kind: AreaKind::Private, rights })
            .unwrap();
    }

    pub(crate) fn tier_at(&self, at: At) -> TierId {
        pagelock::mm::Tiers::tier(self.mm, self.mm.frame_at(at).expect("a page"))
    }

    /// The end of every test: the process goes, then there is nothing left, anywhere, of anything.
    pub(crate) fn close(self) {
        self.mm.audit().unwrap();
        self.mm.exit(self.space);
        assert!(self.mm.pin_balance().is_even());
        pagelock::mm::drain::Drain::all(self.mm, &mut pagelock::mm::drain::Unlocked::promise());
        self.mm.audit().unwrap();
        for (tier, frames) in [(RAM, FRAMES - 1), (DEVICES[0], FRAMES), (DEVICES[1], FRAMES)] {
            assert_eq!(
                self.mm.free_frames(tier),
                frames,
                "{tier:?} has pages left that nobody maps"
            );
        }
    }
}

/// The pages that a device has to itself.
pub(crate) struct Exclusive(Arc<Mutex<BTreeSet<u64>>>);

impl Exclusive {
    pub(crate) fn of(fixture: &Fixture) -> Self {
        let pages = Arc::new(Mutex::new(BTreeSet::new()));
        let told = Arc::clone(&pages);
        fixture.mm.on_revoke(move |pfn| {
            assert!(told.lock().unwrap().remove(&pfn), "frame {pfn:#x} was not exclusive")
        });
        Self(pages)
    }

    /// Makes every page of the buffer the device's, and has it read what is there.
    pub(crate) fn make(&self, buffer: &mut Buffer<'_, Mm>) -> Result<usize, Denied> {
        let (mm, ints) = (buffer.host, buffer.ints());
        for (index, at) in buffer.at.pages(buffer.pages).enumerate() {
            // Locked until the device has been told.
            let exclusive = loop {
                match make_exclusive(mm, at) {
                    Ok(exclusive) => break exclusive,
                    Err(ExclusiveError::Waited(_)) => {}
                    Err(ExclusiveError::NotPresent | ExclusiveError::NotWritable) => {
                        mm.entry(at).allows(Access::Write).map_err(denied)?;
                        attempt(mm, at, Access::Write);
                    }
                    Err(e) => panic!("{e}"),
                }
            };
            let pfn = exclusive.pfn();
            self.0.lock().unwrap().insert(pfn);
            let out = &mut buffer.mirror[index * ints..][..ints];
            let mut bytes = vec![0; ints * 4];
            mm.read_frame(pfn, 0, &mut bytes);
            for (int, bytes) in out.iter_mut().zip(bytes.chunks_exact(4)) {
                *int = u32::from_ne_bytes(bytes.try_into().unwrap());
            }
        }
        Ok(buffer.pages)
    }

    /// How many pages the device still has to itself.
    pub(crate) fn left(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}
