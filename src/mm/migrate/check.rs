//! The third stage: is anybody left who refers to the page? If not, nobody can begin to.

use super::Abort;
use super::slot::{Batch, Work};
use crate::leaf::Leaf;
use crate::migration::FreezeRule;
use crate::mm::{Entry, Mm, Span};

pub(super) fn check<M: Mm>(batch: &mut Batch<'_, '_, M>) {
    for index in 0..batch.slots.len() {
        let (src, page) = match batch.take(index) {
            Work::Locked { src, page } => (src, page),
            other => {
                batch.slots[index].work = other;
                continue;
            }
        };
        let expected = src.hand.expected();
        match page.freeze(FreezeRule::ExactRefs(expected)) {
            Ok(page) => batch.slots[index].work = Work::Frozen { src, page, dst: None },
            Err(busy) => {
                let why = match (busy.pins(), busy.refs()) {
                    (0, _) if is_mapped(batch.mm, src.span) => Abort::StillMapped,
                    (0, refs) => Abort::Referenced { refs, expected },
                    (pins, _) => Abort::Pinned { pins },
                };
                batch.slots[index].work = Work::Locked { src, page: busy.into_migration() };
                batch.put_back(index, why);
            }
        }
    }
}

/// Whether one of the references that are too many is that of an entry which came up after the others were taken down.
fn is_mapped<M: Mm>(mm: &M, span: Span) -> bool {
    let mut is_mapped = false;
    for pfn in span.frames() {
        mm.each_mapping(pfn, |at| {
            let leaf = Leaf::decode(mm.lock(at).get());
            is_mapped |= matches!(leaf, Ok(Leaf::Present { pfn: of, .. } | Leaf::DevicePrivate { pfn: of, .. }) if of == pfn);
        });
    }
    is_mapped
}
