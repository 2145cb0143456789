//! The check at the end: every byte, every page, every reference.

use crate::engine::Engine;
use crate::ledger::{Digest, Ledger};
use crate::region::PAGE;
use crate::tables::At;
use pagelock::leaf::Leaf;

/// Compares the memory with the ledger and the headers with the tables. All threads have ended.
///
/// The digest of the contents, or what is wrong, with the page named.
pub fn check(engine: &Engine, ledger: &Ledger) -> Result<u64, String> {
    let (mut is, mut ought) = (Digest::default(), Digest::default());
    for page in 0..engine.region.pages() {
        let header = &engine.headers[page];
        let bad = |what: String| Err(format!("page {page}: {what}; its header says {header:?}"));
        if header.is_locked() || header.is_migrating() || header.is_frozen() {
            return bad("is still being worked on".into());
        }
        if header.refs() as usize != engine.region.mappings() || header.pins() != 0 {
            return bad(format!("leaked a reference or a pin: it is mapped {} times", engine.region.mappings()));
        }
        let leaf = engine.tables.leaf(At { mapping: 0, page });
        let cold = match leaf {
            Leaf::Present { pfn, .. } if pfn == page as u64 => false,
            Leaf::DevicePrivate { pfn, .. } if pfn == page as u64 => true,
            other => return bad(format!("is unaccounted for: mapping 0 says {other:?}")),
        };
        for mapping in 1..engine.region.mappings() {
            let other = engine.tables.leaf(At { mapping, page });
            if other != leaf {
                return bad(format!("mapping 0 says {leaf:?} and mapping {mapping} says {other:?}"));
            }
        }
        let mut bytes = [0; PAGE];
        if let Err(e) = engine.region.read_page(page, cold, &mut bytes) {
            return bad(format!("is not where its entries say: {e}"));
        }
        let expected = ledger.page(page);
        if let Some(at) = (0..PAGE).find(|&i| bytes[i] != expected[i]) {
            return bad(format!("byte {at} is {:#04x} and ought to be {:#04x}", bytes[at], expected[at]));
        }
        is.add(&bytes);
        ought.add(&expected);
    }
    if is.value() == ought.value() { Ok(is.value()) } else { Err("the digests differ although every page agrees".into()) }
}
