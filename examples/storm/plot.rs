//! The results as a picture: how long faults took, and how much of the processors the runs used. To
//! be shown, and printed.

use crate::report::{Section, nanos};
use crate::run::Outcome;
use crate::ticks::Ticks;
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use std::error::Error;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Result<T> = std::result::Result<T, Box<dyn Error>>;

const WIDTH: u32 = 1200;
const HEAD: u32 = 104;
const SECTION: u32 = 510;
/// Where the bars begin in their panel: left of them are the strategies' names.
const NAMES: u32 = 235;

const KEY: &str = "Solid lines and full bars: all of the work was done in time. \
                   Dashed lines and hollow bars: it was not.";

/// One row of two panels for each section, with `header` above: two lines that say what was run.
pub fn draw(header: &str, sections: &[Section], cpus: usize) -> Result<String> {
    let mut svg = String::new();
    {
        let root =
            SVGBackend::with_string(&mut svg, (WIDTH, HEAD + SECTION * sections.len() as u32))
                .into_drawing_area();
        root.fill(&WHITE)?;
        for (line, text) in header.lines().chain([KEY]).enumerate() {
            root.draw(&Text::new(
                text.to_string(),
                (20, 14 + 26 * line as i32),
                ("sans-serif", 22),
            ))?;
        }
        let (_, below) = root.split_vertically(HEAD);
        for (section, area) in sections.iter().zip(below.split_evenly((sections.len(), 1))) {
            let (left, right) = area.split_horizontally(WIDTH * 56 / 100);
            latency(&left, section)?;
            usage(&right, section, cpus)?;
        }
        root.present()?;
    }
    Ok(svg)
}

/// Told apart with every kind of colour vision, and on grey paper by their order; one for each line
/// of the table.
fn color(index: usize) -> RGBColor {
    const COLORS: [(u8, u8, u8); 7] = [
        (213, 94, 0),
        (230, 159, 0),
        (204, 121, 167),
        (0, 114, 178),
        (0, 158, 115),
        (120, 120, 120),
        (0, 0, 0),
    ];
    let (red, green, blue) = COLORS[index % COLORS.len()];
    RGBColor(red, green, blue)
}

/// Latency over the share of faults that took longer, both logarithmic: the tail is what matters.
/// Strategies that did not finish are dashed.
fn latency(area: &Area<'_>, section: &Section) -> Result<()> {
    let longest =
        section.outcomes.iter().map(|o| o.latency.max()).max().unwrap_or(1).max(10_000) as f64;
    let mut chart = ChartBuilder::on(area)
        .caption(&section.memory, ("sans-serif", 21))
        .margin(12)
        .margin_right(30)
        .x_label_area_size(62)
        .y_label_area_size(104)
        // Common faults at the left.
        .build_cartesian_2d(
            Ticks::new(0.0..5.0, (0..=5).map(f64::from)),
            (1000.0..longest * 1.5).log_scale(),
        )?;
    chart
        .configure_mesh()
        .x_labels(6)
        .x_desc("faults that took longer")
        .x_label_formatter(&|tens| share(*tens))
        .y_desc("time a fault took")
        .y_label_formatter(&|ns| nanos(*ns as u64))
        .axis_desc_style(("sans-serif", 20))
        .label_style(("sans-serif", 19))
        .light_line_style(WHITE)
        .draw()?;
    for (index, o) in section.outcomes.iter().enumerate().filter(|(_, o)| !o.latency.is_empty()) {
        let points = (0..=100).map(|i| {
            let tens = 5.0 * f64::from(i) / 100.0;
            (tens, (o.latency.value_at_quantile(1.0 - 10f64.powf(-tens)) as f64).max(1000.0))
        });
        let style = color(index).stroke_width(3);
        if o.finished {
            chart.draw_series(LineSeries::new(points, style))?;
        } else {
            chart.draw_series(DashedLineSeries::new(points, 9, 6, style))?;
        }
    }
    Ok(())
}

/// One in so many, by the power of ten.
fn share(tens: f64) -> String {
    match tens.round() as u32 {
        0 => "all".to_string(),
        1 => "10 %".to_string(),
        2 => "1 %".to_string(),
        3 => "0.1 %".to_string(),
        4 => "0.01 %".to_string(),
        _ => "0.001 %".to_string(),
    }
}

/// One bar for each strategy, in the order of the table, with its name: the legend of the other
/// panel too.
fn usage(area: &Area<'_>, section: &Section, cpus: usize) -> Result<()> {
    let n = section.outcomes.len();
    let mut chart = ChartBuilder::on(area)
        .caption("strategy, and what became of the work", ("sans-serif", 21))
        .margin(12)
        .margin_right(24)
        .x_label_area_size(62)
        .y_label_area_size(NAMES)
        .build_cartesian_2d(
            Ticks::new(0.0..100.0, (0..=4).map(|i| 25.0 * f64::from(i))),
            0.0..n as f64,
        )?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .y_labels(0)
        .x_labels(5)
        .x_label_formatter(&|percent| format!("{percent:.0} %"))
        .x_desc(format!("use of the {cpus} processors meanwhile"))
        .axis_desc_style(("sans-serif", 20))
        .label_style(("sans-serif", 19))
        .light_line_style(WHITE)
        .draw()?;
    let plotting = chart.plotting_area();
    let height = plotting.get_pixel_range().1;
    let row = f64::from(height.end - height.start) / n as f64;
    for (index, o) in section.outcomes.iter().enumerate() {
        let middle = n as f64 - 0.5 - index as f64;
        let percent = (o.cpu_share(cpus) * 100.0).min(100.0);
        let corners = [(0.0, middle - 0.27), (percent, middle + 0.27)];
        match o.finished {
            true => plotting.draw(&Rectangle::new(corners, color(index).filled()))?,
            false => plotting.draw(&Rectangle::new(corners, color(index).stroke_width(3)))?,
        }
        // In pixels of the panel, so that a long name is not cut off.
        let y = height.start + (row * (index as f64 + 0.5)) as i32 - area.get_pixel_range().1.start;
        let name =
            ("sans-serif", 19).into_text_style(area).pos(Pos::new(HPos::Right, VPos::Center));
        area.draw(&Text::new(o.plan.name(), (NAMES as i32 + 2, y), name))?;
        let end = ("sans-serif", 18).into_text_style(area).pos(Pos::new(HPos::Left, VPos::Center));
        let (x, style) = match percent < 50.0 {
            true => (percent + 2.0, end),
            false if o.finished => (2.0, end.color(&WHITE)),
            false => (2.0, end),
        };
        plotting.draw(&Text::new(ended(o), (x, middle), style))?;
    }
    Ok(())
}

fn ended(o: &Outcome) -> String {
    if o.finished {
        format!("done in {:.2} s", o.seconds)
    } else {
        format!("NOT done in {:.2} s", o.seconds)
    }
}
