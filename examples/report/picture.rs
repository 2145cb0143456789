//! Tables as curves: medians, with a stroke from the smallest round to the largest.

use crate::results::Results;
use crate::support::contention::Section;
use crate::support::parts::contended::{throughput, worst};
use crate::support::table::{Better, Role, Table};
use plotters::coord::Shift;
use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::prelude::*;
use std::error::Error;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Result<T> = core::result::Result<T, Box<dyn Error>>;

const SIZE: (u32, u32) = (900, 380);

/// The table as a picture, if it is a curve at all: more than one row, each with a place of its own.
pub fn picture(table: &Table, cores: usize) -> Result<Option<String>> {
    let mut xs: Vec<f64> = table.rows.iter().map(|row| row.x).collect();
    xs.dedup();
    if xs.len() < 2 || xs.len() != table.rows.len() || table.head.part == "uncontended" {
        return Ok(None);
    }
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        root.fill(&WHITE)?;
        draw(&root, table, cores)?;
        root.present()?;
    }
    Ok(Some(svg))
}

/// Throughput and longest wait of the contended lock, side by side; if they were measured.
pub fn for_readme(results: &Results) -> Result<Option<String>> {
    let (rate, wait) = (throughput(Section::Short), worst(Section::Short));
    let (Some(rate), Some(wait)) = (results.tables.get(&rate), results.tables.get(&wait)) else { return Ok(None) };
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, (1100, 400)).into_drawing_area();
        root.fill(&WHITE)?;
        let (left, right) = root.split_horizontally(550);
        draw(&left, rate, results.machine.cores)?;
        draw(&right, wait, results.machine.cores)?;
        root.present()?;
    }
    Ok(Some(svg))
}

/// Picks the scales: logarithmic where the figures are of different orders. Zeroes are drawn at the lower edge then.
fn draw(area: &Area<'_>, table: &Table, cores: usize) -> Result<()> {
    let series = || table.rows.iter().flat_map(|row| &row.series);
    let high = series().map(|s| s.spread.max).fold(f64::MIN_POSITIVE, f64::max);
    let median = |s: f64| if s > 0.0 { s } else { f64::INFINITY };
    let low = series().map(|s| median(s.spread.median)).fold(high, f64::min);
    let xs = || table.rows.iter().map(|row| row.x);
    let (first, last) = (xs().fold(f64::INFINITY, f64::min), xs().fold(0.0, f64::max));
    // Rows that are powers of two already have their logarithm as x.
    let far = first > 0.0 && last / first > 8.0 && table.head.rows != "headers";
    match (far, high / low > 20.0) {
        (true, true) => {
            on(area, table, cores, (first * 0.9..last * 1.1).log_scale(), (low * 0.7..high * 1.3).log_scale(), low * 0.7)
        }
        (true, false) => on(area, table, cores, (first * 0.9..last * 1.1).log_scale(), 0.0..high * 1.1, 0.0),
        (false, true) => on(area, table, cores, first - 0.2..last + 0.2, (low * 0.7..high * 1.3).log_scale(), low * 0.7),
        (false, false) => on(area, table, cores, first - 0.2..last + 0.2, 0.0..high * 1.1, 0.0),
    }
}

fn on<X, Y>(area: &Area<'_>, table: &Table, cores: usize, xs: X, ys: Y, floor: f64) -> Result<()>
where
    X: AsRangedCoord<Value = f64>,
    Y: AsRangedCoord<Value = f64>,
    X::CoordDescType: ValueFormatter<f64>,
    Y::CoordDescType: ValueFormatter<f64>,
{
    let head = &table.head;
    let mut chart = ChartBuilder::on(area)
        .caption(format!("{} ({cores} cores)", head.title), ("sans-serif", 15))
        .margin(8)
        .x_label_area_size(38)
        .y_label_area_size(65)
        .build_cartesian_2d(xs, ys)?;
    let better = match head.better {
        Better::Less => ", less is better",
        Better::More => ", more is better",
        Better::Neither => "",
    };
    let exponent = head.rows == "headers";
    let x_label = |x: &f64| if exponent { format!("2^{x:.0}") } else { format!("{x:.0}") };
    chart
        .configure_mesh()
        .x_desc(&head.rows)
        .y_desc(format!("{}{better}", head.unit))
        .x_label_formatter(&x_label)
        .y_label_formatter(&|y| crate::support::spread::digits(*y))
        .draw()?;
    for (index, (name, role)) in table.subjects().into_iter().enumerate() {
        let (color, width) = style(index, role);
        let points = || table.rows.iter().filter_map(|row| Some((row.x, row.get(name)?.spread)));
        let at = |y: f64| y.max(floor);
        chart.draw_series(points().map(|(x, s)| PathElement::new([(x, at(s.min)), (x, at(s.max))], color.mix(0.35))))?;
        chart
            .draw_series(
                LineSeries::new(points().map(|(x, s)| (x, at(s.median))), color.stroke_width(width)).point_size(width),
            )?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], color.stroke_width(width)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .label_font(("sans-serif", 11))
        .background_style(WHITE.mix(0.75))
        .draw()?;
    Ok(())
}

/// Ours is thick and red, a bound is black, peers have the other colours.
fn style(index: usize, role: Role) -> (RGBAColor, u32) {
    match role {
        Role::Ours => (RGBColor(200, 20, 30).to_rgba(), 3),
        Role::Bound => (BLACK.to_rgba(), 1),
        _ => (Palette99::pick(index + 1).to_rgba(), 2),
    }
}
