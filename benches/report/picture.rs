//! Tables as curves: medians, with a stroke from the smallest round to the largest.

use crate::results::Results;
use crate::support::parts::contended::{Cell, HOLDS, LONGEST, Regime, SHORT, cells, title};
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
    if xs.len() < 2 || xs.len() != table.rows.len() || ["uncontended", "contended"].contains(&table.head.part.as_str()) {
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

/// Holds and longest waits of the contended lock with the shortest sections, side by side; if they were measured.
pub fn for_readme(results: &Results) -> Result<Option<String>> {
    let short = |cell: &Cell| (cell.inside, cell.outside) == SHORT;
    let wanted: Vec<String> = cells(Regime::Saturated).into_iter().filter(short).map(Cell::label).collect();
    let curve = |figure| {
        let mut table = results.tables.get(&title(Regime::Saturated, figure))?.clone();
        table.rows.retain(|row| wanted.contains(&row.label));
        table.head.rows = "threads".to_string();
        (!table.rows.is_empty()).then_some(table)
    };
    let (Some(rate), Some(wait)) = (curve(HOLDS), curve(LONGEST)) else { return Ok(None) };
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, (1100, 400)).into_drawing_area();
        root.fill(&WHITE)?;
        let (left, right) = root.split_horizontally(550);
        draw(&left, &rate, results.machine.cores)?;
        draw(&right, &wait, results.machine.cores)?;
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
    // A third more to the right is where the legend stands.
    let (wide, long) = (first * 0.9..last * (last / first).powf(0.4), first - 0.2..last + 0.4 * (last - first));
    let (tall, floor) = (low * 0.7..high * 1.3, low * 0.7);
    match (far, high / low > 20.0) {
        (true, true) => on(area, table, cores, wide.log_scale(), tall.log_scale(), floor),
        (true, false) => on(area, table, cores, wide.log_scale(), 0.0..high * 1.1, 0.0),
        (false, true) => on(area, table, cores, long, tall.log_scale(), floor),
        (false, false) => on(area, table, cores, long, 0.0..high * 1.1, 0.0),
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
    let last = table.rows.iter().map(|row| row.x).fold(0.0, f64::max);
    let x_label = |x: &f64| match x {
        x if (x - x.round()).abs() > 0.01 || *x > last => String::new(),
        x if exponent => format!("2^{x:.0}"),
        x => format!("{x:.0}"),
    };
    chart
        .configure_mesh()
        .x_desc(&head.rows)
        .light_line_style(WHITE)
        .y_desc(format!("{}{better}", head.unit))
        .x_label_formatter(&x_label)
        .y_label_formatter(&|y| crate::support::spread::digits(*y))
        .draw()?;
    for (index, (name, role)) in table.subjects().into_iter().enumerate() {
        let (color, width) = style(name, index, role);
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
        .position(SeriesLabelPosition::UpperRight)
        .label_font(("sans-serif", 11))
        .background_style(WHITE.mix(0.75))
        .draw()?;
    Ok(())
}

/// Ours is thick and red, a bound is black, and each peer has a colour of its own in all pictures.
fn style(name: &str, index: usize, role: Role) -> (RGBAColor, u32) {
    let color = match (role, name.split('-').next().unwrap_or(name)) {
        (Role::Ours, _) => return (RGBColor(200, 20, 30).to_rgba(), 3),
        (Role::Bound, _) => return (BLACK.to_rgba(), 1),
        (_, "std") => RGBColor(40, 90, 200),
        _ if name == "parking_lot-fair" => RGBColor(130, 190, 120),
        (_, "parking_lot") => RGBColor(30, 140, 50),
        (_, "parking_lot_core") => RGBColor(0, 160, 170),
        (_, "usync") => RGBColor(240, 140, 0),
        (_, "spin" | "event") => RGBColor(140, 60, 170),
        _ => return (Palette99::pick(index + 3).to_rgba(), 2),
    };
    (color.to_rgba(), 2)
}
