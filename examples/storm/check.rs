//! The check at the end: every byte, every page, every reference.

use crate::engine::Engine;
use crate::ledger::{Digest, Ledger};
use crate::machine::{Machine, at};
use crate::region::PAGE;
use pagelock::leaf::Leaf;

/// Compares the memory with the ledger and the headers with the tables. All threads have ended.
///
/// The digest of the contents, or what is wrong, with the page named.
pub fn check<M: Machine>(engine: &Engine<M>, ledger: &Ledger) -> Result<u64, String> {
    let (mm, mappings) = (&engine.mm, engine.mappings);
    let (mut is, mut ought) = (Digest::default(), Digest::default());
    for page in 0..engine.pages {
        let bad = |what: String| Err(format!("page {page}: {what}"));
        let leaf = mm.leaf(at(0, page));
        let (pfn, is_cold) = match leaf {
            Leaf::Present { pfn, .. } => (pfn, false),
            Leaf::DevicePrivate { pfn, .. } => (pfn, true),
            other => return bad(format!("is unaccounted for: mapping 0 says {other:?}")),
        };
        let Some(header) = mm.header(pfn) else {
            return bad(format!("frame {pfn} does not exist"));
        };
        if header.is_locked() || header.is_migrating() || header.is_frozen() {
            return bad(format!("is still being worked on; its header says {header:?}"));
        }
        if header.refs() as usize != mappings || header.pins() != 0 {
            return bad(format!(
                "leaked a reference or a pin: it is mapped {mappings} times; \
                 its header says {header:?}"
            ));
        }
        if is_cold == mm.is_accessible(mm.tier(pfn)) {
            return bad(format!("is in frame {pfn}, and mapping 0 says {leaf:?}"));
        }
        for mapping in 1..mappings {
            let other = mm.leaf(at(mapping, page));
            if other != leaf {
                return bad(format!(
                    "mapping 0 says {leaf:?} and mapping {mapping} says {other:?}"
                ));
            }
        }
        let mut bytes = [0; PAGE];
        if let Err(e) = mm.read_page(page, pfn, &mut bytes) {
            return bad(format!("is not where its entries say: {e}"));
        }
        let expected = ledger.page(page);
        if let Some(at) = (0..PAGE).find(|&i| bytes[i] != expected[i]) {
            return bad(format!(
                "byte {at} is {:#04x} and ought to be {:#04x}",
                bytes[at], expected[at]
            ));
        }
        is.add(&bytes);
        ought.add(&expected);
    }
    mm.audit()?;
    if is.value() == ought.value() {
        Ok(is.value())
    } else {
        Err("the digests differ although every page agrees".into())
    }
}
