//! What the twelve threads work on, what they count, and what must be so when they rest.

use super::common::own::Own;
use pagelock::leaf::Leaf;
use pagelock::mm::drain::ThreadCpus;
use pagelock_soft::{At, Config, Kind, Soft, SpaceId, TierConfig, TierId};
use std::io::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};

pub(crate) type Mm = Soft<Own, ThreadCpus>;

/// Where pages are made, a device's, one that the processor can access, and more system memory.
pub(crate) const TIERS: [TierId; 4] = [TierId(0), TierId(1), TierId(2), TierId(3)];
const FRAMES: usize = 512;
/// Pages that all of [`World::kin`] share.
pub(crate) const SHARED: core::ops::Range<usize> = 0..12;
/// Pages of the root's own, which forks copy when they are written to.
pub(crate) const PRIVATE: core::ops::Range<usize> = 12..28;
/// Pages that are frames of large ones, as long as nobody splits those.
pub(crate) const LARGE: core::ops::Range<usize> = 32..48;
pub(crate) const LARGE_ORDER: u32 = 3;
/// One after the last of them.
pub(crate) const END: usize = LARGE.end;
/// Pages of a space.
pub(crate) const PAGES: usize = 64;
/// Of which as many can be lost in a run.
const LOSSES: u64 = 16;

macro_rules! counts {
    ($($name:ident: $what:literal, $expected:literal;)*) => {
        /// What has happened so far.
        #[derive(Default)]
        pub(crate) struct Counts { $(pub(crate) $name: AtomicU64,)* }

        impl Counts {
            /// Each with whether a run without it has shown too little.
            fn all(&self) -> impl Iterator<Item = (&'static str, u64, bool)> {
                [$(($what, self.$name.load(SeqCst), $expected),)*].into_iter()
            }
        }
    };
}

counts! {
    added: "additions", true;
    refused: "accesses refused", true;
    moved: "pages moved", true;
    split: "large pages split", true;
    passed: "pages passed over", true;
    put_back: "pages put back", true;
    evicted: "evictions", true;
    not_evicted: "evictions given up", true;
    looked: "ranges read", true;
    late: "ranges given up", true;
    pinned: "ranges pinned", true;
    not_pinned: "ranges not pinned", true;
    exclusive: "pages given to a device", true;
    not_exclusive: "pages not given to a device", true;
    forks: "forks", true;
    not_forked: "forks that failed", true;
    changed: "changes of a child", true;
    filled: "holes filled", true;
    failures: "failures ordered", true;
    remade: "large pages made anew", true;
    lost: "pages lost", true;
}

pub(crate) fn count(n: &AtomicU64) {
    n.fetch_add(1, SeqCst);
}

pub(crate) struct World {
    pub(crate) mm: &'static Mm,
    pub(crate) own: Own,
    pub(crate) root: SpaceId,
    /// The root, and two that share [`SHARED`] with it.
    pub(crate) kin: [SpaceId; 3],
    pub(crate) counts: Counts,
    /// What was added to each of the root's pages.
    sums: [AtomicUsize; END],
    /// Refuses what may not be waited for.
    pub(crate) is_refusing: &'static AtomicBool,
    stop: AtomicBool,
}

