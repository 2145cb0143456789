//! Guest memory as the hypervisor has it, whose pages another process brings and takes.

use crate::accident::{Accident, Brake};
use crate::home::Home;
use crate::program::{Layout, PAGE};
use pagelock_vmm::shared::{NotDropped, SharedRegion};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

pub(crate) struct External {
    pub(crate) region: SharedRegion,
    pub(crate) layout: Layout,
    pub(crate) brake: Arc<Brake>,
    pub(crate) balloon_guest: AtomicU64,
    pub(crate) balloon_host: AtomicU64,
}

impl Home for External {
    fn layout(&self) -> &Layout {
        &self.layout
    }

    fn brake(&self) -> &Brake {
        &self.brake
    }

    fn host_range(&self) -> Range<usize> {
        self.region.base()..self.region.base() + self.region.pages() as usize * PAGE
    }

    fn balloon(&self, pages: Range<u32>) {
        let by = if pages.len() == 1 { &self.balloon_guest } else { &self.balloon_host };
        by.fetch_add(pages.len() as u64, Relaxed);
        let taken = (self.region.desk().map_err(|error| error.to_string())).and_then(|desk| {
            pages
                .clone()
                .try_for_each(|page| desk.discard(page))
                .map_err(|error: NotDropped| error.to_string())
        });
        if let Err(error) = taken {
            self.brake.pull(Accident::Outside(format!(
                "pages {pages:?} cannot go to the balloon: {error}"
            )));
        }
    }
}
