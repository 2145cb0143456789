//! Tables as curves: medians, with a stroke from the smallest round to the largest. Readable when
//! printed, also in grey: each subject has a colour and a marker of its own, and its name stands
//! beside the curves, not on them.

use crate::results::Results;
use crate::support::parts::contended::{Cell, HOLDS, LONGEST, P99, Regime, SHORT, cells, title};
use crate::support::table::{Better, Role, Table};
use crate::ticks::Ticks;
use plotters::coord::Shift;
use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::element::{Drawable, PointCollection};
use plotters::prelude::*;
use plotters_backend::{BackendCoord, DrawingErrorKind};
use std::error::Error;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Result<T> = core::result::Result<T, Box<dyn Error>>;

const SIZE: (u32, u32) = (960, 440);
/// Room for the subjects' names.
const NAMES: u32 = 205;

/// The table as a picture, if it is a curve at all: more than one row, each with a place of its
/// own.
pub fn picture(table: &Table, cores: usize) -> Result<Option<String>> {
    let mut xs: Vec<f64> = table.rows.iter().map(|row| row.x).collect();
    xs.dedup();
    if xs.len() < 2
        || xs.len() != table.rows.len()
        || ["uncontended", "contended"].contains(&table.head.part.as_str())
    {
        return Ok(None);
    }
    let caption = format!("{} ({cores} cores)", table.head.title);
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        root.fill(&WHITE)?;
        let (curves, beside) = root.split_horizontally(SIZE.0 - NAMES);
        draw(&curves, table, &caption)?;
        names(&beside, table)?;
        root.present()?;
    }
    Ok(Some(svg))
}

/// Holds, 99th percentile and longest wait of the contended lock with the shortest sections: where
/// we win and where we lose, in one picture; if they were measured.
pub fn for_readme(results: &Results) -> Result<Option<String>> {
    let short = |cell: &Cell| (cell.inside, cell.outside) == SHORT;
    let wanted: Vec<String> =
        cells(Regime::Saturated).into_iter().filter(short).map(Cell::label).collect();
    let curve = |figure| {
        let mut table = results.tables.get(&title(Regime::Saturated, figure))?.clone();
        table.rows.retain(|row| wanted.contains(&row.label));
        table.head.rows = "threads that want the lock".to_string();
        (!table.rows.is_empty()).then_some(table)
    };
    let (Some(rate), Some(p99), Some(wait)) = (curve(HOLDS), curve(P99), curve(LONGEST)) else {
        return Ok(None);
    };
    const PANEL: (u32, u32) = (500, 420);
    let mut svg = String::new();
    {
        let size = (2 * PANEL.0, 2 * PANEL.1);
        let root = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        root.fill(&WHITE)?;
        let panels = root.split_evenly((2, 2));
        draw(&panels[0], &rate, "Holds")?;
        draw(&panels[1], &p99, "Wait, 99th percentile")?;
        draw(&panels[2], &wait, "Longest wait")?;
        names(&panels[3].margin(0, 0, 60, 0), &rate)?;
        for (line, text) in about(results).iter().enumerate() {
            let at = (64, 220 + 26 * line as i32);
            panels[3].draw(&Text::new(text.as_str(), at, ("sans-serif", 19)))?;
        }
        root.present()?;
    }
    Ok(Some(svg))
}

/// What the picture was measured on, in lines.
fn about(results: &Results) -> [String; 5] {
    let machine = &results.machine;
    let kind = if machine.virtual_machine { "a virtual machine" } else { "no virtual machine" };
    [
        "Saturated: one lock, every thread wants it.".to_string(),
        format!("Held for {} ns, away for {} ns.", SHORT.0, SHORT.1),
        machine.processor.clone(),
        format!("{} cores, {kind}", machine.cores),
        "Medians; a thin stroke spans all rounds.".to_string(),
    ]
}