impl World {
    pub(crate) fn new() -> &'static Self {
        let tier = |kind| TierConfig { kind, frames: FRAMES };
        let kinds =
            [Kind::System, Kind::Device { owner: 1 }, Kind::Coherent { owner: 2 }, Kind::System];
        let config = Config {
            page_size: 64,
            pages: PAGES,
            spaces: 16,
            tiers: kinds.map(tier).into(),
            batches: 4,
        };
        let own = Own::new(64);
        let mm: &'static Mm = Box::leak(Box::new(Soft::on(own, ThreadCpus, config)));
        let root = mm.spawn().unwrap();
        mm.map_shared(root.page(SHARED.start), SHARED.len()).unwrap();
        let kin = [root, mm.fork(root).unwrap(), mm.fork(root).unwrap()];
        mm.map(root.page(PRIVATE.start), PRIVATE.len()).unwrap();
        for page in SHARED.chain(PRIVATE) {
            mm.add(root.page(page), 1, page).unwrap();
        }
        // A cache finds some of them as well.
        for page in SHARED.step_by(3) {
            mm.cache(page as u64, mm.frame_at(root.page(page)).unwrap()).unwrap();
        }
        let is_refusing: &'static AtomicBool = Box::leak(Box::default());
        let world = Box::leak(Box::new(Self {
            mm,
            own,
            root,
            kin,
            counts: Counts::default(),
            sums: [const { AtomicUsize::new(0) }; END],
            is_refusing,
            stop: AtomicBool::new(false),
        }));
        world.make_large();
        mm.on_ask(move |_, mode| {
            mode != pagelock::mm::migrate::Mode::Async || !is_refusing.load(SeqCst)
        });
        world
    }

    /// Two large pages, each of them written to.
    fn make_large(&self) {
        for page in LARGE.step_by(1 << LARGE_ORDER) {
            self.mm.map_large(self.root.page(page), LARGE_ORDER, TIERS[0]).unwrap();
        }
        for page in LARGE {
            self.mm.add(self.root.page(page), 1, page).unwrap();
        }
    }

    /// Pages that were split are made large anew, with nobody else at work.
    fn remake_large(&self) {
        self.check_sums(LARGE);
        self.mm.unmap(self.root.page(LARGE.start), LARGE.len()).unwrap();
        self.sums[LARGE].iter().for_each(|sum| sum.store(0, SeqCst));
        self.make_large();
        count(&self.counts.remade);
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stop.load(SeqCst)
    }

    pub(crate) fn stop(&self) {
        self.stop.store(true, SeqCst);
    }

    pub(crate) fn resume(&self) {
        self.stop.store(false, SeqCst);
    }

    /// One was added to the page that the root has there.
    pub(crate) fn added(&self, page: usize) {
        self.sums[page].fetch_add(1, SeqCst);
        count(&self.counts.added);
    }

    pub(crate) fn may_lose(&self) -> bool {
        self.counts.lost.load(SeqCst) < LOSSES
    }

    fn fail_nothing(&self) {
        for tier in TIERS {
            self.mm.fail_allocations(tier, 0);
            self.mm.fail_large_allocations(tier, 0);
            self.mm.fail_copies(tier, 0);
        }
        self.mm.fail_cache(0);
        self.mm.set_immovable(false);
        self.is_refusing.store(false, SeqCst);
    }

    fn check_sums(&self, mut pages: core::ops::Range<usize>) {
        let wrong = pages.find_map(|page| {
            let at = self.root.page(page);
            let (sum, text) = (self.mm.add(at, 0, 0).unwrap(), self.mm.add(at, 1, 0).unwrap());
            let expected = (self.sums[page].load(SeqCst), page);
            ((sum, text) != expected).then_some((page, (sum, text), expected))
        });
        assert_eq!(wrong, None, "page, found, expected; {}", self.report());
    }

    /// With nobody at work.
    pub(crate) fn check(&self) {
        self.fail_nothing();
        self.mm.audit().unwrap_or_else(|e| panic!("{e}; {}", self.report()));
        let pins = self.mm.pin_balance();
        assert!(pins.is_even() && pins.counted == 0, "{pins:?}");
        self.check_sums(SHARED);
        self.check_sums(PRIVATE);
        self.check_sums(LARGE);
        let split = LARGE.step_by(1 << LARGE_ORDER).any(|page| {
            let pfn = self.mm.frame_at(self.root.page(page)).unwrap();
            pagelock::mm::Tiers::span(self.mm, pfn).order < LARGE_ORDER
        });
        if split {
            self.remake_large();
        }
    }

    /// All spaces end: every frame but those that were lost is free.
    pub(crate) fn finish(&self) {
        self.kin.iter().for_each(|&space| self.mm.exit(space));
        SHARED.for_each(|page| self.mm.uncache(page as u64));
        self.mm.audit().unwrap();
        pagelock::mm::drain::Drain::all(self.mm, &mut pagelock::mm::drain::Unlocked::promise());
        let free: usize = TIERS.iter().map(|&tier| self.mm.free_frames(tier)).sum();
        let lost = self.counts.lost.load(SeqCst) as usize;
        assert_eq!(free + lost + 1, TIERS.len() * FRAMES, "frames are left; {}", self.report());
    }

    /// What of it has not happened.
    pub(crate) fn missing(&self) -> Option<&'static str> {
        self.counts.all().find(|(_, n, is_expected)| *is_expected && *n == 0).map(|(what, ..)| what)
    }

    pub(crate) fn report(&self) -> String {
        self.counts.all().map(|(what, n, _)| format!("{n} {what}")).collect::<Vec<_>>().join(", ")
    }

    /// Past the harness, which would keep it to itself.
    pub(crate) fn stranded(&self, name: &str) {
        let at = (0..END).map(|page| self.root.page(page));
        let pages: Vec<(At, Leaf)> = at.map(|at| (at, self.mm.leaf(at))).collect();
        let headers: Vec<_> =
            pages.iter().filter_map(|(_, leaf)| self.mm.page(leaf.pfn()?)).collect();
        let _ = writeln!(
            std::io::stderr(),
            "\nstranded: {name}. {}\n{pages:?}\n{headers:?}",
            self.report()
        );
        std::process::abort();
    }
}
