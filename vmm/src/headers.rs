//! Headers of eight bytes that know whose they are.
//!
//! A release is given the header's address and nothing else. Headers therefore lie in blocks of
//! 4 KiB, each aligned to its size, and a block begins with the address of its region's context:
//!
//! ```text
//!   block   ┌─────────┬────────┬────────┬─ ─ ─┬──────────┐
//!           │ context │ page 0 │ page 1 │     │ page 510 │   512 × 8 bytes
//!           └─────────┴────────┴────────┴─ ─ ─┴──────────┘
//! ```
//!
//! So the way from a header to its region is a mask and a load, whatever number of regions and VMs
//! the process has, and no table of them is locked or searched.

use crate::layer::Layer;
use event_listener::Event;
use pagelock::futex::Adapt;
use pagelock::{Futex, OsFutex, PageLock};
use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::fmt;
use std::ptr::{self, NonNull};
use std::sync::Arc;

/// The platform of a region's headers: threads sleep as on [`OsFutex`], and a release that is
/// waited for also wakes the guest's processors and the tasks that wait for the page.
///
/// It has no size, and only a [region](crate::Region) makes headers of it.
#[derive(Clone, Copy)]
pub struct Route(());

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Route")
    }
}

impl Adapt for Route {
    type Base = OsFutex;

    fn base(&self) -> &OsFutex {
        &OsFutex
    }

    fn tell(&self, header: usize) {
        OsFutex.tell(header);
        let block = ptr::with_exposed_provenance::<Block>(header & !(BLOCK - 1));
        // SAFETY: a `PageLock<Route>` exists only in a block, since `Route` cannot be made
        // elsewhere. Each release comes through the region or an `Arc` of it, which outlives the
        // call; so block and context are there. The context is written before the region is shared.
        unsafe { (*(*block).context).told(header) }
    }
}

pub(crate) type Header = PageLock<Route>;

const BLOCK: usize = 4096;
const IN_BLOCK: usize = BLOCK / 8 - 1;
/// How many lists of waiting tasks a region has; a page's number chooses.
const LISTS: usize = 64;

#[repr(C, align(4096))]
struct Block {
    context: *const Context,
    _pad: [u8; 8 - size_of::<*const ()>()],
    pages: [Header; IN_BLOCK],
}

const _: () = assert!(size_of::<Block>() == BLOCK && size_of::<Header>() == 8);

/// What a release needs of a region.
pub(crate) struct Context {
    layer: Arc<dyn Layer>,
    first: usize,
    page_size: usize,
    tasks: [Event; LISTS],
}

impl Context {
    fn told(&self, header: usize) {
        let (block, slot) = ((header - self.first) / BLOCK, header % BLOCK / 8 - 1);
        let page = block * IN_BLOCK + slot;
        self.layer.wake(page * self.page_size);
        self.tasks_of(page).notify(usize::MAX);
    }

    /// Where tasks wait that wait for `page`.
    pub(crate) fn tasks_of(&self, page: usize) -> &Event {
        &self.tasks[page % LISTS]
    }
}

/// The headers of a region.
pub(crate) struct Headers {
    blocks: NonNull<Block>,
    count: usize,
    pages: usize,
    context: NonNull<Context>,
}

// SAFETY: it owns its blocks and its context. Headers and `Context` are `Sync`, and nothing else of
// them is reached through `&self`.
unsafe impl Send for Headers {}
// SAFETY: as above.
unsafe impl Sync for Headers {}

impl Headers {
    pub(crate) fn new(pages: usize, page_size: usize, layer: Arc<dyn Layer>) -> Self {
        let count = pages.div_ceil(IN_BLOCK).max(1);
        let layout = Self::layout(count);
        // SAFETY: the layout is not empty.
        let Some(blocks) = NonNull::new(unsafe { alloc_zeroed(layout) }.cast::<Block>()) else {
            handle_alloc_error(layout)
        };
        // Exposed: a release comes back from a header's address alone.
        let first = blocks.as_ptr().expose_provenance();
        let tasks = [const { Event::new() }; LISTS];
        let context =
            NonNull::from(Box::leak(Box::new(Context { layer, first, page_size, tasks })));
        for i in 0..count {
            // SAFETY: in the allocation, which is zeroed: headers of all zeroes are headers, for a
            // platform without a size.
            unsafe { (*blocks.as_ptr().add(i)).context = context.as_ptr() }
        }
        Self { blocks, count, pages, context }
    }

    fn layout(count: usize) -> Layout {
        Layout::array::<Block>(count).expect("headers of memory that exists fit into memory")
    }

    pub(crate) fn pages(&self) -> usize {
        self.pages
    }

    #[inline]
    pub(crate) fn get(&self, page: usize) -> Option<&Header> {
        if page >= self.pages {
            return None;
        }
        // SAFETY: `count` blocks hold all `pages` headers.
        Some(unsafe { &(&(*self.blocks.as_ptr().add(page / IN_BLOCK)).pages)[page % IN_BLOCK] })
    }

    pub(crate) fn context(&self) -> &Context {
        // SAFETY: leaked in `new`, freed in `drop`, and never written in between.
        unsafe { self.context.as_ref() }
    }
}

impl Drop for Headers {
    fn drop(&mut self) {
        // SAFETY: both come from `new`, and nobody has a header any more: guards hold the region.
        // Headers have no destructor.
        unsafe {
            dealloc(self.blocks.as_ptr().cast(), Self::layout(self.count));
            drop(Box::from_raw(self.context.as_ptr()));
        }
    }
}
