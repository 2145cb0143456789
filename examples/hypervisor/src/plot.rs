//! Pages in memory, and faults a second, over time.

use crate::report::Sample;
use anyhow::{Result, anyhow};
use plotters::prelude::*;
use std::path::Path;

pub(crate) fn draw(path: &Path, samples: &[Sample], limit: u64) -> Result<()> {
    let most = samples.iter().map(|sample| sample.resident as u64).max().unwrap_or(1).max(limit)
        as f64
        * 1.1;
    let until = samples.last().map_or(1.0, |sample| sample.at);
    let rates: Vec<_> = samples
        .windows(6)
        .map(|w| (w[5].at, (w[5].faults - w[0].faults) as f64 / (w[5].at - w[0].at).max(1e-9)))
        .collect();
    let fastest = rates.iter().map(|rate| rate.1).fold(1.0, f64::max) * 1.1;

    let area = SVGBackend::new(path, (900, 480)).into_drawing_area();
    let say = |error: &dyn std::fmt::Display| anyhow!("{}: {error}", path.display());
    let draw = || -> Result<(), DrawingAreaErrorKind<std::io::Error>> {
        area.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&area)
            .margin(12)
            .x_label_area_size(36)
            .y_label_area_size(64)
            .right_y_label_area_size(64)
            .build_cartesian_2d(0.0..until, 0.0..most)?
            .set_secondary_coord(0.0..until, 0.0..fastest);
        chart.configure_mesh().x_desc("seconds").y_desc("pages in").draw()?;
        chart.configure_secondary_axes().y_desc("faults a second").draw()?;
        let pages = samples.iter().map(|sample| (sample.at, sample.resident as f64));
        chart
            .draw_series(LineSeries::new(pages, &BLUE))?
            .label("pages in")
            .legend(|at| mark(at, BLUE));
        chart
            .draw_series(LineSeries::new([(0.0, limit as f64), (until, limit as f64)], &BLACK))?
            .label("that may be in")
            .legend(|at| mark(at, BLACK));
        chart
            .draw_secondary_series(LineSeries::new(rates, &RED))?
            .label("faults a second")
            .legend(|at| mark(at, RED));
        chart.configure_series_labels().background_style(WHITE).border_style(BLACK).draw()?;
        area.present()
    };
    draw().map_err(|error| say(&error))
}

fn mark((x, y): (i32, i32), color: RGBColor) -> PathElement<(i32, i32)> {
    PathElement::new(vec![(x, y), (x + 18, y)], color)
}
