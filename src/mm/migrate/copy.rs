//! The fourth stage: a frame for each page, and its bytes.

use super::slot::{Batch, Dst, Work};
use super::{Abort, Outcome};
use crate::mm::{CopyError, Mm, Span};

pub(super) fn copy<M: Mm>(batch: &mut Batch<'_, '_, M>, mut choose: impl FnMut(Option<u64>, u32) -> Result<u64, Abort>) {
    for index in 0..batch.slots.len() {
        let span = match &batch.slots[index].work {
            Work::Hole { .. } => None,
            Work::Frozen { src, .. } => Some(src.span),
            _ => continue,
        };
        match copy_one(batch, index, span, &mut choose) {
            Ok(()) => {}
            // Not as one; and what cannot be read is one frame, not all of them.
            Err(Failure::PutBack(Abort::NoDestination) | Failure::Lost) if span.is_some_and(|span| span.order > 0) => {
                split(batch, index, &mut choose);
            }
            Err(failure) => fail(batch, index, failure),
        }
    }
}

enum Failure {
    PutBack(Abort),
    Lost,
}

/// Gives the slot a destination with the bytes in it, or none.
fn copy_one<M: Mm>(
    batch: &mut Batch<'_, '_, M>,
    index: usize,
    from: Option<Span>,
    choose: &mut impl FnMut(Option<u64>, u32) -> Result<u64, Abort>,
) -> Result<(), Failure> {
    let mm = batch.mm;
    let order = from.map_or(0, |span| span.order);
    let pfn = choose(from.map(|span| span.head), order).map_err(Failure::PutBack)?;
    let new = Dst::new(mm, pfn, order).map_err(Failure::PutBack)?;
    let to = new.span;
    // Into the slot before anything can go wrong: what is there is given back, also if the copy panics.
    if let Work::Hole { dst, .. } | Work::Frozen { dst, .. } = &mut batch.slots[index].work {
        *dst = Some(new);
    }
    let copied = match from {
        None => {
            mm.zero(to.head);
            Ok(())
        }
        Some(from) => from.frames().zip(to.frames()).try_for_each(|(from, to)| mm.copy(from, to)),
    };
    match copied {
        Ok(()) => Ok(()),
        Err(CopyError::Failed) => Err(Failure::PutBack(Abort::CopyFailed)),
        Err(CopyError::SourceLost) => {
            if let Work::Frozen { dst, .. } = &mut batch.slots[index].work {
                if let Some(dst) = dst.take() {
                    dst.discard(mm);
                }
            }
            Err(Failure::Lost)
        }
    }
}

fn fail<M: Mm>(batch: &mut Batch<'_, '_, M>, index: usize, failure: Failure) {
    match failure {
        Failure::PutBack(why) => batch.put_back(index, why),
        Failure::Lost => poison(batch, index),
    }
}

/// The source is lost, and with it the page: every entry says so, before anybody is woken (I25). Others are not concerned.
fn poison<M: Mm>(batch: &mut Batch<'_, '_, M>, index: usize) {
    let Work::Frozen { src, page, .. } = batch.take(index) else { return };
    super::finalize::condemn(batch.mm, src.span);
    batch.slots[index].outcome = Outcome::Poisoned;
    batch.slots[index].lost += 1;
    super::finalize::let_go_of_lost(batch, src, page);
}

/// Splits a large page and brings its frames to the end one after the other: the slot has room for one.
fn split<M: Mm>(batch: &mut Batch<'_, '_, M>, index: usize, choose: &mut impl FnMut(Option<u64>, u32) -> Result<u64, Abort>) {
    let mm = batch.mm;
    let Work::Frozen { src, .. } = &mut batch.slots[index].work else { return };
    let span = src.span;
    // A cache finds all of the page by its first frame.
    let tails = if src.hand.cached() > 0 { None } else { super::split::split(mm, span) };
    let Some(tails) = tails else { return batch.put_back(index, Abort::SplitFailed) };
    src.span.order = 0;
    let mut moved = one_of_many(batch, index, Span { head: span.head, order: 0 }, choose);
    for (src, page) in tails {
        let span = src.span;
        batch.slots[index].work = Work::Frozen { src, page, dst: None };
        moved += one_of_many(batch, index, span, choose);
    }
    batch.slots[index].outcome = Outcome::Split { moved, of: u32::try_from(span.len()).unwrap_or(u32::MAX) };
}

/// How many have moved: one or none.
fn one_of_many<M: Mm>(
    batch: &mut Batch<'_, '_, M>,
    index: usize,
    span: Span,
    choose: &mut impl FnMut(Option<u64>, u32) -> Result<u64, Abort>,
) -> u32 {
    match copy_one(batch, index, Some(span), choose) {
        Ok(()) => super::finalize::finalize_one(batch, index),
        Err(failure) => fail(batch, index, failure),
    }
    u32::from(batch.slots[index].outcome.is_done())
}
