//! The results as a picture: how long faults took, and what share of the processors the run used.

use crate::report::Section;
use plotters::coord::Shift;
use plotters::prelude::*;
use std::error::Error;
use std::path::Path;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const WIDTH: u32 = 1100;
const HEIGHT: u32 = 460;

/// Draws one row of two panels for each section.
pub fn draw(path: &Path, sections: &[Section], cpus: usize) -> Result<()> {
    let root = SVGBackend::new(path, (WIDTH, HEIGHT * sections.len() as u32)).into_drawing_area();
    root.fill(&WHITE)?;
    for (section, area) in sections.iter().zip(root.split_evenly((sections.len(), 1))) {
        let (left, right) = area.split_horizontally(WIDTH * 6 / 10);
        latency(&left, section)?;
        cpu(&right, section, cpus)?;
    }
    root.present()?;
    Ok(())
}

fn color(index: usize) -> RGBAColor {
    Palette99::pick(index).to_rgba()
}

/// Latency over the share of faults that took longer, both logarithmic: the tail is what matters.
fn latency(area: &DrawingArea<SVGBackend<'_>, Shift>, section: &Section) -> Result<()> {
    let longest = section.outcomes.iter().map(|o| o.latency.max()).max().unwrap_or(1).max(10_000) as f64;
    let mut chart = ChartBuilder::on(area)
        .caption(format!("{}: fault latency", section.memory), ("sans-serif", 15))
        .margin(10)
        .x_label_area_size(40)
        .y_label_area_size(70)
        .build_cartesian_2d((1e-5..1.0f64).log_scale(), (500.0..longest * 1.5).log_scale())?;
    chart
        .configure_mesh()
        .x_desc("share of faults that took longer")
        .y_desc("latency")
        .y_label_formatter(&|ns| crate::report::nanos(*ns as u64))
        .draw()?;
    for (index, o) in section.outcomes.iter().enumerate().filter(|(_, o)| !o.latency.is_empty()) {
        let points = (0..=100).map(|i| {
            let share = 10f64.powf(-5.0 * f64::from(i) / 100.0);
            (share, (o.latency.value_at_quantile(1.0 - share) as f64).max(500.0))
        });
        chart
            .draw_series(LineSeries::new(points, color(index).stroke_width(2)))?
            .label(o.plan.name())
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], color(index).stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerLeft)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.3))
        .draw()?;
    Ok(())
}

/// One bar for each strategy; one that did not finish is hatched by being pale.
fn cpu(area: &DrawingArea<SVGBackend<'_>, Shift>, section: &Section, cpus: usize) -> Result<()> {
    let n = section.outcomes.len();
    let mut chart = ChartBuilder::on(area)
        .caption(format!("use of the {cpus} processors, in percent"), ("sans-serif", 15))
        .margin(10)
        .x_label_area_size(40)
        .y_label_area_size(40)
        .build_cartesian_2d(0.0..n as f64, 0.0..110.0f64)?;
    chart.configure_mesh().disable_x_mesh().x_labels(0).x_desc("in the order of the legend; pale: did not finish").draw()?;
    chart.draw_series(section.outcomes.iter().enumerate().map(|(index, o)| {
        let x = index as f64;
        let fill = color(index).mix(if o.finished { 1.0 } else { 0.4 }).filled();
        Rectangle::new([(x + 0.15, 0.0), (x + 0.85, o.cpu_share(cpus) * 100.0)], fill)
    }))?;
    chart.draw_series(section.outcomes.iter().enumerate().map(|(index, o)| {
        let share = o.cpu_share(cpus) * 100.0;
        Text::new(format!("{share:.0}"), (index as f64 + 0.35, share + 4.0), ("sans-serif", 13))
    }))?;
    Ok(())
}
