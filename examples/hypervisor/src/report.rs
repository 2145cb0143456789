//! What happened, in figures: a table, and JSON.

use crate::device::Device;
use crate::machine::Machine;
use comfy_table::{CellAlignment, Table, presets};
use pagelock_vmm::Served;
use serde::Serialize;
use std::sync::atomic::Ordering::Relaxed;

/// How it stood at one moment.
#[derive(Clone, Copy, Serialize)]
pub(crate) struct Sample {
    pub(crate) at: f64,
    pub(crate) resident: usize,
    pub(crate) faults: u64,
    pub(crate) evictions: u64,
}

macro_rules! figures {
    ($($field:ident $words:literal,)*) => {
        /// Of one machine.
        #[derive(Clone, Default, Serialize)]
        pub(crate) struct Figures {
            pub(crate) name: &'static str,
            pub(crate) guest: &'static str,
            pub(crate) seconds: f64,
            /// No byte was found wrong.
            pub(crate) memory_ok: bool,
            /// `None` if none was taken.
            pub(crate) snapshot_complete: Option<bool>,
            $(pub(crate) $field: u64,)*
        }

        impl Figures {
            fn rows(&self) -> Vec<(&'static str, u64)> {
                vec![$(($words, self.$field),)*]
            }
        }
    };
}

figures! {
    rounds "rounds of the guest",
    faults "faults",
    fetched "pages fetched",
    zeroes "pages that came as zeroes",
    duplicates "faults on a page in flight",
    late "faults on a page that had come",
    write_faults "write faults (snapshot)",
    evictions "evictions",
    by_handlers "  by a handler, first",
    refused_pinned "  refused: pinned",
    refused_owned "  refused: owned",
    refused_by_kernel "  refused: the kernel keeps the page",
    balloon_guest "pages to the balloon, by the guest",
    balloon_host "pages to the balloon, by the host",
    waited_discards "  while the page had an owner",
    transfers "pages written by the device",
    pins "pins for it",
    refused_discards "  discards that they refused",
    snapshot_pages_saved_by_others "pages saved by those that needed them",
    limit "pages that may be in",
    peak "most that were",
    store_bytes "bytes in the store",
    bytes_compared "bytes compared",
    pages_wrong "pages wrong",
}

impl Figures {
    pub(crate) fn of(name: &'static str, machine: &Machine, served: &Served, seconds: f64) -> Self {
        let (stats, counts) = (machine.region.stats(), &machine.counts);
        Self {
            name,
            seconds,
            faults: served.faults,
            fetched: served.fetched,
            duplicates: served.duplicates,
            late: served.late,
            zeroes: stats.zeroes,
            write_faults: stats.write_faults,
            evictions: stats.evictions,
            by_handlers: counts.reclaimed_by_handlers.load(Relaxed),
            refused_pinned: counts.refused_pinned.load(Relaxed),
            refused_owned: counts.refused_owned.load(Relaxed),
            refused_by_kernel: counts.refused_by_kernel.load(Relaxed),
            balloon_guest: counts.balloon_guest.load(Relaxed),
            balloon_host: counts.balloon_host.load(Relaxed),
            waited_discards: counts.discards_met_owners.load(Relaxed),
            limit: machine.limit as u64,
            peak: counts.peak.load(Relaxed) as u64,
            store_bytes: machine.store.used(),
            ..Self::default()
        }
    }

    pub(crate) fn take_device(&mut self, device: &Device) {
        self.transfers = device.transfers;
        self.pins = device.pins_taken;
        self.refused_discards = device.refused_discards;
    }
}

/// A column for each machine.
pub(crate) fn table(all: &[Figures]) -> String {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_FULL_CONDENSED);
    let head = all
        .iter()
        .map(|figures| format!("{}, {:.1} s on {}", figures.name, figures.seconds, figures.guest));
    table.set_header(std::iter::once(String::new()).chain(head));
    let columns: Vec<_> = all.iter().map(Figures::rows).collect();
    for (row, (words, _)) in columns.first().into_iter().flatten().enumerate() {
        let numbers = columns.iter().map(|column| column[row].1.to_string());
        table.add_row(std::iter::once((*words).to_owned()).chain(numbers));
    }
    table
        .column_iter_mut()
        .skip(1)
        .for_each(|column| column.set_cell_alignment(CellAlignment::Right));
    table.to_string()
}
