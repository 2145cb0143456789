//! A fault handler in another thread, as with userfaultfd: it is told what is missing, fetches it,
//! and puts it there.

use super::common::dmirror::{Denied, Device, Done, to_bytes};
use super::common::machine::Mm;
use super::common::with_threads;
use core::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use pagelock_soft::{At, MapError, TierId};
use std::sync::mpsc::{self, Sender};

pub(super) struct Handler {
    mm: &'static Mm,
    value: fn(u32) -> u32,
    served: AtomicUsize,
}

/// What is missing, and whom to tell when it is there.
type Request = (At, Sender<()>);

impl Handler {
    pub(super) fn new(mm: &'static Mm, value: fn(u32) -> u32) -> Self {
        Self { mm, value, served: AtomicUsize::new(0) }
    }

    /// How many pages it has put where none was.
    pub(super) fn served(&self) -> usize {
        self.served.load(SeqCst)
    }

    /// Runs `body` with a device whose missing pages the handler provides. Another device reads
    /// them too, at the same time.
    pub(super) fn serve(
        &self,
        at: At,
        pages: usize,
        tier: TierId,
        body: impl FnOnce(&Device<'_, Mm>) -> Result<Done, Denied>,
    ) -> Result<Done, Denied> {
        let (requests, inbox) = mpsc::channel::<Request>();
        with_threads(&[], |s| {
            s.spawn(move || {
                for (at, done) in inbox {
                    self.answer(at);
                    let _ = done.send(());
                }
            });
            let ask = |requests: Sender<Request>| {
                move |at| {
                    let (done, is_done) = mpsc::channel();
                    requests.send((at, done)).unwrap();
                    is_done.recv().unwrap();
                }
            };
            let other = Device::asking(self.mm, tier, ask(requests.clone()));
            s.spawn(move || {
                let mut out = vec![0; pages * self.mm.page_size() / 4];
                assert_eq!(
                    other.read(at, pages, pagelock::Limits::none(), &mut out).unwrap().pages,
                    pages
                );
                assert!(out.iter().zip(0..).all(|(&int, i)| int == (self.value)(i)));
            });
            body(&Device::asking(self.mm, tier, ask(requests)))
        })
    }

    fn answer(&self, at: At) {
        let ints = self.mm.page_size() / 4;
        let page: Vec<u32> =
            (at.page * ints..(at.page + 1) * ints).map(|i| (self.value)(i as u32)).collect();
        match self.mm.copy_in(at, &to_bytes(&page)) {
            Ok(()) => self.served.fetch_add(1, SeqCst),
            // Asked for twice, and there since the first time.
            Err(MapError::BadRange) => 0,
            Err(e) => panic!("{e}"),
        };
    }
}