/// Picks the scale: logarithmic where the figures are of different orders. Zeroes are drawn at the
/// lower edge then.
fn draw(area: &Area<'_>, table: &Table, caption: &str) -> Result<()> {
    let series = || table.rows.iter().flat_map(|row| &row.series);
    let high = series().map(|s| s.spread.max).fold(f64::MIN_POSITIVE, f64::max);
    let positive = |s: f64| if s > 0.0 { s } else { f64::INFINITY };
    let low = series().map(|s| positive(s.spread.median)).fold(high, f64::min);
    match high / low > 20.0 {
        true => on(area, table, caption, (low * 0.7..high * 1.3).log_scale(), low * 0.7),
        false => on(area, table, caption, 0.0..high * 1.1, 0.0),
    }
}

/// Rows stand at equal distances, each with a tick: they are powers, mostly.
fn on<Y>(area: &Area<'_>, table: &Table, caption: &str, ys: Y, floor: f64) -> Result<()>
where
    Y: AsRangedCoord<Value = f64>,
    Y::CoordDescType: ValueFormatter<f64>,
{
    let head = &table.head;
    let last = table.rows.len() - 1;
    let xs = Ticks::new(-0.3..last as f64 + 0.3, (0..=last).map(|i| i as f64));
    let mut chart = ChartBuilder::on(area)
        .caption(caption, ("sans-serif", 22))
        .margin(10)
        .margin_right(16)
        .x_label_area_size(56)
        .y_label_area_size(86)
        .build_cartesian_2d(xs, ys)?;
    let better = match head.better {
        Better::Less => ", less is better",
        Better::More => ", more is better",
        Better::Neither => "",
    };
    let x_label = |x: &f64| match table.rows.get(x.round() as usize) {
        Some(row) if head.rows == "headers" => format!("2^{:.0}", row.x),
        Some(row) => tick(row.x),
        None => String::new(),
    };
    chart
        .configure_mesh()
        .x_desc(&head.rows)
        .x_labels(last + 1)
        .light_line_style(WHITE)
        .y_desc(format!("{}{better}", head.unit))
        .axis_desc_style(("sans-serif", 20))
        .y_labels(6)
        .label_style(("sans-serif", 19))
        .x_label_formatter(&x_label)
        .y_label_formatter(&|y| tick(*y))
        .draw()?;
    let at = |y: f64| y.max(floor);
    for (index, (name, role)) in table.subjects().into_iter().enumerate() {
        let style = Style::of(name, index, role);
        // Beside each other, so that strokes of different subjects can be told apart.
        let aside =
            (index as f64 - table.subjects().len() as f64 / 2.0) * 0.006 * (last as f64 + 0.6);
        let points = || {
            table
                .rows
                .iter()
                .enumerate()
                .filter_map(move |(i, row)| Some((i as f64 + aside, row.get(name)?.spread)))
        };
        let strokes = points()
            .map(|(x, s)| PathElement::new([(x, at(s.min)), (x, at(s.max))], style.color.mix(0.5)));
        chart.draw_series(strokes)?;
        let medians = || points().map(|(x, s)| (x, at(s.median)));
        chart.draw_series(LineSeries::new(medians(), style.line()))?;
        chart.draw_series(medians().map(|point| style.marker(point)))?;
    }
    Ok(())
}

/// The legend, in the order of the curves at their right edge.
fn names(area: &Area<'_>, table: &Table) -> Result<()> {
    let last = |name: &str| {
        table.rows.iter().rev().find_map(|row| Some(row.get(name)?.spread.median)).unwrap_or(0.0)
    };
    let mut all: Vec<_> = table.subjects().into_iter().enumerate().collect();
    all.sort_by(|a, b| last(b.1.0).total_cmp(&last(a.1.0)));
    for (line, (index, (name, role))) in all.into_iter().enumerate() {
        let (y, style) = (60 + 26 * line as i32, Style::of(name, index, role));
        area.draw(&PathElement::new([(4, y), (34, y)], style.line()))?;
        area.draw(&style.marker((19, y)))?;
        area.draw(&Text::new(name.to_string(), (42, y - 9), ("sans-serif", 19)))?;
    }
    Ok(())
}

/// A number as an axis has it.
fn tick(y: f64) -> String {
    let digits = if y == 0.0 || y.abs() >= 10.0 || y.fract() == 0.0 { 0 } else { 2 };
    let text = format!("{y:.digits$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_string(),
        false => text,
    }
}

/// Ours is thick and red, a bound is thin and black, and each peer has a colour and a marker of its
/// own in all pictures.
#[derive(Clone, Copy)]
struct Style {
    color: RGBColor,
    width: u32,
    shape: Shape,
}

#[derive(Clone, Copy)]
enum Shape {
    Circle,
    Square,
    Triangle,
    Cross,
    Ring,
}

impl Style {
    fn of(name: &str, index: usize, role: Role) -> Self {
        let peer =
            |(red, green, blue), shape| Self { color: RGBColor(red, green, blue), width: 2, shape };
        match (role, name.split('-').next().unwrap_or(name)) {
            (Role::Ours, _) => Self { width: 4, ..peer((213, 40, 0), Shape::Circle) },
            (Role::Bound, _) => Self { width: 1, ..peer((0, 0, 0), Shape::Cross) },
            (_, "std") => peer((0, 114, 178), Shape::Square),
            _ if name == "parking_lot-fair" => peer((86, 180, 233), Shape::Ring),
            (_, "parking_lot") => peer((0, 140, 95), Shape::Triangle),
            (_, "parking_lot_core") => peer((86, 180, 233), Shape::Ring),
            (_, "usync") => peer((230, 159, 0), Shape::Cross),
            (_, "spin" | "event") => peer((150, 60, 160), Shape::Triangle),
            _ => peer([(110, 110, 110), (140, 86, 75), (200, 90, 150)][index % 3], Shape::Square),
        }
    }

    fn line(self) -> ShapeStyle {
        self.color.stroke_width(self.width)
    }

    fn marker<C>(self, at: C) -> Marker<C> {
        Marker { at, style: self }
    }
}

/// A point of a curve, six pixels to each side.
struct Marker<C> {
    at: C,
    style: Style,
}

impl<'a, C: 'a> PointCollection<'a, C> for &'a Marker<C> {
    type Point = &'a C;
    type IntoIter = core::iter::Once<&'a C>;

    fn point_iter(self) -> Self::IntoIter {
        core::iter::once(&self.at)
    }
}

impl<C, B: DrawingBackend> Drawable<B> for Marker<C> {
    fn draw<I: Iterator<Item = BackendCoord>>(
        &self,
        points: I,
        backend: &mut B,
        _size: (u32, u32),
    ) -> core::result::Result<(), DrawingErrorKind<B::ErrorType>> {
        const R: i32 = 5;
        let (filled, hollow) = (self.style.color.filled(), self.style.color.stroke_width(2));
        for (x, y) in points {
            match self.style.shape {
                Shape::Circle => backend.draw_circle((x, y), R as u32, &filled, true)?,
                Shape::Ring => backend.draw_circle((x, y), R as u32, &hollow, false)?,
                Shape::Square => backend.draw_rect(
                    (x - R + 1, y - R + 1),
                    (x + R - 1, y + R - 1),
                    &filled,
                    true,
                )?,
                Shape::Triangle => backend.fill_polygon(
                    [(x, y - R - 1), (x - R - 1, y + R), (x + R + 1, y + R)],
                    &filled,
                )?,
                Shape::Cross => {
                    backend.draw_line((x - R, y - R), (x + R, y + R), &hollow)?;
                    backend.draw_line((x - R, y + R), (x + R, y - R), &hollow)?;
                }
            }
        }
        Ok(())
    }
}
