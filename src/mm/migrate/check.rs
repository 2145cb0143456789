//! The third stage: does anybody else still refer to the page? If not, nobody can begin to.

use super::Abort;
use super::pass::Pass;
use super::slot::{NO_FRAME, Work};
use crate::leaf::Leaf;
use crate::migration::FreezeRule;
use crate::mm::{Entry, Mm, Span};

pub(super) fn check<M: Mm>(pass: &mut Pass<'_, '_, M>) {
    for index in 0..pass.slots.len() {
        let src = match pass.take(index) {
            Work::Locked(src) => src,
            other => {
                pass.slots[index].work = other;
                continue;
            }
        };
        let expected = src.expected();
        match src.into_migration().freeze(FreezeRule::ExactRefs(expected)) {
            Ok(page) => {
                page.into_raw();
                pass.slots[index].work = Work::Frozen { src, dst: NO_FRAME };
            }
            Err(busy) => {
                let (pins, refs) = (busy.pins(), busy.refs());
                // The slot has it again before the embedder's code is called.
                busy.into_migration().into_raw();
                pass.slots[index].work = Work::Locked(src);
                let why = match (pins, refs) {
                    (0, _) if is_mapped(pass.mm, src.span()) => Abort::StillMapped,
                    (0, refs) => Abort::Referenced { refs, expected },
                    (pins, _) => Abort::Pinned { pins },
                };
                pass.put_back(index, why);
            }
        }
    }
}

/// Whether one of the unexpected references belongs to an entry that came up after the others were
/// taken down.
fn is_mapped<M: Mm>(mm: &M, span: Span) -> bool {
    let mut is_mapped = false;
    mm.each_mapping(span, |at| {
        let leaf = mm.lock(at).and_then(|entry| entry.get().ok());
        if let Some(Leaf::Present { pfn, .. } | Leaf::DevicePrivate { pfn, .. }) = leaf {
            is_mapped |= span.contains(pfn);
        }
    });
    is_mapped
}
