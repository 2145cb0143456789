//! What happened, in figures.

use comfy_table::{CellAlignment, Table, presets};
use serde::{Deserialize, Serialize};

#[derive(Clone, Default, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) pages: u64,
    pub(crate) went_on_at: f64,
    /// From the last round there to the first one here.
    pub(crate) down_ms: f64,
    pub(crate) last_page_ms: f64,
    pub(crate) blocked_ms: Vec<f64>,
    pub(crate) blocked_times: u64,
    pub(crate) longest_ms: f64,
    pub(crate) rounds: u64,
    pub(crate) faults: u64,
    pub(crate) fetched: u64,
    pub(crate) duplicates: u64,
    pub(crate) late: u64,
    pub(crate) prefetched: u64,
    pub(crate) there: u64,
    pub(crate) killed: u64,
    /// Connections that were found broken.
    pub(crate) broken: u64,
    pub(crate) handed_out_once: u64,
    pub(crate) handed_out_again: u64,
    pub(crate) bytes_compared: u64,
    pub(crate) pages_wrong: u64,
}

impl Report {
    pub(crate) fn table(&self) -> String {
        let mut table = Table::new();
        table.load_preset(presets::UTF8_FULL_CONDENSED);
        let blocked: Vec<_> = self.blocked_ms.iter().map(|ms| format!("{ms:.0}")).collect();
        for (words, figure) in [
            ("pages", self.pages.to_string()),
            ("the program stood still", format!("{:.1} ms", self.down_ms)),
            ("until the last page", format!("{:.0} ms", self.last_page_ms)),
            ("blocked, each thread", format!("{} ms", blocked.join(" "))),
            ("blocked, how often", self.blocked_times.to_string()),
            ("blocked, the longest", format!("{:.1} ms", self.longest_ms)),
            ("rounds there", self.rounds.to_string()),
            ("faults", self.faults.to_string()),
            ("pages fetched for them", self.fetched.to_string()),
            ("faults on a page in flight", self.duplicates.to_string()),
            ("faults on a page that had come", self.late.to_string()),
            ("pages prefetched", self.prefetched.to_string()),
            ("pages handed out once", self.handed_out_once.to_string()),
            ("pages handed out again", self.handed_out_again.to_string()),
            ("connections killed in a page", self.killed.to_string()),
            ("connections found broken", self.broken.to_string()),
            ("bytes compared", self.bytes_compared.to_string()),
            ("pages wrong", self.pages_wrong.to_string()),
        ] {
            table.add_row([words.to_owned(), figure]);
        }
        if let Some(column) = table.column_mut(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        table.to_string()
    }
}
