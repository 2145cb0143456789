//! What a process has in its buffer.

use crate::common::{
    dmirror::{
        Denied, Done, Host,
        device::{Device, after},
    },
    own::Own,
};
use core::ops::Range;
use pagelock::Limits;
use pagelock::leaf::Leaf;

use pagelock_soft::{At, SpaceId};

pub(crate) fn leaf_of<H: Host>(entry: &H::Entry<'_>) -> Leaf {
    use pagelock::mm::Entry;
    entry.get().expect("the tables hold nothing but leaves")
}

pub(crate) fn to_bytes(ints: &[u32]) -> Vec<u8> {
    ints.iter().flat_map(|int| int.to_ne_bytes()).collect()
}

pub(crate) fn load_ints<H: Host>(host: &H, at: At, pfn: u64, out: &mut [u32]) {
    let mut bytes = vec![0; out.len() * 4];
    host.load(at, pfn, &mut bytes);
    from_bytes(&bytes, out);
}

fn from_bytes(bytes: &[u8], out: &mut [u32]) {
    for (int, bytes) in out.iter_mut().zip(bytes.chunks_exact(4)) {
        *int = u32::from_ne_bytes(bytes.try_into().expect("four bytes"));
    }
}

/// Some pages of a process, numbers in them, and a copy that the device reads into and writes from.
pub(crate) struct Buffer<'h, H: Host> {
    pub(crate) host: &'h H,
    pub(crate) at: At,
    pub(crate) pages: usize,
    pub(crate) mirror: Vec<u32>,
}

impl<'h, H: Host> Buffer<'h, H> {
    pub(crate) fn new(host: &'h H, at: At, pages: usize) -> Self {
        let mirror = vec![0; pages * host.page_size() / 4];
        Self { host, at, pages, mirror }
    }

    /// The same pages, as another process has them.
    pub(crate) fn of(&self, space: SpaceId) -> Self {
        Self {
            host: self.host,
            at: At { space, ..self.at },
            pages: self.pages,
            mirror: self.mirror.clone(),
        }
    }

    /// Numbers in a page.
    pub(crate) fn ints(&self) -> usize {
        self.host.page_size() / 4
    }

    /// The numbers that page `page` should have, if number `i` of the buffer is `value(i)`.
    fn numbers(&self, page: usize, value: &impl Fn(u32) -> u32) -> Vec<u32> {
        let ints = self.ints();
        (page * ints..(page + 1) * ints).map(|i| value(i as u32)).collect()
    }

    /// The processor writes `value(i)` as number `i`.
    pub(crate) fn set(&self, value: impl Fn(u32) -> u32) {
        self.set_in(0..self.pages, value);
    }

    pub(crate) fn set_in(&self, pages: Range<usize>, value: impl Fn(u32) -> u32) {
        for page in pages {
            self.host
                .cpu_write(after(self.at, page), &to_bytes(&self.numbers(page, &value)))
                .unwrap();
        }
    }

    pub(crate) fn set_mirror(&mut self, value: impl Fn(u32) -> u32) {
        self.mirror.iter_mut().zip(0..).for_each(|(int, i)| *int = value(i));
    }

    /// The processor reads, and finds `value(i)` as number `i`.
    #[track_caller]
    pub(crate) fn expect(&self, value: impl Fn(u32) -> u32) {
        self.expect_in(0..self.pages, value);
    }

    #[track_caller]
    pub(crate) fn expect_in(&self, pages: Range<usize>, value: impl Fn(u32) -> u32) {
        self.expect_at(self.at, pages, value);
    }

    /// The same, for pages that have moved so that the buffer begins at `at`.
    #[track_caller]
    pub(crate) fn expect_at(&self, at: At, pages: Range<usize>, value: impl Fn(u32) -> u32) {
        for page in pages {
            let mut bytes = vec![0; self.host.page_size()];
            let mut found = vec![0; self.ints()];
            if let Err(e) = self.host.cpu_read(after(at, page), &mut bytes) {
                panic!("page {page}: {e:?}");
            }
            from_bytes(&bytes, &mut found);
            assert_eq!(found, self.numbers(page, &value), "page {page}");
        }
    }

    #[track_caller]
    pub(crate) fn expect_mirror(&self, value: impl Fn(u32) -> u32) {
        self.expect_mirror_in(0..self.pages, value);
    }

    #[track_caller]
    pub(crate) fn expect_mirror_in(&self, pages: Range<usize>, value: impl Fn(u32) -> u32) {
        for page in pages {
            let ints = self.ints();
            assert_eq!(
                self.mirror[page * ints..][..ints],
                self.numbers(page, &value),
                "the device's copy of page {page}"
            );
        }
    }

    // What the tests ask of a device, for all of the buffer.

    pub(crate) fn device_read(&mut self, device: &Device<'_, H>) -> Result<Done, Denied> {
        self.device_read_within(device, Limits::none())
    }

    pub(crate) fn device_read_within(
        &mut self,
        device: &Device<'_, H>,
        limits: Limits<'_, Own>,
    ) -> Result<Done, Denied> {
        device.read(self.at, self.pages, limits, &mut self.mirror)
    }

    pub(crate) fn device_write(&self, device: &Device<'_, H>) -> Result<Done, Denied> {
        device.write(self.at, self.pages, &self.mirror)
    }

    pub(crate) fn migrate_to(&mut self, device: &Device<'_, H>) -> Result<usize, Denied> {
        device.migrate_to_device(self.at, self.pages, &mut self.mirror)
    }
}
