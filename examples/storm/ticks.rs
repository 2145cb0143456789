//! An axis for pictures, of the storm and of the report.

use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint, Ranged};
use std::ops::Range;

/// A straight axis whose ticks stand where the caller wants them.
pub struct Ticks {
    range: Range<f64>,
    at: Vec<f64>,
}

impl Ticks {
    pub fn new(range: Range<f64>, at: impl Iterator<Item = f64>) -> Self {
        Self { range, at: at.collect() }
    }
}

impl Ranged for Ticks {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (low, high): (i32, i32)) -> i32 {
        let share = (value - self.range.start) / (self.range.end - self.range.start);
        low + (share * f64::from(high - low)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _hint: Hint) -> Vec<f64> {
        self.at.clone()
    }

    fn range(&self) -> Range<f64> {
        self.range.clone()
    }
}
